"""Ready-made spectral scans: what is in the phantoms, and what the verb `simulate` writes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition import images
from ctenhance.decomposition.phantom import MaterialPhantom, with_contrast
from ctenhance.decomposition.scanner import CONTRAST_MG_ML, named_phantom, named_scan
from ctenhance.decomposition.tissue import EFFECTIVE_KEV, tissue_phantom
from ctenhance.files.projections import read_projections
from ctenhance.physics.materials import material
from ctenhance.runtime.errors import InputError


def hounsfield(phantom, kev: float = EFFECTIVE_KEV) -> np.ndarray:
    """The phantom's HU at one energy, from its own materials."""
    energy = torch.tensor([kev], dtype=torch.float64)
    water = material("water").mass_attenuation(energy)
    weights = torch.cat([m.mass_attenuation(energy) / water for m in phantom.materials]).float()
    return 1000 * (torch.tensordot(weights, phantom.densities, 1) - 1).numpy()


def test_tissues_keep_the_hounsfield_units_of_the_ct() -> None:
    hu = np.linspace(-1000, 3071, 400, dtype=np.float32).reshape(1, 20, 20)  # up to teeth and metal
    made = hounsfield(tissue_phantom(CTVolume(hu)))
    assert np.abs(made - hu).max() < 1.0
    assert [m.name for m in tissue_phantom(CTVolume(hu)).materials] == ["adipose", "muscle", "bone", "iodine"]


def test_contrast_medium_is_in_blood_not_in_rims_of_bones() -> None:
    hu = np.full((1, 64, 64), 45, np.float32)
    hu[0, 8:30, 8:30] = 112  # a vessel
    hu[0, 40:60, 40:60] = 112  # the rim of a bone, two pixels wide
    hu[0, 42:58, 42:58] = 700
    iodine = tissue_phantom(CTVolume(hu), contrast_mg_ml=8.0).map("iodine")[0]
    assert float(iodine[12:26, 12:26].min()) == pytest.approx(8.0, rel=1e-3)
    assert float(iodine[36:, 36:].max()) == 0


def test_viewing_table_makes_the_same_images() -> None:
    maps = torch.rand(3, 5, dtype=torch.float64)
    materials = ["water", "iodine", "calcium"]
    table = images.viewing_table(materials)
    weights = torch.tensor(table["hounsfield_per_mg_ml"], dtype=torch.float64)
    for kev in (40, 70, 190):
        column = weights[:, table["energies_keV"].index(kev)]
        found = torch.tensordot(column, 1000 * maps, 1) - 1000
        assert torch.allclose(found, images.vmi(maps, materials, kev), atol=1e-9)
    electrons = torch.tensor(table["electron_density_per_mg_ml"], dtype=torch.float64)[:, None] * 1000 * maps
    assert torch.allclose(electrons.sum(0), images.electron_density(maps, materials))
    power = (electrons * torch.tensor(table["z_power"])[:, None]).sum(0) / electrons.sum(0)
    z = images.effective_atomic_number(maps, materials)
    assert torch.allclose(power ** (1 / table["z_exponent"]), z)
    assert table["contrast_agents"] == ["iodine"]


def test_scan_of_rods_has_bins_and_slices() -> None:
    scan = named_scan(matrix=32, views=24, columns=32, slices=2, dose=0.5, detector_name="ideal", seed=3)
    assert scan.shape == (24, 2, 32, 5) and scan.row_pitch_mm == 2.5
    assert float(np.sum(scan.air_counts)) == pytest.approx(0.5 * 5e5, rel=0.05)
    assert not np.array_equal(scan.counts[:, 0], scan.counts[:, 1])  # each slice has noise of its own


def test_verb_writes_a_scan_that_can_be_read(tmp_path: Path) -> None:
    target = tmp_path / "scan.ctproj.h5"
    small = [
        "--matrix",
        "32",
        "--views",
        "24",
        "--columns",
        "32",
        "--detector",
        "ideal",
        "--progress",
        "none",
    ]
    result = CliRunner().invoke(app, ["simulate", str(target), "--thresholds", "25,60", *small])
    assert result.exit_code == 0, result.output
    scan = read_projections(target)
    assert scan.thresholds_keV.tolist() == [25, 60, 120] and scan.meta["simulated"]
    refused = CliRunner().invoke(app, ["simulate", str(target), "--thresholds", "60,25", *small])
    assert refused.exit_code == 2 and "out of order" in refused.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "head"}, "There is no phantom 'head'"),
        ({"matrix": 4}, "16 to 4096 pixels"),
        ({"matrix": 5000}, "16 to 4096 pixels"),
        ({"slices": 0}, "1 to 512 slices"),
        ({"contrast_mg_ml": 8.0}, "The rods hold no blood, so that the contrast has no effect"),
        ({"contrast_mg_ml": -1.0}, "contrast cannot be -1 mg/mL"),
        ({"contrast_mg_ml": math.nan}, "contrast cannot be nan mg/mL"),
    ],
)
def test_what_makes_no_phantom_is_said(given: dict, said: str) -> None:
    settings = {"name": "rods", "matrix": 32, "slices": 1, "contrast_mg_ml": None, "seed": 0} | given
    with pytest.raises(InputError, match=said):
        named_phantom(**settings)


def write_labels(path: Path, slices: int, *materials: str) -> str:
    labels = np.zeros((slices, 32, 32), np.uint8)
    labels[:, 8:24, 8:24] = len(materials) - 1
    np.savez(path, labels=labels, materials=["air", *materials[1:]], pixel_mm=4.0)
    return str(path)


def test_contrast_changes_nothing_of_a_phantom_but_its_iodine() -> None:
    densities = torch.full((2, 1, 4, 4), 0.01)
    for names in (("blood", "iodine"), ("iodine", "blood"), ("water", "blood")):
        materials = tuple(material(name) for name in names)
        phantom = MaterialPhantom(materials, densities, 2.0, slice_mm=5.0, center_mm=(3.0, -4.0))
        found = with_contrast(phantom, 8.0)
        added = 8 * 10 / (1000 * material("blood").density)  # mg/mL of iodine in that much blood
        assert float(found.map("iodine").mean()) == pytest.approx(added + 10 * ("iodine" in names), rel=1e-5)
        assert len({one.name for one in found.materials}) == len(found.materials) == len(found.densities)
        assert (found.slice_mm, found.center_mm, found.pixel_mm) == (5.0, (3.0, -4.0), 2.0)


def test_labels_have_contrast_where_they_have_blood_and_slices_of_their_own(tmp_path: Path) -> None:
    given = {"matrix": 32, "contrast_mg_ml": None, "seed": 0}
    with_blood = write_labels(tmp_path / "blood.npz", 3, "air", "blood")
    phantom = named_phantom(with_blood, slices=1, **given)
    assert phantom.densities.shape[1] == 3
    assert float(phantom.map("iodine").max()) == pytest.approx(CONTRAST_MG_ML)
    with pytest.raises(InputError, match=r"'blood\.npz' has 3 slices of its own"):
        named_phantom(with_blood, slices=2, **given)
    without = write_labels(tmp_path / "water.npz", 1, "air", "water")
    assert named_phantom(without, slices=4, **given).densities.shape[1] == 4
    with pytest.raises(InputError, match="no blood"):
        named_phantom(without, slices=1, **given | {"contrast_mg_ml": 5.0})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no numbers"])
def test_files_that_are_no_labels_are_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match="is no label phantom"):
        named_phantom(str(tmp_path / "a.npz"), 32, 1, None, 0)
    np.savez(tmp_path / "b.npz", labels=np.full((4, 4), 0.5), materials=["air", "water"], pixel_mm=1.0)
    with pytest.raises(InputError, match="whole numbers"):
        named_phantom(str(tmp_path / "b.npz"), 32, 1, None, 0)


def test_dose_has_to_be_above_zero() -> None:
    with pytest.raises(InputError, match="dose cannot be 0"):
        named_scan(dose=0.0)
