"""Extraction of features: what is computed, and what stays as it was."""

from __future__ import annotations

import numpy as np
import torch

from ssl3d.data.augment import whole
from ssl3d.evaluate.features import extract
from tests.evaluate.volumes import CPU, SIZE, TEST, TRAIN, Small, Stripes, snapshot
from tests.toys import ToyBackbone


def test_features_are_those_of_whole_volumes_whatever_the_batch() -> None:
    source, encoder = Stripes(), Small()
    found = [extract(encoder, source, TRAIN, size=SIZE, batch_size=b, device=CPU)["last"] for b in (1, 7, 24)]
    assert (found[0].shape, found[0].dtype) == ((24, 5), np.float32)
    encoder.eval()
    with torch.no_grad():
        expected = encoder(whole(source.volumes(TRAIN, CPU), SIZE)).numpy()
    for features in found:
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_extraction_leaves_the_encoder_and_the_random_state_as_they_were() -> None:
    encoder = Small().train()
    encoder.norm.eval()  # a part that is frozen stays so
    before, state = snapshot(encoder), torch.get_rng_state()
    extract(encoder, Stripes(), TEST, size=SIZE, batch_size=4, device=CPU)
    assert (encoder.training, encoder.conv.training, encoder.norm.training) == (True, True, False)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_extraction_in_lower_precision_is_close_and_float32() -> None:
    source, encoder = Stripes(), Small()
    full = extract(encoder, source, TEST, size=SIZE, batch_size=4, device=CPU)["last"]
    half = extract(encoder, source, TEST, size=SIZE, batch_size=4, device=CPU, autocast=torch.bfloat16)["last"]
    assert half.dtype == np.float32
    assert not np.array_equal(half, full)
    np.testing.assert_allclose(half, full, atol=0.05)


def test_extraction_reports_its_progress() -> None:
    seen: list[tuple[int, int]] = []
    extract(
        Small(), Stripes(), TEST, size=SIZE, batch_size=5, device=CPU, progress=lambda done, n: seen.append((done, n))
    )
    assert seen == [(5, 12), (10, 12), (12, 12)]


def test_every_read_out_is_of_the_same_pass() -> None:
    source, encoder = Stripes(), ToyBackbone().eval()
    found = extract(encoder, source, TEST, size=SIZE, batch_size=5, device=CPU)
    with torch.no_grad():
        maps = encoder.forward_features(whole(source.volumes(TEST, CPU), SIZE))
    assert {name: x.shape[1] for name, x in found.items()} == {"last": 6, "multi": 4 + 6, "max": 6}
    means = torch.cat([one.mean((2, 3, 4)) for one in maps], 1).numpy()
    np.testing.assert_allclose(found["multi"], means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["last"], means[:, 4:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["max"], maps[-1].amax((2, 3, 4)).numpy(), rtol=1e-4, atol=1e-5)
