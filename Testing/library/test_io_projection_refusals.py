"""Projection files that are wrong: one sentence each that names what is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projection_cases import AIR, BINS, COLUMNS, ROWS, VIEWS, angles, fan, path_lengths, saved, spectral

from ctenhance.core import arrays
from ctenhance.core.arrays import scratch
from ctenhance.files.projections import read_projections
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.progress import Cancelled, CancelToken
from ctenhance.scan.projections import Projections

nan = path_lengths()
nan[7, 2, 3] = np.nan
infinite = path_lengths()
infinite[0, 0, 0] = np.inf
negative = fan().counts.copy()
negative[5] -= 1e3
falling = angles()
falling[20] = 0.1
wrapped = np.mod(angles() + math.pi, 2 * math.pi)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": "other"}, "'format'"),
        ({"format": None}, "'format'"),
        ({"version": 2}, "'version' is '2'"),
        ({"version": None}, "'version' is missing"),
        ({"geometry": None}, "'geometry' is missing"),
        ({"geometry": "helical"}, "'geometry' is 'helical'"),
        ({"geometry": 3.0}, "'geometry' is '3.0'"),
        ({"counts": None}, "neither of them"),
        ({"line_integrals": path_lengths()}, "both"),
        ({"counts": fan().counts[:, 0]}, r"2 axes.*\[view, 1, column\]"),
        ({"counts": fan().counts[None, None]}, "5 axes"),
        ({"counts": "text"}, "real numbers"),
        ({"counts": fan().counts.astype(complex)}, "real numbers"),
        ({"counts": nan * 100}, "'/counts' holds NaN.*view 7, row 2, column 3"),
        ({"counts": infinite * 100}, "'/counts' holds NaN or infinite"),
        ({"counts": negative}, "further below zero"),
        ({"counts": negative, "electronic_noise_variance": 0.0}, "negative readings.*noise_variance"),
        ({"electronic_noise_variance": -1.0}, "electronic_noise_variance' is negative"),
        ({"counts": path_lengths()}, "'/counts' reach only.*line integrals"),
        ({"counts": np.zeros((VIEWS, ROWS, COLUMNS), np.float32)}, "no reading above zero"),
        ({"counts": fan().counts * 10}, "above '/air_counts'"),
        ({"view_angles": None}, "'/view_angles' is missing"),
        ({"view_angles": angles(VIEWS - 1)}, r"'/view_angles' has the shape \(39,\)"),
        ({"view_angles": np.degrees(angles())}, "degrees to rad"),
        ({"view_angles": falling}, "'/view_angles' must grow or fall.*view 20"),
        ({"view_angles": wrapped}, "unwrap"),
        ({"view_angles": angles() / 3}, "'/view_angles' span"),
        ({"view_angles": angles() * np.nan}, "'/view_angles' holds NaN"),
        ({"view_angles": np.r_[angles()[:20] * 0.5, angles()[20:]]}, "gap"),
        ({"air_counts": None}, "'/air_counts' is missing"),
        ({"air_counts": np.full(COLUMNS + 1, AIR)}, r"'/air_counts' has the shape \(25,\)"),
        ({"air_counts": np.zeros(COLUMNS)}, "'/air_counts' must be positive"),
        ({"air_counts": np.full(COLUMNS, np.nan)}, "'/air_counts' holds NaN"),
        ({"central_column": None}, "'central_column' is missing.*11.5"),
        ({"central_column": 4000.0}, "'central_column' 4000"),
        ({"central_column": "middle"}, "'central_column' must be a number"),
        ({"column_pitch_rad": None}, "'column_pitch_rad' is missing"),
        ({"column_pitch_rad": 1.7}, "not in degrees"),
        ({"column_pitch_rad": -0.03}, "'column_pitch_rad' must be positive"),
        ({"column_pitch_mm": 1.2}, "'column_pitch_mm' contradicts"),
        ({"source_to_isocenter_mm": None}, "'source_to_isocenter_mm' is missing"),
        ({"source_to_detector_mm": None}, "'source_to_detector_mm' is missing"),
        ({"source_to_detector_mm": 595.0}, "'source_to_detector_mm'.*must be greater"),
        ({"row_pitch_mm": None}, "'row_pitch_mm' is missing"),
        ({"row_pitch_mm": 0.0}, "'row_pitch_mm' must be positive"),
        ({"water_mu_per_mm": None}, "'water_mu_per_mm' is missing"),
        ({"water_mu_per_mm": np.array([1.0, 2.0])}, "'water_mu_per_mm' must be one"),
        ({"image_size": 0}, "'image_size'"),
        ({"image_pixel_mm": np.nan}, "'image_pixel_mm'"),
        ({"isocenter_mm": np.zeros(2)}, "'isocenter_mm'"),
        ({"direction": np.zeros(4)}, "'direction'"),
        ({"view_z_mm": np.zeros(3)}, "'/view_z_mm' has the shape"),
    ],
    ids=str,
)  # fmt: skip
def test_refusals(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    path = saved(tmp_path / "scan.ctproj.h5", fan(), **changes)
    with pytest.raises(InputError, match=named) as caught:
        read_projections(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"Cannot read '{path}': ") and "\n" not in sentence and sentence.endswith(".")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"effective_spectra": np.ones((BINS, 7))}, "'/effective_spectra' has the shape"),
        ({"effective_spectra": -np.ones((BINS, 101))}, "'/effective_spectra' must not be negative"),
        ({"energies_keV": None}, "'/energies_keV' is missing"),
        ({"energies_keV": np.arange(101.0)[::-1]}, "'/energies_keV' must be"),
        (
            {"energies_keV": np.r_[20.0:80.0, 80.0:121.0] + np.r_[np.zeros(61), np.arange(40.0)]},
            "rise in steps of 1 to 2 keV",
        ),
        ({"thresholds_keV": np.array([20.0, 120.0, 65.0])}, "'/thresholds_keV' must grow"),
        ({"thresholds_keV": np.array([20.0, 65.0])}, "'/thresholds_keV' has the shape"),
        ({"thresholds_keV": np.array([20.0, 65.0, np.inf])}, "'/thresholds_keV' holds NaN or inf"),
        ({"air_counts": np.full(COLUMNS, AIR)}, r"one of \(\), \(2,\), \(24, 2\)"),
    ],
    ids=str,
)
def test_spectral_refusals(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    path = saved(tmp_path / "scan.ctproj.h5", spectral(), **changes)
    with pytest.raises(InputError, match=named):
        read_projections(path)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (1e4 * np.exp(-path_lengths()), "look like counts"),
        (np.exp(-path_lengths()), "look like transmissions"),
        (path_lengths() - 8, "go down to"),
        (np.zeros((VIEWS, ROWS, COLUMNS)), "0 everywhere"),
        (nan, "'/line_integrals' holds NaN"),
    ],
    ids=["counts", "transmissions", "offset", "empty", "nan"],
)
def test_line_integrals_that_are_none(tmp_path: Path, values: np.ndarray, named: str) -> None:
    good = fan(counts=None, air_counts=None, line_integrals=path_lengths())
    path = saved(tmp_path / "scan.ctproj.h5", good, line_integrals=values.astype(np.float32))
    with pytest.raises(InputError, match=named):
        Projections.read(path)
    bad = replace(good, line_integrals=values.astype(np.float32))
    with pytest.raises(InputError, match=named):
        bad.write(tmp_path / "bad.ctproj.h5")
    assert not (tmp_path / "bad.ctproj.h5").exists()


def test_low_doses_are_no_confusion(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for air in (150.0, 1e3, 6250.0):
        expected = air * np.exp(-path_lengths() * 2)
        counts = draw.poisson(expected) + draw.normal(0, math.sqrt(10), expected.shape)
        low = fan(counts=counts.astype(np.float32), air_counts=np.asarray(air))
        low.write(tmp_path / "low.ctproj.h5")
        assert torch.isfinite(Projections.read(tmp_path / "low.ctproj.h5").to_line_integrals()).all()


def test_what_is_no_projection_file(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("nothing")
    (tmp_path / "empty.h5").write_bytes(b"")
    with h5py.File(tmp_path / "bare.h5", "w"):
        pass
    for name, part in {"text.h5": "no HDF5", "empty.h5": "no HDF5", "bare.h5": "'format'"}.items():
        with pytest.raises(InputError, match=part):
            read_projections(tmp_path / name)
    with pytest.raises(InputError, match="no file or folder"):
        read_projections(tmp_path / "missing.h5")
    with pytest.raises(InputError, match="no DICOM-CT-PD"):
        read_projections(tmp_path)
    with pytest.raises(InputError, match="it is a folder"):
        Projections.read(tmp_path)


def test_links_groups_and_unwritten_arrays(tmp_path: Path) -> None:
    path = saved(tmp_path / "scan.ctproj.h5", fan(), counts=None)
    with h5py.File(path, "r+") as stored:
        stored["counts"] = h5py.ExternalLink("elsewhere.h5", "/counts")
    with pytest.raises(InputError, match="'/counts' is a link"):
        read_projections(path)
    with h5py.File(path, "r+") as stored:
        del stored["counts"]
        stored.create_group("counts")
    with pytest.raises(InputError, match="'/counts' is empty or a group"):
        read_projections(path)
    with h5py.File(path, "r+") as stored:
        del stored["counts"]
        stored.create_dataset("counts", (VIEWS, ROWS, COLUMNS), dtype="f4", chunks=True)
    with pytest.raises(InputError, match="never written"):
        read_projections(path)


def test_writing_is_whole_or_not(tmp_path: Path) -> None:
    for name, part in {"scan.nii": "must end in", "none/scan.ctproj.h5": "does not exist"}.items():
        with pytest.raises(InputError, match=part):
            fan().write(tmp_path / name)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        fan().write(tmp_path / "scan.ctproj.h5", cancel=token)
    assert not list(tmp_path.iterdir())
    fan().write(tmp_path / "scan.ctproj.h5")
    with pytest.raises(Cancelled):
        Projections.read(tmp_path / "scan.ctproj.h5", cancel=token)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "scan.ctproj.h5"
    spectral().write(path)
    return path.read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_crashes(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    """Bytes of the structure changed, or the end cut off: read, or refused as InputError."""
    path = tmp_path / "damaged.ctproj.h5"
    damaged = bytearray(whole)
    places = st.integers(0, len(whole) - 1) | st.integers(0, 4095)
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        damaged[at] = value
    cut = data.draw(st.just(len(whole)) | st.integers(0, len(whole)))
    path.write_bytes(bytes(damaged[:cut]))
    try:
        read = read_projections(path)
        read.to_line_integrals(0 if read.n_bins else None)
    except InputError as error:
        assert "\n" not in str(error)
    assert cut == len(whole) or cut > 0.9 * len(whole) or not _reads(path)


def _reads(path: Path) -> bool:
    try:
        read_projections(path)
    except CTEnhanceError:
        return False
    return True


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        ["central_column", "column_pitch_rad", "geometry", "image_size", "row_pitch_mm", "meta"]
    ),
    value=st.one_of(
        st.floats(),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=20).filter(lambda text: "\0" not in text),
        st.binary(max_size=20).map(np.bytes_),
        st.lists(st.floats(), max_size=4).map(np.array),
    ),
)
def test_any_attribute_value(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "scan.ctproj.h5"
    try:
        saved(path, fan(), **{name: value})
    except (UnicodeEncodeError, ValueError):
        return
    try:
        read_projections(path).image_grid()
    except InputError as error:
        assert "\n" not in str(error)


def test_no_room_for_large_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGEST_IN_MEMORY", 1000)
    with pytest.raises(InputError, match=r"in the temporary folder .* which has less"):
        scratch((2**20, 2**20, 4))
