"""The conformance kit: does a plugin keep its contract? For its authors, in a test of one line.

>>> from ssl3d.testing import assert_method
>>> def test_my_method_keeps_the_contract() -> None:
...     assert_method("my_package.my_method:MyMethod")

On the command line: ``ssl3d check my_method.py:MyMethod``. A rule that a plugin breaks for a good reason is passed as
``expected_failures={"check_...": "the reason"}``.
"""

from __future__ import annotations

from ssl3d.testing.backbones import assert_backbone, check_backbone
from ssl3d.testing.methods import assert_method, check_method
from ssl3d.testing.runner import ConformanceError, Finding

__all__ = ["ConformanceError", "Finding", "assert_backbone", "assert_method", "check_backbone", "check_method"]
