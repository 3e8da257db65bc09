"""Does a body attenuate as much as patients do? Lengths that are all wrong by one factor contradict nothing
in a scan: the image is as much larger, and its attenuation lower by that factor. In patients from neck to
pelvis half of all attenuation lies below some value between -80 and 160 HU, at most below 700 HU in a skull's
base, so that millimetres taken for centimetres show, and most distances that were confused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ctenhance.core.scale import levels_of
from ctenhance.physics.fbp import fbp
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.truncation import MOST_TRUNCATED, truncated_share
from ctenhance.physics.units import MU_WATER_PER_MM, mu_to_hu
from ctenhance.runtime.errors import InputError
from ctenhance.scan.projections import Projections
from ctenhance.scan.some_rows import Row

#: Half of the attenuation of anything like a patient lies below a value between these (HU).
LOWEST_HU, HIGHEST_HU = -350.0, 750.0
_LIKE_LOG10 = 0.2
#: Of an image: half of the attenuation, and most flat pieces, lie lower than in any patient; tissues, and how
#: near factors are the same.
_LOW_HU, _LOW_TISSUE_HU, _FAT_HU, _MUSCLE_HU, _NEAR = -120.0, -90.0, -100.0, 50.0, 0.04
#: An image's side in parts of the field that is measured.
_LEAST_IMAGE, _MOST_IMAGE = 0.1, 5.0
#: The image that is looked at: pixels a side, views, and a frequency, in line pairs a pixel, of which a third
#: is let through; and the body's edge, in parts of the largest line integral.
_SIDE, _VIEWS, _LOW_PASS, _EDGE = 64, 240, 0.35, 0.1
#: A scan whose columns have smaller line integrals, all views together, has nothing in it.
_NOTHING = 0.02


def attenuation_level(projections: Projections, rows: Sequence[Row]) -> float | None:
    """HU below which half of all attenuation in these rows lies; None where the body is not seen whole."""
    p = projections
    step = max(1, p.n_views // _VIEWS)
    lines = torch.stack([row.line_integrals[::step] for row in rows])
    few = replace(
        p,
        counts=None,
        air_counts=None,
        line_integrals=lines.permute(1, 0, 2).numpy(),
        view_angles=p.view_angles[::step],
        effective_spectra=None,
        thresholds_keV=None,
    )
    try:
        scan = few.scan_geometry()
        suggested = ImageGrid(_SIDE, _SIDE, p.image_pixel_mm or p.field_of_view_mm / _SIDE)
        if truncated_share(lines, scan, suggested) > MOST_TRUNCATED:
            return None
        mean = lines.mean((0, 1))
        if float(mean.max()) < _NOTHING:
            return None
        reach = float(scan.ray_offsets_mm()[mean > _EDGE * mean.max()].abs().max())
        pixel = 2 * min(reach, p.field_of_view_mm / 2) / _SIDE
        grid = ImageGrid(_SIDE, _SIDE, pixel)
        images = fbp(lines, scan, grid, lambda frequency: torch.exp(-((frequency * pixel / _LOW_PASS) ** 2)))
    except InputError:  # reported when the image itself is made
        return None
    mu = np.sort(images.clamp(min=0).double().numpy().ravel())
    total = np.cumsum(mu)
    if not total[-1] > 0:
        return None
    median = float(mu[np.searchsorted(total, total[-1] / 2)])
    return float(mu_to_hu(torch.tensor(median), p.water_mu_per_mm or MU_WATER_PER_MM))


def level_warning(hu: float, projections: Projections) -> str | None:
    """A warning where the level is none that a patient has; None where it may be."""
    if LOWEST_HU <= hu <= HIGHEST_HU:
        return None
    factor = 1 + hu / 1000
    lengths = "'column_pitch_mm' (at the isocentre)"
    if projections.geometry != "parallel":
        lengths = "'source_to_isocenter_mm'"
    many = f"{1 / factor:.2g} times too long" if factor < 1 else f"{factor:.2g} times too short"
    others = "'water_mu_per_mm' or the air counts are of another scan"
    if projections.counts is None:
        others = "'water_mu_per_mm' is in another unit"
        if abs(factor * math.log(10) - 1) < _LIKE_LOG10:
            others += ", or the logarithms are to the base 10 and not natural ones"
    return (
        f"Half of the attenuation lies at {hu:.0f} HU and less, where patients have about 0 HU: perhaps "
        f"{lengths} is {many}, or {others}."
    )


def scale_warning(array: np.ndarray, projections: Projections, level: float | None = None) -> str | None:
    """A warning where air and tissue of the image [z, y, x], HU, are not where patients have them; None where
    they are, or where there are no such levels. `level`: the scan's `attenuation_level`."""
    levels = levels_of(array)
    if levels.tissue is None:
        return None
    too_low = level is not None and level < _LOW_HU and levels.tissue < _LOW_TISSUE_HU
    if not levels.wrong and not too_low:
        return None
    low, high = ((1000 + levels.tissue) / (1000 + hu) for hu in (_MUSCLE_HU, _FAT_HU))
    if levels.fat is not None:
        low, high = sorted((low, (1000 + levels.fat) / (1000 + _FAT_HU)))
    why = "'water_mu_per_mm' or the lengths are wrong by that"
    if projections.line_integrals is not None:
        for base in (2, 10):
            if low * (1 - _NEAR) <= 1 / math.log(base) <= high * (1 + _NEAR):
                why += f", or the logarithms are to the base {base} and not natural ones"
    said = str(levels)
    return (
        f"{said[0].upper()}{said[1:]}: the image's values are {low:.2g} to {high:.2g} times what they should "
        f"be, if it is a patient's; probably {why}."
    )


def image_warning(projections: Projections) -> str | None:
    """A warning where the suggested image does not fit this scan; None where it does."""
    p = projections
    if p.image_pixel_mm is None:
        return None
    side, field = p.image_pixel_mm * max(p.image_shape), p.field_of_view_mm
    if _LEAST_IMAGE * field < side < _MOST_IMAGE * field:
        return None
    return (
        f"'image_pixel_mm' {p.image_pixel_mm:g} makes an image of {side:.3g} mm where the scan sees "
        f"{field:.3g} mm: is it in mm?"
    )
