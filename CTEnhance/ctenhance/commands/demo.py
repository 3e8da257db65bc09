"""The demo: a full-dose CT, the same at a fraction of the dose, and what enhancement makes of that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ctenhance
from ctenhance.commands.apps import app
from ctenhance.commands.options import Choice, ModelOption
from ctenhance.commands.support import Run, command
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import folder_made, require_space
from ctenhance.runtime.progress import check

if TYPE_CHECKING:
    from ctenhance.core.volume import CTVolume

SLICES = 40
# The phantom has no noise that could tell its flux, so it gets one: a quarter of it is a noisy routine scan.
# The seed draws a scan with little else to it than noise: slices of 1.6 mm, no artefact.
PHANTOM_SCAN: dict[str, Any] = {"photons": 6e4, "seed": 7}


@command(app, "make demo CT=chest.nii.gz, or: ctenhance demo demo/ --ct chest.nii.gz")
def demo(
    run: Run,
    choice: Choice,
    folder: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Where the results go.")] = Path("demo"),
    ct: Annotated[Path | None, typer.Option(help="Your own CT; a chest phantom is built otherwise.")] = None,
    slices: Annotated[
        int, typer.Option(min=0, help="Take only so many slices of it, from the middle; 0: all.")
    ] = SLICES,
    dose: Annotated[float, typer.Option(help="Fraction of the dose that the degraded volume shows.")] = 0.25,
    model: ModelOption = None,
) -> None:
    """Degrade a CT to a lower dose, enhance it, and show both.

    Writes the three volumes, report, figure and page.
    """
    if not 0 < dose <= 1:
        raise InputError(f"The dose {dose} is no fraction of the full dose; give a number such as 0.25.")
    run.plan([])
    if ct is None and choice:
        raise InputError("Images are chosen from a CT of your own: give --ct, too.")
    if ct is not None and not ct.exists():
        raise InputError(f"There is no CT at '{ct}'; give a volume file or a DICOM folder.")
    with folder_made(folder):
        _run(run, folder, ct, choice, slices, dose, model)


def _run(
    run: Run, folder: Path, ct: Path | None, choice: Choice, slices: int, dose: float, model: str | None
) -> None:
    from ctenhance import quality
    from ctenhance.core.report import ReportBuilder, write_report

    builder = ReportBuilder("demo", {"dose": dose, "slices": slices, "phantom": ct is None}, seed=run.seed)
    with builder.stage("source"):
        original = _phantom(run, slices or SLICES) if ct is None else _middle(run.read(ct, choice), slices)
    # Told now and not after minutes of work.
    require_space(folder / "original.nii.gz", 2 * original.array.size)
    builder.input = original.input_report()
    check(run.cancel)
    common: dict[str, Any] = {
        "seed": run.seed,
        "device": run.device,
        "progress": run.progress,
        "cancel": run.cancel,
    }
    with builder.stage("degrade"):
        scan = PHANTOM_SCAN if ct is None and run.seed == 0 else {}
        degraded = ctenhance.degrade(original, preset="routine", dose=dose, **{**common, **scan})
    with builder.stage("enhance"):
        enhanced = ctenhance.enhance(degraded.volumes["degraded"], model=model, **common)
    before, after = degraded.volumes["degraded"], enhanced.volumes["enhanced"]
    with builder.stage("compare"):
        metrics = quality.compare(before, after, original, progress=run.progress, cancel=run.cancel)
    outputs = {
        "original": folder / "original.nii.gz",
        "degraded": folder / "degraded.nii.gz",
        "enhanced": folder / "enhanced.nii.gz",
    }
    run.write((original, outputs["original"]), (before, outputs["degraded"]), (after, outputs["enhanced"]))
    outputs["figure"] = folder / "figure.png"
    outputs["page"] = folder / "index.html"
    outputs["account"] = folder / "report.json"
    title = f"CTEnhance: {dose:.0%} of the dose, before and after"
    with builder.stage("show"):
        quality.figure(before, after, outputs["figure"], reference=original, metrics=metrics)
        check(run.cancel)
        quality.page(before, after, outputs["page"], reference=original, title=title, metrics=metrics)
    for result in (degraded, enhanced):
        for warning in result.report.get("warnings", []):
            builder.warn(warning)
    builder.details = {"degrade": degraded.report, "enhance": enhanced.report, "metrics": metrics}
    report = builder.finish()
    write_report(outputs["account"], report)
    run.finish(report, outputs, text=quality.table(metrics), metrics=metrics)


def _phantom(run: Run, slices: int) -> CTVolume:
    from ctenhance.physics.phantom import chest_phantom

    run.progress("phantom", 0, 1)
    phantom = chest_phantom(slices=slices, seed=run.seed)
    run.progress("phantom", 1, 1)
    return phantom


def _middle(volume: CTVolume, slices: int) -> CTVolume:
    """Return the middle slices on the grid that they have in the whole volume."""
    import numpy as np

    from ctenhance.core.volume import CTVolume

    total = volume.array.shape[0]
    if slices == 0 or slices >= total:
        return volume
    first = (total - slices) // 2
    step = np.asarray(volume.direction, dtype=float).reshape(3, 3)[:, 2] * volume.spacing[2]
    origin = np.asarray(volume.origin, dtype=float) + first * step
    return CTVolume(
        array=np.ascontiguousarray(volume.array[first : first + slices]),
        spacing=volume.spacing,
        origin=tuple(origin.tolist()),
        direction=volume.direction,
        meta=volume.meta,
    )
