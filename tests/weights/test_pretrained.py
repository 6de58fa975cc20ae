"""Published weights: found, checked, folded to one channel, counted."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl3d import registry
from ssl3d.backbone import Backbone, Weights
from ssl3d.errors import WeightsError
from ssl3d.weights.load import load_weights, read_state, weights_folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorchvideo.models import hub

TORCHVISION = ["r3d_18", "mc3_18", "r2plus1d_18"]
RESNETS = ["slow_r50", "c2d_r50", "i3d_r50", "csn_r101", "r2plus1d_r50"]


def unlike_the_start(network: nn.Module, seed: int = 3) -> nn.Module:
    """Random weights and statistics everywhere: zero residual branches and unit variances would hide faults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, _BatchNorm):
                part.running_mean.normal_(0, 0.1, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
                part.weight.uniform_(0.3, 0.6, generator=generator)
    return network.eval()


def published(name: str) -> nn.Module:
    """The original network of three channels, without its classifier, pooled over any size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        if name in TORCHVISION:
            network = torchvision.models.get_model(name)
            network.fc = nn.Identity()
            return unlike_the_start(network)
        network = getattr(hub, name)()
    head = network.blocks[-1]
    head.proj, head.activation = nn.Identity(), None
    if name in RESNETS:
        head.pool = nn.AdaptiveAvgPool3d(1)
    else:
        head.pool.pool = nn.AdaptiveAvgPool3d(1)
    return unlike_the_start(network)


def build(name: str, norm: str = "frozen") -> Backbone:
    family, variant = registry.split_variant("backbones", name)
    kind = registry.load("backbones", family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(kind.Config(norm=norm), variant)


def grey(depth: int, height: int, width: int) -> Tensor:
    return torch.randn(1, 1, depth, height, width, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def r3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file such as torchvision publishes for r3d_18, with a classifier."""
    path = tmp_path_factory.mktemp("weights") / "r3d_18.pth"
    torch.save({**published("r3d_18").state_dict(), "fc.weight": torch.zeros(400, 512)}, path)
    return path


@pytest.mark.parametrize("name", [*TORCHVISION, *RESNETS, "x3d_s"])
def test_loaded_backbone_is_the_published_network_of_the_grey_volume_three_times(name: str, tmp_path: Path) -> None:
    original, path = published(name), tmp_path / "original.pyth"
    torch.save({"model_state": original.state_dict()}, path)
    backbone = build(name).eval()
    record = load_weights(backbone, "kinetics400", path)
    assert "(100%)" in record
    x = grey(9, 40, 46)
    with torch.no_grad():
        expected = original(x.expand(-1, 3, -1, -1, -1))
        torch.testing.assert_close(backbone(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
def test_loaded_mvit_is_the_published_network_at_its_own_size(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        original = hub.mvit_base_16x4().eval()
    torch.save({"model_state": original.state_dict()}, tmp_path / "mvit.pyth")
    original.head.proj = nn.Identity()
    backbone = build("mvit_base_16x4", "auto").eval()
    assert "(100%)" in load_weights(backbone, "kinetics400", tmp_path / "mvit.pyth")
    x = grey(16, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), original(x.expand(-1, 3, -1, -1, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_convnext"])
def test_loaded_timm_model_is_the_published_one_over_slices(model: str, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        original = unlike_the_start(timm.create_model(model, num_classes=10))
    save_file(original.state_dict(), tmp_path / "model.safetensors")
    original.reset_classifier(0)
    backbone = build(f"timm/{model}").eval()
    assert "(100%)" in load_weights(backbone, "imagenet", tmp_path / "model.safetensors")
    x = grey(3, 160, 160)
    with torch.no_grad():
        expected = torch.stack([original(x[:, :, d].expand(-1, 3, -1, -1)) for d in range(3)]).mean(dim=0)
        torch.testing.assert_close(backbone(x), expected, rtol=1e-4, atol=1e-5)


def test_a_file_in_the_weights_folder_is_found_by_its_published_name_if_its_hash_is_right(
    r3d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(r3d.read_bytes()).hexdigest()
    for name, whole in ((f"r3d_18-{digest[:8]}.pth", None), ("r3d_18.pth", digest)):
        backbone = from_address(monkeypatch, tmp_path, "file:///no/such/file", name)
        weights = Weights("file:///no/such/file", name, (16, 112, 112), "none", whole)
        monkeypatch.setattr(type(backbone), "weights", {"kinetics400": weights})
        (tmp_path / name).write_bytes(r3d.read_bytes())
        assert f"(100%) of {name}" in load_weights(backbone, "kinetics400")
        (tmp_path / name).write_bytes(r3d.read_bytes()[:-1] + b"?")
        with pytest.raises(WeightsError, match="is not the published file: its SHA-256 begins with"):
            load_weights(backbone, "kinetics400")


def test_the_weights_folder_is_torch_hubs_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL3D_WEIGHTS", raising=False)
    assert weights_folder() == Path(torch.hub.get_dir()) / "checkpoints"


def from_address(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str, file: str) -> Backbone:
    """A backbone whose weights are at ``url``, with an empty weights folder."""
    backbone = build("r3d_18")
    monkeypatch.setenv("SSL3D_WEIGHTS", str(folder))
    monkeypatch.setattr(type(backbone), "weights", {"kinetics400": Weights(url, file, (16, 112, 112), "none")})
    return backbone


def test_absent_weights_are_downloaded_into_the_weights_folder(r3d, tmp_path, monkeypatch) -> None:
    backbone = from_address(monkeypatch, tmp_path / "new", r3d.as_uri(), "fetched.pth")
    assert "(100%)" in load_weights(backbone, "kinetics400")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["fetched.pth"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/weights.pth", "file:///no/such/weights.pth"])
def test_a_failed_download_says_from_where_why_and_where_to_put_the_file(url, tmp_path, monkeypatch) -> None:
    backbone = from_address(monkeypatch, tmp_path, url, "weights.pth")
    with pytest.raises(WeightsError) as error:
        load_weights(backbone, "kinetics400")
    assert url in str(error.value)
    assert f"put it at {tmp_path / 'weights.pth'}" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_download_of_the_wrong_bytes_is_refused_and_not_kept(r3d, tmp_path, monkeypatch) -> None:
    backbone = from_address(monkeypatch, tmp_path, r3d.as_uri(), "r3d_18-00000000.pth")
    with pytest.raises(WeightsError, match="invalid hash"):
        load_weights(backbone, "kinetics400")
    assert list(tmp_path.iterdir()) == []


def test_the_variant_of_a_family_is_part_of_the_address(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SSL3D_WEIGHTS", str(tmp_path))
    backbone = build("timm/test_resnet")
    variant = backbone.published_variant("test_resnet")  # of which a user may leave out the tag
    assert variant == "test_resnet.r160_in1k"
    wanted = tmp_path / backbone.weights["imagenet"].file.format(variant=variant)
    save_file(backbone.model.state_dict(), wanted)
    assert "(100%)" in load_weights(backbone, "imagenet")


def test_unknown_weights_are_refused_with_those_that_exist() -> None:
    with pytest.raises(WeightsError, match=r"Tiny has no weights 'kinetics400'.*r3d_18 \(kinetics400\)"):
        load_weights(build("tiny"), "kinetics400")


def test_weights_of_another_network_are_refused_with_the_share_that_matched(r3d: Path) -> None:
    with pytest.raises(WeightsError, match=r"matched \d+ of \d+ tensors \(\d%\) of Slow R50"):
        load_weights(build("slow_r50"), "kinetics400", r3d)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.encoder.", "net."])
def test_usual_beginnings_of_names_are_left_out_and_said(tmp_path: Path, prefix: str) -> None:
    source, backbone = build("tiny"), toy()
    state = {prefix + key: value + 1 for key, value in source.state_dict().items()}
    torch.save({"state_dict": {**state, "head.weight": torch.zeros(2, 2)}}, tmp_path / "w.pth")
    said = load_weights(backbone, None, tmp_path / "w.pth")
    assert "(100%) of w.pth" in said
    assert f"without {prefix!r} before their names" in said
    assert same(backbone, {key.removeprefix(prefix): value for key, value in state.items()})


def test_of_two_networks_in_a_file_the_user_names_one(tmp_path: Path) -> None:
    state = build("tiny").state_dict()
    twice = {f"net.{key}": value + 1 for key, value in state.items()}
    twice |= {f"encoder.{key}": value + 2 for key, value in state.items()}
    torch.save(twice, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"holds Tiny twice, below .*; choose one with --set init\.prefix="):
        load_weights(toy(), None, tmp_path / "w.pth")
    backbone = toy()
    load_weights(backbone, None, tmp_path / "w.pth", prefix="encoder.")
    assert same(backbone, {key: value + 2 for key, value in state.items()})


def test_a_stray_match_below_two_names_is_no_second_network(tmp_path: Path) -> None:
    name, value = next(iter(build("tiny").state_dict().items()))
    torch.save({f"net.{name}": value, f"encoder.{name}": value}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="this file is of another network"):
        load_weights(toy(), None, tmp_path / "w.pth")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "w.pth").write_bytes(b"")
    monkeypatch.setattr(torch, "load", denied)
    with pytest.raises(WeightsError, match=r"w\.pth cannot be read \(Permission denied\)"):
        read_state(tmp_path / "w.pth")


def test_a_part_of_a_network_is_refused_with_the_first_names_unless_it_is_allowed(tmp_path: Path) -> None:
    state = {f"module.{key}": value + 1 for key, value in build("tiny").state_dict().items()}
    lost = list(state)[-1]
    del state[lost]
    torch.save({**state, "extra": torch.zeros(2)}, tmp_path / "w.pth")
    backbone, lost = toy(), lost.removeprefix("module.")
    before = backbone.state_dict()[lost].clone()
    with pytest.raises(WeightsError) as error:
        load_weights(backbone, None, tmp_path / "w.pth")
    count = len(backbone.state_dict())
    assert f"matched {count - 1} of {count} tensors (9" in str(error.value)
    assert f"The first that it lacks: {lost}" in str(error.value)
    assert "--set init.allow_partial=true" in str(error.value)
    assert f"partial: without {lost}" in load_weights(backbone, None, tmp_path / "w.pth", allow_partial=True)
    assert torch.equal(backbone.state_dict()[lost], before)


def test_published_names_are_mapped_as_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = toy()
    state = {f"swin.{key}": value for key, value in build("tiny").state_dict().items()}
    weights = Weights("https://a.org/w", "w.pth", (8, 8, 8), "MIT", key_map=(("swin.", ""),))
    monkeypatch.setattr(type(backbone), "weights", {"ssl": weights})
    torch.save(state, tmp_path / "w.pth")
    assert "ssl: matched" in load_weights(backbone, "ssl", tmp_path / "w.pth")


def test_a_loader_that_fails_on_another_network_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = toy()
    monkeypatch.setattr(type(backbone), "load_pretrained", lambda _, state: state["patch_embed.weight"])
    torch.save({"module.fc.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"matched 0 of \d+ tensors \(0%\) of Tiny .* of another network"):
        load_weights(backbone, None, tmp_path / "w.pth")


def toy() -> Backbone:
    """A network unlike that of ``build("tiny")``, of the same names and shapes."""
    backbone = build("tiny")
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
    return backbone


def same(backbone: Backbone, state: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor, state[key]) for key, tensor in backbone.state_dict().items())


def test_weights_of_another_shape_are_not_matched(r3d: Path, tmp_path: Path) -> None:
    state = {key: value[:-1] if value.ndim else value for key, value in read_state(r3d).items()}
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(WeightsError, match="matched 0 of"):
        load_weights(build("r3d_18"), "kinetics400", tmp_path / "cut.pth")


@pytest.mark.parametrize("norm", ["group", "auto"])
def test_weights_with_batch_statistics_are_refused_where_these_have_no_place(r3d: Path, norm: str) -> None:
    with pytest.raises(WeightsError, match="norm to frozen or batch"):
        load_weights(build("r3d_18", norm), "kinetics400", r3d)


def test_weights_load_into_batch_norm_too(r3d: Path) -> None:
    assert "(100%)" in load_weights(build("r3d_18", "batch"), "kinetics400", r3d)


@pytest.mark.parametrize("suffix", [".pth", ".pyth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", None])
def test_a_damaged_file_is_refused_by_name(r3d: Path, tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(r3d.read_bytes()[:100_000] if content is None else content)
    with pytest.raises(WeightsError, match=rf"damaged\{suffix} is damaged"):
        load_weights(build("r3d_18"), "kinetics400", path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state": Path("a pickled object")}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match="holds Python objects, and reading them would run code"):
        read_state(tmp_path / "code.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"model_state": {}}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="holds no tensors"):
        read_state(tmp_path / "empty.pth")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        load_weights(build("r3d_18"), "kinetics400", tmp_path / "absent.pth")
