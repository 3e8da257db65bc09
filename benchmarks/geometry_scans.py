"""The scans of `geometry_check.py`: bodies, scanners, and hard readings of right geometries."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "CTEnhance"))
from ctenhance.core.volume import CTVolume
from ctenhance.physics.geometry import FanGeometry, ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu
from ctenhance.scan.projections import Projections
from ctenhance.scan.rays import ray_fields
from ctenhance.scan.simulate import (
    SOURCE_TO_DETECTOR_MM,
    SOURCE_TO_ISOCENTER_MM,
    clinical_scan,
    simulate_projections,
)

try:
    import astra
except ImportError:
    astra = None

Array = np.ndarray
#: Where the patient is (x, y in mm) at a part of the scan.
Path2D = Callable[[float], tuple[float, float]]
PATIENTS = (
    "abdomen_LIDC-IDRI_0003", "chest_LIDC-IDRI_0005", "abdomen_CRLM_CT-1006", "neckchest_tcga",
    "phantom_head_philips_1mm_UB", "phantom_qrm",
)  # fmt: skip
KINDS = ("fan-equiangular", "fan-flat", "parallel")
QUANTA, ELECTRONIC = 2.5e5, 10.0
DOSES = (1.0, 0.1, 0.025)
#: The detector is off by a quarter of a column, as scanners' are.
OFFSET = 0.25


@dataclass(frozen=True)
class Body:
    """Three slices HU `[z, y, x]` of `pixel` mm."""

    name: str
    hu: Array
    pixel: float


def bodies(folder: Path, slices: int = 3, apart: int = 12) -> list[Body]:
    """The scans of `PATIENTS` that are in the folder, 2 x 2 pixels averaged; `slices` of each, that many
    `apart` (fewer of short scans)."""
    found = []
    for name in PATIENTS:
        for path in sorted(folder.glob(f"{name}*.nii.gz"))[:1]:
            volume = CTVolume.read(path)
            step = max(1, min(apart, (len(volume.array) - 1) // max(1, slices - 1)))
            first = (len(volume.array) - step * (slices - 1)) // 2
            hu = torch.from_numpy(volume.array[first : first + step * slices : step])
            found.append(Body(name, F.avg_pool2d(hu[:, None], 2)[:, 0].numpy(), 2 * volume.spacing[0]))
    return found


class Scanner:
    """One geometry with its numbers of views and columns."""

    def __init__(self, kind: str, views: int, columns: int) -> None:
        self.kind, self.views, self.columns = kind, views, columns

    def geometry(self, offset: float = OFFSET) -> ScanGeometry:
        g = clinical_scan(self.kind, self.views, self.columns)
        return replace(g, central_column=g.central_column + offset)

    def integrals(
        self, body: Body, moved: Callable[[float], tuple[float, float]] | None = None
    ) -> torch.Tensor:
        """Line integrals `[slice, view, column]`; `moved` (x, y in mm) at each part of the scan."""
        g, grid = self.geometry(), ImageGrid.centred(body.hu.shape, body.pixel)
        mu = hu_to_mu(torch.from_numpy(body.hu)).clamp(min=0)
        if moved is None:
            return project(mu, g, grid)
        angles, parts = g.angles().numpy(), []
        for some in np.array_split(np.arange(self.views), 24):
            few = g.with_views(tuple(angles[some].tolist()))
            x, y = moved(float(some.mean()) / self.views)
            parts.append(project(mu, few, replace(grid, center_mm=(x, y))))
        return torch.cat(parts, 1)

    def of_astra(self, body: Body) -> torch.Tensor:
        """The same by ASTRA."""
        g = self.geometry()
        rows, width = body.hu.shape[1:]
        x, y = width * body.pixel / 2, rows * body.pixel / 2
        volume = astra.create_vol_geom(rows, width, -x, x, -y, y)
        angles = g.angles().numpy()
        e = np.stack([np.cos(angles), np.sin(angles)], -1)  # y down: turned into ASTRA's y up below
        d = np.stack([-np.sin(angles), np.cos(angles)], -1)
        middle = (g.n_columns - 1) / 2 - g.central_column
        if isinstance(g, FanGeometry):
            pitch, beam = g.column_pitch, "line_fanflat"
            source = -SOURCE_TO_ISOCENTER_MM * d
            detector = (SOURCE_TO_DETECTOR_MM - SOURCE_TO_ISOCENTER_MM) * d + middle * pitch * e
            vectors, kind = [source, detector, pitch * e], "fanflat_vec"
        else:
            pitch, beam = g.column_pitch_mm, "line"
            vectors, kind = [d, middle * pitch * e, pitch * e], "parallel_vec"
        up = np.concatenate([v * [1, -1] for v in vectors], 1)
        scan = astra.create_proj_geom(kind, g.n_columns, up)
        projector = astra.create_projector(beam, scan, volume)
        sinograms = []
        for mu in hu_to_mu(torch.from_numpy(body.hu)).clamp(min=0).numpy():
            identity, sinogram = astra.create_sino(mu, projector)
            astra.data2d.delete(identity)
            sinograms.append(torch.from_numpy(np.array(sinogram)))
        astra.projector.delete(projector)
        return torch.stack(sinograms)

    def scan(self, through: torch.Tensor, dose: float | None = 1.0, seed: int = 0) -> Projections:
        """Counts of transmissions `[slice, view, column]`, with noise unless the dose is None."""
        g = self.geometry()
        quanta = QUANTA * (dose or 1.0)
        counts = through.double() * quanta
        if dose is not None:
            generator = torch.Generator().manual_seed(seed)
            counts = torch.poisson(counts.clamp(min=0), generator=generator)
            counts += torch.randn(counts.shape, generator=generator, dtype=torch.float64) * ELECTRONIC**0.5
        return Projections(
            **ray_fields(g),
            counts=counts.float().permute(1, 0, 2).numpy(),
            air_counts=np.array(quanta),
            row_pitch_mm=5.0,
            electronic_noise_variance=ELECTRONIC,
            water_mu_per_mm=MU_WATER_PER_MM,
        )


def changed(p: Projections, change: Callable[[Array], Array], **fields: Any) -> Projections:
    return replace(p, counts=np.ascontiguousarray(change(p.counts)), **fields)


def spread(through: torch.Tensor, ratio: float) -> torch.Tensor:
    """Transmissions with scatter: a wide blur of what was scattered, `ratio` of the primaries where they are
    fewest."""
    width = through.shape[-1] // 8
    kernel = torch.exp(-((torch.arange(-3 * width, 3 * width + 1) / width) ** 2) / 2).to(through)
    source = through * -through.clamp(1e-6, 1).log()
    flat = F.pad(source.flatten(0, 1)[:, None], (3 * width, 3 * width))
    scatter = F.conv1d(flat, (kernel / kernel.sum())[None, None]).reshape(through.shape)
    return through + scatter * (ratio * through.flatten()[::97].quantile(0.03) / scatter.median())


def bad_readings(scanner: Scanner, body: Body, seed: int) -> Iterator[tuple[str, Projections]]:
    """Right geometries with readings that are hard."""
    lines = scanner.integrals(body)
    through = torch.exp(-lines)
    full = scanner.scan(through)
    draw = np.random.default_rng(seed)
    views, columns = scanner.views, scanner.columns
    for dose in (None, 1.0, 0.1, 0.025, 0.005, 0.002):
        label = "no noise" if dose is None else f"{100 * dose:g} % dose"
        yield label, scanner.scan(through, dose, seed)
    yield "twice the patient at 2.5 % dose (starved)", scanner.scan(through**1.8, 0.025, seed)
    for ratio in (0.3, 1.0, 3.0):
        yield (
            f"scatter of {ratio:g} times the primaries",
            scanner.scan(spread(through, ratio), 1.0, seed),
        )

    def broken(change: Callable[[Array], None]) -> Projections:
        def copy(readings: Array) -> Array:
            readings = readings.copy()
            change(readings)
            return readings

        return changed(full, copy)

    some = draw.choice(columns, 5, replace=False)
    yield "5 dead columns", broken(lambda r: r.__setitem__(np.s_[:, :, some], 0))
    yield "12 dead columns side by side", broken(lambda r: r.__setitem__(np.s_[:, :, 100:112], 0))
    module = np.where((np.arange(columns) // 32) % 3 == 1, 1.05, 1.0).astype("f4")
    yield "some modules 5 % brighter", changed(full, lambda r: r * module)
    twos = np.where(np.arange(columns) % 2, 1.03, 1.0).astype("f4")
    yield "every second column 3 % brighter", changed(full, lambda r: r * twos)
    yield (
        "every second view 3 % brighter",
        changed(full, lambda r: r * np.resize(np.array([1, 1.03], "f4"), views)[:, None, None]),
    )
    yield "one slice of half the dose", broken(lambda r: r.__setitem__(np.s_[:, 1], 0.5 * r[:, 1]))
    arcs = draw.choice(views, 20, replace=False)
    yield "tube arcs in 20 views", broken(lambda r: r.__setitem__(arcs, 0.6 * r[arcs]))
    yield (
        "gains wrong by 2 % (rings)",
        changed(full, lambda r: r * draw.normal(1, 0.02, columns).astype("f4")),
    )
    heel = np.linspace(0.95, 1.05, columns, dtype="f4")
    yield "anode heel of 10 % not calibrated", changed(full, lambda r: r * heel)
    bowtie = np.exp(-1.5 * np.linspace(-1, 1, columns) ** 2).astype("f4")
    yield "bowtie not calibrated", changed(full, lambda r: r * bowtie)
    yield "first view lost", broken(lambda r: r.__setitem__(0, 0))
    yield "10 views lost", broken(lambda r: r.__setitem__(np.s_[views // 3 : views // 3 + 10], 0))
    kept = np.delete(np.arange(views), np.arange(views // 3, views // 3 + views // 100))
    yield "a gap in the views", changed(full, lambda r: r[kept], view_angles=full.view_angles[kept])
    current = np.linspace(0.95, 1.05, views, dtype="f4")[:, None, None]
    yield "tube current drifts by 10 %", changed(full, lambda r: r * current)
    ripple = (1 + 0.1 * np.sin(np.arange(views) / 3)).astype("f4")[:, None, None]
    yield "tube current ripples by 10 %", changed(full, lambda r: r * ripple)
    lag = through.clone()
    for view in range(1, views):
        lag[:, view] = 0.9 * through[:, view] + 0.1 * lag[:, view - 1]
    yield "afterglow", scanner.scan(lag, 1.0, seed)
    step = float(np.abs(np.diff(full.view_angles)).mean())
    jitter = full.view_angles + draw.uniform(-0.3, 0.3, views) * step
    yield "angles known to 0.3 steps", replace(full, view_angles=jitter)
    for kept_part in (0.7, 0.35):
        cut = round(columns * (1 - kept_part) / 2)
        yield (
            f"detector of {100 * kept_part:.0f} % of the width",
            changed(full, lambda r, cut=cut: r[:, :, cut:-cut], central_column=full.central_column - cut),
        )
    cuts = (("detector off by a fifth", 1.0, columns // 5),)
    if scanner.kind != "parallel":
        cuts += tuple((f"half-fan, {100 * dose:g} % dose", dose, 2 * columns // 5) for dose in (1.0, 0.025))
    for label, dose, cut in cuts:
        p = scanner.scan(through, dose, seed)
        yield label, changed(p, lambda r, cut=cut: r[:, :, cut:], central_column=p.central_column - cut)
    yield "96 views", changed(full, lambda r: r[:: views // 96], view_angles=full.view_angles[:: views // 96])
    yield from _other_bodies(scanner, body, seed)
    if scanner.kind != "parallel":
        half_fan = math.asin(scanner.geometry().field_of_view_mm / 2 / SOURCE_TO_ISOCENTER_MM)
        for label, arc in (
            ("half a turn and the fan", math.pi + 2 * half_fan),
            ("three quarters", 1.5 * math.pi),
        ):
            n = math.ceil(arc / step) + 1
            for dose in (1.0, 0.025):
                p = scanner.scan(through, dose, seed)
                yield (
                    f"{label} of a turn, {100 * dose:g} % dose",
                    changed(p, lambda r, n=n: r[:n], view_angles=p.view_angles[:n]),
                )


def _other_bodies(scanner: Scanner, body: Body, seed: int) -> Iterator[tuple[str, Projections]]:
    rows, width = body.hu.shape[1:]
    metal = body.hu.copy()
    for x in (width // 3, 2 * width // 3):
        metal[:, rows // 2 : rows // 2 + 10, x : x + 10] = 20_000
    through = torch.exp(-scanner.integrals(replace(body, hu=metal)))
    yield "two metal hips", scanner.scan(through, 1.0, seed)
    padded = np.pad(body.hu, ((0, 0), (0, 50), (0, 60)), constant_values=-1000)
    through = torch.exp(-scanner.integrals(replace(body, hu=padded)))
    yield "patient 4 to 6 cm off-centre", scanner.scan(through, 1.0, seed)
    volume = CTVolume(body.hu, (body.pixel, body.pixel, 5.0))
    for kvp in (80, 120):
        p = simulate_projections(
            volume, scanner.kind, polychromatic=True, kvp=kvp, bowtie=0.7, modulation=0.5,
            views=scanner.views, columns=scanner.columns, device="cpu", seed=seed,
        )  # fmt: skip
        yield f"beam hardening, bowtie, modulation at {kvp} kV", p
    if scanner.kind == "parallel":
        return
    moves: dict[str, Path2D] = {
        "drifts by 5 mm sideways": lambda t: (5 * t, 0.0),
        "drifts by 10 mm to the back": lambda t: (0.0, 10 * t),
        "drifts by 30 mm": lambda t: (20 * t, 20 * t),
        "jumps by 5 mm": lambda t: (5.0 * (t > 0.4), 0.0),
        "breathes twice, 8 mm": lambda t: (0.0, 8 * math.sin(4 * math.pi * t)),
        "breathes once, 8 mm": lambda t: (0.0, 8 * math.sin(2 * math.pi * t)),
    }
    for label, moved in moves.items():
        through = torch.exp(-scanner.integrals(body, moved))
        yield f"patient {label}", scanner.scan(through, 1.0, seed)
