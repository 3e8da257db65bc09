"""Whether images belong together: unit, grid, place, and the order of their energies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ctenhance.core.hounsfield import require_hounsfield
from ctenhance.core.likeness import edges_of, shift_between
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.from_images.attenuation import Attenuation
from ctenhance.decomposition.from_images.energies import Energy, of_what_is_left
from ctenhance.decomposition.from_images.options import HU, PER_CM, PER_MM
from ctenhance.decomposition.from_images.plausibility import order_of
from ctenhance.files.dicom.energies import differences as differences_of
from ctenhance.files.dicom.energies import require_one_scan as one_scan_of
from ctenhance.files.dicom.energies import scan_header_of
from ctenhance.runtime.errors import InputError

#: cm⁻¹ in one of each unit; HU are told apart.
PER_CM_OF = {HU: None, PER_CM: 1.0, PER_MM: 10.0}
#: Grids that agree to this part of a voxel are one.
SAME_GRID = 0.05
#: Slices up and down that are looked at, and by how much more alike (correlation) another one must be.
_SLICE_REACH, _CLEARLY_ALIKE = 2, 0.02
#: Least overlap (Dice) of what is body in two images, and least part of an image that is a body.
_SAME_BODY, _LEAST_BODY = 0.9, 0.1
_MOST_SLICES = 5
#: Dense matter, of which lower energies show more: HU from here on, and how many voxels of it tell.
_DENSE_HU, _ENOUGH_DENSE = 150.0, 200
_LARGEST_MU, _LEAST_SD_HU = 60.0, 1.5
#: Where one image shows so much air (HU within 100 of it), others have less than this HU.
_LEAST_AIR, _MOST_IN_AIR_HU = 0.02, -400.0


#: So many percent of two copies' voxels differ by rounding at most, in HU; air, which may be filled with one
#: value, aside (relative to water).
_OF_COPIES, _ROUNDED_HU, _LEAST_MATTER = 99.9, 1.0, 0.1


def require_one_scan(volumes: Sequence[CTVolume], energies: Sequence[Energy], apart_s: float) -> None:
    """Raise InputError where the DICOM headers are of other patients, frames of reference or times."""
    headers = [scan_header_of(volume) for volume in volumes]
    one_scan_of(headers, [f"at {energy}" for energy in energies], apart_s)


def differences(volumes: Sequence[CTVolume], energies: Sequence[Energy]) -> list[str]:
    """Sentences on images that were made otherwise by their DICOM headers, or of another phase."""
    return differences_of([scan_header_of(one) for one in volumes], [f"at {one}" for one in energies])


def energies_from(volumes: Sequence[CTVolume], energies: Sequence[Energy], as_given: bool) -> dict[str, str]:
    """What says so of each energy, by its label: an attribute of the DICOM headers, or "given".

    Raises InputError where headers tell another energy, unless energies count `as_given`."""
    found = {}
    for volume, energy in zip(volumes, energies, strict=True):
        header = scan_header_of(volume)
        if header.without:
            raise of_what_is_left(f"The image at {energy}", "its header", header.without)
        stated = _energy_of(header.energy)
        same = stated is not None and stated.label.casefold() == energy.label.casefold()
        if stated is not None and not same and not as_given:
            raise InputError(
                f"An image is given at {energy}, but its {header.place} tells {stated}: give that, or say "
                "that energies count as given (--energies-as-given)."
            )
        found[energy.label] = header.place if same else "given"
    return found


def _energy_of(label: str) -> Energy | None:
    """The energy that a header states, None where it is none that images have."""
    try:
        energy = Energy.of(label) if label else None
    except InputError:
        return None
    return energy if energy is not None and energy.order is not None else None


def require_unit(volumes: Sequence[CTVolume], energies: Sequence[Energy], unit: str) -> None:
    """Raise InputError where the values cannot be of `unit` (HU, 1/cm or 1/mm), in one sentence."""
    for volume, energy in zip(volumes, energies, strict=True):
        stated = volume.meta.get("unit")
        if stated:
            raise InputError(
                f"The image at {energy} is a map with the unit '{stated}', no CT at one energy: give the "
                "images that such maps are made of."
            )
    small = [_looks_like_attenuation(volume.array) for volume in volumes]
    hounsfield = unit == HU
    wrong = [energy for energy, one in zip(energies, small, strict=True) if one is hounsfield]
    if not wrong:
        if hounsfield:
            _require_hounsfield(volumes, energies)
        return
    if len(wrong) < len(volumes):
        other = next(energy for energy in energies if energy not in wrong)
        a, b = (wrong[0], other) if hounsfield else (other, wrong[0])
        raise InputError(
            f"The image at {a} looks like attenuation (1/cm) or a map of a material and that at {b} like HU: "
            "give all in one unit, and no maps."
        )
    if hounsfield:
        raise InputError(
            "The images look like attenuation coefficients, not HU: say their unit (--unit 1/cm or 1/mm)."
        )
    raise InputError(f"The images look like HU, not attenuation in {unit}: say so (--unit HU).")


def _looks_like_attenuation(array: np.ndarray) -> bool:
    """No CT in HU stays so near zero but one of water alone, which noise takes below zero as often as above;
    and no matter attenuates more than this per cm (or per mm)."""
    sample = array.reshape(-1)[:: max(1, array.size // 200_000) | 1]
    low, high = np.percentile(sample, [0.5, 99.5])
    return bool(max(-low, high) < _LARGEST_MU and (sample.std() < _LEAST_SD_HU or low > -0.2 * high))


def _require_hounsfield(volumes: Sequence[CTVolume], energies: Sequence[Energy]) -> None:
    for volume, energy in zip(volumes, energies, strict=True):
        try:
            require_hounsfield(volume.array)
        except InputError as error:
            raise InputError(
                f"The image at {energy} is not in HU (a map of a material is no image at an energy): {error}"
            ) from error


def require_attenuation(
    volumes: Sequence[CTVolume], scale: Sequence[tuple[float, float]], energies: Sequence[Energy]
) -> None:
    """Raise InputError where what is matter in images of attenuation is far from water's (1/cm for 1/mm)."""
    for volume, (factor, _), energy in zip(volumes, scale, energies, strict=True):
        sample = volume.array.reshape(-1)[:: max(1, volume.array.size // 200_000) | 1]
        matter = sample[sample > 0.3 * np.percentile(sample, 99)]
        typical = float(np.median(matter)) * factor if matter.size else 0.0
        if not 0.3 < typical < 7:  # bone at 40 keV has 5
            raise InputError(
                f"The image at {energy} has {typical:.2g} times water's attenuation: its unit is another "
                "one, or the attenuations are of another energy."
            )


def require_others(
    volumes: Sequence[CTVolume], scale: Sequence[tuple[float, float]], energies: Sequence[Energy]
) -> None:
    """Raise InputError where two images on one grid are the same voxels, but for rounding.

    `scale`: factor and offset that make values relative to water's."""
    some = [volume.array.reshape(-1)[:: max(1, volume.array.size // 200_000) | 1] for volume in volumes]
    for one, other in itertools.combinations(range(len(volumes)), 2):
        matter = scale[one][0] * some[one] + scale[one][1] > _LEAST_MATTER
        apart = 1000 * scale[one][0] * np.abs(some[one] - some[other])[matter]
        if apart.size and float(np.percentile(apart, _OF_COPIES)) <= _ROUNDED_HU:
            raise InputError(
                f"The images at {energies[one]} and {energies[other]} are the same voxels: one was given "
                "twice, or copied under two energies (or nothing but water and air is in them). Give the "
                "image of each energy."
            )


def on_one_grid(
    volumes: Sequence[CTVolume], energies: Sequence[Energy], resample: bool
) -> tuple[list[CTVolume], list[str]]:
    """The volumes on the first one's grid, and what was done; raises InputError where they are on others and
    `resample` was not asked for, or where they do not overlap."""
    first, notes, result = volumes[0], list[str](), [volumes[0]]
    for volume, energy in zip(volumes[1:], energies[1:], strict=True):
        difference = how_grids_differ(first, volume)
        if not difference:
            result.append(volume)
            continue
        if not resample:
            raise InputError(
                f"The images at {energies[0]} and {energy} lie on different grids ({difference}): ask for "
                "resampling (--resample) if they are of one scan."
            )
        moved, share = _resampled(volume, first)
        if share < 0.5:
            raise InputError(
                f"The image at {energy} covers only {100 * share:.0f} % of that at {energies[0]}: they show "
                "different regions."
            )
        result.append(moved)
        outside = f"; {100 * (1 - share):.0f} % lay outside and is air" if share < 1 else ""
        notes.append(f"The image at {energy} was resampled to the grid of that at {energies[0]}{outside}.")
    return result, notes


def how_grids_differ(one: CTVolume, other: CTVolume) -> str:
    """Return in a few words how the grid of one volume differs from another's; '' where it is the same."""
    if one.array.shape != other.array.shape:
        sizes = [" x ".join(str(n) for n in reversed(v.array.shape)) for v in (one, other)]
        return f"{sizes[0]} and {sizes[1]} voxels"
    size = np.array(one.array.shape[::-1]) - 1
    for corner in np.ndindex(2, 2, 2):
        index = size * corner
        a, b = (np.array(v.origin) + v.direction @ (index * v.spacing) for v in (one, other))
        if np.abs(one.direction.T @ (a - b) / one.spacing).max() > SAME_GRID:
            return f"up to {np.linalg.norm(a - b):.2g} mm apart"
    return ""


def _resampled(volume: CTVolume, like: CTVolume) -> tuple[CTVolume, float]:
    import SimpleITK as sitk  # noqa: N813

    image = volume.to_sitk()
    outside = float(np.finfo(np.float32).min)
    grid = like.to_sitk()
    moved = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, outside, sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(moved)
    lost = array < 0.5 * outside
    air = float(volume.array.min()) if _looks_like_attenuation(volume.array) else -1000.0
    array[lost] = min(air, 0.0) if air > -1000 else air
    return CTVolume(array, like.spacing, like.origin, like.direction, dict(volume.meta)), float(
        1 - lost.mean()
    )


def step(array: np.ndarray) -> int:
    """Of every how manieth slice the checks of content are made."""
    return max(1, len(array) // _MOST_SLICES)


def same_object(
    images: Sequence[np.ndarray], attenuation: Attenuation, spacing: Sequence[float]
) -> list[float]:
    """How far in mm each of the images (HU [z, y, x]) after the first lies from it, within the slices.

    Raises InputError for images that show other bodies, and where dense matter is brighter at the higher
    energy, as when energies were swapped."""
    energies = attenuation.energies
    some = [np.clip(one, -1000, 3000).astype(np.float32) for one in images]
    bodies = [one > -500 for one in some]
    _require_same_air(some, energies)
    shifts = []
    for index in range(1, len(some)):
        a, b = bodies[0], bodies[index]
        total = int(a.sum()) + int(b.sum())
        dice = 2 * int((a & b).sum()) / total if total else 1.0
        moved = [shift_between(x, y) for x, y in zip(some[0], some[index], strict=True)]
        known = [one for one in moved if one is not None]
        offset = np.median(np.array(known), 0) if known else np.zeros(2)
        apart = float(np.hypot(offset[0] * spacing[1], offset[1] * spacing[0]))
        # where hardly anything is body, as within a lung, vessels at two energies are no outline
        if dice < _SAME_BODY and total > _LEAST_BODY * a.size:
            raise InputError(
                f"The images at {energies[0]} and {energies[index]} show different bodies (they overlap by "
                f"{100 * dice:.0f} %): give images of one scan of one patient."
            )
        shifts.append(apart)
    _require_order(some, attenuation)
    return shifts


def _require_same_air(images: Sequence[np.ndarray], energies: Sequence[Energy]) -> None:
    """What is air at one energy is air at all, but not in a map of something else."""
    for image, energy in zip(images, energies, strict=True):
        air = np.abs(image + 1000) < 100
        if air.mean() < _LEAST_AIR:
            continue
        for other, its_energy in zip(images, energies, strict=True):
            if float(np.median(other[air])) > _MOST_IN_AIR_HU:
                raise InputError(
                    f"The image at {its_energy} has no air at -1000 HU where that at {energy} has: it is a "
                    "map of something else, or of another region."
                )


def require_registered(shifts: Sequence[float], energies: Sequence[Energy], tolerance_mm: float) -> None:
    """Raise InputError where an image lies farther from the first than tolerated."""
    for apart, energy in zip(shifts, energies[1:], strict=True):
        if apart > tolerance_mm:
            raise InputError(
                f"The image at {energy} lies {apart:.1f} mm from that at {energies[0]}, beyond the "
                f"{tolerance_mm:g} mm tolerated: register them first."
            )


def slices_apart(
    one: np.ndarray, other: np.ndarray, scales: tuple[tuple[float, float], tuple[float, float]]
) -> int:
    """By how many slices `other` is displaced against `one` [z, y, x], up to two; 0 where that is not clear.

    `scales`: factor and offset that make values relative to water's. A slice's edges are those of the slice
    that they are most alike."""
    reach = min(_SLICE_REACH, (len(one) - 1) // 2)
    if reach < 1:
        return 0
    found = []
    for index in np.unique(np.linspace(reach, len(one) - 1 - reach, _MOST_SLICES).astype(int)):
        here = edges_of(_relative_hu(one[index], scales[0]))
        alike = {
            by: _likeness(here, edges_of(_relative_hu(other[index + by], scales[1])))
            for by in range(-reach, reach + 1)
        }
        best = max(alike, key=lambda by: alike[by])
        found.append(best if alike[best] > alike[0] + _CLEARLY_ALIKE else 0)
    return int(np.median(found))


def _relative_hu(plane: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    return 1000 * (scale[0] * plane + scale[1] - 1)


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0


def _require_order(images: Sequence[np.ndarray], attenuation: Attenuation) -> None:
    """Dense matter that attenuates less at the higher energy tells swapped images.

    Only where the basis says so of all its materials: beyond a K edge it may be otherwise."""
    energies = attenuation.energies
    relative = attenuation.relative
    by_water = order_of(attenuation)
    order = [one.order for one in energies] if by_water is None else by_water
    known = [(at, i) for i, at in enumerate(order) if at is not None]
    for low, high in itertools.pairwise(i for _, i in sorted(known)):
        # water itself is 1 at all energies; what is denser than it must be relatively less at the higher one
        if bool((relative[low] < relative[high] * (1 - 1e-3))[_heavy(attenuation)].any()):
            continue
        mean = (images[low] + images[high]) / 2
        dense = mean > _DENSE_HU
        if int(dense.sum()) < _ENOUGH_DENSE:
            continue
        more = images[low][dense] - images[high][dense]
        if float(np.median(more)) < -0.05 * float(np.median(mean[dense])):
            raise InputError(
                f"What is dense is brighter at {energies[high]} than at {energies[low]}, which no "
                "material of the basis is: the energies are swapped, or not those of these images."
            )


def _heavy(attenuation: Attenuation) -> list[bool]:
    """Which of the materials attenuate more than water, gram for gram, in some image."""
    return [bool((attenuation.relative[:, k] > 1.02).any()) for k in range(len(attenuation.materials))]
