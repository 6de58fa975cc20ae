"""``ssl3d check``: does a plugin keep its contract, one line a rule."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ssl3d.errors import PluginError

if TYPE_CHECKING:
    from ssl3d.testing import Finding

EXAMPLES = "\b\nssl3d check byol\nssl3d check timm/resnet18\nssl3d check my_method.py:MyMethod"
STYLES = {"passed": "green", "failed": "bold red", "expected failure": "yellow", "not applicable": "dim"}


@click.command(epilog=EXAMPLES)
@click.argument("plugin", metavar="NAME|FILE.py:Class")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting of the method; may be repeated.")
@click.option("--expect", "expects", multiple=True, metavar="RULE=REASON", help="A rule known to fail, and why.")
def check(plugin: str, sets: tuple[str, ...], expects: tuple[str, ...]) -> int:
    """Check that a method or backbone keeps its contract.

    Every rule is printed with its outcome; the exit code is 1 if one fails. A method is checked on a toy backbone with
    tiny volumes, which takes seconds.
    """
    settings = {key: _value(text) for key, text in _pairs("--set", sets)}
    expected = dict(_pairs("--expect", expects))

    from ssl3d.testing.plugin import check_plugin  # noqa: PLC0415  # help must not wait for torch

    return _show(plugin, check_plugin(plugin, settings, expected))


def _show(plugin: str, findings: Sequence[Finding]) -> int:
    from rich.console import Console  # noqa: PLC0415  # as above
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    for finding in findings:
        if console.is_terminal:
            console.print(Text(str(finding), STYLES[finding.outcome]))
        else:
            click.echo(str(finding))
    failed = sum(finding.failed for finding in findings)
    asked = sum(finding.outcome != "not applicable" for finding in findings)
    names = ", ".join(finding.rule for finding in findings if finding.failed)
    told = f"{failed} of {asked} rules fail: {names}" if failed else f"all {asked} rules hold"
    click.echo(f"{plugin}: {told}")
    return 1 if failed else 0


def _pairs(option: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    for text in texts:
        if "=" not in text:
            raise PluginError(f"{option} {text!r} needs the form key=value")
    return [(key.strip(), value.strip()) for key, _, value in (text.partition("=") for text in texts)]


def _value(text: str) -> Any:
    """Return what a text means in TOML, or the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
