"""Calibration by rods of known contents, checked on a second scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spectral_images import PIXEL_MM, RADIUS, RODS, SIZE, rod, scan
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.calibration.inserts import Rod, calibrate_inserts, read_rods
from ctenhance.decomposition.calibration.inserts_check import concentrations
from ctenhance.decomposition.from_images.attenuation import read_table
from ctenhance.runtime.errors import InputError

#: As beam hardening and a scanner's own effective energies do, iodine is not what the tables say.
HARDENED = {40: 0.9, 70: 0.95}
ROD_MM = RADIUS * PIXEL_MM
AMOUNTS = {"iodine 2": 2.0, "iodine 10": 10.0, "iodine 20": 20.0}
ORIGIN = (-50.0, 20.0, 0.0)


def hardened(seed: int) -> dict[str, CTVolume]:
    made = {}
    for kev, volume in scan([40, 70], [12, 6], slices=3, seed=seed).items():
        array = np.where(volume.array > -500, HARDENED[int(kev)] * volume.array, volume.array)
        made[f"{kev:g}"] = CTVolume(array, volume.spacing, ORIGIN)
    return made


def places() -> dict[str, tuple[float, float]]:
    middle = (SIZE - 1) / 2
    return {
        name: (ORIGIN[0] + (middle + x) * PIXEL_MM, ORIGIN[1] + (middle + y) * PIXEL_MM)
        for name, (x, y) in RODS.items()
    }


def rods(with_places: bool) -> list[Rod]:
    found = []
    for name, amount in AMOUNTS.items():
        at = (*places()[name], ROD_MM) if with_places else ()
        found.append(Rod("iodine", amount, *at))
    return [*found, Rod("water", 0, *places()["plain"], ROD_MM)] if with_places else found


@pytest.mark.parametrize("with_places", [True, False])
def test_a_second_scan_is_right_with_what_the_first_one_told(with_places: bool) -> None:
    found = calibrate_inserts(hardened(1), rods(with_places))
    for kev, factor in HARDENED.items():
        ratio = found.table[str(kev)]["iodine"] / found.nominal[str(kev)]["iodine"]
        assert ratio == pytest.approx(factor, abs=0.01)
        assert found.table[str(kev)]["water"] == found.nominal[str(kev)]["water"]
    for one in concentrations(hardened(2), found):
        assert one["found"] == pytest.approx(one["mg_per_ml"], abs=0.15)
        assert one["mg_per_ml"] < 5 or abs(one["nominal"] - one["mg_per_ml"]) > 0.4
    by_amount = {one.mg_per_ml: one for one in found.rods if one.material == "iodine"}
    for name, amount in AMOUNTS.items():
        x, y = places()[name]
        assert np.hypot(by_amount[amount].x_mm - x, by_amount[amount].y_mm - y) < 1.5  # type: ignore[operator]
        assert by_amount[amount].radius_mm == pytest.approx(ROD_MM, rel=0.12)


def test_attenuation_images_give_water_too() -> None:
    mu = {"bin1": 0.25, "bin2": 0.19}
    made = {}
    for (label, per_cm), volume in zip(mu.items(), hardened(1).values(), strict=True):
        made[label] = CTVolume((volume.array / 1000 + 1) * per_cm, volume.spacing, volume.origin)
    found = calibrate_inserts(made, rods(True), "1/cm")
    assert found.nominal == {}
    for label, per_cm in mu.items():
        assert found.table[label]["water"] == pytest.approx(per_cm, rel=0.01)
    with pytest.raises(InputError, match="known energy"):
        calibrate_inserts(made, rods(False), "1/cm")


def test_contents_in_another_unit_are_told() -> None:
    images = hardened(1)
    assert calibrate_inserts(images, rods(True)).notes == ()
    for factor, way in ((0.1, "times too much"), (10.0, "times too little")):
        wrong = [Rod(one.material, factor * one.mg_per_ml, one.x_mm, one.y_mm, ROD_MM) for one in rods(True)]
        (note,) = calibrate_inserts(images, wrong).notes
        assert note.startswith("The rods' contents, unit (mg/mL) or places") and way in note


def test_the_command_writes_a_table_that_decompose_reads(tmp_path: Path) -> None:
    given = []
    for number, option in ((1, "--image"), (2, "--check")):
        for label, volume in hardened(number).items():
            path = tmp_path / f"scan{number}_{label}.nrrd"
            volume.write(path)
            given += [option, f"{label}={path}"]
    (tmp_path / "rods.csv").write_text(
        "material,mg_per_ml\n" + "".join(f"iodine,{amount}\n" for amount in AMOUNTS.values()),
        encoding="utf-8",
    )
    arguments = ["calibrate", "inserts", str(tmp_path / "table.csv"), "--rods", str(tmp_path / "rods.csv")]
    found = CliRunner().invoke(app, [*arguments, *given, "--progress", "none"])
    assert found.exit_code == 0, found.stderr
    assert "on the second scan" in found.stdout
    table = read_table(tmp_path / "table.csv")
    assert isinstance(table, dict) and set(table) == {"40", "70"}
    found = CliRunner().invoke(
        app,
        ["decompose", *given[:4], str(tmp_path / "maps"), "--attenuation", str(tmp_path / "table.csv")],
    )
    assert found.exit_code == 0, found.stderr
    iodine = CTVolume.read(tmp_path / "maps" / "iodine.nii.gz", check_hu=False).array
    assert iodine[:, rod("iodine 20")].mean() == pytest.approx(20, abs=0.15)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("name,amount\niodine,2\n", "needs the columns"),
        ("material,mg_per_ml\niodine,two\n", "Line 2"),
        ("material,mg_per_ml\niodine,-2\n", "below 0"),
        ("material,mg_per_ml\nunobtainium,2\n", "no material"),
        ("material,mg_per_ml\n", "no rods"),
        ("material,mg_per_ml,x_mm,y_mm\niodine,2,3,\n", "together"),
        ("material,mg_per_ml,x_mm,y_mm,radius_mm\niodine,2,3,3,4\niodine,5,,,\n", "some rods only"),
    ],
)
def test_tables_of_rods_that_are_none(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "rods.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read_rods(tmp_path / "rods.csv")


def test_rods_with_a_decimal_comma(tmp_path: Path) -> None:
    (tmp_path / "rods.csv").write_text(
        "material;mg_per_ml; note\niodine;2,5;old\n\nwater;0\n", encoding="utf-8"
    )
    assert read_rods(tmp_path / "rods.csv") == [Rod("iodine", 2.5), Rod("water", 0.0)]


def test_rods_that_do_not_fit_the_images() -> None:
    images = hardened(1)
    with pytest.raises(InputError, match="3 of 4 rods were found"):
        calibrate_inserts(images, [*rods(False), Rod("iodine", 5)])
    with pytest.raises(InputError, match="outside"):
        calibrate_inserts(images, [Rod("iodine", 5, 900.0, 0.0, 5.0)])
    with pytest.raises(InputError, match="water alone"):
        calibrate_inserts(images, [Rod("water", 0, 0.0, 0.0, 5.0)])
    with pytest.raises(InputError, match="apart"):
        calibrate_inserts(images, [Rod("iodine", 0, *places()["plain"], ROD_MM)])


def test_images_that_lie_elsewhere_are_refused() -> None:
    images = hardened(1)
    moved = dict(images)
    moved["70"] = CTVolume(images["70"].array, images["70"].spacing, (ORIGIN[0] + 3, *ORIGIN[1:]))
    with pytest.raises(InputError, match=r"at 40 keV and 70 keV lie on different grids \(up to 3 mm apart\)"):
        calibrate_inserts(moved, rods(True))
    mirrored = CTVolume(images["70"].array, images["70"].spacing, ORIGIN, np.diag([-1.0, -1.0, 1.0]))
    with pytest.raises(InputError, match="different grids"):
        calibrate_inserts({**images, "70": mirrored}, rods(True))
