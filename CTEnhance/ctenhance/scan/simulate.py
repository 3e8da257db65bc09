"""Projections of a volume, as a scanner would have measured them at a chosen dose.

The volume's voxels are taken as they are: what lies beyond its edges, or outside the scanner's field of view,
is air.  Without a spectrum the attenuation is that of the Hounsfield units, mu_water (1 + HU / 1000).  With
one (`polychromatic`), each voxel's attenuation is shared between soft tissue (as water) and cortical bone, by
a share that grows from 0 at `SOFT_HU` to 1 at `BONE_HU`; the two line integrals are attenuated at every
energy of the tube's spectrum, and the detector adds up energy.  No water correction is made: the cupping is
in the counts, `effective_spectra` say of which energies they are, so that reconstruction can correct it, and
`water_mu_per_mm` is that of a `CALIBRATION_MM` path of water.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctenhance.core.arrays import scratch
from ctenhance.core.volume import CTVolume
from ctenhance.physics.geometry import (
    EQUIANGULAR,
    FLAT,
    FanGeometry,
    ParallelGeometry,
    ScanGeometry,
    check_image,
    even_angles,
)
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.noise import air_in_view, bowtie_fluence, noisy_counts, tube_modulation
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu
from ctenhance.runtime.device import halvings, pick_device, with_memory_fallback
from ctenhance.runtime.errors import InputError, require_one_of
from ctenhance.runtime.memory import require_memory
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.scan.projections import Projections
from ctenhance.scan.rays import ray_fields

#: A clinical scanner (METHODS E): distances in mm, detector, views a turn, and the fan's width in rad.
SOURCE_TO_ISOCENTER_MM, SOURCE_TO_DETECTOR_MM = 595.0, 1085.6
COLUMNS, VIEWS = 736, 1152
FAN_RAD = COLUMNS * 1.2858 / SOURCE_TO_DETECTOR_MM
#: Quanta in air on the central ray at full dose, and the electronic noise in counts^2 (METHODS C.2).
PHOTONS, ELECTRONIC_VARIANCE = 2.5e5, 10.0
#: Tube voltage of a polychromatic scan unless another is asked for.
KVP = 120

SOFT_HU, BONE_HU = 150.0, 1000.0
CALIBRATION_MM = 200.0
# Energies are taken together in groups of this width.
_GROUP_KEV = 4
# Bone's attenuation in the volume is that of this energy.
_REFERENCE_KEV = 70.0
# The user is warned of more body than this outside the field of view.
_BODY_HU, _TOLERATED_OUTSIDE = -500.0, 1e-3
_BATCH = 8
# Least and most that a scan has; coarser views are no scan for the reader of files (`checks`).
_VIEWS, _COLUMNS = (20, 20_000), (16, 10_000)
# Memory that a ray takes while it is followed through the image (measured with 1,152 to 12,000 views).
_BYTES_A_RAY = 120

NAMES = {"fan-equiangular": "fan_equiangular", "fan-flat": "fan_flat", "parallel": "parallel"}


def simulate_projections(
    volume: CTVolume,
    geometry: str = "fan-equiangular",
    dose: float = 1.0,
    photons: float | None = PHOTONS,
    electronic_variance: float = ELECTRONIC_VARIANCE,
    bowtie: float = 0.0,
    modulation: float = 0.0,
    polychromatic: bool = False,
    kvp: float = KVP,
    views: int = VIEWS,
    columns: int = COLUMNS,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Projections:
    """Return the counts [view, slice, column] of a scan of `volume`; the image centre is the isocentre.

    geometry              "fan-equiangular", "fan-flat" (a full turn) or "parallel" (half a turn), see
                          `clinical_scan`
    dose, photons         the central ray has dose * photons quanta in air.  `photons` None: no noise, and
                          line integrals instead of counts
    electronic_variance   counts^2, at any dose
    bowtie, modulation    strengths as in `physics.noise`, 0 for none.  With modulation the counts are divided
                          by each view's relative tube current, as a scanner's reference channel does
    polychromatic, kvp    see the module's text

    Each slice has its own noise from `seed`.  `meta["notes"]` says what had to be left out.

    Raises InputError for settings that make no scan, pixels that are not square and slices that are not
    axial; Cancelled when asked to stop.
    """
    volume.require_hu()
    for name, value, least in (
        ("dose", dose, 0.0),
        ("number of photons", 1.0 if photons is None else photons, 0.0),
        ("electronic variance", electronic_variance, -1e-9),
        ("bowtie's strength", bowtie, -1e-9),
        ("modulation", modulation, -1e-9),
    ):
        if not (math.isfinite(value) and value > least):
            allowed = "above 0" if least == 0 else "0 or more"
            raise InputError(f"The {name} cannot be {value}; give a number {allowed}.")
    array, corner, direction = _axial(volume)
    scan = clinical_scan(geometry, views, columns)
    grid = _grid(array, volume.spacing)
    check_image(scan, grid)
    spectrum = _Spectrum(kvp) if polychromatic else None
    detector = None
    if photons is not None:
        fluence = bowtie_fluence(scan, bowtie) if bowtie > 0 else None
        detector = _Detector(photons * dose, electronic_variance, fluence, modulation, seed)
    notes: list[str] = []
    scanner = _Scanner(scan, grid, spectrum, detector, _inside(scan, grid, array, notes))

    def run(where: torch.device, batch: int) -> np.ndarray:
        return scanner.readings(array, where, batch, progress, cancel)

    readings = with_memory_fallback(run, halvings(_BATCH, 1), pick_device(device), notes.append)
    pixel_x, pixel_y, slice_mm = volume.spacing
    middle = np.array([(grid.columns - 1) / 2 * pixel_x, (grid.rows - 1) / 2 * pixel_y, 0.0])
    x, y, z = (corner + direction @ middle).tolist()
    return Projections(
        **ray_fields(scan),
        counts=None if detector is None else readings,
        line_integrals=readings if detector is None else None,
        air_counts=None if detector is None else detector.air(scan.n_columns),
        row_pitch_mm=slice_mm,
        electronic_noise_variance=0.0 if detector is None else electronic_variance,
        water_mu_per_mm=MU_WATER_PER_MM if spectrum is None else spectrum.water_mu,
        image_pixel_mm=pixel_x,
        image_size=grid.shape,
        effective_spectra=None if spectrum is None else spectrum.weight[None],
        energies_keV=None if spectrum is None else spectrum.energies_kev,
        isocenter_mm=(x, y, z),
        direction=direction,
        meta={**_known(volume), "notes": [*volume.meta.get("notes", []), *notes], "simulated": True},
    )


@dataclass(frozen=True, eq=False)
class _Detector:
    """What turns line integrals into counts: `quanta` in air on the central ray, the electronic noise in
    counts^2, the bowtie's `fluence` `[column]` or None, and how far the tube current is modulated."""

    quanta: float
    electronic_variance: float
    fluence: torch.Tensor | None
    modulation: float
    seed: int

    def counts(self, p: torch.Tensor, index: int) -> torch.Tensor:
        """Counts `[view, column]` of the line integrals of slice `index`, which has its own noise."""
        generator = torch.Generator("cpu" if p.device.type == "mps" else p.device)
        generator.manual_seed((self.seed * 1_000_003 + index) % 2**63)
        current = tube_modulation(p, self.modulation) if self.modulation > 0 else None
        counts = noisy_counts(p, self.quanta, self.electronic_variance, generator, self.fluence, current)
        return counts if current is None else counts / current.to(counts)[:, None]

    def air(self, n_columns: int) -> np.ndarray:
        """Counts without an object, `[]` or behind a bowtie `[column]`."""
        air = air_in_view(torch.zeros(1, n_columns), self.quanta, self.fluence).reshape(-1).numpy()
        return air.reshape(()) if self.fluence is None else air


@dataclass(frozen=True, eq=False)
class _Scanner:
    """Everything that a slice passes on its way to its readings; without a detector they are line integrals.
    `inside`: the pixels that every view sees, `[rows, columns]`."""

    scan: ScanGeometry
    grid: ImageGrid
    spectrum: _Spectrum | None
    detector: _Detector | None
    inside: np.ndarray

    def readings(
        self,
        array: np.ndarray,
        where: torch.device,
        batch: int,
        progress: Progress | None,
        cancel: Cancellable | None,
    ) -> np.ndarray:
        """`[view, slice, column]` of HU `[slice, row, column]`, `batch` slices at a time."""
        out = scratch((self.scan.n_views, len(array), self.scan.n_columns))
        for start in range(0, len(array), batch):
            check(cancel)
            if progress is not None:
                progress("project", start, len(array))
            part = np.where(self.inside, array[start : start + batch], np.float32(-1000))
            lines = self._line_integrals(torch.from_numpy(part).to(where), cancel)
            for index, p in enumerate(lines, start):
                check(cancel)
                one = p if self.detector is None else self.detector.counts(p, index)
                out[:, index] = one.cpu().numpy()
        if progress is not None:
            progress("project", len(array), len(array))
        return out

    def _line_integrals(self, hu: torch.Tensor, cancel: Cancellable | None) -> torch.Tensor:
        """`[slice, view, column]` of `hu` `[slice, rows, columns]`."""
        mu = hu_to_mu(hu).clamp(min=0)
        if self.spectrum is None:
            return project(mu, self.scan, self.grid, cancel)
        bone = mu * ((hu - SOFT_HU) / (BONE_HU - SOFT_HU)).clamp(0, 1)
        both = project(torch.stack([mu - bone, bone]), self.scan, self.grid, cancel)
        return self.spectrum.reading(both[0], both[1])


def clinical_scan(name: str, views: int = VIEWS, columns: int = COLUMNS) -> ScanGeometry:
    """A clinical scanner's rays: `name` is one of `NAMES`.

    Whatever the number of columns, the detector spans the same fan, and parallel rays as wide a field.
    Raises InputError for an unknown name and for numbers of views or columns that no scan has, CTEnhanceError
    for more rays than memory holds.
    """
    require_one_of(name.replace("_", "-"), NAMES, "geometry")
    kind = NAMES[name.replace("_", "-")]
    for what, count, least, most in (("views", views, *_VIEWS), ("columns", columns, *_COLUMNS)):
        if not least <= count <= most:
            raise InputError(f"A scan has {least} to {most} {what}, not {count}.")
    require_memory(_BYTES_A_RAY * views * columns, f"a scan of {views} views and {columns} columns")
    if kind == "parallel":
        pitch = 2 * SOURCE_TO_ISOCENTER_MM * math.sin(FAN_RAD / 2) / columns
        return ParallelGeometry(views, columns, pitch, view_angles=even_angles(views, math.pi))
    flat_width = 2 * SOURCE_TO_DETECTOR_MM * math.tan(FAN_RAD / 2)
    return FanGeometry(
        shape=FLAT if kind == "fan_flat" else EQUIANGULAR,
        source_to_isocenter_mm=SOURCE_TO_ISOCENTER_MM,
        source_to_detector_mm=SOURCE_TO_DETECTOR_MM,
        column_pitch=(flat_width if kind == "fan_flat" else FAN_RAD) / columns,
        n_columns=columns,
        central_column=(columns - 1) / 2,
        view_angles=even_angles(views),
    )


def _grid(array: np.ndarray, spacing: tuple[float, float, float]) -> ImageGrid:
    """The pixels of the slices, centred at the isocentre. Raises InputError where they are not square."""
    if abs(spacing[0] - spacing[1]) > 1e-3 * spacing[0]:
        raise InputError(
            f"The pixels are {spacing[0]:g} mm x {spacing[1]:g} mm, but only square ones can be projected; "
            "resample the volume."
        )
    # As NIfTI holds it, so that a DICOM series and the file converted from it have the same quanta drawn.
    return ImageGrid.centred(array.shape, float(np.float32(spacing[0])))


def _axial(volume: CTVolume) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels with x, y and z growing as in LPS, the corner's position (mm) and the axes' directions."""
    direction = volume.direction.copy()
    array, corner = volume.array, np.array(volume.origin)
    if np.abs(np.diag(direction)).min() < math.sqrt(0.5):
        raise InputError(
            "The volume's slices are not axial, as a scanner's are; resample it to axial slices."
        )
    for axis in range(3):
        if direction[axis, axis] < 0:
            length = array.shape[2 - axis]
            corner = corner + direction[:, axis] * ((length - 1) * volume.spacing[axis])
            array = np.flip(array, 2 - axis)
            direction[:, axis] *= -1
    return np.ascontiguousarray(array), corner, direction


def _inside(scan: ScanGeometry, grid: ImageGrid, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Which pixels every view sees, `[rows, columns]`; a note where body lies outside."""
    radius = scan.field_of_view_mm / 2
    inside = (torch.hypot(grid.x_mm()[None], grid.y_mm()[:, None]) <= radius).numpy()
    outside = ~inside
    body = sum(int(np.count_nonzero(plane > _BODY_HU)) for plane in array)
    lost = sum(int(np.count_nonzero(plane[outside] > _BODY_HU)) for plane in array)
    if lost > _TOLERATED_OUTSIDE * max(body, 1):
        notes.append(
            f"{lost / body:.1%} of the body lies outside the scanner's field of view of {2 * radius:.0f} mm "
            "and was taken for air."
        )
    return inside


class _Spectrum:
    """Attenuation relative to that which HU are of, for groups of energies of a tube."""

    def __init__(self, kvp: float) -> None:
        from ctenhance.physics.materials import material
        from ctenhance.physics.spectrum import energy_grid, tube_spectrum

        energies = energy_grid()
        weight = tube_spectrum(kvp) * energies  # the detector adds up energy
        self.energies_kev, self.weight = energies.numpy(), (weight / weight.sum()).numpy()
        bone_there = material("bone").mass_attenuation(torch.tensor([_REFERENCE_KEV], dtype=torch.float64))
        relative = torch.stack(
            [
                # 0 HU is water, of whatever energy the HU are: its path is what counts
                material("water").linear_attenuation(energies) / MU_WATER_PER_MM,
                material("bone").mass_attenuation(energies) / bone_there,
            ]
        )
        groups = weight.reshape(-1, _GROUP_KEV)
        share = groups.sum(1)
        mean = (relative.reshape(2, -1, _GROUP_KEV) * groups).sum(2) / share.clamp(min=1e-300)
        kept = share > 1e-6 * share.sum()
        self.share = share[kept] / share[kept].sum()
        self.relative = mean[:, kept]  # [soft or bone, group]
        water = torch.tensor(MU_WATER_PER_MM * CALIBRATION_MM, dtype=torch.float64)
        self.water_mu = float(self.reading(water, torch.zeros_like(water))) / CALIBRATION_MM

    def reading(self, soft: torch.Tensor, bone: torch.Tensor) -> torch.Tensor:
        """-ln of the transmitted share of the energy, of line integrals at the reference energy."""
        through = torch.zeros_like(soft)
        for share, m_soft, m_bone in zip(self.share.tolist(), *self.relative.tolist(), strict=True):
            through += share * torch.exp(-m_soft * soft - m_bone * bone)
        return -torch.log(through.clamp(min=1e-30))


def _known(volume: CTVolume) -> dict[str, Any]:
    kept = ("kvp", "kernel", "manufacturer", "model", "slice_thickness_mm", "tube_current_ma")
    return {name: volume.meta[name] for name in kept if name in volume.meta}
