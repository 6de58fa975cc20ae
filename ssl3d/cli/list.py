"""``ssl3d list``: the available plugins."""

from __future__ import annotations

import sys

import click

from ssl3d.registry import KINDS

TITLES = {"datasets": "data sets"}  # of kinds whose title differs


@click.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="List one kind only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_plugins(kind: str | None, as_json: bool) -> None:
    """List methods, backbones, data sets and protocols: name, one line, and the distribution each comes from.

    A plugin that cannot be used is listed as broken, with the reason. Backbones of timm are named timm/MODEL.
    """
    from ssl3d.listing import listed  # noqa: PLC0415  # help must not wait for it

    found = listed([one for one in KINDS if kind in (None, one)])
    if as_json:
        import json  # noqa: PLC0415

        click.echo(json.dumps([vars(plugin) for plugin in found], indent=2))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(width=None if sys.stdout.isatty() else 120)
    for section in dict.fromkeys(plugin.kind for plugin in found):
        table = Table(TITLES.get(section, section), "", "from", box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.columns[0].overflow = "fold"  # a truncated name cannot be typed
        for plugin in found:
            if plugin.kind == section:
                text = f"[red]broken:[/red] {escape(plugin.problem)}" if plugin.problem else escape(plugin.summary)
                table.add_row(escape(plugin.name), text, escape(plugin.distribution))
        console.print(table, "")
