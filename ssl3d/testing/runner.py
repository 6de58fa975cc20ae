"""What checks a plugin: rules, each a small function, all of them run, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from ssl3d.errors import PluginError, nearest

Outcome = Literal["passed", "failed", "expected failure", "not applicable"]
Kit = TypeVar("Kit")


class NotApplicable(Exception):  # noqa: N818  # nothing is wrong
    """A rule has nothing to say about this plugin; the message says why."""


class ConformanceError(AssertionError):
    """A plugin breaks rules of its contract. The message has a line for each."""


@dataclass(frozen=True)
class Finding:
    """What one rule said of one plugin.

    Attributes:
        rule: its name, "check_state_survives".
        sentence: what it demands.
        outcome: whether that is so.
        message: why not, or why the rule did not apply; empty where it passed.
        error: what was raised, for its traceback.
    """

    rule: str
    sentence: str
    outcome: Outcome
    message: str = ""
    error: Exception | None = None

    @property
    def failed(self) -> bool:
        """Whether this finding is a fault."""
        return self.outcome == "failed"

    def __str__(self) -> str:
        word = {"passed": "ok", "failed": "FAILED"}.get(self.outcome, self.outcome)
        return f"{self.rule}: {word}: {self.message or self.sentence}"


@dataclass(frozen=True)
class Rule(Generic[Kit]):
    """One demand of a contract.

    Attributes:
        check: raises AssertionError with one sentence where it is not met, NotApplicable where it cannot be asked.
        after: rules without which this one has no meaning; it is not asked where one of them fails.
    """

    check: Callable[[Kit], None]
    after: tuple[Callable[[Kit], None], ...] = ()

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.check.__name__

    @property
    def sentence(self) -> str:
        """The first line of its docstring."""
        return (self.check.__doc__ or self.name).strip().splitlines()[0]


def require(condition: Any, sentence: str) -> None:
    """Raise AssertionError with a sentence unless a condition holds; unlike ``assert``, under ``python -O`` too."""
    if not condition:
        raise AssertionError(sentence)


def run(kit: Kit, rules: Sequence[Rule[Kit]], expected_failures: Mapping[str, str] | None = None) -> list[Finding]:
    """Ask every rule, and return what each said, in their order.

    Args:
        kit: what the rules look at.
        rules: in an order in which each comes after those that it needs.
        expected_failures: reasons, by the names of the rules that are known to fail. One that passes is a failure.

    Raises:
        PluginError: a failure is expected of a rule that does not exist.
    """
    expected = expected_failures or {}
    names = {rule.name for rule in rules}
    for name in expected:
        if name not in names:
            raise PluginError(f"a failure is expected of {name!r}, which is no rule{nearest(name, names)}")
    findings: dict[str, Finding] = {}
    for rule in rules:
        asked = _ask(kit, rule, [findings[needed.__name__] for needed in rule.after])
        findings[rule.name] = _judge(asked, expected.get(rule.name))
    return list(findings.values())


def raise_failures(plugin: str, findings: Sequence[Finding]) -> None:
    """Raise ConformanceError if a finding is a failure."""
    failures = [finding for finding in findings if finding.failed]
    if failures:
        lines = "\n".join(f"  {finding.rule}: {finding.message}" for finding in failures)
        heading = f"{plugin} breaks {len(failures)} of {len(findings)} rules:"
        raise ConformanceError(f"{heading}\n{lines}") from failures[0].error


def _ask(kit: Kit, rule: Rule[Kit], needed: Sequence[Finding]) -> Finding:
    for finding in needed:
        if finding.outcome == "not applicable":
            return Finding(rule.name, rule.sentence, "not applicable", finding.message)
        if finding.outcome != "passed":
            return Finding(rule.name, rule.sentence, "not applicable", f"it means nothing while {finding.rule} fails")
    try:
        rule.check(kit)
    except NotApplicable as reason:
        return Finding(rule.name, rule.sentence, "not applicable", str(reason))
    except AssertionError as fault:
        return Finding(rule.name, rule.sentence, "failed", str(fault) or rule.sentence, fault)
    except Exception as error:  # whatever a plugin raises is a fault of it, and becomes a finding
        return Finding(rule.name, rule.sentence, "failed", f"{type(error).__name__}: {_line(error)}", error)
    return Finding(rule.name, rule.sentence, "passed")


def _judge(finding: Finding, reason: str | None) -> Finding:
    """Turn a failure that was expected into one, and a pass that was not into a failure."""
    if reason is None or finding.outcome == "not applicable":
        return finding
    if finding.failed:
        return Finding(finding.rule, finding.sentence, "expected failure", reason, finding.error)
    message = f"it was expected to fail ({reason}) and passes; expect it no longer"
    return Finding(finding.rule, finding.sentence, "failed", message)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no message")
