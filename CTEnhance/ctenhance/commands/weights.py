"""`ctenhance weights list|verify|add|export`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from ctenhance.commands.apps import group
from ctenhance.commands.support import NEITHER, Run, command
from ctenhance.runtime.errors import InputError

weights_app = group("weights", "List, check and add trained weights.")


@command(weights_app, "ctenhance weights list", name="list", without=NEITHER)
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


@command(weights_app, "ctenhance weights verify", without=NEITHER)
def verify(
    run: Run,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="All if none is named.")] = None,
) -> None:
    """Check that weights are there and have the registered hash."""
    from ctenhance.runtime.weights import entries
    from ctenhance.runtime.weights import verify as verify_one

    run.plan([])
    checked = {name: verify_one(name).sha256 for name in names or [entry.name for entry in entries()]}
    lines = [f"{name}: whole ({sha256[:12]}…)" for name, sha256 in checked.items()]
    run.finish({"verified": checked}, text="\n".join(lines) or "There are no weights.", verified=checked)


@command(weights_app, "ctenhance weights add runs/twin/twin.safetensors --name my-twin", without=NEITHER)
def add(
    run: Run,
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors file that the training wrote.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Call them so, instead of by the name in the file.")
    ] = None,
) -> None:
    """Copy your own weights to where --model NAME finds them."""
    from dataclasses import asdict

    from ctenhance.runtime.weights import add as add_weights

    run.plan([path])
    entry = add_weights(path, name)
    run.finish({"added": asdict(entry)}, text=f"Added; use it with --model {entry.name}", name=entry.name)


@command(weights_app, "ctenhance weights export my-twin", without=NEITHER)
def export(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Registered weights; see 'weights list'.")],
    bfloat16: Annotated[
        bool, typer.Option(help="Allow bfloat16, having measured that it is near enough.")
    ] = False,
) -> None:
    """Export weights (ONNX), so that they run without PyTorch. The file stands beside them."""
    from ctenhance.choices import DEFAULT_ENHANCE_STEPS
    from ctenhance.decomposition.scatter import network as scatter
    from ctenhance.enhancement import networks
    from ctenhance.reconstruction import networks as reconstruction_networks
    from ctenhance.runtime import weights
    from ctenhance.runtime.engines.export import OPSET
    from ctenhance.runtime.engines.export import export as export_one

    run.plan([])
    known: dict[str, Any] = {
        **networks.ARCHITECTURES,
        **reconstruction_networks.ARCHITECTURES,
        scatter.ARCHITECTURE: scatter.ScatterNet,
    }
    if name not in {entry.name for entry in weights.entries()}:
        raise InputError(
            f"There are no registered weights called '{name}': add them with 'weights add' first."
        )
    path, _ = weights.find(name)
    tensors, entry = weights.load(name)
    if entry.architecture not in known:
        raise InputError(f"The weights '{name}' have no exported form: they always run in PyTorch.")
    network = known[entry.architecture](**entry.arguments)
    weights.fill(network, tensors, entry)
    if entry.architecture in networks.ARCHITECTURES:
        form = networks.export_form(network, DEFAULT_ENHANCE_STEPS)
    elif entry.architecture == scatter.ARCHITECTURE:
        form = scatter.export_form(network)
    else:
        form = reconstruction_networks.export_form(network)
    run.progress("export", 0, 1)
    target = path.with_suffix(weights.EXPORTED_SUFFIX)
    export_one(form, path, target)
    found = weights.register_export(name, OPSET, bfloat16)
    run.progress("export", 1, 1)
    run.finish({"exported": found.onnx}, {"onnx": target}, name=name)
