"""How a recipe is executed on the available hardware: this changes speed and memory, not the results."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ssl3d.config import Config
from ssl3d.recipe import PretrainRecipe


class Engine(Config):
    """The settings of a pretraining that a trial on the device may choose, with their final values."""

    micro_batch: int = Field(ge=1, description="volumes on the device with activations at one time")
    keep: int = Field(1, ge=1, description="micro-batches whose activations stay between the passes")
    precision: str = Field("32-true", description="arithmetic of the backbone")
    channels_last: bool = Field(False, description="memory layout of weights and views")
    compile: bool = Field(False, description="whether the backbone is compiled")
    processes: int = Field(1, ge=1, description="processes that share an effective batch")
    threads: int | None = Field(None, ge=1, description="CPU threads, whose number decides rounding; null on a GPU")
    trials: tuple[dict[str, Any], ...] = Field((), description="what was tried to choose these, a row each")

    @classmethod
    def of(cls, recipe: PretrainRecipe, batch_size: int, processes: int = 1) -> Engine:
        """Return the engine that a recipe names; settings left to a trial ("auto") count as unset.

        Args:
            recipe: recipe of the pretraining.
            batch_size: maximum number of volumes in an effective batch.
            processes: number of processes that share it.
        """
        share = -(-batch_size // processes)
        named = recipe.micro_batch if isinstance(recipe.micro_batch, int) else share
        return cls(
            micro_batch=min(named, share),
            keep=recipe.keep,
            precision="32-true" if recipe.precision == "auto" else recipe.precision,
            channels_last=recipe.channels_last is True,
            compile=recipe.compile is True,
            processes=processes,
        )

    def sentence(self) -> str:
        """Return the settings in words."""
        words = [f"micro-batches of {self.micro_batch}", f"{self.keep} kept" if self.keep > 1 else "", self.precision]
        words += ["channels last" if self.channels_last else "", "compiled" if self.compile else ""]
        return ", ".join(word for word in words if word)
