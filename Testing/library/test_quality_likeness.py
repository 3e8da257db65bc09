"""Two volumes that are no before and after of one scan are told apart from those that are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.likeness import how_displaced, in_common, small_picture
from ctenhance.core.volume import CTVolume
from ctenhance.quality import doubts_of_pair, page


def body(seed: int = 0, wide: float = 26.0, noise: float = 12.0, lung: float = 0.0) -> np.ndarray:
    """HU [z, y, x] of an ellipse with a lung, a spine and a vessel, that no turn makes itself."""
    y, x = np.mgrid[:72, :72] - 35.5
    plane = np.where(np.hypot(x / wide, y / (46 - wide)) < 1, 40.0, -1000.0)
    plane[np.hypot((x + 10 + lung) / 8, (y + 3) / 11) < 1] = -820
    plane[np.hypot(x - 9, y - 6) < 4] = 500
    rising = np.stack([plane, plane, np.where(np.hypot(x - 12, y + 8) < 5, -300, plane), plane])
    return rising + np.random.default_rng(seed).normal(0, noise, rising.shape)


def volume(array: np.ndarray) -> CTVolume:
    return CTVolume(array.astype(np.float32), (0.8, 0.8, 2.0))


BEFORE = body(noise=40.0)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (body(1), ""),
        (body(1, noise=90), ""),
        (np.where(body(1) > 300, 900, body(1)), ""),  # contrast agent
        (body(1, wide=18.0, lung=-18.0), "hardly look like one body"),
        (np.flip(body(1), 2), "turned left to right"),
        (np.roll(body(1), 3, 2), "2.4 mm aside (+0 rows, +3 columns)"),
        (np.roll(body(1), -2, 1), "1.6 mm aside (-2 rows, +0 columns)"),
        (np.flip(body(1), (1, 2)), "turned left to right and front to back"),
    ],
)  # fmt: skip
def test_pairs_that_do_not_lie_on_each_other_are_told(after: np.ndarray, said: str) -> None:
    found = doubts_of_pair(volume(BEFORE), volume(after))
    assert not found if not said else said in found[0]


@pytest.mark.parametrize("by", [-2, -1, 0, 1])
@pytest.mark.parametrize("noise", [12.0, 60.0])
def test_a_slice_aside_is_told(by: int, noise: float) -> None:
    """A body that widens along its length, in slices of 2 mm."""
    widths = np.linspace(20, 28, 12)
    before = volume(np.stack([body(k, wide=wide)[0] for k, wide in enumerate(widths)]))
    after = np.stack([body(k + 50, wide=wide, noise=noise)[0] for k, wide in enumerate(widths)])
    said = doubts_of_pair(before, volume(np.roll(after, by, 0)))
    turned = doubts_of_pair(before, volume(np.flip(after, 0)))
    assert "turned head to foot" in turned[0]
    assert not said if by == 0 else f"{2 * abs(by)} mm aside ({by:+d} slice" in said[0]


def test_a_nearly_symmetric_body_that_is_turned_is_told() -> None:
    plane = body(noise=0)
    plane[:, :, :36] = np.flip(plane, 2)[:, :, :36]
    plane[:, 20:24, 50:53] = 300  # what alone tells left from right
    one, other = (plane + np.random.default_rng(seed).normal(0, 20, plane.shape) for seed in (0, 1))
    assert not doubts_of_pair(volume(one), volume(other))
    assert "turned left to right" in doubts_of_pair(volume(one), volume(np.flip(other, 2)))[0]


def cut(array: np.ndarray, x: int, y: int, z: int) -> CTVolume:
    """A part of slices that widen, said to begin at this voxel of the whole."""
    spacing = (0.8, 0.8, 2.0)
    return CTVolume(array.astype(np.float32), spacing, tuple(np.multiply((x, y, z), spacing)))


def test_parts_on_their_own_grid() -> None:
    whole = np.stack([body(k, wide=wide)[0] for k, wide in enumerate(np.linspace(18, 30, 16))])
    part, mirrored = whole[2:, 4:, 9:], whole[2:, 4:, ::-1][..., 9:]
    thick = CTVolume((part[0::2] + part[1::2]).astype(np.float32) / 2, (0.8, 0.8, 4.0), (7.2, 3.2, 5.0))
    for volume, said in (
        (cut(part, 9, 4, 2), ""),
        (thick, ""),
        (cut(whole[:, :60], 0, 0, 0), ""),
        (cut(part, 9, 4, 6), "one is 8 mm aside (+4 slices)"),
        (cut(part, 5, 4, 2), "one is 3.2 mm aside (+0 rows, -4 columns)"),
        (cut(mirrored, 9, 4, 2), "are alike once one is turned left to right"),
        (cut(whole[::-1, 4:, 9:], 9, 4, 0), "are alike once one is turned head to foot"),
        (cut(part, 200, 4, 2), ""),  # nothing in common
    ):
        one, other, step = in_common(cut(whole, 0, 0, 0), volume)
        found = how_displaced(one, other, volume.spacing, step) if other.size else ""
        assert said in found if said else not found


def test_the_reference_is_looked_at_too() -> None:
    after = volume(body(1))
    assert not doubts_of_pair(volume(BEFORE), after, volume(body(2, noise=0)))
    assert not doubts_of_pair(volume(BEFORE), after, volume(BEFORE)), "as of a clean scan that was degraded"
    (said,) = doubts_of_pair(volume(BEFORE), after, volume(np.flip(body(2), 2)))
    assert said.startswith("The reference and BEFORE are alike once one is turned left to right")


def test_tissue_alone_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    one, other = (volume(rng.normal(50, 20, (4, 64, 64))) for _ in range(2))
    assert not doubts_of_pair(one, other)


def test_a_turn_with_too_little_in_it_to_say_is_no_likeness() -> None:
    """At the least contrast that tells, a picture has enough, and the same one turned may not."""
    rng = np.random.default_rng(3)
    tissue = np.repeat(np.repeat(rng.normal(0, 90, (1, 16, 16)), 8, 1), 8, 2)
    spreads = [small_picture(one).std() for one in (tissue, np.flip(tissue, 2))]
    if spreads[0] < spreads[1]:
        tissue, spreads = np.flip(tissue, 2), spreads[::-1]
    least = tissue * 80.0 / np.sqrt(spreads[0] * spreads[1])
    assert small_picture(least).std() > 80 > small_picture(np.flip(least, 2)).std()
    after = least + rng.normal(0, 40, least.shape)
    assert small_picture(after).std() > 80
    assert how_displaced(least, after, (0.8, 0.8, 2.0)) == ""


def test_the_page_says_so(tmp_path: Path) -> None:
    for name, array in (("b", body(2)), ("c", np.flip(body(2), 2).copy())):
        page(volume(BEFORE), volume(array), tmp_path / f"{name}.html")
    said = [(tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in "bc"]
    assert ["turned left to right" in text for text in said] == [False, True]
    assert "@DOUBTS@" not in said[0]


def test_the_command_warns(tmp_path: Path) -> None:
    for name, array in (("a", BEFORE), ("b", body(2)), ("c", np.flip(body(2), 2).copy())):
        volume(array).write(tmp_path / f"{name}.nrrd")
    for after, warned in (("b", False), ("c", True)):
        done = CliRunner().invoke(
            app, ["compare", str(tmp_path / "a.nrrd"), str(tmp_path / f"{after}.nrrd"), "--progress", "none"]
        )
        assert done.exit_code == 0, done.output
        assert ("turned left to right" in " ".join(done.stderr.split())) == warned
