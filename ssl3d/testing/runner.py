"""What checks a plugin: rules, each a small function, and what each of them found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from ssl3d.errors import PluginError, nearest
from ssl3d.testing.blame import explain

Outcome = Literal["passed", "failed", "expected failure", "not applicable"]


class HasKind(Protocol):
    """What rules look at, of a plugin of any kind."""

    @property
    def kind(self) -> type[Any]:
        """The class that is checked."""


Kit = TypeVar("Kit", bound=HasKind)


class NotApplicable(Exception):  # noqa: N818  # nothing is wrong
    """A rule does not apply to this plugin; the message says why."""


class ConformanceError(AssertionError):
    """A plugin breaks rules of its contract. The message has a line for each."""


class BrokenRuleError(AssertionError):
    """A rule is broken: one sentence with what the plugin did and what to do. Raised by :func:`require`."""


@dataclass(frozen=True)
class Finding:
    """What one rule found about one plugin.

    Attributes:
        rule: its name, "check_state_survives".
        sentence: what it demands.
        outcome: whether that is so.
        message: why not, or why the rule did not apply; where it passed, what it did differently from usual, or empty.
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
        if self.outcome == "passed":
            return f"{self.rule}: {word}: {self.sentence}{f' ({self.message})' if self.message else ''}"
        return f"{self.rule}: {word}: {self.message or self.sentence}"


@dataclass(frozen=True)
class Rule(Generic[Kit]):
    """One demand of a contract.

    Attributes:
        check: raises BrokenRuleError where it is not met, NotApplicable where it does not apply; may return a remark.
        after: rules without which this one has no meaning; it is skipped where one of them fails.
    """

    check: Callable[[Kit], str | None]
    after: tuple[Callable[[Kit], str | None], ...] = ()

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.check.__name__

    @property
    def sentence(self) -> str:
        """The first line of its docstring."""
        return (self.check.__doc__ or self.name).strip().splitlines()[0]


def require(condition: Any, sentence: str) -> None:
    """Raise BrokenRuleError with a sentence unless a condition holds; unlike ``assert``, under ``python -O`` too."""
    if not condition:
        raise BrokenRuleError(sentence)


def run(kit: Kit, rules: Sequence[Rule[Kit]], expected_failures: Mapping[str, str] | None = None) -> list[Finding]:
    """Apply every rule, and return what each found, in their order.

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
            raise PluginError(f"a failure is expected of {name!r}, which is not a rule{nearest(name, names)}")
    findings: dict[str, Finding] = {}
    for rule in rules:
        found = _apply(kit, rule, [findings[needed.__name__] for needed in rule.after])
        findings[rule.name] = _with_expectation(found, expected.get(rule.name))
    return list(findings.values())


def raise_failures(plugin: str, findings: Sequence[Finding]) -> None:
    """Raise ConformanceError if a finding is a failure."""
    failures = [finding for finding in findings if finding.failed]
    if failures:
        lines = "".join(f"\n- {finding.rule}: {finding.message}" for finding in failures)
        raise ConformanceError(f"{plugin} breaks {len(failures)} of {len(findings)} rules:{lines}") from failures[
            0
        ].error


def _apply(kit: Kit, rule: Rule[Kit], needed: Sequence[Finding]) -> Finding:
    for finding in needed:
        if finding.outcome == "not applicable":
            return Finding(rule.name, rule.sentence, "not applicable", finding.message)
        if finding.outcome != "passed":
            return Finding(rule.name, rule.sentence, "not applicable", f"it has no meaning while {finding.rule} fails")
    try:
        remark = rule.check(kit)
    except NotApplicable as reason:
        return Finding(rule.name, rule.sentence, "not applicable", str(reason))
    except BrokenRuleError as fault:
        return Finding(rule.name, rule.sentence, "failed", str(fault), fault)
    except Exception as error:  # whatever a plugin raises is its fault, and becomes a finding
        return Finding(rule.name, rule.sentence, "failed", explain(error, kit.kind), error)
    return Finding(rule.name, rule.sentence, "passed", remark or "")


def _with_expectation(finding: Finding, reason: str | None) -> Finding:
    """Turn a failure that was expected into one, and a pass that was not into a failure."""
    if reason is None or finding.outcome == "not applicable":
        return finding
    if finding.failed:
        return Finding(finding.rule, finding.sentence, "expected failure", reason, finding.error)
    message = f"it was expected to fail ({reason}) and passes; remove the expectation"
    return Finding(finding.rule, finding.sentence, "failed", message)
