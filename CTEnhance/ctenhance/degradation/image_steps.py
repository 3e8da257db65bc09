"""Realistic degradations of the image: thicker slices, another reconstruction kernel, a clipped range."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy import fft, sparse

from ctenhance.degradation.steps import SliceStep, Tick, VolumeInfo, VolumeStep, apply_along_z


def box_weights(moment: float) -> np.ndarray:
    """A box of slices, the outermost in part, with the second moment `moment` (slices squared); sums to 1.

    r whole slices on either side have the moment r (r + 1) / 3; a part of the next ones makes up the rest.
    """
    r = int((math.sqrt(1 + 12 * moment) - 1 + 1e-9) / 2)
    whole = 2 * r + 1
    part = (moment - r * (r + 1) / 3) * whole / (2 * ((r + 1) ** 2 - moment))
    weights = np.r_[part, np.ones(whole), part] if part > 1e-9 else np.ones(whole)
    return weights / weights.sum()


@dataclass(frozen=True)
class SliceThickness(VolumeStep):
    """Average along z, as a wider slice-sensitivity profile does; the grid is kept.

    `weights`: of the slices around each slice, summing to 1 (one weight: no effect); the first and last
    slices are repeated beyond the ends.  `thickness_mm` is that of one box with the profile's second
    moment.
    """

    name: ClassVar[str] = "slice-thickness"
    thickness_mm: float
    slope: float
    weights: tuple[float, ...]

    @classmethod
    def fit(cls, info: VolumeInfo, thickness_mm: float, slope: float) -> SliceThickness:  # type: ignore[override]
        """The profile that takes slices of the volume's own thickness T0 to `thickness_mm` T, a trapezoid.

        Convolving profiles adds their second moments, and a box of T has T^2 / 12; so the profile has
        (T^2 - T0^2) / 12.  The trapezoid is two boxes convolved, of which the second has the share `slope` of
        the moment (0: a box, 0.5: a triangle).
        """
        moment = (thickness_mm**2 - info.thickness_mm**2) / 12 / info.spacing_mm[2] ** 2
        if moment <= 0 or info.array.shape[0] == 1:
            return cls(thickness_mm, slope, (1.0,))
        profile = np.convolve(box_weights((1 - slope) * moment), box_weights(slope * moment))
        return cls(thickness_mm, slope, tuple(float(w) for w in profile / profile.sum()))

    @property
    def note(self) -> str:
        return "no effect: a single slice, or slices that thick already" if len(self.weights) == 1 else ""

    def after(self, info: VolumeInfo) -> VolumeInfo:
        if len(self.weights) == 1:
            return info
        mixed = np.convolve(info.axial_weights, self.weights)
        return replace(info, thickness_mm=self.thickness_mm, axial_weights=tuple(float(w) for w in mixed))

    def apply(self, array: np.ndarray, tick: Tick) -> None:
        n_slices, reach = array.shape[0], len(self.weights) // 2
        if reach == 0 or n_slices == 1:
            return
        rows = np.repeat(np.arange(n_slices), 2 * reach + 1)
        columns = (np.arange(n_slices)[:, None] + np.arange(-reach, reach + 1)).clip(0, n_slices - 1)
        operator = sparse.coo_array(
            (np.tile(self.weights, n_slices), (rows, columns.ravel())), shape=(n_slices, n_slices)
        )
        apply_along_z(array, sparse.csr_array(operator.tocsr().astype(np.float32)), tick)


#: Kernels relative to the volume's own: MTF50 in cycles/mm, and how far mid frequencies are raised (see
#: below). On a volume with an MTF50 of 0.8 (photon-counting, body kernel) soft gives some 0.35-0.5 and
#: standard 0.5-0.65.
KERNELS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "soft": ((0.40, 0.65), (0.0, 0.0)),
    "standard": ((0.65, 1.10), (0.0, 0.5)),
    "sharp": ((0.80, 1.10), (2.0, 6.0)),
}


def kernel_gain(frequency: np.ndarray, mtf50_per_mm: float, enhancement: float) -> np.ndarray:
    """Transfer function (1 + e u^2) exp(-a u^2), u = f / MTF50, a = ln(2 + 2e): 1 at 0, 1/2 at the MTF50.

    e = 0 is a Gaussian; from about 1.5 on it raises the frequencies below the MTF50 above 1, as lung and
    bone kernels do.
    """
    u2 = (frequency / mtf50_per_mm) ** 2
    return (1 + enhancement * u2) * np.exp(-math.log(2 * (1 + enhancement)) * u2)


@lru_cache(maxsize=4)
def _gain_grid(
    rows: int, columns: int, pixel_mm: tuple[float, float], mtf50_per_mm: float, enhancement: float
) -> np.ndarray:
    fx = fft.rfftfreq(columns, pixel_mm[0])
    fy = fft.fftfreq(rows, pixel_mm[1])
    return kernel_gain(np.hypot(fx[None], fy[:, None]), mtf50_per_mm, enhancement).astype(np.float32)


@dataclass(frozen=True)
class Kernel(SliceStep):
    """Another reconstruction kernel: an isotropic transfer function on top of the volume's own.

    Reconstruction is linear, so filtering the image is what another kernel would have done to anatomy, own
    noise and added noise alike.  `kernel` is the drawn name, `mtf50_per_mm` and `enhancement` as in
    `kernel_gain`.
    """

    name: ClassVar[str] = "kernel"
    kernel: str
    mtf50_per_mm: float
    enhancement: float

    @classmethod
    def fit(cls, info: VolumeInfo, kernel: str, strength: float, edge: float) -> Kernel:  # type: ignore[override]
        """`strength` and `edge`, both 0 to 1, say where in the named kernel's ranges it lies."""
        (low, high), (least, most) = KERNELS[kernel]
        return cls(kernel, high - strength * (high - low), least + edge * (most - least))

    def apply(self, image: np.ndarray, pixel_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        # the filter reaches about three times 1 / MTF50; mirrored margins keep the edges from wrapping round
        rows, columns = image.shape
        margin = math.ceil(3 / (self.mtf50_per_mm * min(pixel_mm)))
        padded = [fft.next_fast_len(n + 2 * margin, real=True) for n in image.shape]
        pads = [(margin, padded[0] - rows - margin), (margin, padded[1] - columns - margin)]
        work = np.pad(image, pads, mode="symmetric")
        gain = _gain_grid(*padded, pixel_mm, self.mtf50_per_mm, self.enhancement)
        filtered = fft.irfft2(fft.rfft2(work) * gain, s=padded)
        return np.ascontiguousarray(
            filtered[margin : margin + rows, margin : margin + columns], dtype=np.float32
        )


@dataclass(frozen=True)
class Clip(SliceStep):
    """Values beyond `low` and `high` HU are set to them."""

    name: ClassVar[str] = "clip"
    low: float
    high: float

    def apply(self, image: np.ndarray, pixel_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        return np.clip(image, np.float32(self.low), np.float32(self.high))
