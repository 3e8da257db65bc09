"""A viewer without a page: what it draws is what the volumes hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from ctenhance.view.opening import main
from ctenhance.view.pictures import LOSSLESS, MOVING, encoded
from ctenhance.view.shared import SharedVolume, share
from ctenhance.view.viewer import Viewer

KEV_TABLE = {
    "materials": ["water", "iodine"],
    "energies_keV": [40, 70, 190],
    "hounsfield_per_mg_ml": [[1.0, 1.0, 1.0], [80.0, 25.0, 4.0]],
    "contrast_agents": ["iodine"],
}


def opened(path: Path, out: Path) -> SharedVolume:
    told = next(main(str(path), str(out), json.dumps({"series": None, "where": {}})))
    return SharedVolume.of_json(json.loads(json.dumps(told["volume"])))


@pytest.fixture
def volumes(pair: Path, tmp_path: Path) -> dict[str, SharedVolume]:
    """The pair and its uncertainty, as the server opens them."""
    named = {"before": "before", "after": "after", "uncertainty": "sd"}
    return {part: opened(pair / f"{name}.nii.gz", tmp_path / part) for part, name in named.items()}


@pytest.fixture
def viewer(volumes: dict[str, SharedVolume]) -> Any:
    made = Viewer(volumes)
    yield made
    made.close()


def exact(viewer: Viewer, width: int, height: int) -> None:
    """Give all cells a size at which pixels are as wide as the voxels."""
    viewer.apply({"op": "sizes", "cells": {cell: [width, height] for cell in viewer.cells()}})


def grey(values: np.ndarray, level: float, width: float) -> np.ndarray:
    return np.clip((values - (level - width / 2)) / width * 255, 0, 255)


def square(tmp_path: Path, values: np.ndarray) -> Viewer:
    """A viewer of one volume whose pixels are as wide as its voxels."""
    volume = share(CTVolume(values.astype(np.float32)), tmp_path / "square.raw")
    made = Viewer({"before": volume})
    exact(made, values.shape[2], values.shape[1])
    return made


def test_a_picture_shows_the_voxels_of_its_slice(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-150, 200, (5, 48, 64))
    made = square(tmp_path, values)
    made.apply({"op": "window", "level": 40, "width": 400})
    for index in (0, 2, 4):
        made.apply({"op": "slice", "plane": "axial", "to": index})
        picture = made.picture("axial/before")
        # Stored in LPS: x runs to the patient's left, y to posterior, both as on the screen.
        assert np.abs(picture[..., 0] - grey(values[index], 40, 400)).max() <= 1
        assert (picture[..., :1] == picture).all()
    made.close()


def test_what_is_asked_of_a_pixel_is_its_voxel(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-150, 200, (5, 48, 64))
    made = square(tmp_path, values)
    answer = made.apply({"op": "probe", "cell": "axial/before", "x": 10, "y": 7})
    assert answer == {"probe": {"voxel": [10, 7, 2], "values": {"Before": [float(values[2, 7, 10]), "HU"]}}}
    assert made.apply({"op": "probe", "cell": "axial/before", "x": -5, "y": 7}) == {"probe": None}
    box = {"x0": 3.6, "y0": 4.7, "x1": 20.2, "y1": 11.4}
    answer = made.apply({"op": "measure", "cell": "axial/before", **box})
    part = values[2, 5:12, 4:21]
    assert answer["statistics"]["count"] == part.size
    row = answer["statistics"]["rows"][0]
    assert row["mean"] == pytest.approx(part.mean()) and row["sd"] == pytest.approx(part.std())
    boxes = made.state()["region"]["boxes"]["axial/before"]
    assert boxes == pytest.approx([3.6, 4.7, 16.6, 6.7])
    made.apply({"op": "scroll", "plane": "axial", "by": 1})
    assert made.state()["region"] is None
    made.close()


def test_each_volume_has_its_own_unit(tmp_path: Path) -> None:
    values = np.full((3, 32, 32), 40, np.float32)
    scan, other = (share(CTVolume(values + add), tmp_path / f"{add}.raw") for add in (0, 5))
    iodine = share(CTVolume(values), tmp_path / "map.raw", hounsfield=False)
    for second, unit in ((iodine, ""), (other, "HU")):
        made = Viewer({"before": scan, "after": second})
        exact(made, 32, 32)
        answer = made.apply({"op": "probe", "cell": "axial/before", "x": 10, "y": 7})
        found = {name: value[1] for name, value in answer["probe"]["values"].items()}
        assert found == {"Before": "HU", "After": unit, "Difference": unit}
        made.close()


def test_a_line_has_the_length_of_its_voxels(tmp_path: Path) -> None:
    grid = {"spacing": (0.5, 2.0, 3.0)}
    volume = share(CTVolume(np.zeros((5, 40, 60), np.float32), **grid), tmp_path / "line.raw")
    made = Viewer({"before": volume})
    exact(made, 300, 400)
    for layout, (wide, high) in (("axial", (0.5 * 60, 2.0 * 40)), ("coronal", (0.5 * 60, 3.0 * 5))):
        made.apply({"op": "arrange", "layout": layout})
        exact(made, 300, 400)
        cell = f"{layout}/before"
        scale = max(wide / 300, high / 400)
        made.apply({"op": "line", "cell": cell, "x0": 20, "y0": 50, "x1": 50, "y1": 90})
        line = made.state()["line"]
        assert line["mm"] == pytest.approx(50 * scale)
        assert line["ends"][cell] == pytest.approx([20, 50, 50, 90])
        made.apply({"op": "zoom", "cell": cell, "x": 10, "y": 10, "factor": 2})  # the line stays where it is
        moved = made.state()["line"]
        assert moved["mm"] == pytest.approx(line["mm"])
        assert moved["ends"][cell] == pytest.approx([30.5, 90.5, 90.5, 170.5], abs=1)
        made.apply({"op": "scroll", "plane": layout, "by": 1})
        assert made.state()["line"] is None
        made.apply({"op": "home"})
    made.apply({"op": "line", "cell": "coronal/before", "middle": True})
    assert made.state()["line"]["mm"] > 0
    made.apply({"op": "unmeasure"})
    assert made.state()["line"] is None
    made.close()


def test_the_middle_is_measured_in_the_cell_as_it_is_now(viewer: Viewer) -> None:
    exact(viewer, 120, 90)
    viewer.apply({"op": "arrange", "mode": "difference"})
    exact(viewer, 60, 90)
    viewer.apply({"op": "measure", "cell": "axial/after", "middle": True})
    x, y, width, height = viewer.state()["region"]["boxes"]["axial/after"]
    assert (x + width / 2, y + height / 2) == pytest.approx((30, 45)) and width == pytest.approx(10)


def test_what_grey_and_colour_mean_is_said(viewer: Viewer, tmp_path: Path) -> None:
    exact(viewer, 60, 50)
    assert viewer.state()["scales"] == {"before": "L 40  W 400", "after": "L 40  W 400"}
    viewer.apply({"op": "uncertainty", "on": True})
    assert "uncertainty to " in viewer.state()["scales"]["after"]
    assert viewer.state()["scales"]["after"].endswith(" HU")
    assert viewer.state()["scales"]["before"] == "L 40  W 400"
    viewer.apply({"op": "arrange", "mode": "difference"})
    viewer.apply({"op": "difference", "hu": 30})
    assert viewer.state()["scales"]["difference"] == "±30 HU"
    viewer.apply({"op": "strength", "value": 0.25})
    assert viewer.state()["names"] == {
        "before": "Before",
        "after": "After, strength 25%",
        "difference": "Difference",
    }
    arrays = {"water": np.full((2, 9, 9), 1000.0), "iodine": np.zeros((2, 9, 9))}
    arrays["iodine"][:, 3:6, 3:6] = 4.0
    volumes = {
        f"map {k}": share(CTVolume(a.astype(np.float32)), tmp_path / k, False) for k, a in arrays.items()
    }
    maps = Viewer(volumes, KEV_TABLE)
    assert maps.state()["scales"] == {"kev": "L 40  W 400", "map": "0 to 4 mg/mL"}
    maps.close()


def test_what_is_little_uncertain_stays_as_it_is(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-100, 200, (3, 40, 40)).astype(np.float32)
    spread = np.zeros(values.shape, np.float32)
    spread[:, 20:] = 20.0 + np.random.default_rng(1).uniform(0, 1, (3, 20, 40))
    parts = {"before": values, "after": values, "uncertainty": spread}
    made = Viewer({k: share(CTVolume(a), tmp_path / k, k != "uncertainty") for k, a in parts.items()})
    exact(made, 40, 40)
    plain = made.picture("axial/after").astype(int)
    made.apply({"op": "uncertainty", "on": True})
    over = made.picture("axial/after").astype(int)
    assert np.abs(over - plain)[:19].max() <= 2
    assert (over[21:, :, 0] - over[21:, :, 2]).min() > 50
    made.close()


def test_the_first_window_shows_tissue_whatever_the_padding(viewer: Viewer, tmp_path: Path) -> None:
    assert viewer.window == (40.0, 400.0)
    maps = np.zeros((4, 30, 30), np.float32)
    maps[:, 10:14, 10:14] = np.random.default_rng(0).normal(5, 0.1, (4, 4, 4))
    volume = share(CTVolume(maps), tmp_path / "map.raw", hounsfield=False)
    other = Viewer({"before": volume})
    level, width = other.window
    assert 4 < level < 6 and width < 2
    assert other.state()["windows"] == {}
    other.close()


def test_the_window_that_the_server_found_is_the_first_and_comes_back(
    volumes: dict[str, SharedVolume],
) -> None:
    made = Viewer(volumes, window=(-600.0, 1500.0))
    assert made.window == (-600.0, 1500.0)
    made.set_window(40, 400)
    made.apply({"op": "window", "preset": "first"})
    assert made.window == (-600.0, 1500.0)
    made.close()


def test_linked_views_look_at_the_same(viewer: Viewer) -> None:
    assert viewer.cells() == ["axial/before", "axial/after"]
    exact(viewer, 200, 150)
    viewer.apply({"op": "zoom", "cell": "axial/before", "x": 60, "y": 40, "factor": 2})
    viewer.apply({"op": "pan", "plane": "axial", "dx": 5, "dy": -9})
    asked = {"op": "probe", "x": 77, "y": 61}
    first, second = (viewer.apply({**asked, "cell": cell}) for cell in viewer.cells())
    assert first == second and first["probe"] is not None
    viewer.apply({"op": "scroll", "plane": "axial", "by": 2})
    assert set(viewer.ready()) == set(viewer.cells())


def test_zooming_keeps_what_is_below_the_mouse(viewer: Viewer) -> None:
    exact(viewer, 400, 300)
    asked = {"op": "probe", "cell": "axial/after", "x": 130, "y": 111}
    before = viewer.apply(asked)
    viewer.apply({"op": "zoom", "cell": "axial/after", "x": 130, "y": 111, "factor": 3})
    assert viewer.apply(asked) == before


def test_strength_blends_voxels_at_once(viewer: Viewer, volumes: dict[str, SharedVolume]) -> None:
    exact(viewer, 80, 72)
    before, after = (volumes[part].array()[6].astype(float) for part in ("before", "after"))
    shown = {}
    for strength in (0.0, 0.5, 1.0):
        viewer.apply({"op": "strength", "value": strength})
        shown[strength] = viewer.picture("axial/after")
        wanted = before + strength * (after - before)
        image = viewer.images["after"].slice(viewer._planes["axial"], 6)
        assert np.allclose(image, wanted, atol=1e-3)
        change = viewer.images["difference"].slice(viewer._planes["axial"], 6)
        assert np.allclose(change, strength * (after - before), atol=1e-3)
    # Between voxels Slicer rounds whole numbers of HU, and not those of a blend.
    assert np.abs(shown[0.0].astype(int) - viewer.picture("axial/before")).max() <= 1
    assert not np.array_equal(shown[0.5], shown[1.0])


def test_difference_is_blue_below_and_red_above(viewer: Viewer) -> None:
    viewer.apply({"op": "arrange", "mode": "difference"})
    viewer.apply({"op": "difference", "hu": 50})
    exact(viewer, 160, 150)
    picture = viewer.picture("axial/difference").astype(int)
    red, blue = picture[..., 0] > picture[..., 2] + 20, picture[..., 2] > picture[..., 0] + 20
    assert red.any() and blue.any()
    viewer.apply({"op": "strength", "value": 0})
    assert viewer.picture("axial/difference").max() <= 3


def test_fade_and_flicker_change_from_one_to_the_other(viewer: Viewer) -> None:
    exact(viewer, 100, 90)
    first, second = (viewer.picture(cell) for cell in viewer.cells())
    viewer.apply({"op": "fade", "value": 0})
    exact(viewer, 100, 90)
    assert viewer.cells() == ["axial/both"]
    assert np.array_equal(viewer.picture("axial/both"), first)
    viewer.apply({"op": "flicker"})
    assert np.array_equal(viewer.picture("axial/both"), second)
    viewer.apply({"op": "flicker"})
    assert np.array_equal(viewer.picture("axial/both"), first)
    viewer.apply({"op": "fade", "value": 0.5})
    mean = (first.astype(float) + second) / 2
    assert np.abs(viewer.picture("axial/both") - mean).max() <= 2


def test_uncertainty_lies_over_the_result_only(viewer: Viewer) -> None:
    exact(viewer, 100, 90)
    plain = {cell: viewer.picture(cell) for cell in viewer.cells()}
    viewer.apply({"op": "uncertainty", "on": True})
    assert np.array_equal(viewer.picture("axial/before"), plain["axial/before"])
    over = viewer.picture("axial/after").astype(int)
    assert (over[..., 0] > over[..., 2] + 20).mean() > 0.1
    viewer.apply({"op": "uncertainty", "on": False})
    assert np.array_equal(viewer.picture("axial/after"), plain["axial/after"])


def test_three_planes_have_their_own_slices(viewer: Viewer, volumes: dict[str, SharedVolume]) -> None:
    viewer.apply({"op": "arrange", "layout": "three"})
    exact(viewer, 80, 64)
    assert [cell.split("/")[0] for cell in viewer.cells()[::2]] == ["axial", "coronal", "sagittal"]
    viewer.apply({"op": "jump", "cell": "axial/before", "x": 20, "y": 30})
    voxel = viewer.apply({"op": "probe", "cell": "axial/before", "x": 20, "y": 30})["probe"]["voxel"]
    assert viewer.index["sagittal"] == voxel[0] and viewer.index["coronal"] == voxel[1]
    array = volumes["before"].array()
    at = viewer.apply({"op": "probe", "cell": "coronal/before", "x": 40, "y": 33})["probe"]
    assert at["voxel"][1] == voxel[1]
    assert at["values"]["Before"][0] == array[tuple(at["voxel"][::-1])]


def test_energies_are_sums_of_maps(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    maps = {
        name: random.uniform(0, top, (3, 20, 24)).astype(np.float32)
        for name, top in (("water", 1000), ("iodine", 9))
    }
    volumes = {f"map {name}": share(CTVolume(array), tmp_path / name, False) for name, array in maps.items()}
    made = Viewer(volumes, KEV_TABLE)
    exact(made, 24, 20)
    assert made.state()["kevs"] == (40.0, 190.0)
    for kev, weight in ((40, 80.0), (55, 52.5), (190, 4.0)):
        made.apply({"op": "kev", "value": kev})
        wanted = maps["water"][1] + weight * maps["iodine"][1] - 1000
        assert np.allclose(made.images["kev"].slice(made._planes["axial"], 1), wanted, atol=0.01)
        assert np.abs(made.picture("axial/kev")[..., 0] - grey(wanted, *made.window)).max() <= 1
    with pytest.raises(InputError, match="choose 40 to 190"):
        made.apply({"op": "kev", "value": 300})
    made.close()


def test_other_volumes_take_the_place_of_the_first(viewer: Viewer, tmp_path: Path) -> None:
    exact(viewer, 64, 48)
    viewer.picture("axial/before")
    values = np.random.default_rng(0).integers(-150, 200, (3, 48, 64))
    viewer.show({"before": share(CTVolume(values.astype(np.float32)), tmp_path / "other.raw")})
    assert viewer.cells() == ["axial/before"] and viewer.state()["modes"] == ["side"]
    viewer.set_window(40, 400)
    assert np.abs(viewer.picture("axial/before")[..., 0] - grey(values[1], 40, 400)).max() <= 1


def test_voxels_are_mapped_and_not_copied(volumes: dict[str, SharedVolume], viewer: Viewer) -> None:
    node = viewer.images["before"].node(viewer._planes["axial"], 0)
    scalars = node.GetImageData().GetPointData().GetScalars()
    from vtkmodules.util.numpy_support import vtk_to_numpy

    held = viewer.images["before"].array
    assert vtk_to_numpy(scalars).__array_interface__["data"][0] == held.__array_interface__["data"][0]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"op": None},
        {"op": ["scroll"]},
        {"op": "__init__"},
        {"op": "close"},
        {"op": "scroll", "plane": "axial", "by": "1"},
        {"op": "scroll", "plane": "axial", "by": float("nan")},
        {"op": "scroll", "plane": "../axial", "by": 1},
        {"op": "window", "level": 0, "width": 0},
        {"op": "window", "level": 1e300, "width": 100},
        {"op": "window", "preset": "nothing"},
        {"op": "strength", "value": 1.01},
        {"op": "strength", "value": True},
        {"op": "sizes", "cells": [1]},
        {"op": "sizes", "cells": {"axial/before": [1, 2, 3]}},
        {"op": "measure", "cell": "axial/before", "x0": 1, "y0": 1, "x1": 5, "y1": 1e9},
        {"op": "probe", "cell": "no/cell", "x": 1, "y": 1},
        {"op": "kev", "value": 70},
        {"op": "arrange", "layout": "seven"},
    ],
)
def test_nonsense_is_refused_in_a_sentence(viewer: Viewer, asked: dict[str, Any]) -> None:
    exact(viewer, 50, 40)
    before = viewer.state()
    with pytest.raises(InputError, match=r"[.]$"):
        viewer.apply(asked)
    assert viewer.state() == before


def test_cells_have_a_largest_size(viewer: Viewer) -> None:
    viewer.apply({"op": "sizes", "cells": {"axial/before": [100000, 100000], "axial/after": [1, 1]}})
    width, height = viewer._sizes["axial/before"]
    assert width * height <= 4_000_000
    assert viewer._sizes["axial/after"] == (16, 16)


def test_pictures_at_rest_are_to_the_bit() -> None:
    import io

    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for one in (picture, np.repeat(picture[..., :1], 3, axis=2), picture[::-1]):
        back = np.array(Image.open(io.BytesIO(encoded(one, LOSSLESS))).convert("RGB"))
        assert np.array_equal(back, one)
    smooth = np.repeat(np.linspace(0, 255, 50).astype(np.uint8)[None, :, None], 40, 0).repeat(3, 2)
    moving = np.array(Image.open(io.BytesIO(encoded(smooth, MOVING))).convert("RGB")).astype(int)
    assert np.abs(moving - smooth).max() <= 4
