"""Methods, each with one fault in what they declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ssl3d.method import Card, Config, Field
from ssl3d_plugins.methods.simclr import SimCLR, SimCLRConfig


class CardWithoutLink(SimCLR):
    card: ClassVar[Card] = Card("SimCLR", "contrasts views", "Chen et al.", 2020)


class _Unbounded(SimCLRConfig):
    momentum: float = Field(0.9, description="unbounded")


class SettingWithoutBounds(SimCLR):
    Config = _Unbounded


class _Undescribed(SimCLRConfig):
    momentum: float = Field(0.9, ge=0)


class SettingWithoutDescription(SimCLR):
    Config = _Undescribed


class _Wrong(SimCLRConfig):
    momentum: float = Field(2.0, ge=0, le=1, description="of the momentum encoder")


class SettingWithAWrongDefault(SimCLR):
    Config: ClassVar[type[Config]] = _Wrong


class PresetWithATypo(SimCLR):
    preset: ClassVar[Mapping[str, object]] = {"pretrain": {"epoch": 10}}


class PresetOfTheUsersChoice(SimCLR):
    preset: ClassVar[Mapping[str, object]] = {"corpus": ()}
