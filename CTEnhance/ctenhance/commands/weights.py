"""`ctenhance weights list|verify|add`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.apps import group
from ctenhance.commands.support import Run, command
from ctenhance.runtime.errors import InputError

weights_app = group("weights", "List, check and add trained weights.")


@command(weights_app, "ctenhance weights list", name="list")
def list_weights(run: Run) -> None:
    """List the embedded weights and your own."""
    from dataclasses import asdict

    from ctenhance.runtime.weights import default_name, entries

    run.plan([])
    known = entries()
    default = ""
    with contextlib.suppress(InputError):  # none is marked
        default = default_name("enhance")
    lines = [
        f"{entry.name}{' (default)' if entry.name == default else ''}  version {entry.version}, "
        f"{entry.architecture}, {entry.licence}; trained on {entry.trained_on}"
        for entry in known
    ]
    found = [asdict(entry) for entry in known]
    run.finish({"weights": found}, text="\n".join(lines) or "There are no weights.", weights=found)


@command(weights_app, "ctenhance weights verify")
def verify(
    run: Run,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="All if none is named.")
    ] = None,
) -> None:
    """Check that weights are there and have the registered hash."""
    from ctenhance.runtime.weights import entries
    from ctenhance.runtime.weights import verify as verify_one

    run.plan([])
    checked = {name: verify_one(name).sha256 for name in names or [entry.name for entry in entries()]}
    lines = [f"{name}: whole ({sha256[:12]}…)" for name, sha256 in checked.items()]
    run.finish({"verified": checked}, text="\n".join(lines) or "There are no weights.", verified=checked)


@command(weights_app, "ctenhance weights add runs/twin/twin.safetensors --name my-twin")
def add(
    run: Run,
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors file that the training wrote.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Call them so, instead of by the name in the file.")
    ] = None,
) -> None:
    """Copy your own trained weights to where `--model NAME` finds them."""
    from dataclasses import asdict

    from ctenhance.runtime.weights import add as add_weights

    run.plan([path])
    entry = add_weights(path, name)
    run.finish({"added": asdict(entry)}, text=f"Added; use it with --model {entry.name}", name=entry.name)
