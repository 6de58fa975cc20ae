"""The toys that plugins are checked with, under the name that tests know them by."""

from __future__ import annotations

from ssl3d.testing.toys import SIZE, NoisyAugment, RaggedSource, ToyBackbone, ToySource

__all__ = ["SIZE", "NoisyAugment", "RaggedSource", "ToyBackbone", "ToySource"]
