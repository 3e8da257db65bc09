"""The figures that are taken from a method's slices of a patient."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from cases import Case
from ctenhance.quality.flicker import flicker
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.metrics import ssim, to_window
from ctenhance.quality.noise import noise
from ctenhance.quality.sharpness import sharpness
from ctenhance.quality.tissue import tissue_bias
from methods import OURS, Done, Kept, Method, Ours

Array = np.ndarray
#: A model ready to run: from a volume HU `[z, y, x]` and z to that slice `[y, x]`.
Enhancer = Callable[[Array, int], Array]

#: Pixels of the slice that the speed target is given for.
PIXELS_512 = 512 * 512
#: Level and width in HU of the windows of PSNR and SSIM: ±1000 HU, -160 … 240 as low-dose papers have it.
WINDOWS = {"full": (0.0, 2000.0), "abdomen": (40.0, 400.0), "lung": (-600.0, 1500.0)}
#: The patient, not the air around.
BODY_HU = -900.0
#: Shares of the normal distribution that intervals are looked at for, and their reach in SD to each side.
LEVELS = {0.5: 0.6745, 0.68: 0.9945, 0.8: 1.2816, 0.9: 1.6449, 0.95: 1.96, 0.99: 2.5758}


def say(text: str) -> None:
    """One line on how far it is, beside the tables and not in them."""
    print(text, file=sys.stderr, flush=True)


class Measuring:
    """A patient, and what all methods are measured with on it."""

    def __init__(self, case: Case) -> None:
        self.case = case

    @cached_property
    def guide(self) -> Array:
        """The smoothed reference, which says where tissues are."""
        return smoothed_guide({"reference": self.case.reference}, self.case.spacing)

    def figures(self, method: Method, done: Done) -> dict[str, Any]:
        """All that is measured of a method."""
        record: dict[str, Any] = {"kind": method.kind, "setting": done.setting, "seconds": done.seconds}
        if done.seconds is not None:
            record["seconds_per_512"] = done.seconds * PIXELS_512 / self.case.degraded[0].size
        record |= self._likeness(done.images)
        record["bias"] = self._bias(done.images)
        record |= self._noise_and_edges(done.images)
        if method.kind == OURS:
            record["nps_distance_without"] = self._left_out(done.images)
        if done.spread:
            record["coverage"] = self._coverage(done)
        if isinstance(method, Ours) and method.draws == 1 and method.kind == OURS:
            record |= self._only_ours(method.for_volume(self.case.spacing[2]), done.images)
        return record

    def _likeness(self, images: Mapping[int, Array]) -> dict[str, Any]:
        """PSNR (dB) and SSIM by slice, in each window: `psnr`, `ssim`, and with the window's name behind."""
        result: dict[str, Any] = {}
        for name, window in WINDOWS.items():
            end = "" if name == "full" else f"_{name}"
            pairs = {
                z: (to_window(image, *window), to_window(self.case.reference[z], *window))
                for z, image in images.items()
            }
            result[f"psnr{end}"] = {
                str(z): float(-10 * np.log10(max(np.mean((a - b) ** 2, dtype=np.float64), 1e-12)))
                for z, (a, b) in pairs.items()
            }
            result[f"ssim{end}"] = {str(z): ssim(*pair) or 0.0 for z, pair in pairs.items()}
        return result

    def _bias(self, images: Mapping[int, Array]) -> dict[str, dict[str, float | None]]:
        """Mean HU by tissue, less the input's (`to_input`) and less the reference's (`to_reference`)."""
        at = sorted(images)
        volumes = {
            "before": self.case.degraded[at],
            "after": np.stack([images[z] for z in at]),
            "reference": self.case.reference[at],
        }
        found = tissue_bias(volumes, self.guide[at], self.case.spacing)
        return {
            tissue: {"to_input": values["change_HU"], "to_reference": values["after_bias_HU"]}
            for tissue, values in found.items()
            if values is not None
        }

    def _noise_and_edges(self, images: Mapping[int, Array]) -> dict[str, Any]:
        """Noise SD in soft tissue, the distance of its spectrum's shape from the reference's, and MTF50 as a
        share of the reference's."""
        at = sorted(images)
        volumes = {"after": np.stack([images[z] for z in at]), "reference": self.case.reference[at]}
        found = noise(volumes, self.guide[at], self.case.spacing)
        soft, spectra = found["soft"], found["nps"]
        record: dict[str, Any] = {
            "noise_hu": soft and soft["after_HU"],
            "reference_noise_hu": soft and soft["reference_HU"],
            "nps_distance": spectra and shape_distance(*(spectra[key]["nps_HU2mm2"] for key in volumes)),
            "mtf50_share": {},
        }
        spacing = (*self.case.spacing[:2], self.case.stride_mm)
        for kind, edges in sharpness(volumes, self.guide[at], spacing).items():
            here, truth = ((edges or {}).get(key, {}).get("mtf50_per_mm") for key in ("after", "reference"))
            if here and truth:
                record["mtf50_share"][kind] = here / truth
        return record

    def _left_out(self, images: Mapping[int, Array]) -> dict[str, float]:
        """The NPS distance with each slice left out in turn, by that slice: what its jackknife needs."""
        found = {}
        for z in images if len(images) > 2 else ():
            at = [other for other in sorted(images) if other != z]
            volumes = {"after": np.stack([images[k] for k in at]), "reference": self.case.reference[at]}
            spectra = noise(volumes, self.guide[at], self.case.spacing)["nps"]
            if spectra:
                found[str(z)] = shape_distance(*(spectra[key]["nps_HU2mm2"] for key in volumes))
        return found

    def _coverage(self, done: Done) -> dict[str, Any]:
        """The share of the patient's pixels whose reference lies within the interval of each level, and RMS
        spread and error by fifths of the spread, from the least."""
        errors, spreads = [], []
        for z, sd in done.spread.items():
            body = self.case.reference[z] > BODY_HU
            errors.append(np.abs(self.case.reference[z] - done.images[z])[body])
            spreads.append(np.maximum(sd[body], 1e-3))
        error, spread = np.concatenate(errors), np.concatenate(spreads)
        order = np.array_split(np.argsort(spread), 5)
        return {
            "levels": {str(level): float(np.mean(error < reach * spread)) for level, reach in LEVELS.items()},
            "factor_90": float(np.quantile(error / spread, 0.9) / LEVELS[0.9]),
            "fifths": [
                {
                    "spread_hu": float(np.sqrt(np.mean(spread[part] ** 2))),
                    "error_hu": float(np.sqrt(np.mean(error[part] ** 2))),
                }
                for part in order
            ],
        }

    def _only_ours(self, enhancer: Enhancer, done: Mapping[int, Array]) -> dict[str, Any]:
        """What is asked of the project's own models alone: clean inputs stay, neighbouring slices agree."""
        case = self.case
        run = list(case.contiguous)
        volumes = {
            "before": case.degraded[run],
            "after": np.stack([done[z] if z in done else enhancer(case.degraded, z) for z in run]),
            "reference": case.reference[run],
        }
        x, y, z = case.spacing
        return {
            "clean": _change(enhancer, case.reference, case.spacing, case.chosen),
            "quiet": _change(enhancer, quiet_copy(case.reference), (2 * x, 2 * y, z), case.chosen),
            "flicker": flicker(volumes, self.guide[run], case.spacing),
        }


def measure_case(
    source: str, case: Case, methods: Sequence[Method], kept: Kept
) -> tuple[dict[str, Any], dict[str, dict[int, Array]]]:
    """Run every method on a patient, or take what an earlier run has kept.

    Returns the patient's figures (JSON-able; see `tables.py` for what becomes of them) and each method's
    slices by their index.
    """
    measuring = Measuring(case)
    images: dict[str, dict[int, Array]] = {}
    records: dict[str, dict[str, Any]] = {}
    for method in methods:
        found = kept.get(source, case, method)
        if found is None:
            say(f"  {method.label}")
            done = method.run(case)
            found = done, measuring.figures(method, done)
            kept.put(source, case, method, *found)
        images[method.label], records[method.label] = found[0].images, found[1]
    facts = {
        "name": case.name,
        "matrix": list(case.degraded.shape[1:]),
        "spacing_mm": list(case.spacing),
        "slices": list(case.chosen),
        "methods": records,
    }
    return facts, images


def shape_distance(spectrum: Sequence[float], reference: Sequence[float]) -> float:
    """Half the sum of absolute differences of two radial spectra, each with a sum of 1."""
    here, truth = (np.asarray(values) / np.sum(values) for values in (spectrum, reference))
    return float(0.5 * np.abs(here - truth).sum())


def quiet_copy(array: Array) -> Array:
    """A scan `[z, y, x]` with about a third of the noise: 2 x 2 pixels and 3 slices averaged."""
    rows, columns = (n // 2 * 2 for n in array.shape[1:])
    cut = array[:, :rows, :columns].reshape(len(array), rows // 2, 2, columns // 2, 2).mean((2, 4))
    return ndimage.uniform_filter1d(cut, 3, axis=0, mode="nearest")


def _change(
    enhancer: Enhancer, array: Array, spacing: tuple[float, float, float], chosen: Sequence[int]
) -> dict[str, Any]:
    """SD of what enhancing a clean scan `[z, y, x]` changes in flat soft tissue, and its own noise there."""
    at = list(chosen)
    guide = smoothed_guide({"reference": array}, spacing)
    volumes = {"before": array[at], "after": np.stack([enhancer(array, z) for z in at])}
    soft = tissue_bias(volumes, guide[at], spacing)["soft"]
    own = noise({"before": array}, guide, spacing)["soft"]  # of all slices: a few have too few regions
    return {"change_sd_hu": soft and soft["change_sd_HU"], "noise_hu": own and own["before_HU"]}
