"""Images that do not belong together: one sentence each, and the command's exit code 2 with nothing left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from spectral_images import PIXEL_MM, SIZE, body, rod, scan
from synthetic_dicom import write_series
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.from_images.attenuation import attenuation_of, read_table
from ctenhance.decomposition.from_images.energies import Energy
from ctenhance.physics.materials import material
from ctenhance.runtime.errors import InputError

SPACING = (PIXEL_MM, PIXEL_MM, 2.0)
PAIR = scan([40, 70], [20, 8])


def refused(images, **options) -> str:
    with pytest.raises(InputError) as caught:
        ctenhance.decompose_images(images, **options)
    return str(caught.value)


def changed(volume: CTVolume, array: np.ndarray | None = None, **grid) -> CTVolume:
    given = {"spacing": volume.spacing, "origin": volume.origin, "direction": volume.direction, **grid}
    return CTVolume(volume.array if array is None else array, **given)


def test_swapped_energies() -> None:
    assert "energies are swapped" in refused({40: PAIR[70], 70: PAIR[40]})
    assert "energies are swapped" in refused({"80kV": PAIR[70], "Sn140kV": PAIR[40]})


def test_one_image_under_two_energies() -> None:
    sentence = "at 70 keV and 100 keV are the same voxels"
    draw = np.random.default_rng(0)
    for copy in (PAIR[70].array, PAIR[70].array + draw.uniform(-0.5, 0.5, PAIR[70].array.shape)):
        copied = changed(PAIR[70], copy.astype(np.float32))
        assert sentence in refused({70: PAIR[70], 100: copied})
        # the third would have hidden it, as two images are enough for two materials
        assert sentence in refused({40: PAIR[40], 70: PAIR[70], 100: copied})
    # images of neighbouring energies are none
    near = scan([40, 100, 105])
    assert ctenhance.decompose_images(near, noise=[1, 1, 1]).report["warnings"] == []


def test_other_grids() -> None:
    cropped = changed(PAIR[70], PAIR[70].array[:, 4:])
    assert "different grids (128 x 128 x 2 and 128 x 124 x 2 voxels)" in refused({40: PAIR[40], 70: cropped})
    moved = changed(PAIR[70], origin=(3.0, 0.0, 0.0))
    assert "up to 3 mm apart" in refused({40: PAIR[40], 70: moved})
    mirrored = changed(PAIR[70], direction=np.diag([1.0, -1.0, 1.0]))
    assert "different grids" in refused({40: PAIR[40], 70: mirrored})


def test_resampling_when_asked_for() -> None:
    # the same scan on a grid of another place and pixel size
    fine = np.repeat(np.repeat(PAIR[70].array, 2, 1), 2, 2)
    other = CTVolume(fine, (PIXEL_MM / 2, PIXEL_MM / 2, 2.0), (-PIXEL_MM / 4, -PIXEL_MM / 4, 0.0))
    result = ctenhance.decompose_images({40: PAIR[40], 70: other}, resample=True)
    plain = ctenhance.decompose_images(PAIR)
    inside = np.s_[:, 2:-2, 2:-2]
    difference = result.volumes["iodine"].array[inside] - plain.volumes["iodine"].array[inside]
    assert np.abs(difference).max() < 0.01
    assert any("resampled to the grid" in one for one in result.report["warnings"])
    far = CTVolume(fine, (PIXEL_MM / 2, PIXEL_MM / 2, 2.0), (100.0, 0.0, 0.0))
    assert "different regions" in refused({40: PAIR[40], 70: far}, resample=True)


def test_images_that_are_not_registered() -> None:
    moved = changed(PAIR[70], np.roll(PAIR[70].array, 3, axis=2))
    assert "lies 3.0 mm from" in refused({40: PAIR[40], 70: moved})
    apart = ctenhance.decompose_images({40: PAIR[40], 70: moved}, tolerance_mm=3.5).report["details"][
        "apart_mm"
    ]
    assert apart["70"] == pytest.approx(3, abs=0.1)
    assert ctenhance.decompose_images(PAIR).report["details"]["apart_mm"]["70"] < 0.1


def test_images_that_are_a_slice_apart() -> None:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    draw = np.random.default_rng(2)
    # bodies that change from slice to slice
    planes = np.stack(
        [np.where((x / (50 - 2 * k)) ** 2 + (y / (34 + 2 * k)) ** 2 < 1, 20.0, -1000.0) for k in range(8)]
    )
    low, high = (
        CTVolume((planes + draw.normal(0, sd, planes.shape)).astype(np.float32), SPACING) for sd in (20, 8)
    )
    assert ctenhance.decompose_images({40: low, 70: high}).report["details"]["apart_mm"]["70"] < 0.2
    moved = changed(high, np.concatenate([high.array[1:], high.array[-1:]]))
    assert "lies 2.0 mm from" in refused({40: low, 70: moved})
    # where nothing changes along the patient, nothing is said of it
    assert (
        ctenhance.decompose_images(scan([40, 70], [30, 30], slices=8)).report["details"]["apart_mm"]["70"]
        < 0.2
    )


def test_another_body() -> None:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    other = np.where((x / 30) ** 2 + (y / 58) ** 2 < 1, 20.0, -1000.0) + np.zeros((2, 1, 1))
    other += np.random.default_rng(0).normal(0, 5, other.shape)
    assert "show different bodies" in refused({40: PAIR[40], 70: changed(PAIR[70], other)})


def test_attenuation_against_hounsfield_units() -> None:
    water = attenuation_of([Energy.of(40), Energy.of(70)], ("water", "iodine")).water.tolist()
    mu = {
        kev: changed(volume, (volume.array / 1000 + 1) * per_cm)
        for (kev, volume), per_cm in zip(PAIR.items(), water, strict=True)
    }
    assert "give all in one unit, and no maps" in refused({40: PAIR[40], 70: mu[70]})
    assert "give all in one unit, and no maps" in refused({40: PAIR[40], 70: mu[70]}, unit="1/cm")
    assert "--unit 1/cm or 1/mm" in refused(mu)
    assert "--unit HU" in refused(PAIR, unit="1/cm")
    assert "unit is another one" in refused(mu, unit="1/mm")
    assert "no unit 'cm'" in refused(mu, unit="cm")
    found = ctenhance.decompose_images(mu, unit="1/cm").volumes["iodine"].array
    np.testing.assert_allclose(found, ctenhance.decompose_images(PAIR).volumes["iodine"].array, atol=0.001)


def test_maps_given_as_hounsfield_units() -> None:
    maps = ctenhance.decompose_images(PAIR).volumes
    assert refused({40: PAIR[40], 70: maps["water"]})
    assert refused({40: maps["iodine"], 70: PAIR[70]})
    assert refused({40: maps["iodine"], 70: maps["water"]})
    # files do not say that they are maps
    plain = {name: CTVolume(one.array, one.spacing) for name, one in maps.items()}
    assert "a map of a material" in refused({40: plain["iodine"], 70: PAIR[70]})
    assert "a map of a material" in refused({40: PAIR[40], 70: plain["water"]})
    named = PAIR[70].with_array(PAIR[70].array, unit="mg/ml")
    assert "map with the unit 'mg/ml'" in refused({40: PAIR[40], 70: named})


def test_what_is_all_water_or_lung_is_no_map_and_no_attenuation() -> None:
    draw = np.random.default_rng(3)
    for middle, sizes in ((0.0, (22.0, 8.0)), (-860.0, (50.0, 12.0))):
        images = {
            kev: CTVolume(draw.normal(middle, sd, (4, 60, 60)).astype(np.float32), SPACING)
            for kev, sd in zip((40, 70), sizes, strict=True)
        }
        water = ctenhance.decompose_images(images, tolerance_mm=100).volumes["water"].array
        assert water.mean() == pytest.approx(1000 + middle, abs=10)


def test_noise_that_is_none() -> None:
    assert "2 standard deviations" in refused(PAIR, noise=[10.0])
    assert "2 standard deviations" in refused(PAIR, noise=[10.0, 0.0])
    assert "positive definite" in refused(PAIR, noise=[[1e4, 3e4], [3e4, 1e4]])
    told = ctenhance.decompose_images(PAIR, noise=[10.0, 5.0]).report["details"]["noise_HU"]
    assert told == {"40": 10.0, "70": 5.0}


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "first line"),
        ("image,water\n", "first line"),
        ("image,water,iodine\n40,0.2\n", "Line 2"),
        ("image,water,iodine\n40,0.2,much\n", "Line 2"),
        ("image,water,iodine\n40,0.2,-3\n", "Line 2"),
        ("image,water,water\n40,0.2,3\n", "each material once"),
        ("image,water,iodine\n40,0.2,3\n40,0.2,3\n", "two lines for '40'"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, sentence: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read_table(table)


def test_tables_that_lack_something() -> None:
    table = {"40": {"water": 0.268, "iodine": 22.1}}
    assert "no line for the image '70'" in refused(PAIR, attenuation=table)
    table["70"] = {"water": 0.193}
    assert "no column 'iodine'" in refused(PAIR, attenuation=table)


RIGHT = {"low": {"water": 0.2683, "iodine": 22.1}, "high": {"water": 0.1929, "iodine": 5.02}}
BINS = {"low": PAIR[40], "high": PAIR[70]}


def scaled(**factors: float) -> dict[str, dict[str, float]]:
    """The right table with columns times a factor."""
    return {
        label: {name: factors.get(name, 1.0) * v for name, v in row.items()} for label, row in RIGHT.items()
    }


def test_tables_that_are_right_in_any_unit_are_taken_without_a_word() -> None:
    beside_water = {"low": {"water": 1.0, "iodine": 82.4}, "high": {"water": 1.0, "iodine": 26.0}}
    at = {"40": RIGHT["low"], "70": RIGHT["high"]}
    for table, images in (
        (RIGHT, BINS),
        (scaled(water=0.1, iodine=0.1), BINS),
        (beside_water, BINS),
        (at, {40: PAIR[40], 70: PAIR[70]}),
    ):
        result = ctenhance.decompose_images(images, attenuation=table)
        assert result.report["warnings"] == []
        assert result.volumes["iodine"].array[0][rod("iodine 10")].mean() == pytest.approx(10, abs=0.3)


def test_tables_whose_values_are_not_those_of_their_columns() -> None:
    for factor, way in ((0.1, "times too little"), (4.93, "times too much")):
        said = ctenhance.decompose_images(BINS, attenuation=scaled(iodine=factor)).report["warnings"]
        assert len(said) == 1 and "column 'iodine'" in said[0] and way in said[0], said
    turned = {label: {"iodine": row["water"], "water": row["iodine"]} for label, row in RIGHT.items()}
    assert "columns 'water' and 'iodine' are exchanged" in refused(BINS, attenuation=turned)
    lines = {"40": RIGHT["high"], "70": RIGHT["low"]}
    assert "lines '40' and '70' are exchanged" in refused(PAIR, attenuation=lines)


def test_lines_of_bins_that_are_exchanged() -> None:
    lines = {"low": RIGHT["high"], "high": RIGHT["low"]}
    assert "is brighter at low than at high" in refused(BINS, attenuation=lines)
    # without dense matter, or an order of the energies, what comes out tells
    faint = scan([40, 70], [5, 3], others={"iodine 10": ("iodine", 2.7), "iodine 20": ("iodine", 2.7)})
    images = {"low": faint[40], "high": faint[70]}
    said = ctenhance.decompose_images(images, attenuation=lines).report["warnings"]
    assert len(said) == 1 and said[0].startswith("Iodine is negative in 100 %")
    assert ctenhance.decompose_images(images, attenuation=RIGHT).report["warnings"] == []


def test_what_is_lighter_than_water_is_rightly_negative() -> None:
    images = {}
    for kev, volume in PAIR.items():
        at = torch.tensor([kev], dtype=torch.float64)
        fat, water = (float(material(name).linear_attenuation(at)) for name in ("adipose", "water"))
        images[kev] = changed(volume, volume.array + 1000 * (fat / water - 1) * body())
    result = ctenhance.decompose_images(images)
    assert result.volumes["iodine"].array[0][rod("plain")].mean() < -1
    assert result.report["warnings"] == []


def run(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["decompose", *map(str, arguments), "--progress", "none"])
    return found.exit_code, found.stderr.strip()


def test_the_command_writes_what_was_asked_for_or_nothing(tmp_path: Path) -> None:
    files = {kev: tmp_path / f"at{kev}.nrrd" for kev in PAIR}
    for kev, path in files.items():
        PAIR[kev].write(path)
    given = [f"--image={kev}={path}" for kev, path in files.items()]
    folder, report = tmp_path / "maps", tmp_path / "report.json"
    code, said = run(*given, folder, "--vmi", "50", "--vnc", "--errors", "--report", report)
    assert (code, said) == (0, "")
    names = {"water", "iodine", "vmi_050keV", "vnc", "water_sd", "iodine_sd"}
    assert {path.name for path in folder.iterdir()} == {f"{name}.nii.gz" for name in names}
    expected = ctenhance.decompose_images(PAIR).volumes["iodine"]
    np.testing.assert_array_equal(
        ctenhance.read(folder / "iodine.nii.gz", check_hu=False).array, expected.array
    )
    for wrong, sentence in (
        ([f"--image=70={files[40]}", f"--image=40={files[70]}"], "energies are swapped"),
        ([given[0]], "One image"),
        ([given[0], f"--image={files[70]}"], "Nothing tells the energy"),
        ([given[0], given[0]], "Two images are given at 40 keV"),
        ([given[0], "--image=70=no/such.nrrd"], "no file or folder"),
        ([*given, "--basis", "water,iodine,calcium"], "cannot be told from 2 images"),
        ([*given, "--residual"], "There is no residual"),
        ([*given, "--kernel", "sharp"], "--kernel is for projections only"),
        ([*given, "--scatter", "network"], "--scatter is for projections only"),
        ([*given, "--attenuation", tmp_path / "none.csv"], "cannot be read"),
    ):
        code, said = run(*wrong, tmp_path / "other")
        assert code == 2 and sentence in said and said.count("\n") == 0, said
        assert not (tmp_path / "other").exists()
    code, said = run(*given, "bins.ctproj.h5", folder)
    assert code == 2 and "not both" in said
    code, said = run(tmp_path / "maps2")
    assert code == 2 and "--image" in said
    code, said = run("bins.ctproj.h5", folder, "--nonnegative")
    assert code == 2 and "--nonnegative is for images" in said


@pytest.mark.parametrize(
    ("label", "name", "beside", "sentence"),
    [
        ("70", "vmi_070keV", {"SeriesDescription": "Mono 70 keV", "KVP": 120}, ""),
        ("70", "b_120kV_mono70", {"KVP": 120, "SeriesDescription": "Mono+ 70"}, ""),
        ("70", "some", {"KVP": 120}, ""),
        ("Sn140kV", "Sn140kV", {}, ""),
        ("70", "vmi_100keV", {}, "its name tells 100 keV"),
        ("70", "some", {"SeriesDescription": "Mono 55 keV"}, "'some.json' beside it tells 55 keV"),
        ("140", "high", {"KVP": 140, "SeriesDescription": "DE_140kV"}, "beside it tells 140kV"),
        ("140", "high_140kV", {}, "its name tells 140kV"),
        ("Sn140kV", "high_100kV", {}, "its name tells 100kV"),
        ("70", "vnc_70keV", {}, "its name tells that a material was taken out (VNC)"),
    ],
)
def test_names_and_files_beside_that_tell_another_energy(
    tmp_path: Path, label: str, name: str, beside: dict[str, object], sentence: str
) -> None:
    low, high = tmp_path / "low.nrrd", tmp_path / f"{name}.nrrd"
    PAIR[40].write(low)
    PAIR[70].write(high)
    high.with_suffix(".json").write_text(json.dumps(beside), encoding="utf-8")
    first = "80kV" if label.endswith("kV") else "40"
    code, said = run(f"--image={first}={low}", f"--image={label}={high}", tmp_path / "maps")
    assert code == 0 and (sentence in said if sentence else said == ""), said


def test_what_lies_beside_files_at_energies(tmp_path: Path) -> None:
    files = [tmp_path / "low.nrrd", tmp_path / "high.nrrd"]
    for path, volume in zip(files, PAIR.values(), strict=True):
        volume.write(path)
    for labels, noted in ((("80", "140"), True), (("80keV", "140keV"), False), (("80kV", "140kV"), False)):
        given = [f"--image={label}={path}" for label, path in zip(labels, files, strict=True)]
        code, said = run(*given, tmp_path / "".join(labels))
        assert code == 0 and ("tube voltages are written as 80kV and 140kV" in said) is noted, said
    (tmp_path / "high.json").write_text(json.dumps({"SeriesDescription": "VNC 70 keV"}), encoding="utf-8")
    code, said = run(f"--image=40={files[0]}", f"--image=70={files[1]}", tmp_path / "none")
    assert code == 2 and "had a material taken out by 'high.json' beside it (VNC)" in said


def test_images_in_place_of_projections_are_told_of_image(tmp_path: Path) -> None:
    CTVolume(np.zeros((2, 8, 8), np.float32)).write(tmp_path / "a.nii.gz")
    write_series(tmp_path / "series")
    for given, said in (("a.nii.gz", "it is an image and no projections"), ("series", "no DICOM-CT-PD file")):
        with pytest.raises(InputError, match=rf"{said}.*; 'decompose' takes images .* --image ENERGY=PATH\."):
            ctenhance.read_projections(tmp_path / given)


def test_a_forgotten_folder_for_the_maps_is_asked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["decompose", "--image", "40=a.nii.gz", "--image", "80=b.nii.gz"])
    assert result.exit_code == 2 and "Give a folder for the maps beside the images." in result.output
