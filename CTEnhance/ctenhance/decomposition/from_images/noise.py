"""The noise of images and what two of them have of it in common, measured in uniform regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.quality.noise import FEWEST_REGIONS, cut, detrended, find_regions, region_side
from ctenhance.runtime.errors import InputError

Array = np.ndarray

#: Where regions are looked for, in HU of the mean image: soft tissue and water, else anything but air.
_RANGES = ((-150.0, 200.0), (-950.0, 3000.0))
_SIDES_MM = (12.0, 9.0, 6.0)
_ENOUGH = 40
MOST_SLICES = 12
#: What attenuation tables, water calibration and rounding leave in images, in HU: it joins the noise in the
#: model, so that images that depend on each other (monoenergetic ones of one scan) do not claim to know more.
MODEL_HU = 2.0
#: Images that others explain to this many HU hold nothing of their own.
_DEPENDENT_HU = 0.6
_SAMPLE = 200_000
#: Side in pixels of the squares in which local noise is measured.
_LOCAL_PX = 32


def measured_covariance(images: Sequence[Array], spacing: tuple[float, float, float]) -> tuple[Array, int]:
    """Covariance in HU² `[image, image]` of the noise of images in HU [z, y, x], and in how many regions.

    The same regions of all are taken, the flattest of their mean; 0 regions and no covariance (zeros) where
    none is uniform."""
    guide = np.mean(images, axis=0)
    found, side = np.empty((0, 3), int), 0
    for hu_range in _RANGES:
        for side_mm in _SIDES_MM:
            side = region_side(side_mm, spacing)
            found = find_regions(guide, hu_range, side)
            if len(found) >= _ENOUGH:
                break
        if len(found) >= FEWEST_REGIONS:
            break
    if len(found) < FEWEST_REGIONS:
        return np.zeros((len(images), len(images))), 0
    squares = np.stack([detrended(cut(one, found, side)) for one in images])  # [image, region, y, x]
    variance = np.square(squares).mean((2, 3))
    total = (variance / np.maximum(np.median(variance, 1, keepdims=True), 1e-12)).sum(0)
    low, high = np.percentile(total, [25, 75])
    typical = squares[:, (total >= low) & (total <= high)].reshape(len(images), -1)
    lost = side * side / (side * side - 3.0)  # by the plane
    return lost * (typical @ typical.T) / typical.shape[1], len(found)


def given_covariance(noise: Sequence[float] | Array, n_images: int) -> Array:
    """A covariance in HU² from standard deviations (uncorrelated) or a whole matrix; raises InputError."""
    given = np.asarray(noise, dtype=np.float64)
    if given.shape == (n_images,) and np.isfinite(given).all() and (given > 0).all():
        return np.diag(given**2)
    if given.shape == (n_images, n_images) and np.isfinite(given).all():
        return given
    raise InputError(
        f"The noise must be {n_images} standard deviations above 0 HU, one for each image, or a covariance "
        f"of {n_images} x {n_images}."
    )


def independent_images(images: Sequence[Array]) -> int:
    """How many of the images (HU) the others do not explain."""
    step = max(1, images[0].size // _SAMPLE) | 1
    sample = np.stack([one.reshape(-1)[::step] for one in images]).astype(np.float64) + 1000
    sample = sample[:, np.abs(sample).max(0) < 6000]
    if sample.shape[1] < 10 * len(images):
        return len(images)
    sizes = np.linalg.svd(sample @ sample.T / sample.shape[1], compute_uv=False)
    return max(1, int((np.sqrt(sizes) > _DEPENDENT_HU).sum()))


def local_scale(values: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """How much larger (standard deviations) the noise is around each pixel of values `[image, row, column]`
    than `covariance` `[image, image]` says, `[row, column]`; 1 on average where that was measured.

    From differences of neighbours in squares, of which edges and structure are left out by the median."""
    flat = values.float()
    fine = flat - F.avg_pool2d(flat[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    sizes = covariance.diagonal().clamp(min=1e-12).sqrt().to(flat)
    size = (fine / sizes[:, None, None]).abs().mean(0)
    height, width = size.shape
    side = min(_LOCAL_PX, height, width)
    rows, columns = height // side, width // side
    blocks = size[: rows * side, : columns * side].unfold(0, side, side).unfold(1, side, side)
    local = blocks.flatten(2).median(-1).values
    middle = flat.mean(0)[: rows * side, : columns * side].unfold(0, side, side).unfold(1, side, side)
    body = middle.flatten(2).median(-1).values > -500
    typical = local[body].median() if bool(body.any()) else local.median()
    scale = (local / typical.clamp(min=1e-12)).clamp(0.05, 20)
    return F.interpolate(scale[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
