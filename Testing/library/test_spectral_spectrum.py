"""Tube spectra against SpekPy, XCIST's tables and published beam qualities."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ctenhance.physics.detector import read_detector
from ctenhance.physics.spectrum import (
    TUBE_FILTERS,
    energy_grid,
    filtered,
    half_value_layer_mm,
    mean_energy,
    read_spectrum,
    tube_spectrum,
)
from ctenhance.runtime.errors import InputError


def test_the_table_is_spekpy() -> None:
    spekpy = pytest.importorskip("spekpy", reason="SpekPy is not installed")
    kev, expected = spekpy.Spek(kvp=120.0, th=7.0, dk=1.0).get_spectrum()
    made = tube_spectrum(120, filters={}, anode_deg=7.0)[: len(kev) + 1][1:]
    expected = torch.from_numpy(expected)
    # 7 degrees lie between the table's angles; below 15 keV nothing leaves a tube
    assert float(((made - expected).abs()[14:] / expected.max()).max()) < 2e-3
    assert float(made.sum() / expected.sum()) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize(("kvp", "mean", "hvl"), [(80, (50, 56), (4.5, 6.2)), (120, (62, 68), (7, 9))])
def test_a_ct_beam_has_the_usual_quality(kvp: int, mean, hvl) -> None:
    spectrum, energies = tube_spectrum(kvp, TUBE_FILTERS), energy_grid()
    assert mean[0] < float(mean_energy(spectrum, energies)) < mean[1]
    assert hvl[0] < half_value_layer_mm(spectrum, energies) < hvl[1]
    assert float(spectrum[energies > kvp].sum()) == 0


def test_filters_multiply() -> None:
    energies = energy_grid()
    bare = tube_spectrum(120, {})
    twice = filtered(filtered(bare, {"aluminium": 1.0}, energies), {"aluminium": 2.0}, energies)
    torch.testing.assert_close(twice, tube_spectrum(120, {"aluminium": 3.0}))


def test_xcist_tables_keep_their_quanta(shared_data: Path) -> None:
    folder = shared_data / "xcist" / "spectrum"
    if not folder.is_dir():
        pytest.skip("XCIST's spectra are not here")
    energies, half_kev = read_spectrum(folder / "tungsten_tar7.0_120_filt.dat")
    text = (folder / "tungsten_tar7.0_120_filt.dat").read_text(encoding="utf-8").split()[1:]
    assert float(half_kev.sum()) == pytest.approx(sum(float(t.split(",")[1]) for t in text), rel=1e-6)
    _, one_kev = read_spectrum(folder / "xcist_kVp120_tar7_bin1.dat")
    # two independent tube models, both behind the tube's window, agree in their mean energy
    assert float(mean_energy(half_kev, energies)) == pytest.approx(
        float(mean_energy(one_kev, energies)), abs=3
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\n1,2\n2,x\n3,4\n", "Line 3"),
        ("1,2\n1,3\n2,4\n", "rise in equal steps"),
        ("1,0\n2,0\n3,0\n", "above zero"),
        ("", "rise in equal steps"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.dat").write_text(text)
    with pytest.raises(InputError, match=message):
        read_spectrum(tmp_path / "s.dat")


def test_a_voltage_or_angle_beyond_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no spectrum of 300 kV"):
        tube_spectrum(300)
    with pytest.raises(InputError, match="anode angle"):
        tube_spectrum(120, anode_deg=45)
    with pytest.raises(InputError, match="There is no spectrum at"):
        read_spectrum(tmp_path / "absent.dat")
    with pytest.raises(InputError, match="There is no detector response at"):
        read_detector(tmp_path / "absent.csv")


def test_a_table_from_a_spreadsheet_begins_with_a_mark(tmp_path: Path) -> None:
    """Excel writes 'CSV UTF-8' with a byte order mark."""
    (tmp_path / "s.csv").write_text("20.5,1\n21.5,2\n22.5,1\n", encoding="utf-8-sig")
    energies, quanta = read_spectrum(tmp_path / "s.csv")
    assert float(energies[quanta.argmax()]) == 21.5
