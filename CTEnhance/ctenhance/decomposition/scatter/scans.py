"""Scans that the scatter network is trained on: patients and drawn bodies, seen by drawn beams and scanners.

The counts without scatter, scatter in a unit of its own, and the material images of the counts without
scatter: what a scan of the same object through a narrow slit would give. No scatter label is needed beside
these.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.chain import density_images
from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.decomposition.scatter.physics import (
    ScatterSetup,
    physical_scatter,
    spr_behind_middle,
    squared,
    water_cylinder,
)
from ctenhance.decomposition.solver.beam import Beam, expected_counts
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.detector import Detector
from ctenhance.physics.detector_models import detector
from ctenhance.physics.geometry import EQUIANGULAR, FLAT, FanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.materials import material
from ctenhance.physics.noise import bowtie_fluence
from ctenhance.physics.spectrum import energy_grid, tube_spectrum
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import replace_when_done
from ctenhance.runtime.progress import Cancellable, Progress, check

BASIS = ("water", "iodine")
#: Materials of drawn objects.
TISSUES = ("water", "adipose", "bone", "iodine")
#: Side of the images, views and columns of a training scan: scatter is smooth, so few are enough.
SIZE, VIEWS, COLUMNS = 64, 180, 96
VOLTAGES, DETECTORS = (80, 100, 120, 140), ("ideal", "cdte", "czt", "silicon")
BEAMS = 20
#: Drawn bodies in a bank for each scan of a volume.
BODIES_PER_SCAN = 0.6
#: Threshold shifts in keV that a calibrated detector still has, the same in all channels.
_SHIFT_KEV = 0.03
#: Counts are decomposed as if so many quanta had been in air: images of them have no noise.
AIR_QUANTA = 1e7
#: So many scanners have a bowtie, which leaves at least this part of the quanta.
_BOWTIES, _LEAST_FLUENCE = 0.5, 0.02
#: Of the scans, so many have scatter of drawn kernels, so that no formula is learned.
_BY_KERNEL = 0.1
#: Fields that a bank's files hold under another name.
_STORED_NAMES = {"water_spr": "water_ratio"}


@dataclass(frozen=True)
class ScatterScan:
    """One scan: `primary` counts a quantum in air (of the brightest column) and `scatter` (of SPR 1) `[view,
    column, bin]` float32, `reference` maps in g/cm³ `[material, row, column]`, nominal `spectra` (adding up
    to 1) `[bin, energy]`; `water_spr` `[]`: the scanner's SPR behind 300 mm of water for this object's
    SPR of 1; `grid_ratio` `[]` of its anti-scatter grid, not a number where scatter is that of a drawn
    kernel; `fluence`: the bowtie's relative fluence `[column]`, or None without one."""

    name: str
    geometry: FanGeometry
    grid: ImageGrid
    primary: torch.Tensor
    scatter: torch.Tensor
    reference: torch.Tensor
    spectra: torch.Tensor
    energies_kev: torch.Tensor
    water_spr: torch.Tensor
    grid_ratio: torch.Tensor
    fluence: torch.Tensor | None = None


def draw_beams(count: int, seed: int) -> list[Beam]:
    """Beams of one quantum in air: tube voltages, detectors, 2 to 8 bins."""
    rng = np.random.default_rng((seed, 1))
    grid = energy_grid(max(VOLTAGES))
    responses = {name: detector(name, grid).response for name in DETECTORS[:count]}
    beams = []
    for index in range(count):
        kvp = int(rng.choice(VOLTAGES))
        energies = energy_grid(kvp)
        name = DETECTORS[index % len(DETECTORS)]
        counting = Detector(responses[name][:kvp, :kvp], energies, name=name)
        filters = {"aluminium": float(rng.uniform(2.5, 7)), "titanium": float(rng.uniform(0, 1))}
        spectrum = tube_spectrum(kvp, filters, energies_kev=energies)
        lowest, n_bins = float(rng.uniform(18, 28)), int(rng.choice([2, 3, 4, 5, 5, 6, 8]))
        inner = np.linspace(lowest, 0.8 * kvp, n_bins)[1:] + rng.uniform(-1, 1, n_bins - 1)
        thresholds = torch.tensor([lowest, *inner, float(kvp)], dtype=torch.float64)
        beam = Beam(spectrum, counting, thresholds, kvp)
        beams.append(Beam(spectrum / beam.spectra().sum(), counting, thresholds, kvp))
    return beams


def patient_phantom(
    hu: np.ndarray, pixel_mm: float, rng: np.random.Generator, size: int = SIZE
) -> MaterialPhantom:
    """The tissues of a slice `[row, column]` in HU on `size` pixels a side, with iodine in drawn parts of its
    soft tissue, a fifth larger or smaller by chance.

    Below -200 HU: thin water (lung, gut); to -30 HU: adipose; above 150 HU water and bone, as far as the HU
    say; all at the density that the HU ask for."""
    scaled = pixel_mm * float(rng.uniform(0.8, 1.2))
    values = torch.from_numpy(np.array(hu, dtype=np.float32))[None, None]
    side = max(values.shape[-2:])
    values = F.adaptive_avg_pool2d(squared(values, side, -1000.0), size)[0, 0].clamp(-1000, 2000)
    pixel = scaled * side / size
    if rng.random() < 0.5:
        values = values.flip(int(rng.integers(2)))
    density = (values / 1000 + 1).clamp(min=0)
    density[density < 0.02] = 0
    fat = (values > -200) & (values < -30)
    bone = ((values - 150) / 1150).clamp(0, 1)  # 1300 HU: compact bone throughout
    soft = (values > -30) & (values < 150)
    contents = torch.zeros(len(TISSUES), 1, size, size)
    contents[0, 0] = density.clamp(max=1.15) * (1 - bone) * ~fat
    contents[1, 0] = density * fat
    contents[2, 0] = bone * material("bone").density
    contents[3, 0] = _iodine(rng, size, pixel) * soft
    return MaterialPhantom(tuple(material(t) for t in TISSUES), contents, pixel)


def _iodine(rng: np.random.Generator, size: int, pixel_mm: float) -> torch.Tensor:
    """Iodine in g/cm³ `[row, column]`: vessels and organs as drawn blobs, up to 20 mg/mL."""
    axis = (torch.arange(size) - (size - 1) / 2) * pixel_mm
    amount = torch.zeros(size, size)
    for _ in range(int(rng.integers(2, 10))):
        x, y = rng.uniform(-0.35, 0.35, 2) * size * pixel_mm
        a, b = np.exp(rng.uniform(np.log(8), np.log(50), 2))
        inside = ((axis - x) / a) ** 2 + ((axis[:, None] - y) / b) ** 2 < 1
        amount[inside] = float(rng.uniform(1, 20 if a * b < 400 else 5)) / 1000
    return amount


def body_phantom(rng: np.random.Generator) -> MaterialPhantom:
    """A drawn body: an ellipse of soft matter with a rim of fat, lungs, bones and rods or not."""
    a = float(rng.uniform(70, 200))
    b = a * float(rng.uniform(0.6, 1.0))
    pixel = 2 * a * float(rng.uniform(1.08, 1.3)) / SIZE
    centre = rng.uniform(-0.04, 0.04, 2) * SIZE * pixel
    axis = (torch.arange(SIZE) - (SIZE - 1) / 2) * pixel
    x, y = axis - centre[0], axis[:, None] - centre[1]
    body = (x / a) ** 2 + (y / b) ** 2 < 1
    contents = torch.zeros(len(TISSUES), 1, SIZE, SIZE)
    # half of all phantoms are of water
    contents[0, 0][body] = 1.0 if rng.random() < 0.5 else float(rng.uniform(0.93, 1.12))
    if rng.random() < 0.4:  # fat under the skin
        rim = body & ~((x / (0.88 * a)) ** 2 + (y / (0.86 * b)) ** 2 < 1)
        contents[:, 0, rim] = torch.tensor([0.0, 0.95, 0.0, 0.0])[:, None]
    for _ in range(int(rng.integers(0, 10))):
        angle, far = rng.uniform(0, 2 * math.pi), 0.7 * math.sqrt(rng.random())
        u, v = far * a * math.cos(angle), far * b * math.sin(angle)
        c, d = np.exp(rng.uniform(np.log(6), np.log(0.3 * a), 2))
        part = (((x - u) / c) ** 2 + ((y - v) / d) ** 2 < 1) & body
        kind = rng.random()
        if kind < 0.2 and c > 15:  # lung or gas
            contents[:, 0, part] = torch.tensor([float(rng.uniform(0.0, 0.4)), 0.0, 0.0, 0.0])[:, None]
        elif kind < 0.45 and c * d < 700:  # bone, or a rod of calcium
            contents[2, 0, part] = float(rng.uniform(0.1, 1.2))
        else:
            contents[3, 0, part] = float(rng.uniform(0, 0.02 if c * d < 500 else 0.006))
    return MaterialPhantom(tuple(material(t) for t in TISSUES), contents, pixel)


def draw_geometry(rng: np.random.Generator, phantom: MaterialPhantom) -> FanGeometry:
    """A full turn of a fan that sees the whole image."""
    half = SIZE * phantom.pixel_mm / 2
    radius = max(half * 1.02, float(rng.uniform(160, 270)))
    distance = max(float(rng.uniform(530, 630)), 1.6 * half)
    far = distance + float(rng.uniform(380, 520))
    opening = math.asin(min(0.9, radius / distance))
    flat = rng.random() < 0.3
    pitch = 2 * far * math.tan(opening) / COLUMNS if flat else 2 * opening / COLUMNS
    start = float(rng.uniform(0, 2 * math.pi))
    angles = tuple((start + np.arange(VIEWS) * (2 * math.pi / VIEWS)).tolist())
    central = (COLUMNS - 1) / 2 + float(rng.choice([0.0, 0.25, -0.25]))
    shape = FLAT if flat else EQUIANGULAR
    return FanGeometry(shape, distance, far, pitch, COLUMNS, central, angles)


def draw_setup(rng: np.random.Generator, fluence: torch.Tensor | None) -> ScatterSetup:
    """A clinical scanner's anti-scatter grid and its leak; how much multiple scatter there is follows from
    physics and is drawn as far as its model is uncertain. `fluence`: its bowtie's."""
    return ScatterSetup(
        fluence=fluence,
        grid_ratio=float(rng.uniform(4, 12)),
        leak=float(rng.uniform(0.01, 0.08)),
        multiple=float(rng.uniform(0.2, 0.45)),
        multiple_width_mm=float(rng.uniform(60, 110)),
    )


def draw_bowtie(rng: np.random.Generator, geometry: FanGeometry) -> torch.Tensor | None:
    """A bowtie's relative fluence `[column]`, or none."""
    strength, size = float(rng.uniform(0.2, 0.9)), float(rng.uniform(0.5, 0.9))
    if rng.random() >= _BOWTIES:
        return None
    radius = size * geometry.field_of_view_mm / 2
    return bowtie_fluence(geometry, strength, radius).clamp(min=_LEAST_FLUENCE)


class DrawnKernel:
    """Scatter by a drawn sum of lopsided kernels over a power of counts and attenuation."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.powers = float(rng.uniform(0.8, 1.0)), float(rng.uniform(0.6, 1.4))
        count = int(rng.integers(1, 4))
        self.widths_mm = np.exp(rng.uniform(np.log(12), np.log(110), (count, 2))).tolist()
        self.shares = rng.uniform(0.2, 1, count).tolist()
        self.last_bin = float(rng.uniform(0.5, 1.1))

    def __call__(self, primary: torch.Tensor, bright: torch.Tensor, pitch_mm: float) -> torch.Tensor:
        """Scatter `[..., view, column, bin]` of `primary` alike, which is relative to air, behind a bowtie
        that leaves `bright` `[column, 1]`."""
        logs = -torch.log(primary.sum(-1, keepdim=True).clamp(1e-9, 1))
        source = bright * primary ** self.powers[0] * logs ** self.powers[1]
        axis = torch.arange(primary.shape[-2], dtype=primary.dtype) * pitch_mm
        apart = axis[:, None] - axis
        kernel = torch.zeros_like(apart)
        for share, (left, right) in zip(self.shares, self.widths_mm, strict=True):
            width = torch.where(apart > 0, right, left).to(apart.dtype)
            kernel += share * torch.exp(-0.5 * (apart / width).square())
        tilt = torch.linspace(1, self.last_bin, primary.shape[-1], dtype=primary.dtype)
        return torch.einsum("cd,...dj->...cj", kernel, source) * tilt


def draw_scan(
    phantom: MaterialPhantom,
    beam: Beam,
    decomposer: Decomposer,
    rng: np.random.Generator,
    name: str,
    geometry: FanGeometry | None = None,
    cancel: Cancellable | None = None,
) -> ScatterScan:
    """A scan of a phantom of one slice by a drawn scanner, or one of that `geometry`."""
    geometry = geometry or draw_geometry(rng, phantom)
    shifts = torch.from_numpy(rng.normal(0, _SHIFT_KEV, (1, len(beam.thresholds_kev))))
    energies = beam.detector.energies_kev
    primary = expected_counts(phantom, geometry, beam.spectra(shifts)[0], energies, cancel=cancel)
    fluence = draw_bowtie(rng, geometry)
    bright = torch.ones(geometry.n_columns, 1) if fluence is None else fluence[:, None]
    cylinder, across = water_cylinder(geometry)
    water = expected_counts(cylinder, across, beam.spectra(), energies)
    if rng.random() < _BY_KERNEL:
        kernel, grid_ratio, pitch = DrawnKernel(rng), math.nan, geometry.isocenter_pitch_mm
        scatter, of_water = (kernel(counts, bright, pitch) for counts in (primary, water))
    else:
        setup = draw_setup(rng, fluence)
        grid_ratio = setup.grid_ratio
        scatter = physical_scatter(phantom, geometry, beam, setup, cancel)
        of_water = physical_scatter(cylinder, across, beam, setup, cancel)
    unit = spr_behind_middle(scatter, bright * primary)
    reference = density_images(
        decomposer.estimate(primary[0] * AIR_QUANTA).lines.float(), geometry, phantom.grid
    )
    return ScatterScan(
        name,
        geometry,
        phantom.grid,
        (bright * primary[0]).float(),
        (scatter[0] / unit).float(),
        reference,
        beam.spectra(),
        energies,
        torch.tensor(spr_behind_middle(of_water, bright * water) / unit),
        torch.tensor(grid_ratio),
        fluence,
    )


def build_scans(
    volumes: Sequence[Path],
    folder: Path,
    seed: int,
    scans_per_volume: int,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> list[Path]:
    """Draw scans of the volumes' slices and of drawn bodies into `folder`; those that are there stay.

    Raises InputError where a volume cannot be read, Cancelled when asked to stop."""
    folder.mkdir(parents=True, exist_ok=True)
    patients = [path for path in volumes for _ in range(scans_per_volume)]
    total = len(patients) + round(BODIES_PER_SCAN * len(patients))
    targets = [folder / f"{index:04d}.safetensors" for index in range(total)]
    beams: list[Beam] = []
    decomposers: list[Decomposer] = []
    volume: tuple[Path, CTVolume] | None = None
    for index, target in enumerate(targets):
        check(cancel)
        if target.exists():
            continue
        if not beams:
            beams = draw_beams(BEAMS, seed)
            decomposers = [
                Decomposer(BASIS, b.spectra() * AIR_QUANTA, b.detector.energies_kev) for b in beams
            ]
        rng = np.random.default_rng((seed, 2, index))
        if index < len(patients):
            path = patients[index]
            if volume is None or volume[0] != path:
                volume = (path, CTVolume.read(path))
            z = int(rng.integers(len(volume[1].array)))
            phantom = patient_phantom(volume[1].array[z], volume[1].spacing[0], rng)
            name = f"{path.name.split('.')[0]}:{z}"
        else:
            phantom, name = body_phantom(rng), f"drawn body {index}"
        which = int(rng.integers(len(beams)))
        _write(target, draw_scan(phantom, beams[which], decomposers[which], rng, name, cancel=cancel))
        if progress is not None:
            progress("scans", index + 1, total)
    return targets


def _write(target: Path, scan: ScatterScan) -> None:
    tensors = {
        _STORED_NAMES.get(name, name): value.contiguous().clone()
        for name, value in vars(scan).items()
        if isinstance(value, torch.Tensor)
    }
    facts = {"name": scan.name, "geometry": json.dumps(asdict(scan.geometry) | asdict(scan.grid))}
    with replace_when_done(target) as temporary:
        save_file(tensors, os.fspath(temporary), metadata=facts)


def load_scans(files: Sequence[Path]) -> list[ScatterScan]:
    """The scans of a bank. Raises InputError where a file is damaged or none is there."""
    scans = []
    for path in files:
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                facts, names = file.metadata() or {}, set(file.keys())
                stored: dict[str, Any] = {
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in json.loads(facts["geometry"]).items()
                }
                grid = ImageGrid(**{field.name: stored.pop(field.name) for field in fields(ImageGrid)})
                geometry = FanGeometry(**stored)
                tensors = {
                    field.name: file.get_tensor(key)
                    for field in fields(ScatterScan)
                    if (key := _STORED_NAMES.get(field.name, field.name)) in names
                }
                scans.append(ScatterScan(name=facts["name"], geometry=geometry, grid=grid, **tensors))
        except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            raise InputError(
                f"The scan {path.name} in the bank is damaged: delete it and start again."
            ) from error
    if not scans:
        raise InputError("The bank of scans is empty: give volumes to train on.")
    return scans
