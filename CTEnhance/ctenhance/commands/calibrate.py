"""`ctenhance calibrate …`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ctenhance
from ctenhance.commands.apps import group
from ctenhance.commands.decompose import SpectralPath, names
from ctenhance.commands.support import NEITHER, Run, command
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.decomposition.phantom import MaterialPhantom
    from ctenhance.decomposition.solver.beam import Beam
    from ctenhance.physics.image_grid import ImageGrid
    from ctenhance.scan.projections import Projections

calibrate_app = group("calibrate", "Calibrate a photon-counting detector from its own scans.")


@command(
    calibrate_app,
    "ctenhance calibrate drift today.ctproj.h5 drift.h5 --before reference.ctproj.h5 --detector czt",
    without=NEITHER,
)
def drift(
    run: Run,
    source: SpectralPath,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The calibration: a .h5 file.")],
    before: Annotated[
        Path | None, typer.Option(metavar="SCAN", help="The same object scanned before the drift.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="True maps of the object, <material>.nii.gz in mg/mL."),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="ideal, cdte, czt, silicon, or a file with a response matrix.")
    ] = None,
    sensor: Annotated[
        str | None, typer.Option(metavar="MATERIAL=MM", help="Absorption to add to a response file: czt=1.6.")
    ] = None,
    kvp: Annotated[float | None, typer.Option(help="Tube voltage; as the file says otherwise.")] = None,
    filters: Annotated[
        str, typer.Option(metavar="MATERIAL=MM,…", help="What filters the tube's beam.")
    ] = "aluminium=3,titanium=0.9",
    spectrum: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A table of keV and quanta in place of the tube's.")
    ] = None,
    basis: Annotated[
        str | None,
        typer.Option(
            help="Basis materials, by name or as name=formula@density (water,iodine; "
            "with --reference its maps')."
        ),
    ] = None,
) -> None:
    """Find how far each channel's thresholds have drifted.

    From an earlier scan of the same object, from its known maps, or (neither given) from rings and redundant
    bins of the scan alone.
    """
    if before is not None and reference is not None:
        raise InputError("Give --before or --reference, not both.")
    if reference is not None and basis is not None:
        raise InputError("--basis has no effect with --reference, whose maps are the basis: leave it out.")
    run.plan([source], (target, (".h5", ".hdf5")))
    materials = names("water,iodine" if basis is None else basis)
    from ctenhance.core.report import ReportBuilder
    from ctenhance.decomposition.calibration import drift as finding
    from ctenhance.decomposition.calibration.thresholds import DriftCalibration

    report = ReportBuilder("calibrate drift", {"basis": materials, "filters": filters})
    scan = ctenhance.read_projections(source, run.progress, run.cancel)
    report.input = scan.identity(run.progress, run.cancel)
    beam = _beam(scan, detector, sensor, kvp, filters, spectrum)
    grid = scan.image_grid()
    phantom = None if reference is None else _phantom(reference, grid)
    if phantom is not None:
        report.settings["basis"] = [one.name for one in phantom.materials]
    with report.stage("fit"):
        if before is not None:
            earlier = ctenhance.read_projections(before, run.progress, run.cancel)
            found = finding.calibrate_with_scan(
                scan, earlier, beam, materials, progress=run.progress, cancel=run.cancel
            )
        elif phantom is not None:
            found = finding.calibrate_with_phantom(scan, beam, phantom, run.progress, run.cancel)
        else:
            found = finding.calibrate_without_reference(
                scan, beam, materials, grid, progress=run.progress, cancel=run.cancel
            )
    DriftCalibration.of(found, beam).write(target)
    moved, unsure = (x.square().mean(0).sqrt().tolist() for x in (found.shifts, found.errors))
    report.details.update(shift_rms_keV=moved, standard_error_rms_keV=unsure, reference=found.reference)
    if found.reference == finding.NOTHING:
        report.warn(
            "Without a reference only images get right: of each column's shifts behind the object, as many "
            "combinations as there are materials stay unknown; see the standard errors."
        )
    listed, errors = (", ".join(f"{value:.2f}" for value in values) for values in (moved, unsure))
    text = f"Shifts of the thresholds (RMS, keV): {listed}; their standard errors: {errors}"
    run.finish(report.finish(), {"calibration": target}, text)


def _amounts(listed: str) -> dict[str, float]:
    """'aluminium=3,titanium=0.9' as a dictionary."""
    try:
        return {name: float(mm) for name, mm in (part.split("=") for part in names(listed))}
    except ValueError as error:
        raise InputError(f"'{listed}' is no list such as aluminium=3,titanium=0.9 (mm).") from error


def _beam(
    scan: Projections,
    detector: str | None,
    sensor: str | None,
    kvp: float | None,
    filters: str,
    spectrum: Path | None,
) -> Beam:
    """The beam of a scan, from its file and the options."""
    import torch

    from ctenhance.decomposition.solver.beam import Beam
    from ctenhance.physics import detector_models
    from ctenhance.physics import spectrum as tubes

    voltage: Any = kvp if kvp is not None else scan.meta.get("kvp")
    chosen = detector if detector is not None else scan.meta.get("detector")
    for what, value, option in (("tube voltage", voltage, "--kvp"), ("detector", chosen, "--detector")):
        if value is None:
            raise InputError(f"The scan does not name its {what}: give {option}.")
    if scan.thresholds_keV is None or scan.energies_keV is None:
        raise InputError("The scan lacks '/thresholds_keV' or '/energies_keV', which calibration needs.")
    energies = torch.from_numpy(scan.energies_keV).double()
    if spectrum is not None:
        quanta = tubes.read_spectrum(spectrum, energies)[1]
        quanta = tubes.filtered(quanta, _amounts(filters), energies)
    else:
        quanta = tubes.tube_spectrum(float(voltage), _amounts(filters), energies_kev=energies)
    counting = detector_models.detector(str(chosen), energies)
    for name, mm in _amounts(sensor).items() if sensor else ():
        counting = counting.with_efficiency(name, mm)
    return Beam(quanta, counting, torch.from_numpy(scan.thresholds_keV), float(voltage))


def _phantom(folder: Path, grid: ImageGrid) -> MaterialPhantom:
    """The maps of a folder, which lie on `grid`, as a phantom."""
    import torch

    from ctenhance.decomposition.phantom import MaterialPhantom
    from ctenhance.physics.materials import NAMES, material

    found = {name: path for name in NAMES if (path := folder / f"{name}.nii.gz").is_file()}
    if not found:
        raise InputError(f"'{folder}' holds no maps such as water.nii.gz in mg/mL: give their folder.")
    volumes = [ctenhance.read(path, check_hu=False) for path in found.values()]
    for name, volume in zip(found, volumes, strict=True):
        same = volume.array.shape == (volumes[0].array.shape[0], grid.rows, grid.columns)
        if not same or abs(volume.spacing[0] / grid.pixel_mm - 1) > 0.01:
            size, pixel = volume.array.shape, volume.spacing[0]
            raise InputError(
                f"The map '{name}.nii.gz' is {size} at {pixel:.3f} mm but the scan's image {grid.rows} x "
                f"{grid.columns} at {grid.pixel_mm:.3f} mm: use the same grid."
            )
    densities = torch.stack([torch.from_numpy(volume.array) for volume in volumes]) / 1000
    return MaterialPhantom(tuple(material(name) for name in found), densities, grid.pixel_mm)
