"""``ssl3d show``: a plugin's card and settings, or the fields of a recipe."""

from __future__ import annotations

import sys

import click

EXAMPLES = "\b\nssl3d show byol\nssl3d show timm/resnet18\nssl3d show my_method.py:MyMethod\nssl3d show pretrain"


@click.command(epilog=EXAMPLES)
@click.argument("name", metavar="NAME|SECTION")
def show(name: str) -> None:
    """Show a plugin's card, and its settings with defaults, bounds and meaning.

    NAME is a method, backbone, data set or protocol. SECTION is a part of the recipe: recipe (all of it), data,
    augment, pretrain or evaluate; its fields are shown likewise.
    """
    from rich.console import Console  # noqa: PLC0415  # help must not wait for it

    from ssl3d.cli.card import describe  # noqa: PLC0415

    console = Console(width=None if sys.stdout.isatty() else 120)
    for part in describe(name):
        console.print(part)
