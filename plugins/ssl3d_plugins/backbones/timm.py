"""timm: any of its image models, run over the slices of a volume and pooled across them.

This follows MRNet's baseline, AlexNet with the maximum over slices (Bien et al. 2018,
https://doi.org/10.1371/journal.pmed.1002699). Models: Wightman 2019, PyTorch Image Models,
https://github.com/huggingface/pytorch-image-models; ``timm/resnet18``, ``timm/vit_tiny_patch16_224``, ... ``norm``
matters for models with batch norm; those with layer norm (vision transformers, ConvNeXt) are exact in any case. Vision
transformers interpolate their position encodings and pad to whole patches; for other models that do not take every
size, slices are resized to the size they were published for. The mean or the maximum over slices is a setting; the
protocol ``attentive`` learns to attend to slices and places.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import timm
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ssl3d.backbone import Backbone, BackboneConfig, Weights
from ssl3d.card import Card
from ssl3d.errors import PluginError
from ssl3d.matching import load_matching
from ssl3d.parts.norm import REPLACED_NORM, convert_norm

ANY_SIZE = {"timm.models.vision_transformer", "timm.models.deit", "timm.models.eva"}  # take dynamic_img_size
ODD = (37, 45)  # rows and columns that no patch, window or stride divides: a model that takes them takes any size


class TimmConfig(BackboneConfig):
    """Settings of a slice encoder."""

    pool: Literal["mean", "max"] = Field("mean", description="how the slices' features become the volume's")


class Timm(Backbone):
    """A timm image model over slices. The variant is the model's name, with or without the tag of its weights."""

    card: ClassVar[Card] = Card(
        name="timm",
        summary="any timm image model over slices, pooled across them: timm/resnet18, timm/vit_tiny_patch16_224, ...",
        paper="Wightman, PyTorch Image Models; slices pooled as in Bien et al. 2018 (MRNet)",
        year=2019,
        link="https://github.com/huggingface/pytorch-image-models",
        departures=(
            "Slices are pooled by their mean unless `pool` says max, which is what MRNet's baseline does.",
            REPLACED_NORM,
        ),
        licence="of the weights: see the model's page",
    )
    Config = TimmConfig
    config: TimmConfig
    family = True
    weights: ClassVar[Mapping[str, Weights]] = {
        "imagenet": Weights(
            url="https://huggingface.co/timm/{variant}/resolve/main/model.safetensors",
            file="timm-{variant}.safetensors",
            size=(1, 224, 224),
            licence="see https://huggingface.co/timm",
            normalisation="by the mean and deviation of each colour, see the model's page",
        )
    }
    min_size = (1, 32, 32)

    def __init__(self, config: BackboneConfig | None = None, variant: str | None = None) -> None:
        super().__init__(config, variant)
        info = _info(variant)
        self.variant = _name(info)
        flexible = timm.models.model_entrypoint(info.architecture).__module__ in ANY_SIZE
        options: dict[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": True} if flexible else {}
        self.model = _create(self.variant, options)
        native = (int(info.input_size[1]), int(info.input_size[2]))
        tied = info.fixed_input_size and not flexible
        width = None if tied else _width(self.model, ODD)
        self.image_size = native if width is None else None
        width = width or _width(self.model, native)
        if width is None and not next(self.model.parameters()).is_meta:  # on that device some models do not run
            raise PluginError(
                f"timm's {self.variant} gives no features of a grey image of {native[0]} x {native[1]} pixels; choose "
                "another model"
            )
        self.embed_dim = width or int(self.model.num_features)
        convert_norm(self, self.config.norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, F): the model's own features of each slice, pooled over slices."""
        slices: Tensor = self.model(self._slices(x))  # (B*D, F)
        features = slices.reshape(x.shape[0], x.shape[2], -1)  # (B, D, F)
        return features.amax(dim=1) if self.config.pool == "max" else features.mean(dim=1)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the model's maps (B, F_i, D, H_i, W_i) of the slices, in the model's order."""
        if not hasattr(self.model, "forward_intermediates"):
            raise PluginError(f"timm's {self.variant} gives no feature maps; choose another model for them")
        maps = self.model.forward_intermediates(self._slices(x), intermediates_only=True)  # (B*D, F_i, H_i, W_i)
        return [m.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2) for m in maps]

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the features (B, F_r) by read-out; for a model without feature maps, only those of ``forward``."""
        return super().readouts(x) if hasattr(self.model, "forward_intermediates") else {"last": self(x)}

    @classmethod
    def published_variant(cls, variant: str | None) -> str:
        """Return the model's name with the tag of its weights: "resnet18.a1_in1k"."""
        return _name(_info(variant))

    def load_pretrained(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        """Load timm's weights, without their classifier, the stem summed to one channel."""
        return load_matching(self.model, state)

    def published_state(self) -> Mapping[str, Tensor]:
        """Return the model's tensors under timm's names."""
        state: Mapping[str, Tensor] = self.model.state_dict()
        return state

    def _slices(self, x: Tensor) -> Tensor:
        """Return the slices as images (B*D, 1, H, W), resized if the model is tied to one size."""
        images = x.transpose(1, 2).flatten(0, 1)
        if self.image_size is None:
            return images
        return F.interpolate(images, size=self.image_size, mode="bilinear", antialias=True)


def _name(info: Any) -> str:
    """Return the name that identifies a model's weights."""
    return f"{info.architecture}.{info.tag}" if info.tag else str(info.architecture)


def _create(name: str, options: dict[str, Any]) -> Any:
    """Build a model for grey images, without its classifier.

    Raises:
        PluginError: timm cannot build it so.
    """
    try:
        return timm.create_model(name, in_chans=1, num_classes=0, **options)
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PluginError(f"timm cannot build {name} for grey images ({reason}); choose another model") from error


@torch.no_grad()
def _width(model: Any, size: tuple[int, int]) -> int | None:
    """Return the number of features that a model gives of an image of some size; None if it does not take the size."""
    image = torch.zeros(1, 1, *size, device=next(model.parameters()).device)
    model.eval()
    try:
        features = model(image)
    except (AssertionError, IndexError, RuntimeError, ValueError):  # what models raise at a size that does not fit
        return None
    finally:
        model.train()
    return int(features.shape[1]) if isinstance(features, Tensor) and features.ndim == 2 else None


def _info(variant: str | None) -> Any:
    """Return timm's description of a model.

    Raises:
        PluginError: no variant is given, or timm has no such model or tag; the message suggests the nearest.
    """
    if variant is None:
        raise PluginError("timm needs the name of a model: timm/resnet18, timm/vit_tiny_patch16_224, ...")
    if not timm.is_model(variant):
        closest = difflib.get_close_matches(variant, timm.list_models(), n=1, cutoff=0.0)
        raise PluginError(f"timm has no model {variant!r}; the nearest is {closest[0]!r}")
    try:
        return timm.get_pretrained_cfg(variant)
    except RuntimeError as error:  # the model exists, but not the tag
        known = ", ".join(timm.list_pretrained(f"{variant.partition('.')[0]}.*"))
        raise PluginError(f"timm has no weights {variant!r}; known: {known}") from error
