"""Series of which some slices lost their rescaling, and those whose rescaling rightly differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from synthetic_dicom import INTERCEPT, dataset, enhanced, hounsfield, save, write_series

from ctenhance import CTVolume
from ctenhance.runtime.errors import InputError


@pytest.mark.parametrize("lost", [[3], [0], [7], [3, 4, 5, 6, 7], [4, 5, 6, 7]])
@pytest.mark.parametrize("intercept", [None, 0])
@pytest.mark.parametrize("kind", ["HU", None])
def test_a_slice_without_its_intercept_is_refused(
    tmp_path: Path, lost: list[int], intercept: int | None, kind: str | None
) -> None:
    for index, plane in enumerate(hounsfield(8)):
        made = dataset(plane, (0, 0, 2 * index), RescaleType=kind)
        if index in lost:
            del made.RescaleIntercept
            if intercept is not None:
                made.RescaleIntercept = intercept
        save(made, tmp_path / f"{index}.dcm")

    with pytest.raises(InputError, match=r"'\d.dcm' has a rescale intercept of .*; export the series again"):
        CTVolume.read(tmp_path)


def test_the_slice_is_named(tmp_path: Path) -> None:
    for index, plane in enumerate(hounsfield(8)):
        made = dataset(plane, (0, 0, 2 * index))
        made.RescaleIntercept = 0 if index == 5 else INTERCEPT
        save(made, tmp_path / f"{index}.dcm")

    with pytest.raises(InputError, match=r"'5.dcm' has a rescale intercept of 0, .* neighbour has -1024"):
        CTVolume.read(tmp_path)


def test_a_frame_without_its_intercept_is_refused(tmp_path: Path) -> None:
    made = enhanced(hounsfield(6), 2.0 * np.arange(6), np.ones(6))
    frame = made.PerFrameFunctionalGroupsSequence[4]
    frame.PixelValueTransformationSequence[0].RescaleIntercept = 0
    save(made, tmp_path / "e.dcm")

    with pytest.raises(InputError, match=r"frame 5 of 'e.dcm' has a rescale intercept of 0"):
        CTVolume.read(tmp_path)


def test_intercepts_that_rightly_differ_are_kept(tmp_path: Path) -> None:
    values = hounsfield(8)
    for index, plane in enumerate(values):
        signed: dict[str, Any] = {"PixelRepresentation": 1, "RescaleIntercept": 0} if index % 3 else {}
        save(dataset(plane, (0, 0, 2 * index), **signed), tmp_path / f"{index}.dcm")

    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


@pytest.mark.parametrize("changed", [[3], [0], [2, 3, 4]])
@pytest.mark.parametrize("slope", [2.0, 0.5])
def test_a_slice_of_another_slope_than_its_values_is_refused(
    tmp_path: Path, changed: list[int], slope: float
) -> None:
    for index, plane in enumerate(hounsfield(8)):
        image = dataset(plane, (0, 0, 2 * index))
        if index in changed:
            image.RescaleSlope = slope
        save(image, tmp_path / f"{index}.dcm")

    with pytest.raises(InputError, match=rf"'\d.dcm' has a rescale slope of {slope:g}, .* RescaleSlope"):
        CTVolume.read(tmp_path)


def test_slope_and_intercept_lost_together(tmp_path: Path) -> None:
    for index, plane in enumerate(hounsfield(8)):
        image = dataset(plane // 2 * 2, (0, 0, 2 * index), RescaleSlope=2)
        if index == 5:
            del image.RescaleSlope, image.RescaleIntercept
        save(image, tmp_path / f"{index}.dcm")

    with pytest.raises(InputError, match=r"'5.dcm' has a rescale slope and intercept of 1 and 0, or none"):
        CTVolume.read(tmp_path)


def test_a_slope_for_each_slice_is_kept(tmp_path: Path) -> None:
    values = hounsfield(8)
    for index, plane in enumerate(values):
        save(dataset(plane, (0, 0, 2 * index), RescaleSlope=1 + 0.25 * index), tmp_path / f"{index}.dcm")

    np.testing.assert_allclose(CTVolume.read(tmp_path).array, values, atol=1.5)


@pytest.mark.parametrize("wrong", [-1000, -1014, -1050])
def test_an_intercept_that_is_off_by_little_from_one_slice_on(tmp_path: Path, wrong: int) -> None:
    values = hounsfield(8, 32, 32)
    write_series(tmp_path / "right", 2.5 * np.arange(8), values=values)
    for index, path in enumerate(sorted((tmp_path / "right").iterdir())):
        made = pydicom.dcmread(path)
        if index >= 5:
            made.RescaleIntercept = wrong
        (tmp_path / "wrong").mkdir(exist_ok=True)
        made.save_as(tmp_path / "wrong" / path.name)
    assert not CTVolume.read(tmp_path / "right").meta["notes"]
    with pytest.raises(InputError, match="rescale intercept of"):
        CTVolume.read(tmp_path / "wrong")
