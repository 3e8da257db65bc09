"""A channelised Hotelling observer: how well a known faint signal can be told from its background.

A model of a reader's task that needs no reader: small images with and without the signal pass a few
channels of the human eye's kind, and the best linear observer of what comes out of them (Hotelling's) is
trained on one part of the images and rates the others. The area under the ROC curve of these ratings is what
low-contrast detectability is commonly given as (Barrett et al. 1993; Vaishnav et al. 2014 for CT).
"""

from __future__ import annotations

import numpy as np

from ctenhance.runtime.errors import InputError

Array = np.ndarray

#: Dense difference-of-Gaussian channels (Abbey and Barrett 2001): the number, the narrowest one's width in
#: cycles a pixel, the ratio of neighbours' widths, and that of a channel's outer and inner width.
CHANNELS, NARROWEST, RATIO, OUTER = 10, 0.005, 1.4, 1.67
FOLDS = 5


def channels(side: int) -> Array:
    """The channels as images of unit norm `[channel, side, side]`, centred, blind to a constant."""
    f = np.fft.fftfreq(side)
    radius = np.hypot(f[:, None], f[None, :])
    images = []
    for number in range(CHANNELS):
        width = NARROWEST * RATIO**number
        band = np.exp(-0.5 * (radius / (OUTER * width)) ** 2) - np.exp(-0.5 * (radius / width) ** 2)
        image = np.fft.fftshift(np.fft.ifft2(band).real)
        norm = np.sqrt(np.sum(image**2))
        # in a small image the narrowest channels hold next to nothing
        if norm > 1e-6:
            images.append(image / norm)
    return np.stack(images)


def ratings(present: Array, absent: Array) -> tuple[Array, Array]:
    """Rate images `[image, side, side]` (HU) with and without the signal: higher is more like the signal.

    Each fifth of the images is rated by an observer trained on the others, so that none rates what it learned
    from. Images of one place should stand at the same index in both, which are then rated together. Raises
    InputError for images that are not square, differ in size, or are fewer than four times the channels.
    """
    for images in (present, absent):
        if images.ndim != 3 or images.shape[1] != images.shape[2] or images.shape[1:] != present.shape[1:]:
            raise InputError("The observer takes square images of one size, with and without the signal.")
    eye = channels(present.shape[-1])
    if min(len(present), len(absent)) < 4 * len(eye):
        raise InputError(
            f"The observer needs at least {4 * len(eye)} images of each kind, and there are "
            f"{len(present)} and {len(absent)}: give it more."
        )
    both = [np.tensordot(images.astype(np.float64), eye, ((1, 2), (1, 2))) for images in (present, absent)]
    most = max(len(values) for values in both)
    fold = np.random.default_rng(0).permutation(most) % FOLDS
    rated = [np.empty(len(values)) for values in both]
    for number in range(FOLDS):
        inside = [fold[: len(values)] == number for values in both]
        template = _template(*(values[~part] for values, part in zip(both, inside, strict=True)))
        for values, part, result in zip(both, inside, rated, strict=True):
            result[part] = values[part] @ template
    return rated[0], rated[1]


def _template(present: Array, absent: Array) -> Array:
    """Hotelling's weights of channel values `[image, channel]`."""
    spread = (np.cov(present.T) + np.cov(absent.T)) / 2
    # a touch on the diagonal, where two channels say the same
    spread = spread + 1e-6 * np.trace(spread) / len(spread) * np.eye(len(spread))
    return np.linalg.solve(spread, present.mean(0) - absent.mean(0))


def area(present: Array, absent: Array) -> float:
    """The area under the ROC curve of ratings of both kinds; ties count one half."""
    order = np.searchsorted(np.sort(absent), present, "left") + np.searchsorted(
        np.sort(absent), present, "right"
    )
    return float(order.mean() / (2 * len(absent)))
