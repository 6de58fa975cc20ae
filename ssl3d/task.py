"""Prediction tasks and their targets. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from ssl3d.config import Config

Kind = Literal["binary", "multiclass", "multilabel", "ordinal", "regression"]
Target = int | float | tuple[int, ...]  # class index, number, or 0 or 1 per label of a multi-label task
Targets = Mapping[str, Target]  # by task name; a missing task is unlabelled


class Task(Config):
    """A target that the cases of a data set may have.

    Class indices count from 0 in the order of ``classes``. An ordinal task is a multi-class task whose classes are
    ordered. A multi-label task has one target of 0 or 1 per name in ``classes``. A regression task has no classes.
    """

    name: str = Field(min_length=1, description="name of the target: the column of a table, or a finding")
    kind: Kind = Field("binary", description="binary, multiclass, multilabel, ordinal or regression")
    classes: tuple[str, ...] = Field(("0", "1"), description="names of the classes, as the data set spells them")
    unit: str | None = Field(None, description="unit of a regression target: mm, years")

    @model_validator(mode="after")
    def _has_the_right_classes(self) -> Self:
        least = {"binary": 2, "multiclass": 2, "ordinal": 2, "multilabel": 1, "regression": 0}[self.kind]
        if self.kind == "binary" and len(self.classes) != 2:
            raise ValueError(f"task {self.name!r} is binary and has {len(self.classes)} classes; name two")
        if self.kind == "regression" and self.classes:
            raise ValueError(f"task {self.name!r} is a regression and has no classes; leave them out")
        if len(self.classes) < least or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"task {self.name!r} needs {least} or more classes, each with a name of its own")
        return self

    @property
    def outputs(self) -> int:
        """Width of a head for this task: K classes, L labels, or 1."""
        return len(self.classes) or 1

    @property
    def categorical(self) -> bool:
        """Whether every case has exactly one class."""
        return self.kind in {"binary", "multiclass", "ordinal"}
