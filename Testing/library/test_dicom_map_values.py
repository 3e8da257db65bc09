"""The values of maps: in the unit of their own, and the same after writing and reading again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_dicom import hounsfield, real_world, write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.degradation import degrade
from ctenhance.enhancement import enhance
from ctenhance.files.dicom.maps import read_map
from ctenhance.files.dicom.writing import Derivation
from ctenhance.files.dicom.writing import write_series as write_derived
from ctenhance.quality import compare
from ctenhance.runtime.errors import InputError
from ctenhance.scan.simulate import simulate_projections


def test_a_mapping_to_hu_is_used_where_the_rescaling_leads_elsewhere(tmp_path: Path):
    write_series(
        tmp_path, RescaleType="US", RescaleIntercept=0, values=hounsfield(4) + 1024,
        RealWorldValueMappingSequence=real_world("[hnsf'U]", 1.0, -1024.0),
    )  # fmt: skip
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, hounsfield(4))


def test_a_map_has_the_values_of_its_own_unit(tmp_path: Path):
    """The rescaling of such an image may lead to HU."""
    values = write_series(tmp_path, RealWorldValueMappingSequence=real_world("mg/ml", 0.02, -20.48))
    volume = CTVolume.read(tmp_path, check_hu=False)
    np.testing.assert_allclose(volume.array, values * 0.02, atol=1e-5)
    assert volume.meta["unit"] == "mg/ml"


def test_padding_of_maps_stays(tmp_path: Path):
    values = np.full((4, 12, 16), -2000)
    values[:, 2:8, 3:9] = np.arange(36).reshape(6, 6)
    write_series(
        tmp_path, values=values, RescaleType="MGML", PixelRepresentation=1, RescaleIntercept=0,
        PixelPaddingValue=-2000,
    )  # fmt: skip
    np.testing.assert_array_equal(CTVolume.read(tmp_path, check_hu=False).array, values)


@pytest.mark.parametrize(
    ("quantity", "material", "most", "unit"),
    [
        ("density", "iodine", 17.0, "mg/ml"),
        ("zeff", None, 13.8, "Effective Atomic Number"),
        ("electron-density", None, 1.7, "electron density relative to water"),
    ],
)
def test_our_own_maps_come_back_and_are_not_taken_for_hu(
    tmp_path: Path, quantity: str, material: str | None, most: float, unit: str
):
    values = np.random.default_rng(3).uniform(-0.05 * most, most, (4, 12, 12)).astype(np.float32)
    write_derived(CTVolume(values, (0.7, 0.7, 2)), tmp_path / "map", Derivation(quantity, material=material))
    with pytest.raises(InputError, match="not Hounsfield units"):
        CTVolume.read(tmp_path / "map")
    volume = CTVolume.read(tmp_path / "map", check_hu=False)
    assert np.abs(volume.array - values).max() <= most / 60000
    assert volume.meta["unit"] == unit
    for verb in (enhance, degrade, simulate_projections, lambda one: compare(one, one)):
        with pytest.raises(InputError, match="not a CT in HU"):
            verb(volume)
    with pytest.raises(InputError, match="is a map with the unit"):
        write_derived(volume, tmp_path / "again")
    write_derived(volume, tmp_path / "again", Derivation(quantity, material=material))
    again = CTVolume.read(tmp_path / "again", check_hu=False)
    np.testing.assert_array_equal(again.array, volume.array)


def test_the_command_does_not_turn_a_map_into_a_ct(tmp_path: Path):
    write_series(tmp_path / "map", RescaleType="MGML")
    arguments = ["dicom", str(tmp_path / "map"), str(tmp_path / "out"), "--progress", "none"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and "a map with the unit 'mg/ml', not HU" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("quantity", ["hu", "vnc"])
def test_writing_and_reading_again_changes_nothing_more(tmp_path: Path, quantity: str):
    """HU with halves are rounded once; after that, and with maps from the start, values and slope stay."""
    volume = CTVolume(hounsfield(3, rows=24, columns=24) + np.float32(0.5), (0.7, 0.7, 2))
    for turn in range(4):
        write_derived(volume, tmp_path / str(turn), Derivation(quantity))
        again = CTVolume.read(tmp_path / str(turn))
        if turn:
            np.testing.assert_array_equal(again.array, volume.array)
        volume = again


def test_a_map_keeps_its_slope_over_many_turns(tmp_path: Path):
    values = np.random.default_rng(4).uniform(-1, 49.93, (2, 16, 16)).astype(np.float32)
    made = Derivation("density", material="iodine")
    write_derived(CTVolume(values, (0.7, 0.7, 2)), tmp_path / "0", made)
    first = CTVolume.read(tmp_path / "0", check_hu=False)
    volume = first
    for turn in range(1, 6):
        write_derived(volume, tmp_path / str(turn), made)
        volume = CTVolume.read(tmp_path / str(turn), check_hu=False)
    np.testing.assert_array_equal(volume.array, first.array)


def test_every_stored_number_comes_back_from_any_slope():
    stored = np.arange(-32766, 32767, dtype=np.int16)
    for slope in np.random.default_rng(5).uniform(1e-5, 3, 50):
        rounded = float(f"{slope:.9g}")
        values = (stored * np.float64(rounded)).astype(np.float32)
        np.testing.assert_array_equal(np.rint(values / rounded), stored)


@pytest.mark.parametrize(("by_mapping", "said"), [(0.1, ""), (1.0, "makes them 0.1 times as high")])
def test_a_map_whose_header_leads_to_two_concentrations_is_noted(
    tmp_path: Path, by_mapping: float, said: str
):
    write_series(
        tmp_path, values=np.full((4, 12, 16), 3, np.int16), RescaleSlope=0.1, RescaleIntercept=0,
        RescaleType="MGML", RealWorldValueMappingSequence=real_world("mg/mL", by_mapping, 0.0),
    )  # fmt: skip
    notes = [one for one in read_map(tmp_path).meta.get("notes", []) if "in two ways" in one]
    assert bool(notes) == bool(said) and (not said or said in notes[0])
