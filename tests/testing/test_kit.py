"""What the kit does around its rules: small settings, expectations, controls, sentences."""

from __future__ import annotations

import pytest

from ssl3d.errors import PluginError, RecipeError
from ssl3d.method import Config, Field
from ssl3d.testing import ConformanceError, Finding, assert_method, check_method
from ssl3d.testing.blame import explain
from ssl3d.testing.runner import NotApplicable, Rule, require, run
from ssl3d.testing.shrink import describe, shrink
from ssl3d_plugins.methods.byol import BYOL
from ssl3d_plugins.methods.controls import Random
from tests.planted import declared


class Wide(Config):
    hidden_dim: int = Field(4096, ge=1, description="made small")
    prototypes: int = Field(65536, ge=100, multiple_of=32, description="made small, within its bounds")
    fixed: int = Field(128, ge=128, description="as small as its bounds allow")
    widths: tuple[int, ...] = Field((512, 256), description="made small, each")
    heads: int = Field(6, ge=1, description="small already")
    epochs: int = Field(30, ge=1, description="takes long")
    temperature: float = Field(100.0, ge=0, description="not a whole number")
    flag: bool = Field(True, description="not a number")


def failed(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings if finding.failed]


def test_wide_settings_are_made_small_within_their_bounds_and_said() -> None:
    small = shrink(Wide, {})
    assert small == {"hidden_dim": 48, "prototypes": 128, "widths": (48, 48), "epochs": 2}
    assert describe(Wide, small).startswith(
        "made small for the check: hidden_dim = 48 (default 4096), prototypes = 128"
    )
    assert shrink(Wide, {"hidden_dim": 1000}).keys() == {"prototypes", "widths", "epochs"}


def test_settings_stand_in_for_defaults_and_are_checked() -> None:
    findings = check_method(BYOL, settings={"hidden_dim": 200})
    assert failed(findings) == []
    (remark,) = [finding.message for finding in findings if finding.rule == "check_it_builds"]
    assert remark == "made small for the check: projection_dim = 48 (default 256)"
    with pytest.raises(RecipeError, match="hidden_dim"):
        check_method(BYOL, settings={"hidden": 8})


def test_a_control_is_not_asked_about_training() -> None:
    outcomes = {finding.rule: finding for finding in check_method(Random)}
    assert outcomes["check_splits_agree"].outcome == "not applicable"
    assert "without training" in outcomes["check_splits_agree"].message
    assert outcomes["check_card"].outcome == "passed"


def test_an_expected_failure_is_no_failure_and_keeps_its_reason() -> None:
    expected = {"check_card": "kept until it is published"}
    findings = check_method(declared.CardWithoutLink, expected_failures=expected)
    assert failed(findings) == []
    finding = next(one for one in findings if one.rule in expected)
    assert (finding.outcome, finding.message) == ("expected failure", "kept until it is published")
    assert_method(declared.CardWithoutLink, expected_failures=expected)


def test_an_expected_failure_that_passes_is_a_failure() -> None:
    findings = check_method(Random, expected_failures={"check_card": "no card yet"})
    assert failed(findings) == ["check_card"]


def test_an_expected_failure_of_no_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(PluginError, match="check_card"):
        check_method(Random, expected_failures={"check_crad": "typo"})


def test_assert_method_raises_with_a_line_for_each_fault() -> None:
    with pytest.raises(ConformanceError, match=r"(?s)CardWithoutLink breaks 1 of .*check_card: .*https link"):
        assert_method(declared.CardWithoutLink)


class _Kit:
    kind = BYOL


def check_first(kit: _Kit) -> None:
    """The first demand."""
    require(False, "it does this; do that")


def check_second(kit: _Kit) -> str:
    """The second demand."""
    return "a remark"


def check_third(kit: _Kit) -> None:
    """The third demand."""
    raise NotApplicable("there is nothing to check")


def check_fourth(kit: _Kit) -> None:
    """The fourth demand."""
    assert not kit, "of a library"


def test_findings_are_sentences_and_rules_wait_for_those_that_they_need() -> None:
    rules = (Rule(check_first), Rule(check_second), Rule(check_third), Rule(check_fourth, (check_first,)))
    assert [str(finding) for finding in run(_Kit(), rules)] == [
        "check_first: FAILED: it does this; do that",
        "check_second: ok: The second demand. (a remark)",
        "check_third: not applicable: there is nothing to check",
        "check_fourth: not applicable: it has no meaning while check_first fails",
    ]
    (finding,) = run(_Kit(), (Rule(check_fourth),))
    assert finding.message == "BYOL raised AssertionError: of a library; for its traceback, call the kit from a test"


def test_an_error_without_a_message_is_a_sentence_too() -> None:
    assert (
        explain(AssertionError(), BYOL)
        == "BYOL raised AssertionError: no message; for its traceback, call the kit from a test"
    )
