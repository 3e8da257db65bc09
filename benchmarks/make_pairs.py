"""Low-dose / full-dose pairs of held-out patients, made by another simulator than the training's.

The training's noise comes from the project's own parallel-beam projector (Gaussian in the line integrals).
Here ASTRA simulates a third-generation fan beam with Poisson counts and electronic noise, which scipy
rebins to parallel rays, as scanners do, for ASTRA's own filtered backprojection; only the difference (noisy
minus clean reconstruction) is added to the scan, so that its sharpness stays. The flux is set so that the
added noise is what the given dose fraction adds to the scan's own noise.

    python benchmarks/make_pairs.py ../shared/data/ct OUT --dose 0.25 --slices 8

writes OUT/<name>_degraded.nii.gz and OUT/<name>_reference.nii.gz, contiguous slices of each scan's middle.
With `--reference-noise 30` the references are first brought to 30 HU of noise, as thin slices of a full-dose
scan have it: pairs as hard as real ones of quarter and full dose. With `--phantom SCAN` the noise is real,
from a uniform body phantom.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import astra
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from cases import HELD_OUT
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.bank import own_noise, soft_tissue
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu

#: ASTRA's own filters, from sharp to soft, one a scan in turn; the number is the cut-off in units of Nyquist.
FILTERS = (("shepp-logan", 1.0), ("hann", 1.0), ("cosine", 0.85), ("hamming", 0.7), ("hann", 0.8))
ELECTRONIC_VARIANCE = 30.0
#: Rows and columns that lie inside of the uniform phantom on every slice.
PHANTOM_WINDOW = (128, 220)


class FanBeam:
    """Flat-detector fan beam of a clinical scanner's distances, on one slice."""

    def __init__(self, rows: int, columns: int, pixel_mm: float, views: int = 900) -> None:
        source, detector = 541.0, 408.0
        radius = math.hypot(rows, columns) * pixel_mm / 2
        pitch = 0.95 * pixel_mm * (source + detector) / source
        half = math.tan(math.asin(min(0.95, radius / source))) * (source + detector)
        count = 2 * math.ceil(half / pitch) + 1
        angles = np.linspace(0, 2 * math.pi, views, endpoint=False)
        self.volume = astra.create_vol_geom(
            rows,
            columns,
            -columns * pixel_mm / 2,
            columns * pixel_mm / 2,
            -rows * pixel_mm / 2,
            rows * pixel_mm / 2,
        )
        self.beam = astra.create_proj_geom("fanflat", pitch, count, angles, source, detector)
        self.projector = astra.create_projector("line_fanflat", self.beam, self.volume)
        self.source, self.iso_pitch = source, pitch * source / (source + detector)
        self.t = (np.arange(count) - (count - 1) / 2) * self.iso_pitch
        self.t = self.t[np.abs(self.t) < 0.98 * source]
        u = (np.arange(count) - (count - 1) / 2) * pitch * source / (source + detector)
        chord = 2 * np.sqrt(np.clip(150.0**2 - u**2, 0, None))
        self.bowtie = np.exp(-0.6 * MU_WATER_PER_MM * (300.0 - chord))

    def project(self, mu: np.ndarray) -> np.ndarray:
        identity, sinogram = astra.create_sino(mu.astype(np.float32), self.projector)
        astra.data2d.delete(identity)
        return sinogram

    def rebin(self, fan: np.ndarray) -> np.ndarray:
        """Parallel sinogram over half a turn: ray (phi, t) is fan ray (phi + gamma, R tan gamma), sin gamma
        = t / R."""
        views, count = fan.shape
        phi = np.arange(views)[:, None] * (2 * math.pi / views)
        gamma = np.arcsin(self.t / self.source)[None]
        view = (phi + gamma) / (2 * math.pi) * views
        column = self.source * np.tan(gamma) / self.iso_pitch + (count - 1) / 2
        coordinates = np.broadcast_arrays(view, column)
        padded = np.concatenate([fan[-64:], fan, fan[:64]])
        at = np.stack([np.mod(coordinates[0], views) + 64, coordinates[1]])
        full = map_coordinates(padded, at, order=1, mode="nearest")
        return (full[: views // 2] + full[views // 2 :, ::-1]) / 2

    def reconstruct(self, fan: np.ndarray, window: str, cutoff: float) -> np.ndarray:
        parallel = self.rebin(fan)
        angles = np.arange(len(parallel)) * (math.pi / len(parallel))
        beam = astra.create_proj_geom("parallel", float(self.t[1] - self.t[0]), len(self.t), angles)
        projector = astra.create_projector("linear", beam, self.volume)
        data = astra.data2d.create("-sino", beam, parallel.astype(np.float32))
        image = astra.data2d.create("-vol", self.volume)
        config = astra.astra_dict("FBP")
        config |= {"ProjectorId": projector, "ProjectionDataId": data, "ReconstructionDataId": image}
        config["option"] = {"FilterType": window, "FilterD": cutoff}
        algorithm = astra.algorithm.create(config)
        astra.algorithm.run(algorithm)
        result = astra.data2d.get(image)
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([data, image])
        astra.projector.delete(projector)
        return result


def noisy(sinogram: np.ndarray, photons: float, bowtie: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    air = photons * bowtie
    counts = rng.poisson(air * np.exp(-sinogram)) + rng.normal(0, ELECTRONIC_VARIANCE**0.5, sinogram.shape)
    return np.log(air / counts.clip(min=0.5))


def degrade(hu: np.ndarray, pixel_mm: float, sd: float, window: tuple[str, float], seed: int) -> np.ndarray:
    """`hu` `[z, y, x]` with noise of this SD added in soft tissue; the flux is found on the middle slice."""
    beam = FanBeam(*hu.shape[1:], pixel_mm)
    rng = np.random.default_rng(seed)

    def noise(image: np.ndarray, photons: float) -> np.ndarray:
        sinogram = beam.project(hu_to_mu(image).clip(min=0))
        difference = noisy(sinogram, photons, beam.bowtie, rng) - sinogram
        return beam.reconstruct(difference, *window) * (1000 / MU_WATER_PER_MM)

    middle, photons = hu[len(hu) // 2], 4e4
    mask = soft_tissue(middle)
    for _ in range(3):
        photons *= (noise(middle, photons)[mask].std() / sd) ** 2
    low = np.stack([image + noise(image, photons) for image in hu])
    return np.round(low.clip(-1024, 3071)).astype(np.float32)


def phantom_noise(hu: np.ndarray, slices: int, turn: int) -> np.ndarray:
    """Real noise `[slices, 128, 220]`, SD 1, from the inside of a uniform body phantom's scan `[z, y, x]`."""
    first = 8 + 10 * turn
    row, column = (hu.shape[1] - PHANTOM_WINDOW[0]) // 2, (hu.shape[2] - PHANTOM_WINDOW[1]) // 2
    noise = hu - gaussian_filter(hu, (0, 8, 8))
    noise = noise[first : first + slices, row:, column:][:, : PHANTOM_WINDOW[0], : PHANTOM_WINDOW[1]]
    return noise / noise.std()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dose", type=float, default=0.25)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument(
        "--reference-noise", type=float, default=0.0, help="HU that the references get, if they have less"
    )
    parser.add_argument("--phantom", type=Path, help="take real noise from this uniform phantom")
    parser.add_argument("--only", nargs="*", default=HELD_OUT, help="parts of the names of the scans to use")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for i, part in enumerate(arguments.only):
        (file,) = arguments.data.glob(f"*{part}*.nii.gz")
        volume = CTVolume.read(file)
        start = max(0, (len(volume.array) - arguments.slices) // 2)
        hu, window = volume.array[start : start + arguments.slices], FILTERS[i % len(FILTERS)]
        own, target = own_noise(hu), arguments.reference_noise
        if own < 0.9 * target:
            hu = degrade(hu, volume.spacing[0], math.sqrt(target**2 - own**2), window, seed=100 + i)
            own = own_noise(hu)
        added = own * math.sqrt(1 / arguments.dose - 1)
        if arguments.phantom is not None:
            row, column = ((n - m) // 2 for n, m in zip(hu.shape[1:], PHANTOM_WINDOW, strict=True))
            hu = hu[:, row : row + PHANTOM_WINDOW[0], column : column + PHANTOM_WINDOW[1]]
            noise = phantom_noise(CTVolume.read(arguments.phantom).array, len(hu), i)
            low = np.round((hu + added * noise).clip(-1024, 3071)).astype(np.float32)
        else:
            low = degrade(hu, volume.spacing[0], added, window, seed=17 + i)
        name = file.name.removesuffix(".nii.gz")
        for kind, array in (("degraded", low), ("reference", hu)):
            pair = CTVolume(array, volume.spacing, volume.origin, volume.direction, {})
            pair.write(arguments.out / f"{name}_{kind}.nii.gz")
        rmse = float(np.sqrt(np.mean((low.clip(-1000, 1000) - hu.clip(-1000, 1000)) ** 2)))
        print(
            f"{name}: own noise {own:.1f} HU, added RMSE {rmse:.1f} HU, {len(hu)} slices",
            flush=True,
        )


if __name__ == "__main__":
    main()
