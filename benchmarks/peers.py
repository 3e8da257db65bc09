"""The filters that the project's models are held against, and how their strength is found.

Total variation (Chambolle 2004), non-local means (Buades 2005, scikit-image's fast form), BM3D (Dabov 2007,
the authors' package), a bilateral filter (Tomasi and Manduchi 1998) and, as the floor, a Gaussian. Their
strength, in units of the input's noise, is found on the validation patients; or, as the ceiling of what they
can do, per patient by the PSNR against that patient's own reference, on the very slices: an oracle that no
user has, and a favour that the models do not get.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctenhance.quality.metrics import psnr

Array = np.ndarray

#: What the peers are shown, and the models too: metal beyond it would only disturb them.
SHOWN_HU = (-1024.0, 3071.0)
#: A step of the ladder of strengths; a parabola through the best three refines it.
RATIO = math.sqrt(2)
MOST_EVALUATIONS = 16
NLM_PATCH, NLM_DISTANCE = 5, 6
#: Far below scikit-image's default, so that strong smoothing is not cut short.
TV_TOLERANCE, TV_ITERATIONS = 5e-5, 400

#: Slice [y, x] in HU, strength (in units of the noise), SD of the noise in HU -> slice in HU.
Filter = Callable[[Array, float, float], Array]


@dataclass(frozen=True)
class Peer:
    """A denoiser with one strength to tune; `variants` are tried in turn and the best is kept.

    `start` is the first strength tried; `one_slice` tunes on one slice a patient, for methods that take long.
    """

    name: str
    variants: Mapping[str, Filter]
    start: float
    one_slice: bool = False


@dataclass(frozen=True)
class Tuned:
    """A peer at the best strength for a patient."""

    filter: Filter
    strength: float
    noise_hu: float
    setting: str

    def __call__(self, image: Array) -> Array:
        """The slice `[y, x]` (HU), denoised; what lies beyond `SHOWN_HU` is cut off."""
        return self.filter(_shown(image), self.strength, self.noise_hu)


@dataclass(frozen=True)
class Fixed:
    """A peer at one strength for all patients, in units of each one's noise."""

    filter: Filter
    strength: float
    setting: str

    def at(self, noise_hu: float) -> Tuned:
        """For a patient with this noise."""
        return Tuned(self.filter, self.strength, noise_hu, self.setting)


def total_variation(image: Array, strength: float, noise_hu: float) -> Array:
    """TV denoising with weight `strength * noise_hu`."""
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(image, strength * noise_hu, eps=TV_TOLERANCE, max_num_iter=TV_ITERATIONS)


def non_local_means(image: Array, strength: float, noise_hu: float) -> Array:
    """Non-local means with cut-off `strength * noise_hu`; patch distances keep the noise's own share."""
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(image, NLM_PATCH, NLM_DISTANCE, strength * noise_hu, fast_mode=True)


def non_local_means_less_noise(image: Array, strength: float, noise_hu: float) -> Array:
    """Non-local means with cut-off `strength * noise_hu`; the noise's share is taken off patch distances."""
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(
        image, NLM_PATCH, NLM_DISTANCE, strength * noise_hu, fast_mode=True, sigma=noise_hu
    )


def bm3d_hu(image: Array, sd_hu: float, threads: int = 0) -> Array:
    """A slice in HU through BM3D (the authors' package, profile 'np') for white noise of that SD.

    In HU as they are: a shift of 1000 HU, as images from 0 to 1 have it, did no better on CT, and 0.14 dB
    worse on a phantom of uniform discs. `threads`: 0 for as many as the package takes.
    """
    import bm3d

    profile = bm3d.BM3DProfile()
    profile.num_threads = threads
    return np.asarray(bm3d.bm3d(image, sd_hu, profile), np.float32)


def block_matching(threads: int) -> Filter:
    """BM3D for white noise of SD `strength * noise_hu`, on `threads` threads."""
    return lambda image, strength, noise_hu: bm3d_hu(image, strength * noise_hu, threads)


def bilateral(spatial_px: float) -> Filter:
    """Bilateral filter of this SD in space, and of `strength * noise_hu` in HU."""

    def run(image: Array, strength: float, noise_hu: float) -> Array:
        from skimage.restoration import denoise_bilateral

        side = 2 * math.ceil(2 * spatial_px) + 1
        shifted = image - image.min()  # it takes no negative values
        found = denoise_bilateral(shifted, side, strength * noise_hu, spatial_px, bins=4000, mode="edge")
        return np.asarray(found + image.min(), np.float32)

    return run


def gaussian(image: Array, strength: float, noise_hu: float) -> Array:
    """Gaussian smoothing of SD `strength` pixels, whatever the noise."""
    return ndimage.gaussian_filter(image, strength)


def all_peers(threads: int) -> tuple[Peer, ...]:
    """Every peer, cheapest first."""
    nlm = {"sigma 0": non_local_means, "sigma noise": non_local_means_less_noise}
    return (
        Peer("Gaussian", {"": gaussian}, 0.7),
        Peer("bilateral", {f"{spatial} px": bilateral(spatial) for spatial in (1.0, 1.8)}, 2.8),
        Peer("TV", {"": total_variation}, 0.5),
        Peer("NLM", nlm, 0.8),
        Peer("BM3D", {"": block_matching(threads)}, 1.3, one_slice=True),
    )


def tune(score: Callable[[float], float], start: float) -> tuple[float, float]:
    """The strength with the greatest score, and that score, which has one peak over the strength's logarithm.

    Climbs the ladder `start * RATIO^k` until the peak lies between two rungs, then tries the vertex of the
    parabola through the best three. Takes at most `MOST_EVALUATIONS` evaluations, four where `start` is
    close.
    """
    tried = {0.0: score(start), 1.0: score(start * RATIO)}
    step = 1.0 if tried[1.0] > tried[0.0] else -1.0
    best = 1.0 if step > 0 else 0.0
    while len(tried) < MOST_EVALUATIONS - 1:
        following = best + step
        tried[following] = score(start * RATIO**following)
        if tried[following] <= tried[best]:
            break
        best = following
    if best - 1 in tried and best + 1 in tried:
        below, peak, above = tried[best - 1], tried[best], tried[best + 1]
        curvature = below - 2 * peak + above
        vertex = best + 0.5 * (below - above) / curvature if curvature < 0 else best
        if abs(vertex - best) > 0.05:  # else it is the rung itself
            tried[vertex] = score(start * RATIO**vertex)
    best = max(tried, key=lambda k: tried[k])
    return start * RATIO**best, tried[best]


def tuned(peer: Peer, images: Sequence[Array], references: Sequence[Array], noise_hu: float) -> Tuned:
    """`peer` at the strength of the greatest mean PSNR over these slices (HU `[y, x]`), or on the middle one.

    `noise_hu` only scales the search.
    """
    pairs = list(zip(images, references, strict=True))
    if peer.one_slice:
        pairs = [pairs[len(pairs) // 2]]
    low, high = zip(*pairs, strict=True)
    return fixed(peer, low, high, [noise_hu] * len(pairs)).at(noise_hu)


def fixed(
    peer: Peer, images: Sequence[Array], references: Sequence[Array], noise_hu: Sequence[float]
) -> Fixed:
    """`peer` at the strength, in units of each slice's noise, of the greatest mean PSNR over all slices."""
    pairs = [(_shown(i), r, n) for i, r, n in zip(images, references, noise_hu, strict=True)]
    found = []
    for label, run in peer.variants.items():

        def score(strength: float, run: Filter = run) -> float:
            return float(np.mean([psnr(run(image, strength, noise), truth) for image, truth, noise in pairs]))

        strength, value = tune(score, peer.start)
        setting = f"{strength:.2f}" + (f", {label}" if label else "")
        found.append((value, Fixed(run, strength, setting)))
    return max(found, key=lambda pair: pair[0])[1]


def _shown(image: Array) -> Array:
    return np.clip(np.asarray(image, np.float32), *SHOWN_HU)
