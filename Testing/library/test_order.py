"""Slices in no order are noticed by their images, and no real scan is taken for such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)

from ctenhance import CTVolume
from ctenhance.core.order import doubt_of_order

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
