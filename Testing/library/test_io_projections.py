"""The projection file: what is written comes back, as the format names it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from projection_cases import AIR, BINS, COLUMNS, ROWS, VIEWS, angles, fan, path_lengths, spectral

from ctenhance.core import arrays
from ctenhance.core.arrays import scratch
from ctenhance.files.projections import read_projections
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.scan import projections
from ctenhance.scan.dead_columns import dead_columns
from ctenhance.scan.projections import Projections


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
    assert np.argwhere(broken.dead_columns()).tolist() == [[1, 9], [1, 10], [2, 0], [2, 14]]
    filled = broken.rows(0, ROWS).to_line_integrals()
    truth = sound.to_line_integrals()
    assert float((filled[1, :, 9:11] - truth[1, :, 9:11]).abs().max()) < 0.3
    assert float((filled[2, :, 0] - truth[2, :, 1]).abs().max()) < 1e-5
    assert torch.equal(filled[0], truth[0])
    assert [n for n in broken.notes() if "4 of the detector's 72 elements" in n and "column 9" in n]
    assert not sound.notes()


@pytest.mark.parametrize("lost", (1, 2, 6))
def test_views_that_are_missing_side_by_side_are_told(lost: int) -> None:
    left = np.r_[0:20, 20 + lost : 240]
    lines = np.repeat(path_lengths()[:1], len(left), axis=0)
    scan = fan(counts=None, air_counts=None, line_integrals=lines, view_angles=angles(240)[left])
    told = [note for note in scan.notes() if "gap" in note]
    assert told == [note for note in told if f"{1.5 * (lost + 1):.3g} degrees" in note]
    assert len(told) == (lost > 1)


def test_some_views_of_a_scan_with_a_gap_can_be_looked_at() -> None:
    # 14 of 480 views are missing; every 20th view alone leaves a gap of 25 degrees.
    left = np.r_[0:200, 214:480]
    lines = np.repeat(path_lengths()[:1], len(left), axis=0)
    scan = fan(counts=None, air_counts=None, line_integrals=lines, view_angles=angles(480)[left])
    few = replace(scan, line_integrals=lines[::20], view_angles=scan.view_angles[::20])
    assert few.n_views == 24
    with pytest.raises(InputError, match=r"gap of 3[01] degrees"):
        replace(scan, line_integrals=lines[:-40], view_angles=np.delete(scan.view_angles, slice(100, 140)))


def test_columns_without_counts_that_are_not_broken_stay() -> None:
    sound = fan(electronic_noise_variance=0.0)
    counts = sound.counts.copy()
    counts[:, 0, 10:14] = 0  # four side by side: something stands in their way
    counts[5, 1, 10] = 0  # counts in other views
    shadowed = replace(sound, counts=counts)
    assert not shadowed.dead_columns().any()
    assert np.array_equal(shadowed.rows(0, ROWS).counts, counts)


def test_a_slice_is_looked_at_without_reading_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def spy(counts: np.ndarray, *rest: Any) -> np.ndarray:
        looked_at.append(counts.shape)
        return dead_columns(counts, *rest)

    monkeypatch.setattr(projections, "dead_columns", spy)
    fan().rows(1, 2)
    assert looked_at == [(VIEWS, 1, COLUMNS)]


@pytest.mark.parametrize("work", ["dead_columns", "notes", "identity", "check_values"])
def test_work_on_all_readings_tells_its_progress_and_heeds_cancelling(work: str) -> None:
    events: list[tuple[str, int, int]] = []
    getattr(fan(), work)(lambda *event: events.append(event))
    assert events[0] == ("check", 0, VIEWS) and events[-1] == ("check", VIEWS, VIEWS)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        getattr(fan(), work)(None, token)


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
    g, grid = scan.scan_geometry(), scan.image_grid()
    assert (grid.rows, grid.columns, grid.pixel_mm, g.n_views) == (20, 30, 0.8, VIEWS)
    assert g.column_pitch == 0.03 and g.central_column == 11.75
    assert scan.image_grid(16).rows == 16
    volume = scan.volume(np.zeros((ROWS, 20, 30), dtype=np.float32), grid)
    assert volume.spacing == (0.8, 0.8, 1.5)
    # the isocentre lies in the middle of the image of row 0
    assert volume.origin == pytest.approx((5 - 14.5 * 0.8, 6 - 9.5 * 0.8, 7.0))
    fitted = fan(image_pixel_mm=None, image_size=None)
    assert fitted.image_grid().pixel_mm * 512 == pytest.approx(fitted.field_of_view_mm)
    parallel = fan(
        geometry="parallel", column_pitch_rad=None, column_pitch_mm=2.0, source_to_isocenter_mm=None
    ).scan_geometry()
    assert parallel.angles()[1] == pytest.approx(angles()[1]) and parallel.column_pitch_mm == 2.0
    with pytest.raises(InputError, match="rebin"):
        fan(view_z_mm=np.linspace(0, 9, VIEWS)).scan_geometry()
