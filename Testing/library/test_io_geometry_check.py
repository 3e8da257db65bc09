"""A wrong geometry is recognised and named, and a right one is not accused, however bad its readings are."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ellipse_scan import BODY, COLUMNS, DISC, SDD, SID, VIEWS, scan

import ctenhance
from ctenhance.scan.attenuation_level import attenuation_level, image_warning, level_warning
from ctenhance.scan.geometry_check import check_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.some_rows import read_rows

KINDS = ("fan_flat", "fan_equiangular", "parallel")
FULL, LOW = 2.5e5, 6250.0  # quanta in air: full dose, and 2.5 % of it


def changed(p: Projections, change: Any, **fields: Any) -> Projections:
    """The same scan with other readings."""
    name = "line_integrals" if p.counts is None else "counts"
    return replace(p, **{name: np.ascontiguousarray(change(p.readings)), **fields})


def likely(p: Projections) -> dict[str, Any]:
    fault, told = check_geometry(p)
    assert fault is not None
    assert told["likely_geometry"] == fault.likely
    return fault.likely


def mirrored(p: Projections) -> Projections:
    return changed(p, lambda r: r[:, :, ::-1])


def reversed_turn(p: Projections) -> Projections:
    return replace(p, view_angles=-p.view_angles)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, FULL, LOW])
def test_a_right_geometry_is_not_accused(kind: str, quanta: float | None) -> None:
    fault, told = check_geometry(scan(kind, quanta=quanta))
    assert fault is None
    assert told["opposite_rays_differ"] < (0.02 if quanta == LOW else 0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("quanta", "off"), [(None, 0.25), (LOW, 2.0), (FULL, -45.0)])
def test_the_central_column_is_found(kind: str, quanta: float | None, off: float) -> None:
    p = scan(kind, quanta=quanta, offset=0.25)
    wrong = replace(p, central_column=p.central_column + off)
    found = likely(wrong)
    assert found == {"central_column": pytest.approx(p.central_column, abs=0.1)}
    fault, _ = check_geometry(wrong)
    assert f"from {wrong.central_column:g} to" in fault.sentence
    # with half a turn, where only the first and the last view tell
    assert ("the patient moved" in fault.sentence) == (kind == "parallel")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("quanta", "offset"), [(None, -80.0), (FULL, 62.25), (LOW, -70.0), (FULL, -35.0)])
def test_the_centre_of_a_detector_far_aside_is_found(kind: str, quanta: float | None, offset: float) -> None:
    """Half-fan: few rays are measured twice, and all of them within the body."""
    p = scan(kind, quanta=quanta, offset=offset, arc=2 * math.pi)
    assert check_geometry(p)[0] is None
    centred = replace(p, central_column=(COLUMNS - 1) / 2)
    assert likely(centred) == {"central_column": pytest.approx(p.central_column, abs=0.15)}
    if kind != "parallel":
        backwards = mirrored(centred)
        assert likely(backwards) == {"reversed": "view_angles or columns"}
        said = re.findall(r"'central_column' becomes ([0-9.]*[0-9])", check_geometry(backwards)[0].sentence)
        expected = [p.central_column, COLUMNS - 1 - p.central_column]
        assert sorted(map(float, said)) == pytest.approx(sorted(expected), abs=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_readings_in_no_geometry_name_no_centre_far_aside(kind: str) -> None:
    p = scan(kind, quanta=FULL, offset=-70.0, arc=2 * math.pi)
    shuffled = np.random.default_rng(5).permutation(VIEWS)
    unlike = [
        changed(replace(p, central_column=(COLUMNS - 1) / 2), lambda r: r[shuffled]),
        changed(p, lambda r: r[shuffled]),
        scan(kind, quanta=FULL, offset=-70.0, arc=2 * math.pi, move=lambda part: (40 * part, -60 * part)),
    ]
    for readings in unlike:
        fault, _ = check_geometry(readings)
        assert fault is None or "central_column" not in fault.likely


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
@pytest.mark.parametrize("quanta", [None, LOW])
@pytest.mark.parametrize("wrong", [mirrored, reversed_turn])
def test_a_mirrored_detector_or_a_reversed_rotation(kind: str, quanta: float | None, wrong: Any) -> None:
    p = wrong(scan(kind, quanta=quanta))
    assert likely(p) == {"reversed": "view_angles or columns"}
    fault, told = check_geometry(p)
    assert "reverse order" in fault.sentence and "change their sign" in fault.sentence
    assert told["opposite_rays_differ"] > 5 * told["opposite_rays_differ_if"]
    assert told["geometry_warning"] == fault.sentence


def test_an_offset_detector_tells_which_of_the_two_it_is() -> None:
    p = scan(offset=-12.25)
    by_columns, by_angles = (check_geometry(one(p))[0].sentence for one in (mirrored, reversed_turn))
    other = f"'central_column' becomes {COLUMNS - 1 - p.central_column:.2f}"
    columns, angles = "the columns are put into the reverse order", "'/view_angles' change their sign"
    assert f"once {columns} (or {angles} and {other}" in by_columns
    assert f"once {angles} (or {columns} and {other}" in by_angles


def test_what_is_reversed_and_off_is_told_together() -> None:
    p = reversed_turn(scan(quanta=FULL))
    wrong = replace(p, central_column=p.central_column + 15)
    fault, _ = check_geometry(wrong)
    assert fault.likely["reversed"]
    assert fault.sentence.count(f"'central_column' becomes {p.central_column:.2f}") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_readings_can_tell_is_not_told(kind: str) -> None:
    assert check_geometry(reversed_turn(mirrored(scan(kind))))[0] is None
    if kind == "parallel":
        assert check_geometry(mirrored(scan(kind)))[0] is None
        assert check_geometry(reversed_turn(scan(kind)))[0] is None


@pytest.mark.parametrize("wrong", [mirrored, reversed_turn])
def test_a_centred_disc_tells_nothing_of_the_direction(wrong: Any) -> None:
    assert check_geometry(wrong(scan(ellipses=DISC, quanta=FULL)))[0] is None


@pytest.mark.parametrize("factor", [0.5, 2.0, 2 / 3])
@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
def test_steps_of_the_angles(kind: str, factor: float) -> None:
    p = scan(kind, quanta=LOW, arc=2 * math.pi * max(1, factor))
    wrong = replace(p, view_angles=p.view_angles / factor)
    assert likely(wrong) == {"view_angle_factor": pytest.approx(factor, rel=2e-3)}


def test_half_a_turn_of_parallel_rays_told_as_a_whole_one() -> None:
    p = scan("parallel", quanta=FULL)
    assert likely(replace(p, view_angles=2 * p.view_angles)) == {
        "view_angle_factor": pytest.approx(0.5, rel=5e-3)
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("views", [90, 300, 900])
def test_a_last_view_that_is_told_to_be_the_first_again(kind: str, views: int) -> None:
    """numpy.linspace with its end instead of without."""
    p = scan(kind, views=views, quanta=10 * FULL)
    turn = math.pi if kind == "parallel" else 2 * math.pi
    wrong = replace(p, view_angles=np.linspace(0, turn, views))
    assert likely(wrong) == {"view_angle_factor": pytest.approx((views - 1) / views, abs=0.2 / views)}
    assert "the last view does not repeat the first" in check_geometry(wrong)[0].sentence
    # where it truly does, nothing is said
    for quanta in (FULL, LOW / 10):
        truly = scan(kind, views=views, quanta=quanta, arc=turn * views / (views - 1))
        assert truly.view_angles[-1] == pytest.approx(turn)
        assert check_geometry(truly)[0] is None


def test_the_spacing_of_the_columns() -> None:
    p = scan(quanta=FULL)
    pitch = p.column_pitch_mm
    # given at the isocentre, or in cm, or with the two distances confused
    for wrong in (
        replace(p, column_pitch_mm=pitch * SID / SDD),
        replace(p, column_pitch_mm=pitch / 10),
        replace(p, column_pitch_mm=1.05 * pitch),
    ):
        assert likely(wrong) == {"column_pitch_mm": pytest.approx(pitch, rel=0.01)}
    fault, _ = check_geometry(replace(p, source_to_detector_mm=SID + 5))
    assert f"'source_to_detector_mm' from {SID + 5:.0f} to {SDD:.0f}"[:-1] in fault.sentence
    curved = scan("fan_equiangular", quanta=FULL)
    rad = curved.column_pitch_rad
    assert likely(replace(curved, column_pitch_rad=rad / 2)) == {
        "column_pitch_rad": pytest.approx(rad, rel=0.01)
    }


def test_the_shape_of_the_detector() -> None:
    large = [(*(1.5 * length for length in one[:4]), *one[4:]) for one in BODY]
    p = scan("fan_flat", large, field=540)
    rad = p.column_pitch_mm / SDD
    curved = replace(p, geometry="fan_equiangular", column_pitch_mm=None, column_pitch_rad=rad)
    assert likely(curved) == {"geometry": "fan_flat", "column_pitch_mm": pytest.approx(p.column_pitch_mm)}
    parallel = replace(p, geometry="parallel")
    assert likely(parallel) == {"geometry": "fan"}


def test_exchanged_axes() -> None:
    p = scan(views=COLUMNS, quanta=FULL)
    assert likely(changed(p, lambda r: np.swapaxes(r, 0, 2))) == {"exchanged_axes": ["views", "columns"]}
    half = scan("parallel", views=COLUMNS, quanta=FULL)
    assert likely(changed(half, lambda r: np.swapaxes(r, 0, 2))) == {"exchanged_axes": ["views", "columns"]}
    stack = scan(rows=COLUMNS, views=120)
    assert likely(changed(stack, lambda r: np.swapaxes(r, 1, 2))) == {"exchanged_axes": ["rows", "columns"]}


@pytest.mark.parametrize("kind", KINDS)
def test_views_sorted_by_their_files_names(kind: str) -> None:
    order = sorted(range(VIEWS), key=str)
    p = changed(scan(kind, quanta=FULL), lambda r: r[order])
    assert likely(p) == {"views_come_as": "0, 1, 10, 100 to 109, 11, 110 to 119, …"}
    assert "as files sorted by name do" in check_geometry(p)[0].sentence
    order = sorted(range(1, VIEWS + 1), key=str)
    p = changed(scan(kind, quanta=FULL), lambda r: r[np.array(order) - 1])
    assert likely(p) == {"views_come_as": "0, 9, 99 to 108, 10, 109 to 118, …"}


@pytest.mark.parametrize("kind", KINDS)
def test_views_in_no_order_at_all(kind: str) -> None:
    order = np.random.default_rng(3).permutation(VIEWS)
    assert likely(changed(scan(kind, quanta=FULL), lambda r: r[order])) == {"views_out_of_order": 1.0}


def test_readings_that_fit_no_geometry() -> None:
    def shaken(readings: np.ndarray) -> np.ndarray:
        return np.stack([np.roll(r, int(30 * math.sin(k / 11)), 1) for k, r in enumerate(readings)])

    fault, told = check_geometry(changed(scan(quanta=FULL), shaken))
    assert "no simple change" in fault.sentence and told["likely_geometry"] == {}


def first_lost(readings: np.ndarray) -> np.ndarray:
    changed = readings.copy()
    changed[0] = 0
    return changed


def some_lost(readings: np.ndarray) -> np.ndarray:
    changed = readings.copy()
    changed[[90, 91, 200, 280]] = 0
    return changed


def dead(readings: np.ndarray) -> np.ndarray:
    changed = readings.copy()
    changed[:, :, 70:76] = 0
    changed[:, :, 120] = 0
    return changed


def gains(readings: np.ndarray) -> np.ndarray:
    return readings * np.random.default_rng(1).normal(1, 0.02, readings.shape[2]).astype(np.float32)


def drift(readings: np.ndarray) -> np.ndarray:
    return readings * np.linspace(0.95, 1.05, len(readings), dtype=np.float32)[:, None, None]


def scatter(readings: np.ndarray) -> np.ndarray:
    """Spread over a fifth of the detector, and as much as the primaries where these are fewest."""
    width = readings.shape[2] // 5
    kernel = np.hanning(2 * width + 1)
    source = readings * -np.log(np.clip(readings / FULL, 1e-6, 1))
    spread = np.apply_along_axis(np.convolve, 2, source, kernel / kernel.sum(), "same")
    return readings + spread * np.float32(np.percentile(readings, 3) / np.median(spread))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [first_lost, some_lost, dead, gains, drift, scatter])
def test_bad_readings_of_a_right_geometry(kind: str, bad: Any) -> None:
    p = changed(scan(kind, quanta=FULL), bad)
    assert check_geometry(p)[0] is None
    if kind == "parallel" and bad.__name__ == "first_lost":
        return  # nothing else is compared with the last one
    # they do not hide a wrong one
    off = replace(p, central_column=p.central_column + 9)
    assert likely(off)["central_column"] == pytest.approx(p.central_column, abs=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_beyond_the_detector(kind: str) -> None:
    for field in (250.0, 120.0):
        assert check_geometry(scan(kind, quanta=FULL, field=field))[0] is None
    p = scan(kind, quanta=FULL, field=250.0)
    assert likely(replace(p, central_column=p.central_column - 5)) == {
        "central_column": pytest.approx(p.central_column, abs=0.1)
    }


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
@pytest.mark.parametrize("quanta", [None, LOW])
def test_short_scans_and_missing_views(kind: str, quanta: float | None) -> None:
    short = scan(kind, quanta=quanta, arc=math.pi + 0.75)
    assert check_geometry(short)[0] is None
    assert likely(mirrored(short)) == {"reversed": "view_angles or columns"}
    off = replace(short, central_column=short.central_column + 3)
    assert likely(off) == {"central_column": pytest.approx(short.central_column, abs=0.15)}
    full = scan(kind, quanta=quanta)
    kept = [v for v in range(VIEWS) if not 40 <= v < 46]
    fewer = changed(full, lambda r: r[kept], view_angles=full.view_angles[kept])
    assert check_geometry(fewer)[0] is None


def test_a_detector_far_off_centre() -> None:
    """Half of the body is seen at a time; its middle alone from both sides."""
    p = scan(quanta=FULL, offset=52.0, field=560.0)
    assert check_geometry(p)[0] is None
    assert "reversed" in likely(mirrored(p))


@pytest.mark.parametrize("views", [60, 90])
def test_coarse_scans(views: int) -> None:
    p = scan(views=views, columns=64, quanta=FULL)
    assert check_geometry(p)[0] is None
    assert likely(mirrored(p)) == {"reversed": "view_angles or columns"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [500.0, 60.0])
def test_hardly_any_quanta(kind: str, quanta: float) -> None:
    assert check_geometry(scan(kind, quanta=quanta))[0] is None


def test_air_alone_tells_nothing() -> None:
    air = scan(ellipses=[(0, 0, 50, 50, 0, 1e-9)], quanta=FULL)
    assert check_geometry(air)[0] is None
    silent = replace(air, counts=np.full_like(air.counts, FULL))
    assert check_geometry(silent)[0] is None


@pytest.mark.parametrize("way", [(10.0, 0.0), (0.0, 10.0), (7.0, -7.0), (-7.0, -7.0)])
def test_a_patient_who_moves_all_the_time_of_a_turn(way: tuple[float, float]) -> None:
    p = scan(quanta=FULL, move=lambda part: np.array(way) * part)
    fault, told = check_geometry(p)
    assert fault is None and told["opposite_rays_differ"] > 0.01
    breathing = scan(quanta=FULL, move=lambda part: np.array(way) * math.sin(4 * math.pi * part))
    assert check_geometry(breathing)[0] is None


def test_energy_bins_count_together() -> None:
    p = scan(quanta=FULL)
    share = np.array([0.3, 0.7], np.float32)
    bins = replace(p, counts=p.counts[..., None] * share, air_counts=FULL * share)
    assert check_geometry(bins)[0] is None
    assert likely(mirrored(bins)) == {"reversed": "view_angles or columns"}


def test_another_simulators_sinogram(shared_data: Path) -> None:
    """CatSim's: columns run against the convention's, and the detector is off by a quarter of a column."""
    path = shared_data / "xcist" / "CatSimLogo_2048.prep"
    if not path.is_file():
        pytest.skip("XCIST's sinogram is not here")
    views, columns, distance = 1000, 900, 950.0
    fields: dict[str, Any] = {
        "geometry": "fan_equiangular",
        "view_angles": np.arange(views) * (2 * math.pi / views),
        "central_column": (columns - 1) / 2,
        "line_integrals": np.fromfile(path, "<f4").reshape(views, 1, columns),
        "column_pitch_rad": 1.0 / distance,
        "source_to_isocenter_mm": 540.0,
        "source_to_detector_mm": distance,
        "water_mu_per_mm": 0.02,
    }
    assert "reversed" in likely(Projections(**fields))
    fields["view_angles"] = -fields["view_angles"]
    assert likely(Projections(**fields)) == {"central_column": pytest.approx(449.25, abs=0.05)}
    fields["central_column"] = 449.25
    assert check_geometry(Projections(**fields))[0] is None


def told_level(p: Projections) -> str | None:
    level = attenuation_level(p, read_rows(p, range(p.n_rows)))
    return None if level is None else level_warning(level, p)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, LOW])
def test_a_body_attenuates_like_one(kind: str, quanta: float | None) -> None:
    p = scan(kind, quanta=quanta)
    assert attenuation_level(p, read_rows(p, [0, 1])) == pytest.approx(0, abs=60)
    small = [(*(length / 5 for length in one[:4]), *one[4:]) for one in BODY]
    p = scan(kind, small, quanta=quanta)
    assert attenuation_level(p, read_rows(p, [0])) == pytest.approx(0, abs=100)


def test_lengths_that_are_all_wrong_are_told_by_what_the_body_attenuates() -> None:
    parallel, fan, flat = (
        scan("parallel", quanta=FULL),
        scan("fan_equiangular", quanta=FULL),
        scan(quanta=FULL),
    )
    at_the_detector = replace(parallel, column_pitch_mm=parallel.column_pitch_mm * SDD / SID)
    assert "'column_pitch_mm' (at the isocentre) is 1.8 times too long" in str(told_level(at_the_detector))
    in_cm = replace(parallel, column_pitch_mm=parallel.column_pitch_mm / 10)
    assert "10 times too short" in str(told_level(in_cm))
    confused = replace(fan, source_to_isocenter_mm=SDD - 1, source_to_detector_mm=SDD)
    assert "'source_to_isocenter_mm' is 1.8 times too long" in str(told_level(confused))
    assert "'water_mu_per_mm'" in str(told_level(replace(flat, water_mu_per_mm=0.192)))
    # opposite rays agree in all of these
    for wrong in (at_the_detector, in_cm, confused):
        assert check_geometry(wrong)[0] is None


def test_logarithms_to_the_base_10_and_pixels_in_cm() -> None:
    p = scan("fan_equiangular")
    decimal = replace(p, line_integrals=p.line_integrals / np.float32(math.log(10)))
    assert "to the base 10" in str(told_level(decimal))
    assert image_warning(p) is None
    assert "'image_pixel_mm' 0.2 makes an image of 19.2 mm" in str(
        image_warning(replace(p, image_pixel_mm=0.2))
    )
    assert image_warning(replace(p, image_pixel_mm=40.0))


def test_nothing_is_said_of_a_body_that_is_not_seen_whole() -> None:
    for p in (scan(field=200.0), scan(ellipses=[(0, 0, 50, 50, 0, 1e-9)], quanta=FULL)):
        assert attenuation_level(p, read_rows(p, [0])) is None


def test_both_verbs_tell() -> None:
    p = scan(quanta=FULL)
    wrong = replace(p, central_column=p.central_column + 4)
    energies = np.array([60.0, 80.0])
    bins = replace(
        wrong,
        counts=wrong.counts[..., None] * np.array([0.5, 0.5], np.float32),
        air_counts=np.array([FULL / 2, FULL / 2]),
        energies_keV=energies,
        effective_spectra=np.eye(2),
        water_mu_per_mm=None,
    )
    for report in (
        ctenhance.reconstruct(wrong, method="fbp", device="cpu").report,
        ctenhance.decompose(bins, device="cpu").report,
    ):
        found = report["details"]["data_consistency"]
        assert not found["consistent"]
        assert found["likely_geometry"] == {"central_column": pytest.approx(p.central_column, abs=0.1)}
        assert any("to 89.5" in warning for warning in report["warnings"])
    right = ctenhance.reconstruct(p, method="fbp", device="cpu").report
    assert right["details"]["data_consistency"]["consistent"] and not right["warnings"]
