"""Pages of text that no header tells, by their content; and images that are no pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from PIL import Image, ImageDraw, ImageFont
from synthetic_dicom import write_series

from ctenhance.core.drawn import doubt_of_marks, is_page
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

LINES = (
    "Exam no: 4711",
    "1  Scout  -  -  -",
    "2  Helical I25.0-S310  8.51  312.55",
    "Total Exam DLP: 312.55",
)


def page(
    side: int = 256, size: int = 12, ground: int = -1024, ink: int = 2047, frame: bool = False
) -> np.ndarray:
    image = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(LINES * 2):
        draw.text((6, 8 + 20 * row), line, fill=255, font=ImageFont.load_default(size))
    if frame:
        draw.rectangle((2, side // 2, side - 4, side - 6), outline=255)
        draw.rectangle((0, 0, side - 1, 6), fill=255)
    return np.rint(np.asarray(image) / 255.0 * (ink - ground) + ground).astype(np.int16)


@pytest.mark.parametrize("side", [128, 256, 512])
@pytest.mark.parametrize("ground, ink", [(-1024, 2047), (-1000, 20), (255, 0), (0, 1)])
@pytest.mark.parametrize("frame", [False, True])
def test_pages_are_told_by_their_content(side: int, ground: int, ink: int, frame: bool) -> None:
    assert is_page(page(side, 12, ground, ink, frame)) and is_page(page(side, 10, ground, ink, frame))


@pytest.mark.parametrize("size", [10, 12])
def test_soft_letters_above_a_ground_of_air_are_a_page(size: int) -> None:
    """As where a picture of 8 bits was put onto -1024 HU."""
    soft = page(512, size, 0, 255)
    assert is_page(np.where(soft == 0, -1024, soft))


@pytest.mark.parametrize("pages", [1, 3])
def test_pages_alone_are_no_ct(tmp_path: Path, pages: int) -> None:
    write_series(tmp_path, 2.5 * np.arange(pages), values=np.stack([page()] * pages))
    with pytest.raises(InputError, match="look like pages of text"):
        CTVolume.read(tmp_path)


def test_a_page_among_slices_is_named(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256] - 128
    body = np.where(np.hypot(x, y) < 90, 40, -1000) + draw.normal(0, 12, (6, 256, 256))
    stack = np.concatenate([body[:5], page()[None]])
    write_series(tmp_path, 2.5 * np.arange(6), values=np.rint(stack).clip(-1024, None))
    with pytest.raises(InputError, match=r"'image0001.dcm' looks like a page of text.*take it out"):
        CTVolume.read(tmp_path)


def test_what_is_drawn_but_no_page() -> None:
    y, x = np.mgrid[:256, :256] - 128
    disc = np.where(np.hypot(x, y) < 90, 0, -1000)
    inserts = disc.copy()
    for index in range(12):
        turn = 2 * np.pi * index / 12
        inserts[np.hypot(x - 60 * np.cos(turn), y - 60 * np.sin(turn)) < 2 + index] = 300
    noise = np.random.default_rng(0).normal(0, 20, disc.shape).astype(int)
    for plane in (disc, inserts, disc + noise, np.where(disc + noise > 40, disc + noise, -1024)):
        assert not is_page(plane)


def test_maps_of_a_body_are_no_pages() -> None:
    y, x = np.mgrid[:96, :96] - 48
    noise = np.random.default_rng(0).normal(0, 25, (96, 96))
    for level in (-20, 20, 60):
        plane = np.rint(np.where(np.hypot(x, y * 1.2) < 40, np.clip(level + noise, 0, 100), 0))
        assert not is_page(plane) and not is_page(plane // 10)


def test_a_map_in_a_ragged_mask_is_no_page() -> None:
    draw = np.random.default_rng(3)
    y, x = np.mgrid[:256, :256] - 128
    brain = draw.normal(35, 20, (256, 256))
    inside = (np.hypot(x / 80, y / 100) < 1) & (brain > 0) & (brain < 70) & (draw.random((256, 256)) < 0.5)
    inside &= (y // 6) % 3 > 0  # with rows between
    plane = np.where(inside, np.clip(brain, 0, 80) + draw.normal(0, 8, (256, 256)), 0)
    assert not is_page(plane.astype(np.float32)) and not is_page(np.rint(plane))


def test_no_slice_of_a_real_scan_is_a_page(shared_data: Path) -> None:
    for path in sorted((shared_data / "ct").glob("*.nii.gz")):
        for plane in sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[::5]:
            bones = np.where(plane > 150, plane, -1024)
            assert not any(is_page(one) for one in (plane, bones, np.clip(plane, -160, 240))), path.name


def written_on(plane: np.ndarray, value: float = 3071.0) -> np.ndarray:
    """A slice [y, x] in HU with three lines of letters."""
    drawn = Image.new("L", plane.shape[::-1], 0)
    ImageDraw.Draw(drawn).text((4, 4), "Hospital X 12.03.24\nSe 3 Im 45\nkV 120", fill=255)
    return np.where(np.asarray(drawn) > 127, value, plane).astype(np.float32)


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_text_in_a_single_slice_is_noted(tmp_path: Path, slices: int) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :160] - 64.0
    plane = np.where(np.hypot((x - 16) / 60, y / 50) < 1, 40.0, -1000.0)
    array = (plane + rng.normal(0, 15, (slices, 128, 160))).astype(np.float32)
    assert not doubt_of_marks(array)
    array[-1] = written_on(array[-1])
    assert f"drawn into slice {slices} of {slices} (the first in row" in doubt_of_marks(array)
    CTVolume(array, (0.8, 0.8, 3.0), (5.0, 6.0, 7.0)).write(tmp_path / "a.nrrd")
    assert any("text or lines seem" in note for note in CTVolume.read(tmp_path / "a.nrrd").meta["notes"])


def test_a_drawn_phantom_and_thin_bright_structures_are_no_text() -> None:
    y, x = np.mgrid[:128, :128]
    phantom = np.where((x // 3 % 2 == 0) & (y > 20), 1000.0, 0.0)[None]
    assert not doubt_of_marks(phantom.astype(np.float32))
    noisy = phantom + np.random.default_rng(0).normal(0, 20, phantom.shape)
    assert not doubt_of_marks(noisy.astype(np.float32))


@pytest.mark.parametrize("columns", [1, 2, 6, 8, 9, 12])
def test_narrow_slices_have_no_text(columns: int) -> None:
    narrow = np.random.default_rng(0).normal(0, 400, (1, 5, columns))
    assert not doubt_of_marks(narrow.astype(np.float32))
