"""Training pairs drawn from the bank: three degraded neighbouring slices and their references.

A draw follows the order of a scan. Anatomy and noise are taken at thin-slice level; the noise gets a
reconstruction kernel and a dose; slice thickness averages both; a softer or sharper kernel acts on both;
the stored image ends at -1024 HU. The reference is the scan as it is, its own noise included, so the
network learns what a scan of higher dose would have shown and not a painting without grain; half-matrix
copies of the slices (2 x 2 averages) serve as references with half the noise and an edge that is sharp for
its grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ctenhance.enhance.bank import BankVolume, soft_tissue

#: Network units: 1 is 1000 HU.
HU_SCALE = 1000.0
#: Averaging 2 x 2 pixels leaves this share of the SD of CT noise, whose neighbours are correlated.
POOLED_NOISE = 0.6
#: ... and their correlation on the coarser grid is that of a kernel whose cut-off lies higher by this factor.
POOLED_CUTOFF = 1.7
_MARGIN = 8
#: Slices to either side that a draw looks at: enough for a slice profile of seven slices around the neighbours.
_REACH = 4


@dataclass(frozen=True)
class PairBatch:
    """`degraded` and `reference` `[batch, 3, y, x]` (below, middle, above) in units of 1000 HU; `noise_hu`
    `[batch]`, the SD of the added noise in soft tissue."""

    degraded: torch.Tensor
    reference: torch.Tensor
    noise_hu: torch.Tensor


def _frequency(rows: int, columns: int, pixel_mm: float) -> torch.Tensor:
    """Radial frequency in cycles/mm on the grid of `rfft2`."""
    fy = torch.fft.fftfreq(rows, d=pixel_mm)
    fx = torch.fft.rfftfreq(columns, d=pixel_mm)
    return torch.hypot(fy[:, None], fx[None, :])


def kernel_gain(
    frequency: torch.Tensor, cutoff: float, order: float = 2.0, boost: float = 0.0
) -> torch.Tensor:
    """Gain of a reconstruction kernel over the ramp: exp(-(f / cutoff)^order) with edge enhancement
    `boost`."""
    return torch.exp(-((frequency / cutoff) ** order)) * (1 + boost * (frequency / 0.5).clamp(max=1.5) ** 2)


def neighbour_correlation(volume: BankVolume) -> float:
    """Correlation of a volume's own noise between pixels side by side, in flat soft tissue: how soft its
    kernel is."""
    products = power = 0.0
    for image in volume.hu[:: max(1, volume.hu.shape[0] // 12)].float().numpy():
        detail = image - ndimage.gaussian_filter(image, 2.0)
        mask = soft_tissue(image) & (np.abs(detail) < 4 * volume.facts.noise_hu)
        both = mask[:, 1:] & mask[:, :-1]
        products += float((detail[:, 1:] * detail[:, :-1])[both].sum())
        power += float((detail[:, 1:] ** 2)[both].sum())
    return products / max(power, 1e-6)


def matching_cutoff(correlation: float, pixel_mm: float) -> float:
    """Cut-off (cycles/mm) of the Gaussian-apodised ramp whose noise has this `neighbour_correlation`."""
    frequency = _frequency(128, 128, pixel_mm)
    fx = torch.fft.rfftfreq(128, d=pixel_mm)[None, :]
    detrend = 1 - torch.exp(-2 * (math.pi * frequency * 2.0 * pixel_mm) ** 2)
    low, high = 0.15, 3.0
    for _ in range(20):
        middle = math.sqrt(low * high)
        power = frequency * (kernel_gain(frequency, middle) * detrend) ** 2
        modelled = float((power * torch.cos(2 * math.pi * fx * pixel_mm)).sum() / power.sum())
        low, high = (middle, high) if modelled > correlation else (low, middle)
    return math.sqrt(low * high)


class PairSampler:
    """Draws batches of pairs. A batch depends on the seed, the bank and its step alone, so a resumed run
    goes on alike."""

    def __init__(self, volumes: Sequence[BankVolume], crop: int = 128, seed: int = 0) -> None:
        self.volumes = list(volumes)
        self.crop = crop
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        # a lone slice shows as much anatomy as a slice of a volume, whose slices are alike
        weight = np.sqrt([v.hu.shape[0] for v in self.volumes])
        self.weight = weight / weight.sum()
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[tuple[int, int, int], Future[PairBatch]] | None = None
        self.cutoff = [matching_cutoff(neighbour_correlation(v), v.facts.pixel_mm) for v in self.volumes]

    def batch(self, size: int, step: int, rank: int = 0) -> PairBatch:
        """The batch of `size` pairs of training step `step` on process `rank`."""
        self.rng = np.random.default_rng((self.seed, step, rank))
        draws = [self._draw() for _ in range(size)]
        return PairBatch(
            torch.stack([d[0] for d in draws]) / HU_SCALE,
            torch.stack([d[1] for d in draws]) / HU_SCALE,
            torch.tensor([d[2] for d in draws]),
        )

    def batch_ahead(self, size: int, step: int, rank: int = 0) -> PairBatch:
        """The same as `batch`, while the next step's batch is drawn in a thread beside the training step."""
        wanted = (size, step, rank)
        key, future = self._ahead or (wanted, self._thread.submit(self.batch, *wanted))
        drawn = future.result()
        if key != wanted:
            drawn = self.batch(*wanted)
        following = (size, step + 1, rank)
        self._ahead = (following, self._thread.submit(self.batch, *following))
        return drawn

    def _draw(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        rng = self.rng
        which = int(rng.choice(len(self.volumes), p=self.weight))
        volume = self.volumes[which]
        facts = volume.facts
        depth, rows, columns = volume.hu.shape
        pooled = rng.random() < (0.25 if facts.noise_hu < 16 else 0.55)
        side = self.crop + 2 * _MARGIN
        if pooled and min(rows, columns) < 2 * side:
            pooled = False
        reach = 2 * side if pooled else side
        y = int(rng.integers(0, max(1, rows - reach + 1)))
        x = int(rng.integers(0, max(1, columns - reach + 1)))
        middle = int(rng.integers(depth))
        # a single slice has itself for neighbours, in training as in use
        alone = depth == 1 or rng.random() < 0.2
        z = [middle if alone else min(max(middle + k, 0), depth - 1) for k in range(-_REACH, _REACH + 1)]

        stack = self._window(volume.hu, z, y, x, reach)
        stack = F.avg_pool2d(stack, 2) if pooled else stack
        reference = stack[_REACH - 1 : _REACH + 2]
        anatomy, shared = self._profiles(alone, facts.spacing_mm)
        hu = torch.einsum("kz,zyx->kyx", anatomy, stack)
        noise, sigma = self._noise(volume, which, z, y, x, reach, side, pooled, shared)
        hu, noise = self._change_kernel(hu, noise, facts.pixel_mm)
        degraded = hu + noise
        if rng.random() < 0.6:
            degraded = degraded.clamp(min=-1024)
        inner = slice(_MARGIN, _MARGIN + self.crop)
        both = torch.cat([degraded[:, inner, inner], reference[:, inner, inner]])
        both = torch.rot90(both, int(rng.integers(4)), (1, 2))
        if rng.random() < 0.5:
            both = both.flip(2)
        return both[:3], both[3:], sigma

    @staticmethod
    def _window(stack: torch.Tensor, z: Sequence[int], y: int, x: int, reach: int) -> torch.Tensor:
        window = stack[list(z), y : y + reach, x : x + reach].float()
        short = (0, reach - window.shape[-1], 0, reach - window.shape[-2])
        return F.pad(window, short, mode="replicate") if any(short) else window

    def _noise(
        self,
        volume: BankVolume,
        which: int,
        z: Sequence[int],
        y: int,
        x: int,
        reach: int,
        side: int,
        pooled: bool,
        weights: torch.Tensor,
    ) -> tuple[torch.Tensor, float]:
        """Three noise slices `[3, side, side]` in HU, mixed by `weights`; the SD of thin ones in soft tissue."""
        rng = self.rng
        sigma = self._added_noise(volume.facts.noise_hu * (POOLED_NOISE if pooled else 1.0))
        realisation = int(rng.integers(volume.quantum.shape[0]))
        # under a pooled image lies the noise of the middle of its region, at the bank's own pixel size
        start = (reach - side) // 2
        part = [
            self._window(field[realisation], z, y + start, x + start, side)
            for field in (volume.quantum, volume.electronic)
        ]
        electronic = 0.5 * rng.random() ** 2
        noise = part[0] * math.sqrt(1 - electronic) + part[1] * math.sqrt(electronic)
        noise = torch.einsum("kz,zyx->kyx", weights, noise)
        if rng.random() < 0.6:
            # a pooled image has its noise on a grid twice as coarse: relative to that grid the noise is
            # sharper
            cutoff = self.cutoff[which] * (POOLED_CUTOFF if pooled else 1.0) * float(rng.uniform(0.85, 1.2))
            boost = 0.0
        else:
            cutoff, boost = (
                float(np.exp(rng.uniform(np.log(0.35), np.log(1.6)))),
                float(rng.choice([0.0, 0.8])),
            )
        frequency = _frequency(side, side, volume.facts.pixel_mm)
        order = float(rng.uniform(1.6, 3.0))
        gain = kernel_gain(frequency, cutoff, order, boost)
        # what the kernel leaves of the SD of noise whose power goes as the frequency, up to the detector's
        # Nyquist
        band = frequency.clamp(max=float(frequency.max()) / math.sqrt(2))
        left = math.sqrt(float((band * gain**2).sum() / band.sum()))
        return torch.fft.irfft2(torch.fft.rfft2(noise) * gain, s=(side, side)) * (sigma / left), sigma

    def _added_noise(self, own: float) -> float:
        """SD of the added noise: a dose fraction of the scan's own dose, mostly; a free level; none."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.07:
            return 0.0
        if kind < 0.65:
            dose = float(np.exp(rng.uniform(np.log(0.06), np.log(0.8))))
            return min(own * math.sqrt(1 / dose - 1), 160.0)
        return float(np.exp(rng.uniform(np.log(4.0), np.log(120.0))))

    def _profiles(self, alone: bool, spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights `[3, slices]` of anatomy and of noise: sometimes a thicker slice, or overlapping ones.

        A thicker slice averages both.  Overlapping slices have their thickness in the scan's anatomy already:
        they only share noise, whose SD stays.
        """
        rng = self.rng
        kind = 1.0 if alone else rng.random()
        thin = self._profile(1.0)
        if kind < 0.45:
            thick = self._profile(max(1.0, float(rng.uniform(1, 6)) / spacing_mm))
            return thick, thick
        if kind < 0.65:
            overlapping = self._profile(float(rng.uniform(1, 2.5)))
            return thin, overlapping / overlapping.square().sum(1, keepdim=True).sqrt()
        return thin, thin

    @staticmethod
    def _profile(width: float) -> torch.Tensor:
        """Box profiles `[3, slices]` of `width` slices around the three middle slices, of sum 1."""
        position = torch.arange(-_REACH, _REACH + 1, dtype=torch.float32)
        centre = torch.tensor([-1.0, 0.0, 1.0])[:, None]
        # the overlap of each slice's unit interval with the box
        inside = (min(width, 2.0 * _REACH - 1) / 2 + 0.5 - (position - centre).abs()).clamp(0, 1)
        return inside / inside.sum(1, keepdim=True)

    def _change_kernel(
        self, hu: torch.Tensor, noise: torch.Tensor, pixel_mm: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sometimes a softer or sharper kernel than the reference's, for anatomy and noise alike."""
        rng = self.rng
        kind = rng.random()
        if kind > 0.45:
            return hu, noise
        # reflected, so that an edge of the crop does not come in at the other side
        both = F.pad(torch.cat([hu, noise]), (_MARGIN,) * 4, mode="reflect")
        frequency = _frequency(both.shape[-2], both.shape[-1], pixel_mm)
        if kind < 0.35:
            gain = torch.exp(-2 * (math.pi * frequency * float(rng.uniform(0.1, 0.5))) ** 2)
        else:
            gain = 1 + float(rng.uniform(0.1, 0.6)) * (1 - torch.exp(-((frequency / 0.4) ** 2)))
        both = torch.fft.irfft2(torch.fft.rfft2(both) * gain, s=both.shape[-2:])
        both = both[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        return both[:3], both[3:]
