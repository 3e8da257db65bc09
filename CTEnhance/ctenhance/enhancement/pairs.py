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
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ctenhance.enhancement.bank import ROUTINE_SLICES, BankVolume, smooth_between_edges, soft_tissue
from ctenhance.enhancement.models import HU_SCALE

#: Averaging 2 x 2 pixels leaves this share of the SD of CT noise, whose neighbours are correlated.
POOLED_NOISE = 0.6
#: ... and their correlation on the coarser grid is that of a kernel whose cut-off lies higher by this factor.
POOLED_CUTOFF = 1.7
#: The share of draws that are a whole `routine` scan as it stands.
ROUTINE = 0.25
#: Of the others, the share whose noise is harvested, and of those with simulated noise on cleaned anatomy.
HARVESTED, CLEANED = 0.5, 0.2
#: The share of draws on a finer matrix than the scan's, as small fields of view have it and 1024 pixels, ...
FINER, FINEST = 0.15, 2.0
#: ... and the share that an iterative reconstruction has been over, which leaves blotches.
ITERATIVE = 0.1
#: A scan with less noise than this is good as it is.
QUIET_HU = 8.0
MARGIN = 8
#: Slices to either side that a draw looks at: enough for a slice profile of seven slices around the
#: neighbours.
_REACH = 4


@dataclass(frozen=True)
class PairBatch:
    """`degraded` and `reference` `[batch, 3, y, x]` (below, middle, above) in units of 1000 HU; `noise_hu`
    `[batch]`, the SD of the added noise in soft tissue."""

    degraded: torch.Tensor
    reference: torch.Tensor
    noise_hu: torch.Tensor


def neighbours(array: np.ndarray, z: int) -> np.ndarray:
    """Slices below, at and above z, `[3, y, x]`; the end slices stand in for what is beyond them."""
    return array[[max(z - 1, 0), z, min(z + 1, len(array) - 1)]]


def frequency_of(rows: int, columns: int, pixel_mm: float) -> torch.Tensor:
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
    frequency = frequency_of(128, 128, pixel_mm)
    fx = torch.fft.rfftfreq(128, d=pixel_mm)[None, :]
    detrend = 1 - torch.exp(-2 * (math.pi * frequency * 2.0 * pixel_mm) ** 2)
    low, high = 0.15, 3.0
    for _ in range(20):
        middle = math.sqrt(low * high)
        power = frequency * (kernel_gain(frequency, middle) * detrend) ** 2
        modelled = float((power * torch.cos(2 * math.pi * fx * pixel_mm)).sum() / power.sum())
        low, high = (middle, high) if modelled > correlation else (low, middle)
    return math.sqrt(low * high)


@dataclass(frozen=True)
class _Place:
    """Where a draw takes its window: slices, corner, side in the scan (`reach`) and in the pair (`side`)."""

    z: Sequence[int]
    y: int
    x: int
    reach: int
    side: int

    def window(self, stack: torch.Tensor) -> torch.Tensor:
        """`[slices, reach, reach]` float32; beyond the matrix the edge is repeated."""
        window = stack[list(self.z), self.y : self.y + self.reach, self.x : self.x + self.reach].float()
        short = (0, self.reach - window.shape[-1], 0, self.reach - window.shape[-2])
        return F.pad(window, short, mode="replicate") if any(short) else window

    def fitted(self, stack: torch.Tensor) -> torch.Tensor:
        """The window on the pair's matrix, `[slices, side, side]`."""
        return _resized(self.window(stack), self.side)


def _resized(stack: torch.Tensor, side: int) -> torch.Tensor:
    """`[slices, y, x]` on `side` x `side` pixels: averages where that is coarser, cubic where it is finer."""
    if stack.shape[-1] == side:
        return stack
    if stack.shape[-1] > side:
        return F.avg_pool2d(stack, stack.shape[-1] // side)
    finer = F.interpolate(stack[:, None], size=(side, side), mode="bicubic")[:, 0]
    return finer.clamp(float(stack.min()), float(stack.max()))


class PairSampler:
    """Draws batches of pairs. A batch depends on the seed, the bank and its step alone, so a resumed run
    goes on alike."""

    #: How often whole `routine` scans are drawn, as a share of `ROUTINE`.
    whole_scans = 1.0

    def __init__(self, volumes: Sequence[BankVolume], crop: int = 128, seed: int = 0) -> None:
        self.volumes = list(volumes)
        self.crop = crop
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        # a lone slice shows as much anatomy as a slice of a volume, whose slices are alike
        weight = np.sqrt([v.hu.shape[0] for v in self.volumes])
        self.weight = weight / weight.sum()
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

    def _draw(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        rng = self.rng
        which = int(rng.choice(len(self.volumes), p=self.weight))
        volume = self.volumes[which]
        facts = volume.facts
        depth, rows, columns = volume.hu.shape
        pooled = rng.random() < self.pooled_share(facts.noise_hu)
        side = self.crop + 2 * MARGIN
        if pooled and min(rows, columns) < 2 * side:
            pooled = False
        finer = 1.0 if pooled or rng.random() > FINER else float(rng.uniform(1.1, FINEST))
        reach = 2 * side if pooled else round(side / finer)
        y = int(rng.integers(0, max(1, rows - reach + 1)))
        x = int(rng.integers(0, max(1, columns - reach + 1)))
        middle = int(rng.integers(depth))
        # a single slice has itself for neighbours, in training as in use
        alone = depth == 1 or rng.random() < 0.2
        z = [middle if alone else min(max(middle + k, 0), depth - 1) for k in range(-_REACH, _REACH + 1)]
        place = _Place(z, y, x, reach, side)
        if rng.random() < ROUTINE * self.whole_scans:
            return self._turned(*self._routine(volume, place, alone))
        anatomy, shared = self._profiles(alone, facts.spacing_mm)
        own = facts.noise_hu * (POOLED_NOISE if pooled else 1.0)
        sigma = self._added_noise(own)

        pixel_mm = facts.pixel_mm / finer
        first, second = self._simulated(volume, which, place, pixel_mm, pooled)
        kind = rng.random()
        cleaned = HARVESTED <= kind < HARVESTED + CLEANED
        stack = place.fitted(volume.clean if cleaned else volume.hu)
        if cleaned:
            # cleaned anatomy under noise of one origin: what was there and what came cannot be told apart
            stack = stack + first * (own * float(rng.uniform(0.3, 1.2)))
        if kind < HARVESTED:
            noise = self._harvested(volume, place, first) * (sigma / facts.harvested_hu)
            noise = _resized(noise, side) / (POOLED_NOISE if pooled else 1.0)
        else:
            noise = second * sigma
        reference = stack[_REACH - 1 : _REACH + 2]
        hu = torch.einsum("kz,zyx->kyx", anatomy, stack)
        noise = torch.einsum("kz,zyx->kyx", shared, noise)
        hu, noise = self._change_kernel(hu, noise, pixel_mm)
        degraded = hu + noise
        if rng.random() < ITERATIVE:
            degraded = self._iterative(degraded, math.hypot(own, sigma))
        if rng.random() < 0.6:
            degraded = degraded.clamp(min=-1024)
        return self._turned(degraded, reference, sigma)

    def pooled_share(self, noise_hu: float) -> float:
        """The share of draws that are half-matrix copies, of a scan with this noise."""
        return 0.25 if noise_hu < 16 else 0.55

    def _turned(
        self, degraded: torch.Tensor, reference: torch.Tensor, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """The draw without its margin, turned and mirrored at random."""
        inner = slice(MARGIN, MARGIN + self.crop)
        both = torch.cat([degraded[:, inner, inner], reference[:, inner, inner]])
        both = torch.rot90(both, int(self.rng.integers(4)), (1, 2))
        if self.rng.random() < 0.5:
            both = both.flip(2)
        return both[:3], both[3:], sigma

    def _routine(
        self, volume: BankVolume, place: _Place, alone: bool
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """A `routine` scan and its reference, three slices each, and the SD of their difference in HU."""
        middle = place.z[_REACH]
        first = middle // ROUTINE_SLICES * ROUTINE_SLICES
        last = min(first + ROUTINE_SLICES, volume.hu.shape[0]) - 1
        # neighbours come from the same draw of the chain
        z = [middle if alone else min(max(middle + k, first), last) for k in (-1, 0, 1)]
        place = replace(place, z=z)
        scan = volume.routine[int(self.rng.integers(volume.routine.shape[0]))]
        both = torch.cat([place.fitted(scan), place.fitted(volume.hu)])
        return both[:3], both[3:], float((both[:3] - both[3:]).std())

    def _harvested(self, volume: BankVolume, place: _Place, simulated: torch.Tensor) -> torch.Tensor:
        """Real noise of the same scan at another place, as it is: other slices, or the mirrored slice.

        Along edges nothing could be harvested; simulated noise fills these holes, or the network would learn
        that there is none along edges.
        """
        depth, middle = volume.hu.shape[0], place.z[_REACH]
        far = [shift for shift in range(-depth, depth) if abs(shift) >= 4 and 0 <= middle + shift < depth]
        if far:
            shift = int(self.rng.choice(far))
            place = replace(place, z=[min(max(z + shift, 0), depth - 1) for z in place.z])
        noise = place.window(volume.hu) - place.window(volume.clean)
        # the far slice as it stands or mirrored; a lone slice mirrored, where its noise is another one
        noise = noise.flip(2) if not far or self.rng.random() < 0.5 else noise
        typical = volume.facts.harvested_hu
        local = F.avg_pool2d(noise[:, None].square(), 9, 1, 4).sqrt()[:, 0]
        hole = (1 - local / (0.4 * typical)).clamp(min=0)
        if simulated.shape != noise.shape:  # a pooled draw: the window is twice the pair's side
            simulated = F.interpolate(simulated[:, None], size=noise.shape[1:], mode="bilinear")[:, 0]
        return noise + simulated * hole * typical

    def _simulated(
        self, volume: BankVolume, which: int, place: _Place, pixel_mm: float, pooled: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Two independent noise stacks `[slices, side, side]` of one texture, SD 1 in soft tissue."""
        rng = self.rng
        electronic = 0.5 * rng.random() ** 2
        gain = self._texture(which, place.side, pixel_mm, pooled)
        realisations = rng.permutation(volume.quantum.shape[0])[:2]
        # Unfiltered noise looks alike at any pixel size, so it is not resized: under a pooled image lies the
        # noise of the middle of its region, under a finer one that of a region around it.
        start = (place.reach - place.side) // 2
        inner = replace(place, y=max(place.y + start, 0), x=max(place.x + start, 0), reach=place.side)
        stacks = []
        for r in (int(realisations[0]), int(realisations[-1])):
            noise = inner.window(volume.quantum[r]) * math.sqrt(1 - electronic)
            noise += inner.window(volume.electronic[r]) * math.sqrt(electronic)
            stacks.append(torch.fft.irfft2(torch.fft.rfft2(noise) * gain, s=(place.side, place.side)))
        return stacks[0], stacks[1]

    def _texture(self, which: int, side: int, pixel_mm: float, pooled: bool) -> torch.Tensor:
        """Gain of a kernel on the grid of `rfft2` that leaves the SD of the bank's noise as it is.

        Mostly the kernel that the scan's own noise has, else any.
        """
        rng = self.rng
        if rng.random() < 0.6:
            # a pooled image has its noise on a grid twice as coarse: for that grid the noise is sharper
            cutoff = self.cutoff[which] * (POOLED_CUTOFF if pooled else 1.0) * float(rng.uniform(0.85, 1.2))
            boost = 0.0
        else:
            cutoff = float(np.exp(rng.uniform(np.log(0.35), np.log(1.6))))
            boost = float(rng.choice([0.0, 0.8]))
        frequency = frequency_of(side, side, pixel_mm)
        gain = kernel_gain(frequency, cutoff, float(rng.uniform(1.6, 3.0)), boost)
        # the power of unfiltered noise goes as the frequency, up to the detector's Nyquist
        band = frequency.clamp(max=float(frequency.max()) / math.sqrt(2))
        return gain / math.sqrt(float((band * gain**2).sum() / band.sum()))

    def _added_noise(self, own: float) -> float:
        """SD of the added noise: mostly what a tenth to a half of the scan's own dose adds; a free level;
        hardly any.

        Hardly any only where the scan is quiet: a quiet input shall stay, and a noisy one not be taken for
        a good scan of that noise."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.1 and own < QUIET_HU:
            return own * float(rng.uniform(0, 0.4))
        if kind < 0.65:
            dose = float(np.exp(rng.uniform(np.log(0.1), np.log(0.45))))
            return min(own * math.sqrt(1 / dose - 1), 160.0)
        return max(float(np.exp(rng.uniform(np.log(6.0), np.log(130.0)))), 0.8 * own)

    def _iterative(self, degraded: torch.Tensor, noise_hu: float) -> torch.Tensor:
        """As a statistical iterative reconstruction leaves an image: a share of it smoothed between edges.

        Total variation stands for the edge-preserving prior; it makes the same blotches of low frequency."""
        weight = noise_hu * float(self.rng.uniform(0.3, 1.0))
        share = float(self.rng.uniform(0.3, 0.9))
        smooth = torch.stack([torch.from_numpy(smooth_between_edges(x.numpy(), weight)) for x in degraded])
        return degraded + share * (smooth - degraded)

    def _profiles(self, alone: bool, spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights `[3, slices]` of anatomy and of noise: sometimes a thicker slice, or overlapping ones.

        A thicker slice averages both.  Overlapping slices have their thickness in the scan's anatomy already:
        they only share noise, whose SD stays.
        """
        rng = self.rng
        kind = 1.0 if alone else rng.random()
        thin = self._profile(1.0)
        if kind < 0.3:
            thick = self._profile(max(1.0, float(rng.uniform(1, 6)) / spacing_mm))
            return thick, thick
        if kind < 0.5:
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
        if kind > 0.3:
            return hu, noise
        # reflected, so that an edge of the crop does not come in at the other side
        both = F.pad(torch.cat([hu, noise]), (MARGIN,) * 4, mode="reflect")
        frequency = frequency_of(both.shape[-2], both.shape[-1], pixel_mm)
        if kind < 0.22:
            gain = torch.exp(-2 * (math.pi * frequency * float(rng.uniform(0.1, 0.5))) ** 2)
        else:
            gain = 1 + float(rng.uniform(0.1, 0.6)) * (1 - torch.exp(-((frequency / 0.4) ** 2)))
        both = torch.fft.irfft2(torch.fft.rfft2(both) * gain, s=both.shape[-2:])
        both = both[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return both[:3], both[3:]
