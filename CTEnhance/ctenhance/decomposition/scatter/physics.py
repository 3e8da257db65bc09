"""Scatter that an object throws on the detector: single scatter by physics, multiple scatter after it.

Every part of the object scatters once, by Klein and Nishina's cross section with bound electrons and
coherently, attenuated on both ways and seen through an anti-scatter grid: the deterministic half of
Kyriakou, Riedel & Kalender (Phys Med Biol 51:4567, 2006). Their coarse Monte Carlo for the rest is replaced
by single scatter made wider, softer and stronger behind thick parts. Scatter is computed in the plane, at
few views and columns, since it is smooth, and is scaled afterwards: its amount depends on the beam's height,
which is not in the geometry. Form factors are those of free atoms in water, for all tissues by their mass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import CubicSpline

from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.decomposition.solver.beam import Beam
from ctenhance.physics.geometry import FLAT, FanGeometry, ScanGeometry
from ctenhance.physics.materials import attenuation_matrix, material
from ctenhance.runtime.progress import Cancellable, check

ELECTRON_KEV = 510.999
#: keV times Å: the momentum transfer is E sin(θ / 2) / this.
_KEV_ANGSTROM = 12.39842
#: Bins of the scattering angle: half a degree each.
_ANGLES = 360
#: A parallel beam is one from far away.
_FAR_MM, _GAP_MM = 1e5, 450.0
#: Pixels of the maps through which paths go are about as large.
_PATH_PIXEL_MM = 5.0
#: The cylinder of water that a scanner's scatter is known by, and pixels a side of its image.
CYLINDER_MM, _CYLINDER_PIXELS = 300.0, 64


@dataclass(frozen=True)
class Sampling:
    """How finely scatter is computed: `views`, `columns` of the detector, the side of a scattering element in
    mm, `steps` along a path, `groups` of energies.

    Half as many leave errors of several per cent from bin to bin, which look like iodine."""

    views: int = 24
    columns: int = 36
    element_mm: float = 12.0
    steps: int = 24
    groups: int = 20

    def views_of(self, geometry: ScanGeometry) -> torch.Tensor:
        """The views at which scatter is computed, as indices."""
        count = min(self.views, geometry.n_views)
        if view_arc(geometry)[1]:
            return (torch.arange(count) * (geometry.n_views / count)).round().long()
        return torch.linspace(0, geometry.n_views - 1, count).round().long()

    def columns_of(self, geometry: ScanGeometry) -> torch.Tensor:
        """The columns at which scatter is computed."""
        return torch.linspace(0, geometry.n_columns - 1, min(self.columns, geometry.n_columns)).round().long()


FINE = Sampling()


@dataclass(frozen=True, eq=False)
class Quanta:
    """What arrives and how it is counted: `spectrum` of one ray in air `[energy]`, `response` `[bin, energy]`
    counts a quantum, on `energies_kev`, which rise."""

    spectrum: torch.Tensor
    response: torch.Tensor
    energies_kev: torch.Tensor

    @classmethod
    def of(cls, beam: Beam) -> Quanta:
        """Those of a beam."""
        detector = beam.detector
        return cls(beam.spectrum, detector.bin_response(beam.thresholds_kev), detector.energies_kev)

    @classmethod
    def counted_once(cls, spectra: torch.Tensor, energies_kev: torch.Tensor) -> Quanta:
        """Those that lead to effective spectra `[bin, energy]`, if every quantum were counted in one bin."""
        spectrum = spectra.sum(0)
        return cls(spectrum, spectra / spectrum.clamp(min=1e-30), energies_kev)


@dataclass(frozen=True)
class ScatterSetup:
    """What of a scanner decides where scatter goes.

    `grid_ratio`: height by gap of the anti-scatter grid, 0 without one; `leak`: the part that passes its
    lamellae; `multiple`: multiple by single scatter behind 10 g/cm², and its width in mm at the isocentre;
    `fluence`: the bowtie's relative fluence `[column]`, or None.
    """

    grid_ratio: float = 6.0
    leak: float = 0.05
    multiple: float = 0.3
    multiple_width_mm: float = 80.0
    fluence: torch.Tensor | None = None

    def through_grid(self, outwards: torch.Tensor, from_source: torch.Tensor) -> torch.Tensor:
        """The part of quanta that passes the grid, which is focused on the source: of unit directions
        `outwards` `[element, column, 2]`, at points `from_source` `[column, 2]`."""
        focus = from_source / from_source.norm(dim=1, keepdim=True)
        straight = (outwards * focus).sum(2).clamp(1e-3, 1)
        tangent = (1 - straight**2).clamp(min=0).sqrt() / straight
        return (1 - self.grid_ratio * tangent).clamp(min=0) * (1 - self.leak) + self.leak


@lru_cache(maxsize=1)
def _water_factors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Momentum transfer in Å⁻¹, and of a water molecule the squared coherent form factor and the incoherent
    scattering function (Z - f² / Z, as in the Raman-Compton approximation)."""
    import xraydb

    x = np.linspace(0, 8, 400)
    hydrogen, oxygen = (np.asarray(xraydb.f0(element, x)) for element in ("H", "O"))
    coherent = 2 * hydrogen**2 + oxygen**2
    incoherent = 2 * np.clip(1 - hydrogen**2, 0, None) + np.clip(8 - oxygen**2 / 8, 0, None)
    return x, coherent, incoherent


def cross_section(energy_kev: torch.Tensor, cosine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compton and coherent scatter of water into a solid angle, in units of half the classical electron
    radius squared a molecule, at energies and cosines of the scattering angle that broadcast."""
    kept = 1 / (1 + energy_kev / ELECTRON_KEV * (1 - cosine))
    polarised = 1 + cosine**2
    klein_nishina = kept**2 * (kept + 1 / kept - 1 + cosine**2)
    x, coherent, incoherent = (torch.as_tensor(v, dtype=cosine.dtype) for v in _water_factors())
    transfer = energy_kev / _KEV_ANGSTROM * ((1 - cosine).clamp(min=0) / 2).sqrt()
    position = (transfer / (x[1] - x[0])).clamp(max=len(x) - 1.001)
    index = position.long()
    part = position - index
    f2, s = (table[index] * (1 - part) + table[index + 1] * part for table in (coherent, incoherent))
    return klein_nishina * s, polarised * f2


@lru_cache(maxsize=64)
def _by_angle(beam: Quanta, groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For groups of equal numbers of quanta the mean energy `[group]`, and what those count that are
    scattered once by an angle, and what softer ones would: `[angle, group, bin]` (`_ANGLES`)."""
    energies, spectrum, response = beam.energies_kev, beam.spectrum, beam.response
    steps = energies.diff()
    group = (spectrum.cumsum(0) / spectrum.sum() * groups).clamp(max=groups - 1e-6).long()
    share = F.one_hot(group, groups).double() * spectrum[:, None]
    quanta = share.sum(0)
    share, quanta = share[:, quanta > 0] / quanta[quanta > 0], quanta[quanta > 0]
    kev = energies @ share
    cosine = torch.cos((torch.arange(_ANGLES, dtype=torch.float64) + 0.5) / _ANGLES * math.pi)[:, None]
    compton, coherent = cross_section(kev, cosine)  # [angle, group]
    kept = 1 / (1 + kev / ELECTRON_KEV * (1 - cosine))

    def counted(part: torch.Tensor) -> torch.Tensor:
        """Counts `[angle, group, bin]` of quanta that keep a `part` `[angle, group]` of their energies."""
        left = (part[..., None] * energies).clamp(min=energies[0])  # [angle, group, energy]
        index = (torch.searchsorted(energies, left, right=True) - 1).clamp(max=len(energies) - 2)
        rest = (left - energies[index]) / steps[index]
        return torch.stack(
            [torch.einsum("age,eg->ag", torch.lerp(r[index], r[index + 1], rest), share) for r in response],
            -1,
        )

    whole = torch.ones_like(kept)
    single = compton[..., None] * counted(kept) + coherent[..., None] * counted(whole)
    softer = (compton + coherent)[..., None] * counted(kept**2)
    return kev, quanta[:, None] * single, quanta[:, None] * softer


def _exit_length(start: torch.Tensor, direction: torch.Tensor, radius: float) -> torch.Tensor:
    """Way from points in a circle about the origin to its rim."""
    along = (start * direction).sum(-1)
    return -along + (along**2 + (radius**2 - (start**2).sum(-1)).clamp(min=0)).sqrt()


@dataclass(frozen=True)
class _Paths:
    """Ways through `maps` g/cm³ `[material, row, column]` that span ± `half_mm`, to the rim of a circle of
    `radius`, in `steps`."""

    maps: torch.Tensor
    half_mm: float
    radius: float
    steps: int

    def integrals(self, start: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """Line integrals in g/cm² `[..., material]` from `start` in mm `[..., 2]`."""
        length = _exit_length(start, direction, self.radius)
        part = (torch.arange(self.steps, dtype=start.dtype) + 0.5) / self.steps
        points = start[..., None, :] + (length[..., None] * part)[..., None] * direction[..., None, :]
        grid = (points / self.half_mm).reshape(1, -1, self.steps, 2).to(self.maps.dtype)
        values = F.grid_sample(self.maps[None], grid, align_corners=False)[0].mean(-1)  # [material, path]
        return 0.1 * values.T.reshape(*start.shape[:-1], -1).to(start.dtype) * length[..., None]

    def thickness(self, source: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Mass per area in g/cm² `[column]` of the primary rays."""
        direction = (points - source) / (points - source).norm(dim=1, keepdim=True)
        nearest = source - direction * (direction @ source)[:, None]  # to the middle of the image
        inside = nearest.norm(dim=1) < self.radius
        ways = [self.integrals(nearest[inside], sign * direction[inside]).sum(-1) for sign in (1.0, -1.0)]
        result = torch.zeros(len(points))
        result[inside] = ways[0] + ways[1]
        return result


def _scanner(geometry: ScanGeometry) -> tuple[float, float, torch.Tensor]:
    """Source to isocentre and to detector in mm, and the angles of the columns from the source."""
    if isinstance(geometry, FanGeometry):
        source, detector = geometry.source_to_isocenter_mm, geometry.source_to_detector_mm
        angles = geometry.column_angles()
    else:
        source, detector = _FAR_MM, _FAR_MM + _GAP_MM
        angles = torch.asin(geometry.ray_offsets_mm() / _FAR_MM)
    return source, detector, angles


def _directions(
    geometry: ScanGeometry, fans: torch.Tensor, across: torch.Tensor, along: torch.Tensor
) -> torch.Tensor:
    """Ways `[column, 2]` from the source to the detector at angles `fans`, in units of the distance to the
    detector along the central ray."""
    if isinstance(geometry, FanGeometry) and geometry.shape == FLAT:
        return fans.tan()[:, None] * across + along
    return fans.sin()[:, None] * across + fans.cos()[:, None] * along


def physical_scatter(
    phantom: MaterialPhantom,
    geometry: ScanGeometry,
    beam: Beam | Quanta,
    setup: ScatterSetup | None = None,
    cancel: Cancellable | None = None,
    sampling: Sampling = FINE,
) -> torch.Tensor:
    """Scattered counts `[slice, view, column, bin]` float64 of a phantom, in a
    unit of their own: `spr_behind_middle` tells which."""
    quanta = beam if isinstance(beam, Quanta) else Quanta.of(beam)
    slices = range(phantom.densities.shape[1])
    coarse = [slice_scatter(phantom, z, geometry, quanta, setup, cancel, sampling) for z in slices]
    return torch.stack([spread(values, geometry, sampling) for values in coarse])


def slice_scatter(
    phantom: MaterialPhantom,
    index: int,
    geometry: ScanGeometry,
    beam: Quanta,
    setup: ScatterSetup | None = None,
    cancel: Cancellable | None = None,
    sampling: Sampling = FINE,
) -> torch.Tensor:
    """The same of one slice, at few views and columns of the detector only: `[view, column, bin]` for
    `spread`."""
    setup = setup or ScatterSetup()
    angles = geometry.angles()[sampling.views_of(geometry)]
    source_mm, detector_mm, fans = _scanner(geometry)
    fans = fans[sampling.columns_of(geometry)].float()
    maps, half, elements, mass = _elements(phantom, index, sampling.element_mm)
    kev, *counted = _by_angle(beam, sampling.groups)
    single, softer = (table.float().flatten(0, 1) for table in counted)  # [angle * group, bin]
    mu = attenuation_matrix(list(phantom.materials), kev).float()
    result = torch.zeros(len(angles), len(fans), single.shape[-1], dtype=torch.float64)
    if not len(elements):
        return result
    radius = float(elements.norm(dim=1).max()) + sampling.element_mm
    paths = _Paths(maps, half, radius, sampling.steps)
    # points are counted from the middle of the phantom
    middle = torch.tensor(phantom.center_mm)
    rows = torch.arange(len(fans)) * _ANGLES
    for view, angle in enumerate(angles.tolist()):
        check(cancel)
        across = torch.tensor([math.cos(angle), math.sin(angle)])
        along = torch.tensor([-math.sin(angle), math.cos(angle)])
        source = -source_mm * along - middle
        points = source + detector_mm * _directions(geometry, fans, across, along)
        to_source = source - elements
        from_source = to_source.norm(dim=1)
        backwards = to_source / from_source[:, None]
        way_in = paths.integrals(elements, backwards)
        out = points - elements[:, None]  # [element, column, 2]
        distance = out.norm(dim=2)
        outwards = out / distance[..., None]
        way_out = paths.integrals(elements[:, None].expand_as(outwards), outwards)
        passed = torch.exp(-(way_in[:, None] + way_out) @ mu)  # [element, column, group]
        cosine = -(backwards[:, None] * outwards).sum(2).clamp(-1, 1)
        angles_of = (torch.acos(cosine) * (_ANGLES / math.pi)).long().clamp(max=_ANGLES - 1)
        lateral = torch.atan2(-to_source @ across, -to_source @ along)
        weight = mass * _fluence(setup.fluence, geometry, lateral) / from_source
        weight = weight[:, None] * setup.through_grid(outwards, points - source)
        strength = (weight * (detector_mm / distance) ** 2)[..., None] * passed
        # quanta by column, angle and group, then what these count
        sums = torch.zeros(len(fans) * _ANGLES, strength.shape[-1])
        sums.index_add_(0, (rows + angles_of).flatten(), strength.flatten(0, 1))
        sums = sums.view(len(fans), -1)
        thickness = paths.thickness(source, points)
        multiple = _multiple(sums @ softer, thickness, setup, geometry, len(fans))
        result[view] = sums @ single + multiple
    return result


def _elements(
    phantom: MaterialPhantom, index: int, element_mm: float
) -> tuple[torch.Tensor, float, torch.Tensor, torch.Tensor]:
    """Coarse maps for the paths, half their side in mm, where the scattering elements lie in mm, and their
    mass (arbitrary unit)."""
    maps = phantom.densities[:, index].float()
    paths, half = _pooled(maps, phantom.pixel_mm, _PATH_PIXEL_MM)
    mass = maps.sum(0)
    y, x = ((torch.arange(n) - (n - 1) / 2) * phantom.pixel_mm for n in mass.shape)
    # by its mass an element scatters, and from where that lies
    moments = torch.stack([mass, mass * x, mass * y[:, None]])
    pooled, half_of_all = _pooled(moments, phantom.pixel_mm, element_mm)
    total, x, y = pooled
    there = total > 0.02
    elements = torch.stack([x[there], y[there]], 1) / total[there][:, None]
    return paths, half, elements, total[there] * (2 * half_of_all / len(total)) ** 2


def _pooled(maps: torch.Tensor, pixel_mm: float, about_mm: float) -> tuple[torch.Tensor, float]:
    """Means `[map, row, column]` over whole pixels, as many as come nearest to `about_mm`, of maps made
    square about their middle; and half the side of these in mm."""
    side = max(maps.shape[-2:])
    along = max(1, round(about_mm / pixel_mm))
    along += (along - side) % 2 if along > 1 and side % 2 else 0  # an odd side has no middle between pixels
    n = math.ceil(side / along)
    n += (n * along - side) % 2
    return F.avg_pool2d(squared(maps, n * along)[None], along)[0], n * along * pixel_mm / 2


def squared(images: torch.Tensor, side: int, value: float = 0.0) -> torch.Tensor:
    """Images `[..., row, column]` made `side` long both ways, about their middle."""
    gap = [side - size for size in images.shape[-2:]]
    around = (gap[1] // 2, gap[1] - gap[1] // 2, gap[0] // 2, gap[0] - gap[0] // 2)
    return F.pad(images, around, value=value)


def _fluence(fluence: torch.Tensor | None, geometry: ScanGeometry, angle: torch.Tensor) -> torch.Tensor:
    """The bowtie's fluence towards points at these fan angles (parallel rays: taken as even)."""
    if fluence is None or not isinstance(geometry, FanGeometry):
        return torch.ones_like(angle)
    known = geometry.column_angles().numpy()
    return torch.from_numpy(np.interp(angle.numpy(), known, fluence.double().numpy())).to(angle)


def _multiple(
    softer: torch.Tensor, thickness: torch.Tensor, setup: ScatterSetup, geometry: ScanGeometry, columns: int
) -> torch.Tensor:
    """Multiple scatter `[column, bin]`: single scatter that is softer, wider and stronger behind thick
    parts."""
    if setup.multiple == 0:
        return torch.zeros_like(softer)
    offsets = geometry.ray_offsets_mm()
    step = float(offsets[-1] - offsets[0]) / max(1, columns - 1)
    position = torch.arange(columns, dtype=softer.dtype) * step
    kernel = torch.exp(-0.5 * ((position[:, None] - position) / setup.multiple_width_mm) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True).amax()
    return setup.multiple * (kernel @ (softer * (thickness / 10)[:, None]))


def spread(coarse: torch.Tensor, geometry: ScanGeometry, sampling: Sampling = FINE) -> torch.Tensor:
    """Scatter at few views and columns interpolated to all of them, `[view, column, bin]` both."""
    if not bool(coarse.any()):
        return torch.zeros(geometry.n_views, geometry.n_columns, coarse.shape[-1], dtype=coarse.dtype)
    logs = coarse.clamp(min=max(1e-9 * float(coarse.max()), 1e-300)).log().numpy()
    views, columns = sampling.views_of(geometry).numpy(), sampling.columns_of(geometry).numpy()
    turn = view_arc(geometry)[1]
    if turn:
        views, logs = np.append(views, geometry.n_views), np.concatenate([logs, logs[:1]])
    logs = _interpolated(logs, 0, views, geometry.n_views, turn)
    return torch.from_numpy(np.exp(_interpolated(logs, 1, columns, geometry.n_columns, False)))


def _interpolated(values: np.ndarray, axis: int, known: np.ndarray, length: int, turn: bool) -> np.ndarray:
    """Cubic between the `known` indices along an axis, `length` long."""
    if len(known) == 1:
        return np.repeat(values, length, axis)
    spline = CubicSpline(known, values, axis, "periodic" if turn else "natural")
    return np.asarray(spline(np.arange(length)))


def view_arc(geometry: ScanGeometry) -> tuple[float, bool]:
    """The angle over which the views go, in rad, and whether that is a full turn."""
    angles = geometry.angles()
    step = float(angles.diff().abs().median()) if len(angles) > 1 else 0.0
    arc = abs(float(angles[-1] - angles[0])) + step
    return arc, abs(arc - 2 * math.pi) < 1.5 * step


def middle(n_columns: int) -> slice:
    """The columns behind the object's middle, for which an SPR is stated."""
    return slice(n_columns // 2 - n_columns // 10, n_columns // 2 + n_columns // 10 + 1)


def spr_behind_middle(scatter: torch.Tensor, primary: torch.Tensor) -> float:
    """Scatter by primary counts of all bins in the detector's middle, on average over views; `[..., view,
    column, bin]` each."""
    part = middle(primary.shape[-2])
    return float(scatter[..., part, :].sum() / primary[..., part, :].sum())


def water_cylinder(geometry: ScanGeometry) -> tuple[MaterialPhantom, ScanGeometry]:
    """The cylinder that a scanner's scatter is known by, and one view of it."""
    pixel = 1.05 * CYLINDER_MM / _CYLINDER_PIXELS
    position = (torch.arange(_CYLINDER_PIXELS) - (_CYLINDER_PIXELS - 1) / 2) * pixel
    inside = position**2 + position[:, None] ** 2 < (CYLINDER_MM / 2) ** 2
    phantom = MaterialPhantom((material("water"),), inside.float()[None, None], pixel)
    return phantom, geometry.with_views((0.0,))
