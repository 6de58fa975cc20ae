"""``ssl3d list`` and ``ssl3d show``: what there is, and what each of it does and takes."""

from __future__ import annotations

import sys
from typing import Any

import click


@click.command("list")
@click.option("--kind", type=click.Choice(["methods", "backbones", "datasets"]), help="List one kind only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_plugins(kind: str | None, as_json: bool) -> None:
    """List methods, backbones and data sets: name, one line, and the distribution each comes from.

    A plugin that cannot be used is listed as broken, with why. Backbones of timm are named timm/MODEL.
    """
    from ssl3d.listing import listed  # noqa: PLC0415  # help must not wait for it

    found = [plugin for plugin in listed() if kind in (None, plugin.kind)]
    if as_json:
        import json  # noqa: PLC0415

        click.echo(json.dumps([vars(plugin) for plugin in found], indent=2))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(width=None if sys.stdout.isatty() else 120)
    for section in dict.fromkeys(plugin.kind for plugin in found):
        table = Table(section, "", "from", box=None, padding=(0, 2, 0, 0), header_style="bold")
        for plugin in found:
            if plugin.kind == section:
                text = f"[red]broken:[/red] {escape(plugin.problem)}" if plugin.problem else escape(plugin.summary)
                table.add_row(escape(plugin.name), text, escape(plugin.distribution))
        console.print(table, "")


@click.command()
@click.argument("name")
def show(name: str) -> None:
    """Show the card of a method, backbone or data set, and its settings with defaults, bounds and meaning."""
    from rich.console import Console  # noqa: PLC0415

    from ssl3d.cli.card import describe  # noqa: PLC0415

    console = Console(width=None if sys.stdout.isatty() else 120)
    parts: list[Any] = describe(name)
    for part in parts:
        console.print(part)
