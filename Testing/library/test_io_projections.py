"""The projection file: what is written comes back, and whatever is wrong gets one sentence naming it."""

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

from ctenhance.io import arrays
from ctenhance.io.arrays import scratch
from ctenhance.io.projections import Projections, read_projections
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.progress import Cancelled, CancelToken

VIEWS, ROWS, COLUMNS, BINS = 40, 3, 24, 2
AIR = 2e4


def angles(views: int = VIEWS) -> np.ndarray:
    return np.arange(views) * (2 * math.pi / views)


def path_lengths(bins: int | None = None, seed: int = 0) -> np.ndarray:
    """Line integrals of something round, float32 [view, row, column] (, bin)."""
    t = np.linspace(-1.2, 1.2, COLUMNS)
    chord = 4 * np.sqrt(np.clip(1 - t**2, 0, None))
    draw = np.random.default_rng(seed)
    p = chord * draw.uniform(0.9, 1.1, (VIEWS, ROWS, 1))
    return (p if bins is None else p[..., None] * np.linspace(1.2, 0.8, bins)).astype(np.float32)


def fan(**changes: Any) -> Projections:
    """Counts of a fan beam; `changes` replace fields."""
    draw = np.random.default_rng(1)
    fields: dict[str, Any] = {
        "geometry": "fan_equiangular",
        "view_angles": angles(),
        "central_column": 11.75,
        "counts": draw.poisson(AIR * np.exp(-path_lengths())).astype(np.float32),
        "air_counts": np.asarray(AIR),
        "column_pitch_rad": 0.03,
        "source_to_isocenter_mm": 595.0,
        "source_to_detector_mm": 1085.6,
        "row_pitch_mm": 1.5,
        "electronic_noise_variance": 10.0,
        "water_mu_per_mm": 0.0192,
        "image_pixel_mm": 0.8,
        "image_size": 256,
    }
    return Projections(**{**fields, **changes})


def spectral(**changes: Any) -> Projections:
    """Counts in energy bins, with all that the decomposition needs."""
    energies = np.arange(20, 121, dtype=np.float64)
    spectra = np.stack([np.exp(-(((energies - e) / 15) ** 2)) for e in (45, 80)])
    fields = {
        "counts": (AIR * np.exp(-path_lengths(BINS))).astype(np.float32),
        "air_counts": np.full((COLUMNS, BINS), AIR),
        "energies_keV": energies,
        "effective_spectra": spectra,
        "thresholds_keV": np.array([20.0, 65.0, 120.0]),
    }
    return fan(**{**fields, **changes})


def saved(path: Path, projections: Projections, **changes: Any) -> Path:
    """Write the file, then set (or with None delete) attributes and '/datasets' in it."""
    projections.write(path)
    with h5py.File(path, "r+") as stored:
        for name, value in changes.items():
            if name in stored:
                del stored[name]
                if value is not None:
                    stored[name] = value
            elif value is None:
                stored.attrs.pop(name)
            elif name in ("counts", "line_integrals", "view_z_mm", "energies_keV"):
                stored[name] = value
            else:
                stored.attrs[name] = value
    return path


@pytest.mark.parametrize("made", [fan, spectral])
def test_round_trip(tmp_path: Path, made: Any) -> None:
    original = made(isocenter_mm=(1.0, -2.0, 30.0), meta={"kvp": 120.0, "notes": ["A note."]})
    original.write(tmp_path / "scan.ctproj.h5")
    read = Projections.read(tmp_path / "scan.ctproj.h5")
    for name in Projections.__dataclass_fields__:
        before, after = getattr(original, name), getattr(read, name)
        if isinstance(before, np.ndarray):
            assert np.array_equal(before, np.asarray(after)), name
        else:
            assert before == after, name
    assert read.identity() == original.identity()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["scan.ctproj.h5"]


def test_names_in_the_file_are_those_of_the_format(tmp_path: Path) -> None:
    spectral().write(tmp_path / "scan.ctproj.h5")
    with h5py.File(tmp_path / "scan.ctproj.h5") as stored:
        assert set(stored) == {
            "counts", "air_counts", "view_angles", "effective_spectra", "energies_keV", "thresholds_keV",
        }  # fmt: skip
        assert stored["counts"].dtype == np.float32 and stored["counts"].shape == (VIEWS, ROWS, COLUMNS, BINS)
        assert stored.attrs["format"] == "ctproj" and stored.attrs["version"] == 1
        assert stored.attrs["geometry"] == "fan_equiangular"
        for name, value in {
            "source_to_isocenter_mm": 595.0, "source_to_detector_mm": 1085.6, "column_pitch_rad": 0.03,
            "central_column": 11.75, "row_pitch_mm": 1.5, "electronic_noise_variance": 10.0,
            "water_mu_per_mm": 0.0192, "image_pixel_mm": 0.8, "image_size": 256,
        }.items():  # fmt: skip
            assert stored.attrs[name] == value, name
        assert "column_pitch_mm" not in stored.attrs and "line_integrals" not in stored


def test_files_of_other_programs_are_read(tmp_path: Path) -> None:
    # Compressed float64, 0-dimensional and 1-element arrays, bytes for text: all legal HDF5 of other writers.
    path = tmp_path / "other.h5"
    p = path_lengths()
    with h5py.File(path, "w") as stored:
        stored.create_dataset("line_integrals", data=p.astype(np.float64), compression="gzip", chunks=True)
        stored["view_angles"] = -angles().astype(np.float32)
        for name, value in {
            "format": np.bytes_("ctproj"), "version": np.array([1]), "geometry": np.bytes_("parallel"),
            "column_pitch_mm": np.array([2.0], dtype=np.float32), "central_column": np.int64(12),
            "row_pitch_mm": 2, "water_mu_per_mm": 0.0192, "anything_else": "ignored",
        }.items():  # fmt: skip
            stored.attrs[name] = value
    read = read_projections(path)
    assert read.geometry == "parallel" and read.central_column == 12.0
    assert torch.allclose(read.to_line_integrals(), torch.from_numpy(p).transpose(0, 1))
    part = read.rows(1, 3)
    assert part.shape == (VIEWS, 2, COLUMNS) and np.array_equal(part.readings, p[:, 1:3])
    assert part.isocenter_mm == (0.0, 0.0, 2.0)


def test_rows_read_only_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = fan()
    original.write(tmp_path / "scan.ctproj.h5")
    monkeypatch.setattr(arrays, "BLOCK_VALUES", 500)  # several blocks in checks, identity and writing
    read = Projections.read(tmp_path / "scan.ctproj.h5")
    assert isinstance(read.counts, np.memmap)
    part = read.rows(2, 3)
    assert type(part.counts) is np.ndarray and np.array_equal(part.counts, original.counts[:, 2:3])
    read.write(tmp_path / "again.h5")
    assert Projections.read(tmp_path / "again.h5").identity() == read.identity() == original.identity()
    with pytest.raises(InputError, match="rows 0 to 2"):
        read.rows(2, 4)


def test_dead_columns_are_filled_in_and_told() -> None:
    sound = fan(electronic_noise_variance=0.0, air_counts=np.linspace(1e4, 2e4, COLUMNS))
    counts = sound.counts.copy()
    counts[:, 1, [9, 10]] = 0
    counts[:, 2, [0, 14]] = 0
    broken = replace(sound, counts=counts)
    assert np.argwhere(broken.dead_columns).tolist() == [[1, 9], [1, 10], [2, 0], [2, 14]]
    filled = broken.rows(0, ROWS).to_line_integrals()
    truth = sound.to_line_integrals()
    assert float((filled[1, :, 9:11] - truth[1, :, 9:11]).abs().max()) < 0.3
    assert float((filled[2, :, 0] - truth[2, :, 1]).abs().max()) < 1e-5
    assert torch.equal(filled[0], truth[0])
    assert [n for n in broken.notes if "4 of the detector's 72 elements" in n and "column 9" in n]
    assert not sound.notes


def test_columns_without_counts_that_are_not_broken_stay() -> None:
    sound = fan(electronic_noise_variance=0.0)
    counts = sound.counts.copy()
    counts[:, 0, 10:14] = 0  # four side by side: something stands in their way
    counts[5, 1, 10] = 0  # counts in other views
    shadowed = replace(sound, counts=counts)
    assert not shadowed.dead_columns.any()
    assert np.array_equal(shadowed.rows(0, ROWS).counts, counts)


def test_a_dead_counter_of_one_energy_bin_is_filled_in() -> None:
    sound = spectral()
    counts = sound.counts.copy()
    counts[:, 1, 7, 1] = 0
    filled = replace(sound, counts=counts).rows(0, ROWS).counts
    assert np.array_equal(filled[..., 0], sound.counts[..., 0])
    assert np.allclose(filled[:, 1, 7, 1], sound.counts[:, 1, [6, 8], 1].mean(1), rtol=1e-5)


def test_large_arrays_stay_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGEST_IN_MEMORY", 1000)
    assert type(scratch((5, 5))) is np.ndarray
    large = scratch((10, 20, 30))
    assert isinstance(large, np.memmap) and not large.any()
    large[3] = 1
    assert large.sum() == 600


def test_line_integrals_of_counts() -> None:
    p = fan(counts=None, line_integrals=path_lengths())
    counts = fan(counts=(AIR * np.exp(-path_lengths())).astype(np.float32))
    assert torch.allclose(counts.to_line_integrals(), p.to_line_integrals(), atol=1e-5)
    assert torch.allclose(p.transmission(), counts.transmission(), atol=1e-6)
    assert counts.transmission().shape == (ROWS, VIEWS, COLUMNS)
    # air by column
    air = np.linspace(1e4, 3e4, COLUMNS)
    bowtie = fan(counts=(air * np.exp(-path_lengths())).astype(np.float32), air_counts=air)
    assert torch.allclose(bowtie.to_line_integrals(), p.to_line_integrals(), atol=1e-5)


def test_negative_readings_are_legitimate_where_noise_is_declared() -> None:
    counts = fan().counts.copy()
    counts[3, 1, 5] = -7.5
    noisy = fan(counts=counts)
    noisy.check_values()
    assert noisy.transmission()[1, 3, 5] == pytest.approx(-7.5 / AIR)
    p = noisy.to_line_integrals()
    assert torch.isfinite(p).all() and p[1, 3, 5] == pytest.approx(math.log(AIR / 0.5), rel=1e-5)
    # readings normalised to air have no quanta to floor them with
    normal = fan(counts=np.exp(-path_lengths()), air_counts=np.asarray(1.0))
    normal.check_values()
    assert torch.allclose(
        normal.to_line_integrals(), torch.from_numpy(path_lengths()).transpose(0, 1), atol=1e-5
    )


def test_energy_bins() -> None:
    s = spectral(air_counts=np.array([AIR, 2 * AIR]))
    one = s.to_line_integrals(1)
    assert torch.allclose(
        one - math.log(2), torch.from_numpy(path_lengths(BINS)[..., 1]).transpose(0, 1), atol=1e-5
    )
    together = s.to_line_integrals()
    expected = -np.log((np.exp(-path_lengths(BINS)).sum(-1)) / 3)
    assert torch.allclose(together, torch.from_numpy(expected).transpose(0, 1), atol=1e-5)
    with pytest.raises(InputError, match="no energy bin 2"):
        s.to_line_integrals(2)
    assert spectral().air(0).shape == (COLUMNS,) and float(spectral(air_counts=np.asarray(5e4)).air()) == 1e5
    logs = spectral(counts=None, line_integrals=path_lengths(BINS), air_counts=None)
    with pytest.raises(InputError, match="choose one bin"):
        logs.to_line_integrals()


def test_geometry_and_place() -> None:
    scan = fan(image_size=(20, 30), isocenter_mm=(5.0, 6.0, 7.0), row_pitch_mm=1.5)
    g = scan.scan_geometry()
    assert (g.rows, g.columns, g.pixel_mm, g.n_views) == (20, 30, 0.8, VIEWS)
    assert g.column_pitch == 0.03 and g.central_column == 11.75
    assert scan.scan_geometry(rows=8, columns=8).rows == 8
    volume = scan.volume(np.zeros((ROWS, 20, 30), dtype=np.float32), 0.8)
    assert volume.spacing == (0.8, 0.8, 1.5)
    # the isocentre lies in the middle of the image of row 0
    assert volume.origin == pytest.approx((5 - 14.5 * 0.8, 6 - 9.5 * 0.8, 7.0))
    fitted = fan(image_pixel_mm=None, image_size=None)
    assert fitted.scan_geometry().pixel_mm * 512 == pytest.approx(fitted.field_of_view_mm)
    parallel = fan(
        geometry="parallel", column_pitch_rad=None, column_pitch_mm=2.0, source_to_isocenter_mm=None
    ).scan_geometry()
    assert parallel.angles()[1] == pytest.approx(angles()[1]) and parallel.column_pitch_mm == 2.0
    with pytest.raises(InputError, match="rebin"):
        fan(view_z_mm=np.linspace(0, 9, VIEWS)).scan_geometry()


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
        read_projections(path).scan_geometry()
    except InputError as error:
        assert "\n" not in str(error)


def test_no_room_for_large_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGEST_IN_MEMORY", 1000)
    with pytest.raises(InputError, match=r"in the temporary folder .* which has less"):
        scratch((2**20, 2**20, 4))
