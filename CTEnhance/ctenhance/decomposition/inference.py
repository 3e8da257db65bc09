"""The verb: photon-counting projections in, maps of materials and spectral images out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ctenhance.choices import BASIS, DEFAULT_KERNEL
from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.stack import ImageStack
from ctenhance.decomposition import images, products
from ctenhance.decomposition.bin_order import bin_order_warning, differences, sums_warning
from ctenhance.decomposition.calibration.thresholds import DriftCalibration
from ctenhance.decomposition.chain import density_images
from ctenhance.decomposition.scatter.correction import (
    NONE,
    ScatterEstimator,
    grid_ratio_in_file,
    scatter_method,
    spr_in_counts,
    spr_in_file,
)
from ctenhance.decomposition.solver.layer import Decomposer, Decomposition
from ctenhance.decomposition.solver.standard_errors import standard_error_images
from ctenhance.options import DecomposeOptions, chosen
from ctenhance.physics.detector import PileUp, check_thresholds
from ctenhance.runtime.device import pick_device
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check, silent
from ctenhance.scan.geometry_check import tell_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.truncation import truncation_warning

#: A reading this much above air, beyond noise, cannot be; more than the second part of them ends the work.
OVER_AIR, MOST_OVER_AIR = 1.3, 0.01
#: Mean squared misfit in standard deviations of counts and model above which the report warns.
LARGE_MISFIT = 2.0
_MISFIT_RAYS = 20000
#: Of counts above thresholds the misfit of their differences is less than this part of theirs.
_MUCH_BETTER = 0.5
#: Rows within so much share the scatter of the one in their middle: it comes from more than this above and
#: below.
_SAME_SCATTER_MM = 5.0


def absolute_spectra(projections: Projections) -> torch.Tensor:
    """Expected quanta per keV in air, `[bin, energy]` or, with air counts by column, `[column, bin, energy]`.

    Raises InputError, naming the field, where the projections do not say what their bins count."""
    if projections.counts is None or projections.n_bins is None:
        raise InputError(
            "Decomposition needs counts in energy bins, '/counts' [view, row, column, bin]; these "
            "projections hold none: use 'reconstruct' for them."
        )
    for name, value in (
        ("/effective_spectra", projections.effective_spectra),
        ("/energies_keV", projections.energies_keV),
        ("/air_counts", projections.air_counts),
    ):
        if value is None:
            raise InputError(
                f"Decomposition needs '{name}', which the projections lack: write it into the file."
            )
    if projections.thresholds_keV is not None:
        check_thresholds(torch.as_tensor(np.asarray(projections.thresholds_keV)))
    shapes = torch.from_numpy(np.array(projections.effective_spectra, dtype=np.float64))
    sums = shapes.sum(1, keepdim=True)
    if bool((sums <= 0).any()):
        raise InputError(
            f"Row {int((sums <= 0).nonzero()[0, 0]) + 1} of '/effective_spectra' is zero, of a bin "
            "without quanta: leave the bin out, or correct its spectrum."
        )
    _check_voltage(projections.meta.get("kvp"), projections.energies_keV, shapes)
    air = torch.from_numpy(np.array(projections.air_counts, dtype=np.float64))
    if air.ndim == 0:
        air = air.expand(len(shapes))
    return (shapes / sums) * air[..., None]


def _check_voltage(kvp: object, energies_kev: np.ndarray | None, spectra: torch.Tensor) -> None:
    if not isinstance(kvp, int | float):
        return
    energies = torch.from_numpy(np.array(energies_kev, dtype=np.float64))
    total = spectra.sum(0) / spectra.sum()
    highest = float(energies[total.flip(0).cumsum(0).flip(0) > 1e-5].max())
    if not kvp - 8 <= highest <= kvp + 1.5:
        raise InputError(
            f"'/effective_spectra' end at {highest:g} keV but the scan was made at {kvp:g} kV: they are of "
            "another tube voltage."
        )


def decompose(
    projections: Projections,
    *,
    basis: Sequence[str] = BASIS,
    vmi: Sequence[float] = (),
    low_noise: bool = False,
    guided_maps: bool = False,
    vnc: bool = False,
    zeff: bool = False,
    electron_density: bool = False,
    errors: bool = False,
    kernel: str = DEFAULT_KERNEL,
    image_size: int | None = None,
    pixel_mm: float | None = None,
    calibration: DriftCalibration | str | Path | None = None,
    pile_up: PileUp | None = None,
    scatter: str | Path = NONE,
    scatter_ratio: float | None = None,
    grid_ratio: float | None = None,
    device: str = "auto",
    seed: int = 0,
    options: DecomposeOptions | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Result:
    """Decompose a photon-counting scan: `.volumes` hold a map in mg/mL by the name of every basis material.

    `vmi`: energies in keV of monoenergetic images ("vmi_070keV", HU), with `low_noise` at nearly the noise of
    the quietest energy; `guided_maps` adds `.maps` "<material>_guided" in mg/mL, of which viewers make such
    images at any energy; `vnc`, `zeff`, `electron_density` add images of these names (HU, -, relative to
    water); `errors` adds `.maps` "<material>_sd" in mg/mL. `kernel`: one of `choices.KERNELS`; `image_size`
    pixels a side, of `pixel_mm`: as the file suggests otherwise. `calibration`: threshold shifts of the
    detector, or the file that holds them; `pile_up`: the detector's dead time, to be undone. `scatter`: none,
    kernel, network, or the weights of a network (name or file); `scatter_ratio`: how much the scanner
    scatters, where it is known (else as the projections' `meta` tells): scatter by primary counts behind the
    middle of 300 mm of water; `grid_ratio`: height by gap of its anti-scatter grid, likewise. `options`: all
    of these in one object, in place of the keywords.
    The report says how the rays ended and how well the model fits the counts. Raises InputError for
    projections that cannot be decomposed, Cancelled when asked to stop."""
    options = chosen(
        options,
        DecomposeOptions(
            basis=basis,
            vmi=vmi,
            low_noise=low_noise,
            guided_maps=guided_maps,
            vnc=vnc,
            zeff=zeff,
            electron_density=electron_density,
            errors=errors,
            kernel=kernel,
            image_size=image_size,
            pixel_mm=pixel_mm,
            calibration=calibration,
            pile_up=pile_up,
            scatter=scatter,
            scatter_ratio=scatter_ratio,
            grid_ratio=grid_ratio,
            device=device,
            seed=seed,
        ),
    )
    selected = pick_device(options.device)
    solver_device = torch.device("cpu") if selected.type == "mps" else selected  # no float64 there
    spr, grid_ratio = options.scatter_ratio, options.grid_ratio
    if options.scatter != NONE:  # what the options leave open, the file may tell
        spr = spr_in_file(projections) if spr is None else spr
        grid_ratio = grid_ratio_in_file(projections) if grid_ratio is None else grid_ratio
    method = scatter_method(options.scatter, spr, grid_ratio)
    decided = replace(options, scatter=NONE if method is None else method.name)
    report = ReportBuilder("decompose", decided.settings(), selected, options.seed)
    tell = progress or silent
    spectra, kev = absolute_spectra(projections), projections.energies_keV
    if options.calibration is not None:
        calibrated = _calibration(options.calibration)
        spectra, kev = calibrated.spectra_for(projections), calibrated.energies_kev
    energies = torch.from_numpy(np.array(kev, dtype=np.float64))
    counting = spectra.flatten(0, -2).sum(0) > 0  # others may lie beyond the tables of attenuation
    spectra, energies = spectra[..., counting], energies[counting]
    geometry = projections.scan_geometry()
    grid = projections.image_grid(options.image_size, options.pixel_mm)
    with report.stage("prepare"):
        decomposer = Decomposer(options.basis, spectra, energies).to(solver_device)
        rays = projections.n_rows * projections.n_views * projections.n_columns
        report.details["solver"] = decomposer.prepare(rays).solver
        products.check_possible(decomposer.materials, options)
        estimator = None if method is None else ScatterEstimator(method, spectra, energies, selected)
    report.input = projections.identity(progress, cancel)
    cut = truncation_warning(projections, geometry, grid)
    for note in (*projections.notes(progress, cancel), *([cut] if cut else [])):
        report.warn(note)
    checked = report.details["data_consistency"] = tell_geometry(projections, report, cancel)
    # bins that are out of step, or divided by another air, follow no spectra either
    in_step = checked["bins_agree"]
    stack = ImageStack((projections.n_rows, *grid.shape))
    ends: list[Decomposition] = []
    misfit = []
    sprs = []

    def counts_of(row: int) -> torch.Tensor:
        counts = torch.from_numpy(np.asarray(projections.rows(row, row + 1).counts))[:, 0].to(solver_device)
        if options.pile_up is not None:
            counts = options.pile_up.corrected(counts.double())
        _check_saturation(counts, decomposer, options.pile_up is not None)
        return counts

    some = counts_of(projections.n_rows // 2)
    order = bin_order_warning(some, spectra, energies)
    if order is None and some.shape[-1] == len(decomposer.materials):
        quanta = np.asarray(projections.effective_spectra).sum(-1)
        order = sums_warning(some, spectra, energies, quanta)
    if order is not None and in_step:
        report.warn(order)
    together = max(1, round(_SAME_SCATTER_MM / (projections.row_pitch_mm or _SAME_SCATTER_MM)))
    scattered = None
    for row in range(projections.n_rows):
        check(cancel)
        counts = counts_of(row)
        if estimator is not None:
            if row % together == 0:
                middle = min(row + together // 2, projections.n_rows - 1)
                with report.stage("scatter"):
                    scattered = estimator(counts if middle == row else counts_of(middle), geometry)
            assert scattered is not None
            sprs.append(spr_in_counts(scattered, counts))
        with report.stage("decompose"):
            found = decomposer.estimate(counts, scattered, correct_bias=True, cancel=cancel)
        ends.append(found)
        misfit.append(_misfit(found, counts, scattered, decomposer))
        with report.stage("reconstruct"):
            lines = found.lines.float().to(selected)
            truncated = decomposer.materials if cut else None
            maps = density_images(lines, geometry, grid, options.kernel, cancel, truncated)
            products.put_images(stack, row, maps, decomposer.materials, options)
            if options.errors:
                sd = standard_error_images(
                    found.lines,
                    decomposer,
                    geometry,
                    grid,
                    options.kernel,
                    options.seed + row,
                    scattered,
                    cancel,
                )
                for m, image in zip(decomposer.materials, sd, strict=True):
                    stack.put(f"{m.name}_sd", row, 1000 * image)
        tell("decompose", row + 1, projections.n_rows)
    _tell_how_it_went(report, ends, misfit, decomposer)
    if report.details["misfit"] > LARGE_MISFIT and in_step:
        report.warn(_why_no_fit(report, counts_of(projections.n_rows // 2), spectra, energies, options.basis))
    for sentence in products.impossible_sentences(stack, decomposer.materials):
        report.warn(sentence)
    if options.guided_maps or (options.low_noise and options.vmi):
        with report.stage("low noise"):
            quiet = products.put_low_noise(stack, decomposer.materials, options, solver_device, tell, cancel)
        report.details["viewing"]["quiet_keV"] = quiet
    if estimator is not None:
        _tell_scatter(report, estimator, sprs)
    volumes = {name: projections.volume(array, grid) for name, array in stack.arrays.items()}
    about_maps = {name: volumes.pop(name) for name in list(volumes) if name.endswith(products.MAP_ENDINGS)}
    return Result(volumes=volumes, maps=about_maps, report=report.finish())


def _calibration(calibration: DriftCalibration | str | Path) -> DriftCalibration:
    return calibration if isinstance(calibration, DriftCalibration) else DriftCalibration.read(calibration)


def _check_saturation(counts: torch.Tensor, decomposer: Decomposer, corrected: bool) -> None:
    """Raise InputError for counts far above those in air, and, unless they were `corrected` for pile-up,
    where many readings of a bin stand at one and the same greatest value below air's."""
    air = decomposer.spectra.sum(-1)
    if counts.shape[-1] != air.shape[-1]:
        return  # the decomposer says so
    if not corrected:
        most = counts.flatten(0, -2).amax(0)
        same = (counts == most).flatten(0, -2).double().mean(0)
        low = (most < air - 6 * air.sqrt()).reshape(-1, len(most)).all(0)
        full = (low & (same > MOST_OVER_AIR)).nonzero()
        if len(full):
            first = int(full[0])
            raise InputError(
                f"{100 * float(same[first]):.0f} % of the counts in energy bin {first + 1} are "
                f"{float(most[first]):g} and none is higher, not even in air: the counter was saturated; "
                "scan with less current."
            )
    over = float((counts > OVER_AIR * air + 6 * air.sqrt()).float().mean())
    if over > MOST_OVER_AIR:
        raise InputError(
            f"{100 * over:.0f} % of the counts are far above those in air: they are saturated or the "
            "air counts are of another exposure: give those of this scan."
        )


def _misfit(
    found: Decomposition, counts: torch.Tensor, scatter: torch.Tensor | None, decomposer: Decomposer
) -> float:
    """Mean squared misfit per redundant bin, in variances of the counts; 0 where no bin is redundant."""
    spare = counts.shape[-1] - len(decomposer.materials)
    if spare == 0:
        return 0.0
    every = max(1, len(counts) * counts.shape[1] // _MISFIT_RAYS)
    lines, some = found.lines[::every], counts[::every]
    expected = decomposer.expected(lines)
    if scatter is not None:
        expected = expected + scatter[::every]
    sound = (found.status[::every] == 0) & (expected.amin(-1) > 5)
    squares = ((some - expected) ** 2 / expected.clamp(min=1)).sum(-1)[sound]
    return float(squares.mean() / spare) if squares.numel() else 0.0


def _tell_scatter(report: ReportBuilder, estimator: ScatterEstimator, sprs: list[float]) -> None:
    report.details["scatter_to_primary"] = float(np.mean(sprs))
    report.details["scatter_ratio"] = estimator.method.water_spr
    report.details["grid_ratio"] = estimator.method.grid_ratio
    if estimator.method.entry is not None:
        report.model(estimator.method.entry)
    unlike = estimator.unlike_training()
    if unlike is not None:
        report.warn(unlike)


def _why_no_fit(
    report: ReportBuilder,
    counts: torch.Tensor,
    spectra: torch.Tensor,
    energies: torch.Tensor,
    basis: Sequence[str],
) -> str:
    """The warning that counts do not follow the spectra, and why, from those of a row [view, column, bin]."""
    why = "thresholds have drifted, there is scatter, or the spectra are of another scan."
    if _above_thresholds(counts, spectra, energies, basis, report.details["misfit"]):
        why = (
            "they look as if they were counted above each threshold and not between two, and differences of "
            "neighbouring bins fit much better: take these of '/counts' and '/air_counts'."
        )
    misfit = report.details["misfit"]
    return f"The counts do not follow the spectra (mean squared misfit {misfit:.1f} times noise): {why}"


def _above_thresholds(
    counts: torch.Tensor, spectra: torch.Tensor, energies: torch.Tensor, basis: Sequence[str], misfit: float
) -> bool:
    """Whether each bin seems to hold all quanta above its threshold: counts fall from bin to bin, or rise,
    in air and behind the object, and their differences follow the spectra much better."""
    apart = differences(counts[:: max(1, len(counts) * counts.shape[1] // _MISFIT_RAYS)], spectra)
    if apart is None:
        return False
    between, beam = apart
    bins = Decomposer(basis, beam, energies).to(counts.device)
    found = bins.estimate(between, None, correct_bias=True)
    return _misfit(found, between, None, bins) < _MUCH_BETTER * misfit


def _tell_how_it_went(
    report: ReportBuilder, ends: list[Decomposition], misfit: list[float], decomposer: Decomposer
) -> None:
    status = torch.cat([end.status.flatten() for end in ends])
    whole = Decomposition(torch.empty(0), status, max(end.steps for end in ends)).summary()
    mean_misfit = float(np.mean(misfit))
    report.details["rays"] = whole
    report.details["misfit"] = mean_misfit
    report.details["viewing"] = images.viewing_table(decomposer.materials)
    report.details["quadrature"] = {
        "nodes": decomposer.quadrature.n_nodes,
        "relative_error": decomposer.quadrature.error,
    }
    if whole["starved"] > 0:
        report.warn(
            f"{100 * whole['starved']:.2g} % of the rays were starved; they are estimated with large errors."
        )
    if whole["at_limit"] + whole["not_converged"] > 1e-3:
        lost = 100 * (whole["at_limit"] + whole["not_converged"])
        report.warn(f"{lost:.2g} % of the rays lie outside what the basis materials describe.")
