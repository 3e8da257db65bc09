"""Pixels that do not stand where the grid says, and single slices that are off as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from ctenhance.core.blocks import blocks_of
from ctenhance.core.layout import doubt_of_one_off, doubts_of_layout

Turn = Callable[[np.ndarray], np.ndarray]


def body(slices: int = 16, rows: int = 160, columns: int = 192) -> np.ndarray:
    """An ellipse with organs that change along z, air around it, and noise, HU."""
    rng = np.random.default_rng(5)
    z, y, x = np.mgrid[:slices, :rows, :columns].astype(np.float32)
    y, x = (y - rows * 0.52) / (rows * 0.38), (x - columns * 0.49) / (columns * 0.4)
    volume = np.where(x**2 + y**2 < 1, 40.0, -1000.0)
    for _ in range(25):
        at = rng.uniform(-0.6, 0.6, 2)
        size = rng.uniform(0.05, 0.25) * (1 + 0.03 * (z - slices / 2) * rng.choice([-1, 1]))
        volume[(x - at[0]) ** 2 + (y - at[1]) ** 2 < size**2] = rng.choice([-800.0, -100.0, 90.0, 400.0])
    return (volume + rng.normal(0, 12, volume.shape)).clip(-1024).round().astype(np.float32)


def told(array: np.ndarray) -> str:
    blocks = blocks_of(array)
    return "; ".join([*doubts_of_layout(array, blocks), *filter(None, [doubt_of_one_off(blocks)])])


def montage(a: np.ndarray) -> np.ndarray:
    four = a[:, ::2, ::2].reshape(len(a) // 4, 4, a.shape[1] // 2, a.shape[2] // 2)
    return np.block([[four[:, 0], four[:, 1]], [four[:, 2], four[:, 3]]])


def one_slice(change: Turn) -> Turn:
    def changed(a: np.ndarray) -> np.ndarray:
        return np.stack([change(plane) if z == 9 else plane for z, plane in enumerate(a)])

    return changed


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda a: np.stack([np.roll(one.ravel(), 70).reshape(one.shape) for one in a]), "left and right"),
        (lambda a: np.stack([np.roll(one.ravel(), -50).reshape(one.shape) for one in a]), "left and right"),
        (lambda a: np.roll(a, a.shape[2] // 2, 2), "left and right"),
        (lambda a: np.roll(a, 50, 1), "upper and lower"),
        (lambda a: np.concatenate([a[:, 0::2], a[:, 1::2]], 1), "upper and the lower half"),
        (montage, "one image holds several"),
        (lambda a: np.repeat(a[:, :, ::2], 2, 2), "each second one of its columns is a copy"),
        (lambda a: np.repeat(a[:, ::2], 2, 1), "each second one of its rows is a copy"),
        (one_slice(lambda one: one + 40), "slice 10 of 16 .* lies 40 HU above its neighbours"),
        (one_slice(lambda one: one - 25), "slice 10 of 16 .* lies 25 HU below its neighbours"),
        (one_slice(lambda one: ndimage.gaussian_filter(one, 1.5)), "slice 10 of 16 .* times the noise"),
    ],
)
def test_what_does_not_stand_in_its_place_is_told(turn: Turn, words: str) -> None:
    assert re.search(words, told(np.ascontiguousarray(turn(body()))))


@pytest.mark.parametrize(
    "turn",
    [
        lambda a: a,
        lambda a: a[:, :, 30:-30],  # a body that is cut off on both sides
        lambda a: a[:, 40:-20, 25:-45],
        lambda a: np.roll(a, 20, 2),  # it lies beside the middle
        lambda a: np.concatenate([a[:, :, ::2], a[:, :, ::-2]], 2),  # two legs, cut off outside
        lambda a: np.where(np.arange(16)[:, None, None] < 9, a, a - 30),  # from one slice on
        lambda a: a + 30 * np.arange(16)[:, None, None] / 16,
        lambda a: np.full_like(a, 40) + np.random.default_rng(1).normal(0, 5, a.shape),  # within water
    ],
)
def test_images_that_are_right_are_not_accused(turn: Turn) -> None:
    assert told(np.ascontiguousarray(turn(body()), np.float32)) == ""
