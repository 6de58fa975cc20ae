"""``ssl3d check``: does a plugin keep its contract? One line per rule."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl3d.cli.options import PATH
from ssl3d.errors import PluginError

if TYPE_CHECKING:
    from ssl3d.testing import Finding

EXAMPLES = (
    "\b\nssl3d check byol\nssl3d check timm/resnet18\nssl3d check my_method.py:MyMethod\n"
    "ssl3d check mrnet --root MRNet-v1.0 --plane coronal\nssl3d check linear"
)
STYLES = {"passed": "green", "failed": "bold red", "expected failure": "yellow", "not applicable": "dim"}


@click.command(epilog=EXAMPLES)
@click.argument("plugin", metavar="NAME|FILE.py:Class")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting of the plugin; may be repeated.")
@click.option("--root", type=PATH, help="Folder of a data set's files.")
@click.option("--plane", help="Plane of a data set.")
@click.option("--expect", "expects", multiple=True, metavar="RULE=REASON", help="A rule known to fail, and why.")
def check(plugin: str, sets: tuple[str, ...], root: Path | None, plane: str | None, expects: tuple[str, ...]) -> int:
    """Check that a method, backbone, data set or protocol keeps its contract.

    Every rule is printed with its outcome; the exit code is 1 if one fails. Methods and protocols are checked on a toy
    backbone with tiny volumes, which takes seconds; of a data set's volumes, a few are read.
    """
    settings = {key: _value(text) for key, text in _pairs("--set", sets)}
    expected = dict(_pairs("--expect", expects))

    from ssl3d.testing.imports import begin  # noqa: PLC0415  # help must not wait for it

    begin(plugin)  # in a process of its own, while this one imports torch

    from ssl3d.testing.plugin import check_plugin  # noqa: PLC0415

    return _show(plugin, check_plugin(plugin, settings, expected, root=root, plane=plane))


def _show(plugin: str, findings: Sequence[Finding]) -> int:
    from rich.console import Console  # noqa: PLC0415  # as above
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    lines = [(str(finding), STYLES[finding.outcome]) for finding in findings if finding.outcome != "not applicable"]
    lines += [(line, STYLES["not applicable"]) for line in _not_applicable(findings)]
    for line, style in lines:
        if console.is_terminal:
            console.print(Text(line, style))
        else:
            click.echo(line)
    failed = sum(finding.failed for finding in findings)
    applied = sum(finding.outcome != "not applicable" for finding in findings)
    names = ", ".join(finding.rule for finding in findings if finding.failed)
    click.echo(f"{plugin}: {f'{failed} of {applied} rules fail: {names}' if failed else f'all {applied} rules hold'}")
    return 1 if failed else 0


def _not_applicable(findings: Sequence[Finding]) -> list[str]:
    """Return one line with the rules that did not apply, by the reason; none if all applied."""
    rules: dict[str, list[str]] = {}
    for finding in findings:
        if finding.outcome == "not applicable":
            rules.setdefault(finding.message, []).append(finding.rule)
    if not rules:
        return []
    count = sum(len(names) for names in rules.values())
    reasons = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in rules.items())
    return [f"{count} {'rules do' if count > 1 else 'rule does'} not apply: {reasons}"]


def _pairs(option: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    for text in texts:
        if "=" not in text:
            raise PluginError(f"{option} {text!r} needs the form key=value")
    return [(key.strip(), value.strip()) for key, _, value in (text.partition("=") for text in texts)]


def _value(text: str) -> Any:
    """Return a text parsed as TOML, or the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
