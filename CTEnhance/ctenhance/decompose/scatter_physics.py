"""Scatter that an object throws on the detector: single scatter by physics, multiple scatter after it.

Every part of the object scatters once, by Klein and Nishina's cross section with bound electrons and
coherently, attenuated on both ways and seen through an anti-scatter grid: the deterministic half of
Kyriakou, Riedel & Kalender (Phys Med Biol 51:4567, 2006). Their coarse Monte Carlo for the rest is replaced
by single scatter made wider, softer and stronger behind thick parts. Scatter is computed in the plane, at
few views and places, since it is smooth, and is scaled afterwards: its amount depends on the beam's height,
which is not in the geometry. Form factors are those of free atoms in water, for all tissues by their mass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.decompose.beam import Beam
from ctenhance.decompose.phantom import MaterialPhantom
from ctenhance.physics.geometry import EQUIANGULAR, FanGeometry, Geometry
from ctenhance.physics.materials import attenuation_matrix, material
from ctenhance.runtime.progress import Cancellable, check

ELECTRON_KEV = 510.999
#: keV times Å: the momentum transfer is E sin(θ / 2) / this.
_KEV_ANGSTROM = 12.39842
#: Views and detector places at which scatter is computed, side of a scattering element, steps along a path.
VIEWS, PLACES, ELEMENT_MM, STEPS = 16, 24, 20.0, 12
_ENERGY_GROUPS = 20
#: Least part of its energy that a quantum keeps, and how many such parts are told apart.
_LEAST_KEPT, _PARTS = 0.45, 56
#: A parallel beam is one from far away.
_FAR_MM, _GAP_MM = 1e5, 450.0
#: The cylinder of water that a scanner's scatter is known by, and pixels a side of its image.
CYLINDER_MM, _CYLINDER_PIXELS = 300.0, 64


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
    place = (transfer / (x[1] - x[0])).clamp(max=len(x) - 1.001)
    index = place.long()
    part = place - index
    f2, s = (table[index] * (1 - part) + table[index + 1] * part for table in (coherent, incoherent))
    return klein_nishina * s, polarised * f2


def _energy_groups(beam: Beam) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Groups of equal numbers of quanta: mean energy and quanta `[group]`, and counts a quantum that keeps a
    part of its energy, `[group, part, bin]`, averaged over the group's spectrum."""
    energies, spectrum = beam.detector.energies_kev, beam.spectrum
    group = (spectrum.cumsum(0) / spectrum.sum() * _ENERGY_GROUPS).clamp(max=_ENERGY_GROUPS - 1e-6).long()
    share = F.one_hot(group, _ENERGY_GROUPS).double() * spectrum[:, None]
    quanta = share.sum(0)
    share, quanta = share[:, quanta > 0] / quanta[quanta > 0], quanta[quanta > 0]
    response = beam.detector.bin_response(beam.thresholds_kev)  # [bin, energy]
    part = torch.linspace(_LEAST_KEPT, 1, _PARTS, dtype=torch.float64)
    place = (part[:, None] * energies - energies[0]).clamp(min=0)  # energies are 1 keV apart
    index = place.long().clamp(max=len(energies) - 2)
    seen = torch.lerp(response[:, index], response[:, index + 1], place - index)  # [bin, part, energy]
    return energies @ share, quanta, torch.einsum("jpe,eg->gpj", seen, share)


def _exit_length(start: torch.Tensor, direction: torch.Tensor, radius: float) -> torch.Tensor:
    """Way from points in a circle about the origin to its rim."""
    along = (start * direction).sum(-1)
    return -along + (along**2 + (radius**2 - (start**2).sum(-1)).clamp(min=0)).sqrt()


def _path_integrals(
    maps: torch.Tensor, half_mm: float, start: torch.Tensor, direction: torch.Tensor, radius: float
) -> torch.Tensor:
    """Line integrals in g/cm² `[..., material]` from `start` mm `[..., 2]` to the rim, of `maps` g/cm³
    `[material, row, column]` that span ± `half_mm`."""
    length = _exit_length(start, direction, radius)
    part = (torch.arange(STEPS, dtype=start.dtype) + 0.5) / STEPS
    points = start[..., None, :] + (length[..., None] * part)[..., None] * direction[..., None, :]
    grid = (points / half_mm).reshape(1, -1, STEPS, 2).to(maps.dtype)
    values = F.grid_sample(maps[None], grid, align_corners=False)[0].mean(-1)  # [material, path]
    return 0.1 * values.T.reshape(*start.shape[:-1], -1).to(start.dtype) * length[..., None]


def _scanner(geometry: Geometry) -> tuple[float, float, torch.Tensor]:
    """Source to isocentre and to detector in mm, and the angles of the places on the detector."""
    if isinstance(geometry, FanGeometry):
        source, detector = geometry.source_to_isocenter_mm, geometry.source_to_detector_mm
        angles = geometry.column_angles()
    else:
        source, detector = _FAR_MM, _FAR_MM + _GAP_MM
        angles = torch.asin(geometry.ray_offsets_mm() / _FAR_MM)
    columns = torch.linspace(0, len(angles) - 1, min(PLACES, len(angles))).round().long()
    return source, detector, angles[columns]


def physical_scatter(
    phantom: MaterialPhantom,
    geometry: Geometry,
    beam: Beam,
    setup: ScatterSetup | None = None,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """Scattered counts `[slice, view, column, bin]` float64 of a phantom on the geometry's image grid, in a
    unit of their own: `scatter_ratio` tells which."""
    slices = range(phantom.densities.shape[1])
    return torch.stack(
        [spread(slice_scatter(phantom, z, geometry, beam, setup, cancel), geometry) for z in slices]
    )


def slice_scatter(
    phantom: MaterialPhantom,
    index: int,
    geometry: Geometry,
    beam: Beam,
    setup: ScatterSetup | None = None,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """The same of one slice, at few views and places of the detector only: `[view, place, bin]` for
    `spread`."""
    setup = setup or ScatterSetup()
    angles = geometry.angles()[
        torch.linspace(0, geometry.n_views - 1, min(VIEWS, geometry.n_views)).round().long()
    ]
    source_mm, detector_mm, fans = _scanner(geometry)
    maps, half, elements, mass = _elements(phantom, index)
    radius = float(elements.norm(dim=1).max()) + ELEMENT_MM if len(elements) else ELEMENT_MM
    kev, quanta, response = _energy_groups(beam)
    mu = attenuation_matrix(list(phantom.materials), kev)
    result = torch.zeros(len(angles), len(fans), response.shape[-1], dtype=torch.float64)
    if not len(elements):
        return result
    # points are told from the middle of the image
    middle_of_image = torch.tensor(geometry.center_mm, dtype=torch.float64)
    for view, angle in enumerate(angles.tolist()):
        check(cancel)
        across = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        along = torch.tensor([-math.sin(angle), math.cos(angle)], dtype=torch.float64)
        source = -source_mm * along - middle_of_image
        places = (
            source + detector_mm * (fans.sin()[:, None] * across + fans.cos()[:, None] * along)
            if not isinstance(geometry, FanGeometry) or geometry.shape == EQUIANGULAR
            else source + detector_mm * (fans.tan()[:, None] * across + along)
        )
        to_source = source - elements
        from_source = to_source.norm(dim=1)
        backwards = to_source / from_source[:, None]
        way_in = _path_integrals(maps, half, elements, backwards, radius)
        out = places - elements[:, None]  # [element, place, 2]
        distance = out.norm(dim=2)
        outwards = out / distance[..., None]
        start = elements[:, None].expand_as(outwards)
        way_out = _path_integrals(maps, half, start, outwards, radius)
        passed = torch.exp(-(way_in[:, None] + way_out) @ mu)  # [element, place, group]
        cosine = -(backwards[:, None] * outwards).sum(2).clamp(-1, 1)[..., None]
        compton, coherent = cross_section(kev, cosine)
        focus = (places - source) / (places - source).norm(dim=1, keepdim=True)
        straight = (outwards * focus).sum(2).clamp(1e-3, 1)
        tangent = (1 - straight**2).clamp(min=0).sqrt() / straight
        seen = (1 - setup.grid_ratio * tangent).clamp(min=0) * (1 - setup.leak) + setup.leak
        lateral = torch.atan2(-to_source @ across, -to_source @ along)
        weight = mass * _fluence(setup.fluence, geometry, lateral) / from_source
        weight = weight[:, None] * seen * (detector_mm / distance) ** 2
        strength = weight[..., None] * passed * quanta
        kept = 1 / (1 + kev / ELECTRON_KEV * (1 - cosine))
        single = _counted(strength * compton, kept, response)
        single += torch.einsum("pdg,gj->dj", strength * coherent, response[:, -1])
        softer = _counted(strength * (compton + coherent), kept**2, response)
        thickness = _thickness(maps, half, source, places, radius)
        result[view] = single + _multiple(softer, thickness, setup, geometry, len(fans))
    return result


def _elements(phantom: MaterialPhantom, index: int) -> tuple[torch.Tensor, float, torch.Tensor, torch.Tensor]:
    """Coarse maps for the paths, half their side in mm, centres of the scattering elements in mm, and their
    mass (arbitrary unit)."""
    maps = phantom.densities[:, index].float()
    side = max(maps.shape[-2:])
    gap = [side - n for n in maps.shape[-2:]]
    maps = F.pad(maps, (gap[1] // 2, gap[1] - gap[1] // 2, gap[0] // 2, gap[0] - gap[0] // 2))
    half = side * phantom.pixel_mm / 2
    fine = min(side, math.ceil(2 * half / 6))
    coarse = max(4, math.ceil(2 * half / ELEMENT_MM))
    total = F.adaptive_avg_pool2d(maps.sum(0)[None, None], coarse)[0, 0].double()
    centre = ((torch.arange(coarse, dtype=torch.float64) + 0.5) / coarse * 2 - 1) * half
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    there = total > 0.02
    elements = torch.stack([x[there], y[there]], 1)
    return F.adaptive_avg_pool2d(maps[None], fine)[0], half, elements, total[there]


def _fluence(fluence: torch.Tensor | None, geometry: Geometry, angle: torch.Tensor) -> torch.Tensor:
    """The bowtie's fluence towards points at these fan angles (parallel rays: taken as even)."""
    if fluence is None or not isinstance(geometry, FanGeometry):
        return torch.ones_like(angle)
    known = geometry.column_angles().numpy()
    return torch.from_numpy(np.interp(angle.numpy(), known, fluence.double().numpy()))


def _counted(strength: torch.Tensor, kept: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """Counts `[place, bin]` of quanta `[element, place, group]` that keep such parts of their energies."""
    part = ((kept - _LEAST_KEPT) / (1 - _LEAST_KEPT) * (_PARTS - 1)).round().long().clamp(0, _PARTS - 1)
    groups, places = strength.shape[-1], strength.shape[1]
    # quanta by place, group and part, then what these count
    where = (torch.arange(places)[:, None] * groups + torch.arange(groups)) * _PARTS + part
    sums = torch.zeros(places * groups * _PARTS, dtype=strength.dtype)
    sums.index_add_(0, where.flatten(), strength.flatten())
    return torch.einsum("dgp,gpj->dj", sums.view(places, groups, _PARTS), response)


def _thickness(
    maps: torch.Tensor,
    half: float,
    source: torch.Tensor,
    places: torch.Tensor,
    radius: float,
) -> torch.Tensor:
    """Mass per area in g/cm² `[place]` of the primary rays."""
    direction = (places - source) / (places - source).norm(dim=1, keepdim=True)
    nearest = source - direction * (direction @ source)[:, None]  # to the middle of the image
    inside = nearest.norm(dim=1) < radius
    sides = [
        _path_integrals(maps, half, nearest[inside], sign * direction[inside], radius).sum(-1)
        for sign in (1.0, -1.0)
    ]
    result = torch.zeros(len(places), dtype=torch.float64)
    result[inside] = sides[0] + sides[1]
    return result


def _multiple(
    softer: torch.Tensor, thickness: torch.Tensor, setup: ScatterSetup, geometry: Geometry, places: int
) -> torch.Tensor:
    """Multiple scatter `[place, bin]`: single scatter that is softer, wider and stronger behind thick
    parts."""
    if setup.multiple == 0:
        return torch.zeros_like(softer)
    offsets = geometry.ray_offsets_mm()
    step = float(offsets[-1] - offsets[0]) / max(1, places - 1)
    place = torch.arange(places, dtype=softer.dtype) * step
    kernel = torch.exp(-0.5 * ((place[:, None] - place) / setup.multiple_width_mm) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True).amax()
    return setup.multiple * (kernel @ (softer * (thickness / 10)[:, None]))


def spread(coarse: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """`[view, place, bin]` interpolated to all views and columns, `[view, column, bin]`."""
    values = coarse.clamp(min=0).permute(0, 2, 1)
    fine = F.interpolate(values, geometry.n_columns, mode="linear", align_corners=True)
    width = max(3, (geometry.n_columns // PLACES) | 1)
    # the corners of linear interpolation and of the scattering elements are rounded off
    smooth = F.avg_pool1d(fine, width, 1, width // 2, count_include_pad=False)
    full = F.interpolate(smooth.permute(1, 2, 0), geometry.n_views, mode="linear", align_corners=True)
    return full.permute(2, 1, 0)


def middle(n_columns: int) -> slice:
    """The columns behind the object's middle, where a scatter ratio is meant."""
    return slice(n_columns // 2 - n_columns // 10, n_columns // 2 + n_columns // 10 + 1)


def scatter_ratio(scatter: torch.Tensor, primary: torch.Tensor) -> float:
    """Scatter by primary counts of all bins in the detector's middle, on average over views; `[..., view,
    column, bin]` each."""
    part = middle(primary.shape[-2])
    return float(scatter[..., part, :].sum() / primary[..., part, :].sum())


def water_cylinder(geometry: Geometry) -> tuple[MaterialPhantom, Geometry]:
    """The cylinder that a scanner's scatter is known by, and one view of it."""
    pixel = 1.05 * CYLINDER_MM / _CYLINDER_PIXELS
    place = (torch.arange(_CYLINDER_PIXELS) - (_CYLINDER_PIXELS - 1) / 2) * pixel
    inside = place**2 + place[:, None] ** 2 < (CYLINDER_MM / 2) ** 2
    phantom = MaterialPhantom((material("water"),), inside.float()[None, None], pixel)
    one_view = with_views(geometry, (0.0,))
    return phantom, one_view.with_image(_CYLINDER_PIXELS, _CYLINDER_PIXELS, pixel)


def with_views(geometry: Geometry, angles: tuple[float, ...]) -> Geometry:
    """The same scanner at other view angles."""
    if isinstance(geometry, FanGeometry):
        return replace(geometry, view_angles=angles)
    return replace(geometry, view_angles=angles, n_views=len(angles))
