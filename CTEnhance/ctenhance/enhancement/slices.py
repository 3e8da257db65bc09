"""A model's work on a stack of slices, in numpy and without torch: what it sees of HU, and what it changes.

Slices are taken with their two neighbours, in batches, and run whole where memory allows (no tile, no seam),
in overlapping tiles blended by a Gaussian window where it does not. The network sees HU within its training
range and its *change* is added to the original, so that metal and padding beyond the range stay what they
were. It works where the patient is: in a box around all that is not air, with so much around it that nothing
within the box can tell the difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ctenhance.enhancement.models import HU_SCALE, Model
from ctenhance.enhancement.symmetry import SYMMETRIES, turned, turned_back
from ctenhance.runtime import large
from ctenhance.runtime.engines.base import Network

#: HU that the networks were trained on; what lies beyond is carried over unchanged. Noise in air reaches
#: well below -1024 where nobody cut it off: to cut it here would shift the mean of air.
LOWEST_HU, HIGHEST_HU = np.float32(-1400.0), np.float32(3071.0)
#: What the network sees in place of padding, such as -2000 outside the field of view.
AIR_HU = np.float32(-1024.0)
#: Mean HU of a block of so many pixels a side above which it is not air: emphysema has more, and the mean of
#: noisy air that was cut at -1024 HU has less.
NOT_AIR_HU, BLOCK = -960.0, 8
TILE_OVERLAP = 0.5
#: The finest part of an image: what a Gaussian of this SD (pixels) takes away. A share of it, stored with the
#: weights, is added to what the network gives: a linear filter lifts all edges alike and leaves what is
#: coarse, where a greater gain of a least-squares network smooths more of what is faint.
FINE_PIXELS = 0.7
#: Correlation length of the diffusion's noise along z: neighbouring slices get almost the same draw, so
#: that they agree.
NOISE_CORRELATION_MM = 4.0


class SliceEnhancer:
    """One model, ready on an engine, with one setting."""

    def __init__(self, model: Model, network: Network, tile: int, seed: int, spacing_mm: float) -> None:
        self.kind, self.network, self.seed = model.kind, network, seed
        self.sharpen = np.float32(model.entry.sharpen)
        self.tile = max(1, tile // self.kind.multiple) * self.kind.multiple
        reach = max(0.0, NOISE_CORRELATION_MM / spacing_mm)
        taps = np.exp(
            -0.5 * (np.arange(-math.ceil(2 * reach), math.ceil(2 * reach) + 1) / max(reach, 1e-3)) ** 2
        )
        self.taps = (taps / np.sqrt((taps**2).sum())).astype(np.float32)
        self._planes: dict[tuple[int, int], np.ndarray] = {}
        self._patient = _Patient(None, None, np.zeros(0, bool))
        self._drawing = Lock()

    def __call__(self, stack: np.ndarray, z: int, draw: int = 0) -> np.ndarray:
        """Slice z of `stack` HU `[z, y, x]`, enhanced, `[y, x]`."""
        return stack[z] + self.changes(stack, z, z + 1, draw)[0]

    def changes(self, stack: np.ndarray, start: int, stop: int, draw: int = 0) -> np.ndarray:
        """What the model adds to the slices `start` to `stop` of `stack` HU `[z, y, x]`, in HU."""
        return self.run(self.prepared(stack, start, stop, draw))

    def prepared(self, stack: np.ndarray, start: int, stop: int, draw: int = 0) -> Prepared:
        """All that `run` needs of some slices."""
        first, last = max(start - 1, 0), min(stop + 1, len(stack))
        planes = stack[first:last]
        whole = planes.shape[1:]
        patient = self.find_patient(stack)
        box, worth = patient.box, patient.slices[start:stop]
        if box is None or not worth.any():
            return Prepared((stop - start, *whole), None, None, None, 0)
        planes = planes[:, box[0], box[1]]
        near = np.arange(start, stop)[:, None] + np.array([-1, 0, 1])
        middle = planes[start - first : stop - first]
        inside = (middle >= LOWEST_HU) & (middle <= HIGHEST_HU) & worth[:, None, None]
        x = np.where(planes < LOWEST_HU, AIR_HU, planes)
        np.minimum(x, HIGHEST_HU, out=x)
        x /= np.float32(HU_SCALE)
        symmetry = self.symmetry(draw)
        x = _padded(turned(x, symmetry), self.kind.multiple)
        x = x[np.clip(near, 0, len(stack) - 1) - first]
        noise = None
        if self.kind.stochastic:
            with self._drawing:  # the planes are kept for the next slices
                noise = np.stack([self.noise(z, draw, x.shape[-2:]) for z in range(start, stop)])
        return Prepared((stop - start, *whole), box, inside, (x, noise), symmetry)

    def symmetry(self, draw: int) -> int:
        """How a draw's slices are turned; the two draws of an antithetic pair are turned alike."""
        return (draw // 2 if self.kind.stochastic else draw) % SYMMETRIES

    def run(self, batch: Prepared) -> np.ndarray:
        """The changes in HU `[slice, y, x]` of a batch; none where there is air alone."""
        if batch.box is None or batch.inputs is None:
            return np.zeros(batch.shape, np.float32)
        x, noise = batch.inputs
        change = self._run(x, noise)[:, 0]
        if self.sharpen:
            change = change + self.sharpen * _finest(x[:, x.shape[1] // 2] + change)
        rows, columns = batch.inside.shape[1:]
        if batch.symmetry % 2:
            rows, columns = columns, rows
        change = turned_back(change[:, :rows, :columns], batch.symmetry) * np.float32(HU_SCALE)
        change *= batch.inside
        if change.shape == batch.shape:
            return change
        whole = np.zeros(batch.shape, np.float32)
        whole[:, batch.box[0], batch.box[1]] = change
        return whole

    def find_patient(self, stack: np.ndarray) -> _Patient:
        """Where in a stack there is more than air; looked for once."""
        if self._patient.stack is not stack:
            blocks = [_block_means(stack[slab]) > NOT_AIR_HU for slab in large.slabs(stack)]
            there = np.concatenate(blocks)
            alone = np.array([bool(blocks_of_slice.any()) for blocks_of_slice in there])
            slices = alone.copy()
            slices[1:] |= alone[:-1]
            slices[:-1] |= alone[1:]
            in_any: np.ndarray = np.logical_or.reduce(there, axis=0)
            self._patient = _Patient(stack, self._box(in_any, stack.shape[1:]), slices)
        return self._patient

    def _box(self, there: np.ndarray, size: tuple[int, ...]) -> tuple[slice, slice] | None:
        """Rows and columns around blocks `[y, x]` that are not air, and as far beyond as the network looks;
        None for air alone."""
        sides = []
        for axis, length in ((1, size[0]), (0, size[1])):
            found = np.flatnonzero(there.any(axis))
            if not len(found):
                return None
            before = int(found[0]) * BLOCK - self.kind.reach
            behind = length - (int(found[-1]) + 1) * BLOCK - self.kind.reach
            # whole multiples are cut off: the same pixels are pooled then, turned and mirrored too
            cut = [max(0, n) // self.kind.multiple * self.kind.multiple for n in (before, behind)]
            sides.append(slice(cut[0], length - cut[1]))
        return sides[0], sides[1]

    def _run(self, x: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        if max(x.shape[-2:]) <= self.tile:
            return self.network(x) if noise is None else self.network(x, noise)
        return self._tiled(x, noise)

    def _tiled(self, x: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """In overlapping tiles, blended by a Gaussian window."""
        sides = [min(self.tile, n) for n in x.shape[-2:]]
        window = np.multiply.outer(*(_window(side) for side in sides))
        total = np.zeros((len(x), 1, *x.shape[-2:]), np.float32)
        weight = np.zeros(x.shape[-2:], np.float32)
        for top in _starts(x.shape[-2], sides[0], self.kind.multiple):
            for left in _starts(x.shape[-1], sides[1], self.kind.multiple):
                at: Any = (..., slice(top, top + sides[0]), slice(left, left + sides[1]))
                inputs = [np.ascontiguousarray(x[at])]
                if noise is not None:
                    inputs.append(np.ascontiguousarray(noise[at]))
                total[at] += self.network(*inputs) * window
                weight[at[1:]] += window
        return total / weight

    def noise(self, z: int, draw: int, size: tuple[int, int]) -> np.ndarray:
        """Unit-variance noise `[1, y, x]` for slice z of this size in pixels, correlated along z; the same
        whatever slab or order it is asked in. Each odd draw has that of the draw before, turned negative."""
        pair = draw // 2
        reach = len(self.taps) // 2
        for key, kept in list(self._planes.items()):
            if key[0] != pair or abs(key[1] - z) > reach or kept.shape != size:
                del self._planes[key]
        total = np.zeros(size, np.float32)
        for k, tap in enumerate(self.taps):
            plane = (pair, z + k - reach)
            if plane not in self._planes:
                seeds = [n % 2**32 for n in (self.seed, *plane)]
                self._planes[plane] = np.random.default_rng(seeds).standard_normal(size, np.float32)
            total += tap * self._planes[plane]
        return (-total if draw % 2 else total)[None]


@dataclass(frozen=True)
class _Patient:
    """Where in a `stack` the patient is: the rows and columns that are worked on (None: air alone), and which
    slices have something but air in them or beside them."""

    stack: np.ndarray | None
    box: tuple[slice, slice] | None
    slices: np.ndarray


class Prepared:
    """Slices as the network takes them: the whole `shape` `[slice, y, x]`, the `box` of it that is worked on
    (None: only air), which of its pixels may change, the inputs, and how they are turned."""

    def __init__(
        self,
        shape: tuple[int, ...],
        box: tuple[slice, slice] | None,
        inside: np.ndarray | None,
        inputs: tuple[np.ndarray, np.ndarray | None] | None,
        symmetry: int,
    ) -> None:
        self.shape, self.box, self.inputs, self.symmetry = shape, box, inputs, symmetry
        self.inside = np.zeros((0, 0, 0), bool) if inside is None else inside


def _block_means(planes: np.ndarray) -> np.ndarray:
    """The mean of each block of pixels `[z, y, x]`; those at the far sides may be smaller."""
    sums = planes
    for axis in (1, 2):
        sums = np.add.reduceat(sums, np.arange(0, planes.shape[axis], BLOCK), axis=axis)
    counts = [np.diff([*range(0, n, BLOCK), n]) for n in planes.shape[1:]]
    return sums / np.multiply.outer(*counts)


def _finest(image: np.ndarray) -> np.ndarray:
    """What a narrow Gaussian takes away of slices `[z, y, x]`."""
    from scipy import ndimage

    sigma = (0.0, FINE_PIXELS, FINE_PIXELS)
    finest: np.ndarray = image - ndimage.gaussian_filter(image, sigma, output=np.float32, mode="nearest")
    return finest


def _padded(x: np.ndarray, multiple: int) -> np.ndarray:
    """Padded at the far sides to whole multiples, by the edge's own values: HU jumps there would ring
    inwards."""
    down, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    if not down and not right:
        return np.ascontiguousarray(x)
    return np.pad(x, ((0, 0), (0, down), (0, right)), mode="edge")


def _window(side: int) -> np.ndarray:
    """A Gaussian whose SD is an eighth of the side, as tiles are commonly blended; nowhere nothing."""
    distance = (np.arange(side) - (side - 1) / 2) / (side / 8)
    return np.maximum(np.exp(-0.5 * distance**2), 1e-3).astype(np.float32)


def _starts(length: int, side: int, multiple: int) -> list[int]:
    """Where the tiles begin along an axis, at whole multiples, the last one at its end."""
    step = max(multiple, int(side * (1 - TILE_OVERLAP)) // multiple * multiple)
    return sorted({min(start, length - side) for start in range(0, max(1, length - side + step), step)})
