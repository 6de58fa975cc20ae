"""The conformance kit: does a plugin keep its contract? For its authors, in a test of one line.

>>> from ssl3d.testing import assert_method
>>> def test_my_method_keeps_the_contract() -> None:
...     assert_method("my_package.my_method:MyMethod")

Likewise ``assert_backbone``, ``assert_dataset`` and ``assert_protocol``. On the command line: ``ssl3d check
my_method.py:MyMethod``. A rule that a plugin breaks for a good reason is passed as
``expected_failures={"check_...": "the reason"}``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl3d.testing.backbones import assert_backbone, check_backbone
    from ssl3d.testing.datasets import assert_dataset, check_dataset
    from ssl3d.testing.methods import assert_method, check_method
    from ssl3d.testing.protocols import assert_protocol, check_protocol
    from ssl3d.testing.runner import ConformanceError, Finding

__all__ = [
    "ConformanceError",
    "Finding",
    "assert_backbone",
    "assert_dataset",
    "assert_method",
    "assert_protocol",
    "check_backbone",
    "check_dataset",
    "check_method",
    "check_protocol",
]


def __getattr__(name: str) -> Any:
    """Import what is used, when it is used: the kit for methods needs no scikit-learn."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in {"ConformanceError", "Finding"}:
        return getattr(importlib.import_module("ssl3d.testing.runner"), name)
    return getattr(importlib.import_module(f"ssl3d.testing.{name.partition('_')[2]}s"), name)
