"""Decomposition of images beside that of projections, on simulated scans whose truth is known; and its speed.

    python benchmarks/decompose_images.py                 some minutes on two idle cores
    python benchmarks/decompose_images.py --slices 30     less for the speed

One scan of each phantom (a water cylinder with rods of iodine 1 to 20 mg/mL and calcium; a drawn chest),
120 kV, five bins of the package's CdTe model, is decomposed in three ways: by projections; from the 40- and
70-keV images that the projections gave (in whole HU, as scanners hand them out); and from images of its bins,
each corrected for the hardening by water as scanners do, or not at all, with attenuations averaged over the
bins' spectra. The rods are scanned at 80 kV and, behind tin, at 140 kV, too. What the last two differ by is
what image-domain decomposition cannot know: how hard the beam was that each voxel saw.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from scipy import ndimage

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition import images as spectral
from ctenhance.decomposition.from_images import Spectra
from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.decomposition.scanner import named_phantom, named_scan
from ctenhance.decomposition.simulate import simulate
from ctenhance.decomposition.solver.beam import Beam
from ctenhance.physics.detector import ideal_detector
from ctenhance.physics.fbp import fbp
from ctenhance.physics.materials import material
from ctenhance.physics.spectrum import TUBE_FILTERS, energy_grid, tube_spectrum
from ctenhance.scan.projections import Projections
from ctenhance.scan.simulate import clinical_scan
from tables import Table

BASIS = ("water", "iodine")
KEVS = (50, 70, 100, 140)
#: Bases that projections are decomposed with, for what monoenergetic images owe to the choice.
BASES = (("water", "iodine"), ("water", "bone"), ("water", "bone", "iodine"))
BODY_MM = 200.0
#: Of noise, and of the chest that is drawn: scan and truth have to be of the same one.
SEED = 1
MATRIX = 256


def bin_images(scan: Projections, correct_water: bool) -> dict[str, CTVolume]:
    """Images in HU of the bins, from the logarithm of their counts."""
    assert scan.counts is not None and scan.energies_keV is not None and scan.effective_spectra is not None
    energies = torch.from_numpy(np.asarray(scan.energies_keV)).double()
    water = material("water").linear_attenuation(energies)
    grid, rays = scan.image_grid(), scan.scan_geometry()
    air = np.broadcast_to(np.asarray(scan.air_counts), scan.counts.shape[-1:])
    images = {}
    for index in range(scan.counts.shape[-1]):
        counts = np.asarray(scan.counts[:, 0, :, index], dtype=np.float64)
        lines = -np.log(np.maximum(counts, 0.5) / air[index])
        spectrum = torch.from_numpy(np.asarray(scan.effective_spectra[index])).double()
        spectrum = spectrum / spectrum.sum()
        thickness = torch.linspace(0, 700, 1401, dtype=torch.float64)
        passed = torch.log((spectrum * torch.exp(-thickness[:, None] * water)).sum(1))
        if correct_water:
            lines = np.interp(lines, (-passed).numpy(), thickness.numpy())  # mm of water
            of_water = 1.0
        else:
            behind = spectrum * torch.exp(-BODY_MM * water)
            of_water = float((behind * water).sum() / behind.sum())
        image = fbp(torch.from_numpy(lines).float(), rays, grid, "standard").numpy() / of_water
        images[f"bin{index + 1}"] = scan.volume(1000 * (image[None] - 1), grid)
    return images


def spectra_of(scan: Projections) -> Spectra:
    """What each bin's detector sees in air, by energy."""
    rows = np.asarray(scan.effective_spectra, dtype=np.float64)
    return Spectra(
        np.asarray(scan.energies_keV, dtype=np.float64),
        {f"bin{index + 1}": row for index, row in enumerate(rows)},
    )


def ways(scan: Projections) -> dict[str, dict[str, CTVolume]]:
    """The maps that each way gives."""
    projections = ctenhance.decompose(scan, basis=BASIS, vmi=(40, 70), device="cpu").volumes
    pair = {kev: projections[f"vmi_0{kev}keV"] for kev in (40, 70)}
    whole = {kev: v.with_array(np.rint(v.array)) for kev, v in pair.items()}
    found = {"projections": projections, "40/70-keV images": ctenhance.decompose_images(whole).volumes}
    for name, correct in (("bin images, water-corrected", True), ("bin images as they are", False)):
        images = bin_images(scan, correct)
        found[name] = ctenhance.decompose_images(
            images, attenuation=spectra_of(scan), body_mm=BODY_MM
        ).volumes
    return found


def voltage_pair() -> dict[str, CTVolume]:
    """Water-corrected images of the rods at two tube voltages, energy-integrating, without noise."""
    body, rays = named_phantom("rods", MATRIX, 1, 0.0, 0), clinical_scan("fan-equiangular", 720, 512)
    images = {}
    for label, kvp, tin in (("80kV", 80, 0.0), ("Sn140kV", 140, 0.4)):
        energies = energy_grid(kvp)
        signal = tube_spectrum(kvp, {**TUBE_FILTERS, "tin": tin}, energies_kev=energies) * energies
        beam = Beam(signal * (1e9 / signal.sum()), ideal_detector(energies), torch.tensor([1.0, kvp]), kvp)
        scan = simulate(body, rays, beam, noise=False)
        (images[label],) = bin_images(scan, True).values()
    return images


def rods_table(dose: float) -> Table:
    """Iodine in rods and HU of monoenergetic images in all of them."""
    phantom = named_phantom("rods", MATRIX, 1, 0.0, 0)
    scan = named_scan("rods", dose=dose, matrix=MATRIX, seed=SEED)
    found = ways(scan)
    found["80kV/Sn140kV images, no noise"] = ctenhance.decompose_images(voltage_pair()).volumes
    rows = []
    for name, maps in found.items():
        iodine = [rod for rod in phantom.inserts if "iodine" in rod.contents]
        off = np.array([_mean(maps["iodine"], phantom, rod) - rod.contents["iodine"] for rod in iodine])
        hu = [_vmi_error(maps, phantom, iodine, kev) for kev in KEVS]
        rows.append(
            (name, f"{np.sqrt(np.mean(off**2)):.2f}", f"{off.mean():+.2f}", *(f"{e:.2f}" for e in hu))
        )
    header = ("way", "iodine RMSE mg/mL", "bias", *(f"{kev} keV %" for kev in KEVS))
    note = (
        "Means of rods of 1, 2, 5, 10, 15 and 20 mg/mL. Monoenergetic images: the greatest error of a rod's "
        "attenuation (HU + 1000), in per cent."
    )
    return Table(f"Rods in 250 mm of water, {dose:g} of the full dose", header, tuple(rows), note)


def chest_tables(dose: float) -> list[Table]:
    """Iodine and monoenergetic images in a chest: by the way, and by the basis of projections."""
    phantom = named_phantom("chest", MATRIX, 1, 5.0, SEED)
    scan = named_scan("chest", dose=dose, matrix=MATRIX, seed=SEED)
    truth = phantom.densities[:, 0].double()
    regions = _tissues(phantom)
    iodine = 1000 * truth[[m.name for m in phantom.materials].index("iodine")].numpy()
    rows = []
    for name, maps in ways(scan).items():
        found = maps["iodine"].array[0]
        off = [found[regions[one]].mean() - iodine[regions[one]].mean() for one in ("blood", "muscle")]
        rows.append((name, *(f"{one:+.2f}" for one in off), *_hu_errors(maps, BASIS, phantom, regions)))
    tissues = (*(f"{name}, HU" for name in regions), "greatest, %")
    note = (
        "Bias in regions away from edges: "
        + ", ".join(f"{int(mask.sum())} pixels of {name}" for name, mask in regions.items())
        + f". Monoenergetic images at {', '.join(map(str, KEVS))} keV: the mean error in HU; the greatest "
        "of them in per cent of the attenuation (HU + 1000). Blood holds 5 mg/mL."
    )
    header = ("way", "iodine in blood, bias mg/mL", "in muscle", *tissues)
    tables = [Table(f"A chest, {dose:g} of the full dose", header, tuple(rows), note)]
    rows = []
    for basis in BASES:
        maps = ctenhance.decompose(scan, basis=basis, device="cpu").volumes
        stack = torch.stack([torch.from_numpy(maps[one].array[0] / 1000) for one in basis]).double()
        true = spectral.vmi(truth, phantom.materials, 70).numpy()
        noise = (spectral.vmi(stack, basis, 70).numpy() - true)[regions["muscle"]].std()
        rows.append((", ".join(basis), f"{noise:.0f}", *_hu_errors(maps, basis, phantom, regions)))
    header = ("basis of projections", "noise at 70 keV, HU", *tissues)
    return [*tables, Table("The same chest by the basis", header, tuple(rows), "As above.")]


def _tissues(phantom: MaterialPhantom) -> dict[str, np.ndarray]:
    """Regions of tissues away from edges, by what they really are."""
    densities = phantom.densities[:, 0]
    names = [m.name for m in phantom.materials]
    iodine, bone = 1000 * densities[names.index("iodine")].numpy(), densities[names.index("bone")].numpy()
    hu = spectral.vmi(densities.double(), phantom.materials, 70).numpy()
    plain = (iodine == 0) & (bone < 0.02)
    return {
        "blood": _uniform(iodine > 4.5),
        "muscle": _uniform(plain & (hu > 20) & (hu < 90)),
        "fat": _uniform(plain & (hu > -150) & (hu < -50)),
        # ribs are narrow
        "bone": ndimage.binary_erosion(bone > 0.15),
    }


def _hu_errors(
    maps: dict[str, CTVolume],
    basis: tuple[str, ...],
    phantom: MaterialPhantom,
    regions: dict[str, np.ndarray],
) -> list[str]:
    """The mean errors in HU at all energies by region, and the greatest in per cent of the attenuation."""
    truth = phantom.densities[:, 0].double()
    stack = torch.stack([torch.from_numpy(maps[one].array[0] / 1000) for one in basis]).double()
    found = [spectral.vmi(stack, basis, kev).numpy() for kev in KEVS]
    true = [spectral.vmi(truth, phantom.materials, kev).numpy() for kev in KEVS]
    texts, greatest = [], 0.0
    for mask in regions.values():
        errors = [float((one - other)[mask].mean()) for one, other in zip(found, true, strict=True)]
        texts.append(", ".join(f"{one:+.0f}" for one in errors))
        of_it = [
            abs(one) / (1000 + float(other[mask].mean())) for one, other in zip(errors, true, strict=True)
        ]
        greatest = max(greatest, 100 * max(of_it))
    return [*texts, f"{greatest:.1f}"]


def _uniform(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_erosion(mask, iterations=3)


def _mean(volume: CTVolume, phantom: MaterialPhantom, rod: object) -> float:
    return float(volume.array[:, phantom.inside(rod).numpy()].mean())  # type: ignore[arg-type]


def _vmi_error(maps: dict[str, CTVolume], phantom: MaterialPhantom, rods: list, kev: int) -> float:
    weights = spectral.vmi_weights(BASIS, kev).numpy()
    errors = []
    for rod in rods:
        found = sum(
            w * _mean(maps[name], phantom, rod) / 1000 for w, name in zip(weights, BASIS, strict=True)
        )
        truth = weights[0] + weights[1] * rod.contents["iodine"] / 1000
        errors.append(abs(found / truth - 1) * 100)
    return max(errors)


def speed_table(slices: int) -> Table:
    """Seconds for two energies of 512 x 512 pixels."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512] - 255.5
    body = np.where((x / 220) ** 2 + (y / 170) ** 2 < 1, 40.0, -1000.0).astype(np.float32)
    images = {
        kev: CTVolume(
            body + noise * draw.standard_normal((slices, 512, 512), dtype=np.float32), (0.8, 0.8, 1.0)
        )
        for kev, noise in ((40, 30), (70, 12))
    }
    rows = []
    for name, options in (
        ("maps", {}),
        ("maps, not negative", {"nonnegative": True}),
        ("maps, one monoenergetic image, non-contrast, errors", {"vmi": (50,), "vnc": True, "errors": True}),
        ("maps and guided maps, as the panel asks for", {"guided_maps": True}),
    ):
        start, cpu = time.perf_counter(), time.process_time()
        ctenhance.decompose_images(images, device="cpu", **options)  # type: ignore[arg-type]
        rows.append((name, f"{time.perf_counter() - start:.1f}", f"{time.process_time() - cpu:.1f}"))
    machine = platform.processor() or platform.machine()
    note = f"{machine}, {torch.get_num_threads()} threads, load {psutil.getloadavg()[0]:.0f}"
    return Table(f"512 x 512 x {slices} from two energies", ("what", "s", "s of one core"), tuple(rows), note)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=300, help="for the speed; 0: not measured")
    parser.add_argument("--dose", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="a Markdown file for the tables")
    given = parser.parse_args()
    tables = [rods_table(given.dose), *chest_tables(given.dose)]
    tables += [speed_table(given.slices)] if given.slices else []
    for table in tables:
        print(table.text(), end="\n\n")
    if given.out:
        text = "\n\n".join(table.markdown() for table in tables)
        given.out.write_text(f"# Decomposition of images\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
