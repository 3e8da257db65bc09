"""The command `ctenhance` and its groups; the files beside this one register their verbs with them."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

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


def group(name: str, help_text: str, default: str | None = None) -> typer.Typer:
    """A group of verbs, such as `ctenhance train …`; `default`: the verb where none of them is named."""

    class WithDefault(TyperGroup):
        def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
            if default is not None and args and args[0] not in (*self.commands, "--help"):
                args = [default, *args]
            return list(super().parse_args(ctx, args))

    verbs = typer.Typer(help=help_text, cls=WithDefault, **_SETTINGS)
    app.add_typer(verbs, name=name)
    return verbs
