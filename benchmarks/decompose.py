"""Material decomposition beside its peers: speed, statistical efficiency, gradients, drift and images.

    python benchmarks/decompose.py                       some minutes on two idle cores
    python benchmarks/decompose.py --rays 50000 --views 360

The beam is 120 kV; the detector XCIST's published CZT response where `--data` holds it, else the package's
own model. All methods see the same counts in the same run. Wall time is shared with whatever else runs on the
machine; the time of one core alone stands beside it. OMP_WAIT_POLICY=passive keeps the threads of a busy
machine from waiting in circles.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch

from ctenhance.decomposition import decompose
from ctenhance.decomposition.calibration.drift import (
    ThresholdShifts,
    calibrate_with_phantom,
    calibrate_with_scan,
    calibrate_without_reference,
)
from ctenhance.decomposition.calibration.thresholds import DriftCalibration
from ctenhance.decomposition.phantom import MaterialPhantom, rod_phantom
from ctenhance.decomposition.simulate import Beam, Imperfections, random_drift, simulate
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.detector import Detector, read_detector
from ctenhance.physics.detector_models import detector_model
from ctenhance.physics.geometry import EQUIANGULAR, FanGeometry, even_angles
from ctenhance.physics.materials import attenuation_matrix, material, solution
from ctenhance.physics.spectrum import energy_grid, tube_spectrum
from ctenhance.scan.projections import Projections
from decompose_peers import CHUNK, by_scipy, plain_newton
from tables import Table

ENERGIES = energy_grid(120)
THRESHOLDS = torch.tensor([20.0, 35.0, 50.0, 65.0, 80.0, 120.0], dtype=torch.float64)
QUANTA = 5e5  # in air, a square millimetre and view of a usual abdominal scan
BASIS = ("water", "iodine")
MATRIX = "xcist/PC_spectral_response_CZT0.25x0.25x1.6.mat"


def the_detector(data: Path) -> tuple[Detector, str]:
    """The published response where there is one, else the own model; and what it is called."""
    if (data / MATRIX).is_file():
        found = read_detector(data / MATRIX, ENERGIES).with_efficiency("czt", 1.6)
        return found, "XCIST's CZT response, 1.6 mm"
    return detector_model("czt", ENERGIES), "the package's CZT model"


def clocked(work: Callable[[], torch.Tensor], repeats: int = 3) -> tuple[float, float, torch.Tensor]:
    """Least wall seconds, least seconds of the process's cores, and the result."""
    wall, cores, result = float("inf"), float("inf"), torch.empty(0)
    for _ in range(repeats):
        start, own = time.perf_counter(), time.process_time()
        result = work()
        wall = min(wall, time.perf_counter() - start)
        cores = min(cores, time.process_time() - own)
    return wall, cores, result


def speed(beam: Beam, rays: int) -> Table:
    """Rays a second of the package and two peers on the same counts: 5 bins, 2 materials, 120 energies."""
    spectra = beam.spectra()
    decomposer = Decomposer(BASIS, spectra, ENERGIES)
    generator = torch.Generator().manual_seed(0)
    lines = torch.rand(rays, 2, generator=generator, dtype=torch.float64) * torch.tensor([35.0, 0.2])
    counts = torch.poisson(decomposer.expected(lines, exact=True), generator=generator).float()
    mu = attenuation_matrix(list(BASIS), ENERGIES)
    used = spectra.sum(0) > 0
    few = min(100, rays)
    plain_rays = min(rays, 4 * CHUNK)
    methods: list[tuple[str, Callable[[], torch.Tensor], int]] = [
        (
            f"this package ({decomposer.quadrature.n_nodes} nodes)",
            lambda: decomposer.estimate(counts).lines,
            rays,
        ),
        (
            "batched Newton, all energies",
            lambda: plain_newton(counts[:plain_rays], spectra[:, used], mu[:, used], 1e-4),
            plain_rays,
        ),
        (
            "scipy.optimize, ray by ray",
            lambda: torch.as_tensor(
                by_scipy(counts[:few].double().numpy(), spectra[:, used].numpy(), mu[:, used].numpy())
            ),
            few,
        ),
    ]
    errors = decomposer.standard_errors(lines)
    threads = torch.get_num_threads()
    walls = [clocked(work)[0] for _, work, _ in methods]
    torch.set_num_threads(1)  # threads that wait for each other count as busy
    alone = [clocked(work) for _, work, _ in methods]
    torch.set_num_threads(threads)
    found, best = alone[0][2], rays / alone[0][1]
    rows = []
    for (name, _, n), wall, (_, cores, result) in zip(methods, walls, alone, strict=True):
        apart = ((result[:n] - found[:n]) / errors[:n]).abs().quantile(0.99)
        rows.append(
            (name, f"{n / wall:,.0f}", f"{n / cores:,.0f}", f"{best * cores / n:.1f}", f"{apart:.1e}")
        )
    return Table(
        "Speed: 5 bins, water and iodine, 120 energies",
        ("method", f"rays / s, {threads} threads", "rays / core s", "times slower", "99 % within (SE)"),
        tuple(rows),
        f"{rays} rays through 0 to 35 cm of water and 0 to 0.2 g/cm² of iodine. Rays a second of wall time "
        "on all threads, and a second of one core's own time on one thread; 'times slower' by the latter. "
        "The last column: how far 99 % of the estimates lie from this package's, in standard errors. "
        f"Relative error of the quadrature: {decomposer.quadrature.error:.0e}.",
    )


def efficiency(beam: Beam, draws: int = 50000) -> Table:
    """Bias and variance against the Cramér-Rao bound."""
    decomposer = Decomposer(BASIS, beam.spectra(), ENERGIES)
    rows = []
    for water, iodine in ((15.0, 0.05), (25.0, 0.05), (25.0, 0.1), (30.0, 0.1)):
        truth = torch.tensor([water, iodine], dtype=torch.float64)
        expected = decomposer.expected(truth, exact=True)
        counts = torch.poisson(expected.expand(draws, -1), generator=torch.Generator().manual_seed(1))
        bound = decomposer.standard_errors(truth)
        cells = []
        for corrected in (False, True):
            found = decomposer.estimate(counts, correct_bias=corrected).lines
            bias = 100 * (found.mean(0) / truth - 1)
            ratio = found.var(0) / bound**2
            cells += [f"{bias[0]:+.3f} / {bias[1]:+.2f}", f"{ratio[0]:.3f} / {ratio[1]:.3f}"]
        rows.append((f"{water:g} + {iodine:g} g/cm²", f"{expected.sum():,.0f}", *cells))
    return Table(
        "Bias and variance (water / iodine)",
        ("ray", "counts", "MLE bias %", "variance / bound", "corrected bias %", "variance / bound"),
        tuple(rows),
        f"{draws} draws at {QUANTA:.0e} quanta in air; counts summed over all energies, not by nodes. "
        "Corrected: less the estimate's own bias of order 1 / counts, as `decompose` does.",
    )


def scanner(size: int, views: int, pixel_mm: float) -> FanGeometry:
    """A third-generation scanner with columns of about a pixel at the isocentre."""
    pitch = 1.2 * pixel_mm / 570
    columns = int(2 * np.arcsin(0.72 * size * pixel_mm / 570) / pitch)
    return FanGeometry(
        shape=EQUIANGULAR,
        source_to_isocenter_mm=570.0,
        source_to_detector_mm=1040.0,
        column_pitch=pitch,
        n_columns=columns,
        central_column=(columns - 1) / 2 + 0.25,
        view_angles=even_angles(views),
    )


def image_quality(beam: Beam, size: int, views: int) -> Table:
    """Concentrations and monoenergetic HU in the rods of a water phantom of 25 cm."""
    phantom = rod_phantom(size, 250.0, [{"iodine": c} for c in (1.0, 2.0, 5.0, 10.0, 15.0, 20.0)])
    scan = simulate(phantom, scanner(size, views, phantom.pixel_mm), beam, seed=1)
    energies = (50.0, 70.0, 100.0, 140.0)
    result = decompose(scan, basis=BASIS, vmi=energies, errors=True)
    iodine = torch.from_numpy(result.volumes["iodine"].array[0])
    rows, misses = [], []
    for insert in phantom.inserts:
        inside = phantom.inside(insert)
        truth = insert.contents["iodine"]
        mean, sd = float(iodine[inside].mean()), float(iodine[inside].std())
        misses.append(mean - truth)
        errors = []
        for kev in energies:
            energy = torch.tensor([kev])
            mu = float(
                solution("iodine", truth).linear_attenuation(energy)
                / material("water").linear_attenuation(energy)
            )
            hu = float(torch.from_numpy(result.volumes[f"vmi_{kev:03.0f}keV"].array[0])[inside].mean())
            errors.append(f"{100 * (hu / 1000 + 1 - mu) / mu:+.2f}")
        stated = float(torch.from_numpy(result.maps["iodine_sd"].array[0])[inside].mean())
        rows.append((f"{truth:g} mg/mL", f"{mean:.2f}", f"{sd:.2f}", f"{stated:.2f}", *errors))
    rmse = float(np.sqrt(np.mean(np.square(misses))))
    return Table(
        "Iodine rods in 25 cm of water",
        ("rod", "found", "SD", "SD told", *(f"VMI {kev:.0f} keV %" for kev in energies)),
        tuple(rows),
        f"RMSE of the rods' means {rmse:.2f} mg/mL; {views} views, {size} x {size} pixels of "
        f"{phantom.pixel_mm:.2f} mm, fan beam. 'SD told': from the Fisher information. VMI: error of the "
        "attenuation in per cent.",
    )


def drift(beam: Beam, size: int, views: int) -> Table:
    """Threshold drift of 0.7 keV, independent by channel, and what is left of it."""
    rods = [{"iodine": 5.0}, {"calcium": 200.0}, {"iodine": 10.0}, {"iodine": 15.0}]
    phantom = rod_phantom(size, 250.0, rods, rod_mm=40.0)
    geometry = scanner(size, views, phantom.pixel_mm)
    shifts = random_drift(geometry.n_columns, len(THRESHOLDS), 0.7, seed=3)
    shifts[:, -1] = 0  # the tube voltage ends the last bin
    before = simulate(phantom, geometry, beam, seed=1)
    after = simulate(phantom, geometry, beam, Imperfections(drift_kev=shifts), seed=2)
    cases: dict[str, tuple[Projections, ThresholdShifts | torch.Tensor | None]] = {
        "before the drift": (before, None),
        "after, not corrected": (after, torch.zeros_like(shifts)),
        "true shifts": (after, shifts),
        "from a known phantom": (after, calibrate_with_phantom(after, beam, phantom)),
        "from a scan before": (after, calibrate_with_scan(after, before, beam, BASIS)),
        "without a reference": (after, calibrate_without_reference(after, beam, BASIS, phantom.grid)),
    }
    rows = []
    for name, (scan, found) in cases.items():
        result = decompose(
            scan,
            basis=BASIS,
            vmi=(70.0,),
            calibration=None if found is None else DriftCalibration.of(found, beam),
        )
        rows.append((name, *_shift_figures(found, shifts), *_rod_figures(result, phantom)))
    return Table(
        "Drift of the thresholds, 0.7 keV by channel",
        ("calibration", "RMSE keV", "told", "beside", "ring SD HU", "iodine, rods", "pixels"),
        tuple(rows),
        f"{views} views, {geometry.n_columns} columns, scans of {QUANTA:.0e} quanta a ray; rods with iodine "
        "and calcium, basis water and iodine. RMSE over the five thresholds of all columns; told: what the "
        "calibration says of its own error; beside: RMSE of the columns that see nothing but air. Ring SD: "
        "of the mean over angles in the water at 70 keV, by radius. Iodine: RMSE in mg/mL of the rods' "
        "means, and of all their pixels.",
    )


def _shift_figures(
    found: ThresholdShifts | torch.Tensor | None, shifts: torch.Tensor
) -> tuple[str, str, str]:
    """RMSE of the shifts, the errors that were told, and the RMSE at the detector's ends, in keV."""
    if found is None:
        return "", "", ""
    values, stated = (found, None) if isinstance(found, torch.Tensor) else (found.shifts, found.errors)
    wrong, ends = (values - shifts)[:, :-1].square(), max(1, len(shifts) // 20)
    aside = torch.cat([wrong[:ends], wrong[-ends:]])
    shown = "" if stated is None else f"{stated[:, :-1].square().mean().sqrt():.3f}"
    return f"{wrong.mean().sqrt():.3f}", shown, f"{aside.mean().sqrt():.3f}"


def _rod_figures(result: object, phantom: MaterialPhantom) -> tuple[str, str, str]:
    """Ring SD, and the RMSE of iodine in the rods' means and in their pixels."""
    volumes = result.volumes  # type: ignore[attr-defined]
    iodine = torch.from_numpy(volumes["iodine"].array[0])
    misses, pixels = [], []
    for insert in phantom.inserts:
        if "iodine" in insert.contents:
            inside = phantom.inside(insert)
            misses.append(float(iodine[inside].mean()) - insert.contents["iodine"])
            pixels.append(float((iodine[inside] - insert.contents["iodine"]).square().mean()))
    image = torch.from_numpy(volumes["vmi_070keV"].array[0])
    size = len(image)
    place = (torch.arange(size) - (size - 1) / 2) * phantom.pixel_mm
    radius = (place[:, None] ** 2 + place**2).sqrt()
    rods = torch.zeros(size, size, dtype=torch.bool)
    for insert in phantom.inserts:
        rods |= phantom.inside(insert, 1.2)
    ring = [
        float(image[chosen].mean())
        for r in np.arange(8, 100, phantom.pixel_mm)
        if int((chosen := ((radius - r).abs() < phantom.pixel_mm / 2) & ~rods).sum()) > 20
    ]
    # the slow part is the object's, the fast part the rings
    fast = np.array(ring) - np.convolve(np.pad(ring, 4, mode="edge"), np.ones(9) / 9, "valid")
    return (
        f"{fast.std():.2f}",
        f"{np.sqrt(np.mean(np.square(misses))):.2f}",
        f"{np.sqrt(np.mean(pixels)):.2f}",
    )


def gradient(beam: Beam) -> Table:
    """The implicit gradient against fourth-order central differences of the whole solve."""
    decomposer = Decomposer(BASIS, beam.spectra(), ENERGIES)
    truth = torch.tensor([[25.0, 0.08], [12.0, 0.02], [30.0, 0.1]], dtype=torch.float64)
    counts = torch.poisson(decomposer.expected(truth), generator=torch.Generator().manual_seed(2))
    cases: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor, float]] = {
        "counts": (lambda n: decomposer(n, tolerance=1e-11), counts, 0.05),
        "thresholds": (
            lambda t: decomposer(counts, beam.detector.effective_spectra(beam.spectrum, t), tolerance=1e-11),
            THRESHOLDS,
            0.002,
        ),
        "scatter": (lambda s: decomposer(counts, scatter=s, tolerance=1e-11), 0.05 * counts, 0.05),
    }
    rows = []
    for name, (function, at, step) in cases.items():
        worst = 0.0
        free = at.clone().requires_grad_()
        value = function(free)
        direction = torch.randn(at.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        for index in range(value.numel()):
            (slope,) = torch.autograd.grad(value.flatten()[index], free, retain_graph=True)

            def along(h: float, index: int = index) -> torch.Tensor:
                return function(at + h * step * direction).flatten()[index]  # noqa: B023

            finite = (8 * (along(1) - along(-1)) - along(2) + along(-2)) / (12 * step)
            worst = max(worst, float(((slope * direction).sum() - finite).abs() / finite.abs()))
        rows.append((name, f"{worst:.1e}"))
    return Table(
        "Gradient: largest relative difference from finite differences", ("of", "difference"), tuple(rows)
    )


def main() -> None:
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data")
    parser.add_argument("--rays", type=int, default=300_000)
    parser.add_argument("--views", type=int, default=720)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=root / "benchmarks" / "results" / "decompose.md")
    given = parser.parse_args()
    load = psutil.getloadavg()[0]
    torch.set_num_threads(given.threads)
    detector, called = the_detector(given.data)
    spectrum = tube_spectrum(120, energies_kev=ENERGIES)
    beam = Beam(spectrum * (QUANTA / spectrum.sum()), detector, THRESHOLDS, 120)
    tables = []
    for make in (
        lambda: speed(beam, given.rays),
        lambda: efficiency(beam),
        lambda: gradient(beam),
        lambda: image_quality(beam, given.size, given.views),
        lambda: drift(beam, given.size, given.views),
    ):
        tables.append(make())
        print(tables[-1].text(), "\n", flush=True)
    setting = (
        f"{torch.get_num_threads()} threads ({platform.machine()}), torch {torch.__version__}; 120 kV, "
        f"{called}, thresholds {', '.join(f'{t:g}' for t in THRESHOLDS.tolist())} keV. Load of "
        f"the machine when this began: {load:.1f} processes."
    )
    text = "\n\n".join(["# Material decomposition", setting, *(table.markdown() for table in tables)])
    given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
