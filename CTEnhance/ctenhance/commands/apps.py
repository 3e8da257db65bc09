"""The command `ctenhance` and its groups; the files beside this one register their verbs with them."""

from __future__ import annotations

from typing import Any

import typer

_SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "no_args_is_help": True,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}

app = typer.Typer(
    help="Enhance, reconstruct and decompose CT, and have readers grade it. Research use only.",
    **_SETTINGS,
)


def group(name: str, help_text: str) -> typer.Typer:
    """A group of verbs, such as `ctenhance train …`."""
    verbs = typer.Typer(help=help_text, **_SETTINGS)
    app.add_typer(verbs, name=name)
    return verbs
