"""Slices in no order are noticed by their images, and no real scan is taken for such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)

from ctenhance import CTVolume
from ctenhance.core.order import doubt_of_made_up_slice, doubt_of_order, doubt_of_repeated_rows

COUNT = 24


def cones() -> np.ndarray:
    """Return a body of air, soft tissue and a bone that change along z, with noise, HU [z, y, x]."""
    z, y, x = np.mgrid[:COUNT, :64, :64].astype(np.float32)
    body = np.where(np.hypot(y - 32, x - 32) < 14 + z / 2, 40.0, -1000.0)
    body[np.hypot(y - 20 - z / 2, x - 32) < 6] = 700
    return (body + np.random.default_rng(1).normal(0, 12, body.shape)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_slices_in_no_order_are_noted_and_others_are_not(tmp_path: Path, seed: int) -> None:
    ordered = cones()
    order = np.random.default_rng(seed).permutation(COUNT)
    for name, array in (("ordered", ordered), ("shuffled", ordered[order])):
        CTVolume(np.ascontiguousarray(array), spacing=(1, 1, 2.5)).write(tmp_path / f"{name}.nrrd")
        notes = CTVolume.read(tmp_path / f"{name}.nrrd").meta.get("notes", [])
        assert any("in no order" in note for note in notes) == (name == "shuffled")


def test_even_phantoms_few_slices_and_wide_steps_are_not_asked() -> None:
    shuffled = cones()[np.random.default_rng(0).permutation(COUNT)]
    assert doubt_of_order(shuffled, 5.0)
    assert not doubt_of_order(shuffled, 20.0) and not doubt_of_order(shuffled[:8], 5.0)
    assert not doubt_of_order(np.random.default_rng(0).normal(0, 50, shuffled.shape), 5.0)


def test_real_scans(shared_data: Path) -> None:
    found = 0
    for path in sorted((shared_data / "ct").glob("*.nii.gz")):
        image = sitk.ReadImage(str(path))
        array, pitch = sitk.GetArrayFromImage(image).astype(np.float32), image.GetSpacing()[2]
        for every in range(1, 4):
            assert not doubt_of_order(array[::every], every * pitch), path.name
        order = np.random.default_rng(2).permutation(len(array))
        found += bool(doubt_of_order(array[order], pitch))
    assert found >= 19


@pytest.mark.parametrize("places", [[9], [4, 15]])
@pytest.mark.parametrize("rounded", [np.rint, np.floor, lambda mean: mean])
def test_a_slice_that_was_made_up_of_its_neighbours(places: list[int], rounded: Callable) -> None:
    array = np.rint(cones())
    assert doubt_of_made_up_slice(array) == ""
    for place in places:
        array[place] = rounded((array[place - 1] + array[place + 1]) / 2)
    named = ", ".join(str(place + 1) for place in places)
    assert f"{named} of {COUNT} (counted as they are stored) " in doubt_of_made_up_slice(array)
    assert "mean of the neighbours" in doubt_of_made_up_slice(array)


def test_a_volume_resampled_along_z_is_not_said_to_be_made_up() -> None:
    array = cones()
    between = (array[1:] + array[:-1]) / 2
    resampled = np.stack([one for pair in zip(array[:-1], between, strict=True) for one in pair])
    assert doubt_of_made_up_slice(resampled) == ""


def test_rows_that_are_those_of_the_slice_before() -> None:
    array = cones()
    assert doubt_of_repeated_rows(array) == ""
    array[7, 40:] = array[6, 40:]
    assert "24 rows of slice 8 (counted as it is stored) are those of the slice before" in (
        doubt_of_repeated_rows(array)
    )
    filled = np.full((4, 64, 64), -1024.0)
    filled[:, 30] = cones()[:4, 30]
    assert doubt_of_repeated_rows(filled) == ""
