"""What comes of material maps, slice by slice: named images into a stack, and checks before the long work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from ctenhance.core.stack import ImageStack
from ctenhance.decomposition import images
from ctenhance.physics.materials import Material, material
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check

#: Endings of the images that say something about the maps, and names of images other than maps.
MAP_ENDINGS = ("_sd", "_guided")
_IMAGES = ("vnc", "zeff", "electron_density", "residual")
#: Slices in which the quietest energy is looked for.
_QUIET_SLICES = 8
#: Slices that are looked at for impossible maps, pixels along a block's side, g/cm³ of all materials where
#: there is a body, and the fewest blocks of it that tell.
_LOOKED_AT, _BLOCK, _BODY, _FEWEST_BLOCKS = 8, 4, 0.3, 8
#: The part of the body with an impossible density that tells (edges of bone in real images have 0.016).
LEAST_IMPOSSIBLE = 0.03


class ImageRequest(Protocol):
    """The options that say which images are made of maps."""

    @property
    def basis(self) -> Sequence[str]: ...
    @property
    def vmi(self) -> Sequence[float]: ...
    @property
    def low_noise(self) -> bool: ...
    @property
    def guided_maps(self) -> bool: ...
    @property
    def vnc(self) -> bool: ...
    @property
    def zeff(self) -> bool: ...
    @property
    def electron_density(self) -> bool: ...
    @property
    def errors(self) -> bool: ...


def vmi_name(kev: float) -> str:
    """The name of a monoenergetic image: 'vmi_070keV', 'vmi_070.25keV'."""
    whole, point, part = f"{kev:g}".partition(".")
    return f"vmi_{whole:0>3}{point}{part}keV"


def image_names(options: ImageRequest) -> list[str]:
    """The names of all volumes and maps that the options ask for. Raises InputError for unknown materials."""
    materials = [material(name).name for name in options.basis]
    names = [*materials, *(vmi_name(kev) for kev in options.vmi)]
    names += [name for name in ("vnc", "zeff", "electron_density") if getattr(options, name)]
    names += [f"{name}_sd" for name in materials] if options.errors else []
    names += [f"{name}_guided" for name in materials] if options.guided_maps else []
    return names


def check_possible(materials: Sequence[Material], options: ImageRequest) -> None:
    """Let impossible requests fail before the long work."""
    _check_names([one.name for one in materials])
    nothing = torch.zeros(len(materials), 1, 1)
    for kev in options.vmi:
        images.vmi(nothing, materials, kev)
    if options.vnc:
        images.virtual_non_contrast(nothing, materials)


def _check_names(materials: Sequence[str]) -> None:
    """Images and files are named by the materials; not all file systems tell 'Salt' from 'salt'."""
    folded = [name.casefold() for name in materials]
    for name, one in zip(materials, folded, strict=True):
        if one in _IMAGES or one.startswith("vmi_") or one.endswith(MAP_ENDINGS):
            raise InputError(f"The basis material '{name}' is named like another image; rename it.")
        if folded.count(one) > 1:
            raise InputError(f"Two basis materials are called '{name}'; give each a name of its own.")


def put_images(
    stack: ImageStack, index: int, maps: torch.Tensor, materials: Sequence[Material], options: ImageRequest
) -> None:
    """Put slice `index` of all that is made of maps in g/cm³ `[material, row, column]` at once."""
    for one, image in zip(materials, maps, strict=True):
        stack.put(one.name, index, 1000 * image)
    for kev in () if options.low_noise else options.vmi:
        stack.put(vmi_name(kev), index, images.vmi(maps, materials, kev))
    if options.vnc:
        stack.put("vnc", index, images.virtual_non_contrast(maps, materials))
    if options.zeff:
        stack.put("zeff", index, images.effective_atomic_number(maps, materials))
    if options.electron_density:
        stack.put("electron_density", index, images.electron_density(maps, materials))


def put_low_noise(
    stack: ImageStack,
    materials: Sequence[Material],
    options: ImageRequest,
    device: torch.device,
    progress: Progress,
    cancel: Cancellable | None,
) -> float:
    """Make what has the noise of the quietest energy, which is one for all slices; returns it in keV."""

    def maps(rows: slice) -> torch.Tensor:
        return torch.stack([torch.from_numpy(stack.arrays[m.name][rows] / 1000) for m in materials]).to(
            device
        )

    count = stack.shape[0]
    quiet = images.quietest_energy(maps(slice(0, count, max(1, count // _QUIET_SLICES))), materials)
    for index in range(count):
        check(cancel)
        own = maps(slice(index, index + 1))[:, 0]
        guided = images.guided_maps(own, materials, quiet)
        if options.guided_maps:
            for one, image in zip(materials, guided, strict=True):
                stack.put(f"{one.name}_guided", index, 1000 * image)
        for kev in options.vmi if options.low_noise else ():
            stack.put(vmi_name(kev), index, images.low_noise_vmi(own, materials, kev, quiet, guided))
        progress("low noise", index + 1, count)
    return quiet


def impossible_sentences(stack: ImageStack, materials: Sequence[Material]) -> list[str]:
    """Return a sentence where a large part of the body has so much less than nothing of a material, in means
    over blocks of pixels, as one of its solid has: what a basis of materials that are much alike cannot
    describe becomes large amounts of them with opposite signs."""
    every = max(1, stack.shape[0] // _LOOKED_AT)
    means = np.stack([_block_means(stack.arrays[one.name][::every]) / 1000 for one in materials])
    body = means.sum(0) > _BODY
    for one, mean in zip(materials, means, strict=True):
        low = mean[body] < -one.density
        if np.count_nonzero(low) >= max(_FEWEST_BLOCKS, LEAST_IMPOSSIBLE * low.size):
            found = far_below_zero(one, float(mean[body][low].mean()), float(low.mean()))
            return [
                f"{found} The basis cannot describe what is in it, or counts and spectra do not belong "
                "together: choose a basis of what is in it, such as water,iodine."
            ]
    return []


def far_below_zero(material: Material, mean: float, share: float) -> str:
    """Return the sentence on a map whose `mean` (g/cm³) over this share of the body is impossible."""
    return (
        f"The map of {material.name} is {1000 * mean:.0f} mg/mL on average in {100 * share:.2g} % of the "
        f"body; no concentration is so far below zero (its solid has {1000 * material.density:.0f} mg/mL)."
    )


def _block_means(array: np.ndarray) -> np.ndarray:
    """Means over blocks of pixels of slices `[z, y, x]`."""
    rows, columns = (length // _BLOCK * _BLOCK for length in array.shape[1:])
    blocks = array[:, :rows, :columns].reshape(len(array), rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float64))
