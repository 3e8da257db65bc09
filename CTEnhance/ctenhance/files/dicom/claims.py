"""Whether a volume can be what it is to be written as: by values, its run's report and its file's name."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ctenhance.core.hounsfield import require_hounsfield
from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.derivation import Derivation
from ctenhance.runtime.errors import InputError

Warn = Callable[[str], None]

#: Fewer voxels tell nothing.
_FEWEST, _SAMPLE = 4096, 500_000
#: Air in HU: so much near -1000, and so much more than at either side.
_AIR, _BELOW_AIR, _ABOVE_AIR, _LEAST_AIR, _CLEARLY = (-1100, -900), (-1500, -1300), (-700, -500), 0.02, 2.0
#: Effective atomic numbers and relative electron densities of bodies, and what more lies elsewhere in no map.
_Z, _DENSITY, _MOST_OUTSIDE = (-1.0, 100.0), (-5.0, 30.0), 0.01
_LEAST_Z_OF_BODY, _MOST_DENSITY_OF_BODY = 3.0, 3.0
#: mg/mL of an agent that no body has in so much of it.
_AGENTS, _MOST_AGENT, _MOST_SHARE = ("iodine", "gadolinium", "barium", "gold", "xenon"), 400.0, 0.05
_LEAST_NOISE = 0.1
#: What holds less water than this, in mg/mL, nearly everywhere is none of a body.
_LEAST_WATER = 100.0
_ROUNDED_KEV = 0.06  # in files' names
_ONLY_HU = ("enhance", "degrade", "reconstruct")
_NO_IMAGE = ("compare", "compare-maps", "dicom", "film", "project", "simulate")
_OF_HU = ("hu", "vmi", "vnc")
_VMI = re.compile(r"(?:^|[^a-z0-9])vmi[_ -]?(\d+(?:\.\d+)?)(?:kev)?(?![\d.]*\d)", re.I)
_NAMED = {
    "vnc": ("vnc", "a virtual non-contrast image"), "zeff": ("zeff", "a map of effective atomic numbers"),
    "electron_density": ("electron-density", "a map of electron densities"), "residual": ("", "a residual"),
}  # fmt: skip


def require_true(volume: CTVolume, derivation: Derivation, name: str = "", warn: Warn | None = None) -> None:
    """Raise InputError where a volume is clearly not what it is to be called, by its values [z, y, x], by the
    report of its run, or, beside that report, by the `name` that the run gave its file; `warn` hears the
    rest."""
    tell = warn or (lambda sentence: None)
    _ask_report(derivation, tell)
    _ask_grid(volume, derivation, tell)
    _ask_name(derivation, name, tell)
    if volume.array.size < _FEWEST:
        return
    sample = volume.array.reshape(-1)[:: volume.array.size // _SAMPLE | 1].astype(np.float32)
    if derivation.quantity in _OF_HU:
        try:
            require_hounsfield(volume.array)
        except InputError as error:
            what = f"The volume to be written as a {_called(derivation)} is hardly one in HU: {error}"
            if derivation.verb == "decompose":
                raise InputError(f"{what} If it is a map, say of what with --quantity.") from error
            tell(what)
        return
    if _has_air_in_hu(sample):
        said = (
            f"The volume is no {_called(derivation)}: its values have air at -1000, as Hounsfield units do; "
            "write it as what it is (--quantity hu, vmi or vnc)."
        )
        if derivation.verb:
            raise InputError(said)
        tell(said)  # without a report the user's word stands
        return
    if said := _odd_values(sample, derivation):
        raise InputError(f"The volume is no {_called(derivation)}: {said}; write it as what it is.")
    if derivation.material in _AGENTS and float(np.mean(sample > _MOST_AGENT)) > _MOST_SHARE:
        tell(
            f"{100 * float(np.mean(sample > _MOST_AGENT)):.0f} % of the volume has more than "
            f"{_MOST_AGENT:g} mg/mL of {derivation.material}, as no body has: make sure that it is its map."
        )
    most = float(np.percentile(np.abs(sample), 99.99))
    if derivation.material in _AGENTS and 0 < most < _LEAST_NOISE:
        tell(
            f"Nothing in the volume has more than {most:.2g} mg/mL of {derivation.material}, less than any "
            "map's noise: make sure that it is in mg/mL, and not in g/mL."
        )
    if derivation.material == "water" and float(np.percentile(sample, 99.5)) < _LEAST_WATER:
        tell(
            f"Hardly anything in the volume has more than {float(np.percentile(sample, 99.5)):.3g} mg/mL of "
            "water, as no body has: make sure that it is its map, and in mg/mL."
        )


def _called(derivation: Derivation) -> str:
    return {
        "hu": "CT", "vmi": f"monoenergetic image at {derivation.kev or 0:g} keV",
        "vnc": "virtual non-contrast image", "density": f"map of {derivation.material} in mg/mL",
        "zeff": "map of effective atomic numbers",
        "electron-density": "map of electron densities relative to water",
    }[derivation.quantity]  # fmt: skip


def _ask_report(derivation: Derivation, tell: Warn) -> None:
    verb, quantity = derivation.verb, derivation.quantity
    if verb in _ONLY_HU and quantity not in _OF_HU:
        raise InputError(
            f"The report is of '{verb}', whose results are in HU, and not of a {_called(derivation)}: say "
            "what it is, or give its own report."
        )
    settings = derivation.report.get("settings") or {}
    if verb in _NO_IMAGE or verb.startswith("calibrate"):
        tell(f"The report is of '{verb}', which makes no image: give that of the run that made the volume.")
    if verb != "decompose":
        return
    if quantity == "hu":
        tell(
            "The report is of a decomposition, which makes monoenergetic and non-contrast images, but no CT "
            "as scanned: say what the image is with --quantity."
        )
    vmi_kev = settings.get("vmi")
    if (
        quantity == "vmi"
        and isinstance(vmi_kev, list | tuple)
        and derivation.kev not in [float(one) for one in vmi_kev]
    ):
        energies = ", ".join(f"{float(one):g}" for one in vmi_kev)
        what = f"images at {energies} keV, none" if vmi_kev else "no monoenergetic image, and none"
        tell(
            f"The run of the report made {what} at {derivation.kev:g} keV: make sure of the image's energy "
            "and that the report is its own."
        )
    if quantity == "vmi" and vmi_kev and bool(settings.get("low_noise")) is not derivation.low_noise:
        other = "not of low noise" if derivation.low_noise else "of low noise: say so with --low-noise"
        tell(f"The monoenergetic images of the report's run are {other}.")
    asked = {"vnc": "vnc", "zeff": "zeff", "electron-density": "electron_density"}.get(quantity)
    if asked and settings.get(asked) is False:
        tell(f"The run of the report made no {_called(derivation)}: make sure that the report is its own.")


def _ask_grid(volume: CTVolume, derivation: Derivation, tell: Warn) -> None:
    """Of runs whose results have the input's grid."""
    if not (derivation.verb in ("enhance", "degrade") or derivation.from_images):
        return
    given = derivation.report.get("input") or {}
    shape, spacing = (given.get(one) for one in ("shape", "spacing"))
    same = not shape or list(shape) == list(volume.array.shape)
    if same and spacing:
        same = bool(np.allclose(spacing, volume.spacing, rtol=1e-3))
    if not same:
        sizes = [" x ".join(map(str, reversed(one))) for one in (shape or (), volume.array.shape)]
        tell(
            f"The report is of a run on other slices ({sizes[0]} voxels; the volume has {sizes[1]}, or "
            "others in mm): give the volume's own report."
        )


def _ask_name(derivation: Derivation, name: str, tell: Warn) -> None:
    """Compare with what runs name their files."""
    basis = {one.casefold().replace(" ", "_"): one for one in derivation.basis()}
    stem = name.casefold().split(".nii")[0].removesuffix(".nrrd").removesuffix(".mha").replace("-", "_")
    other = ""
    if found := _VMI.search(stem):
        kev = 0.0 if derivation.kev is None else derivation.kev
        if abs(float(found[1]) - kev) > _ROUNDED_KEV:
            other = f"a monoenergetic image at {float(found[1]):g} keV"
    elif named := next((named for ending, named in _NAMED.items() if _ends(stem, ending)), None):
        other = "" if named[0] == derivation.quantity else named[1]
    elif material := next((one for one in basis if _ends(stem, one) or _ends(stem, f"{one}_guided")), ""):
        same = derivation.quantity == "density" and (derivation.material or "").casefold() == basis[material]
        other = "" if same else f"a map of {basis[material]}"
    elif any(_ends(stem, f"{one}_sd") for one in basis):
        other = "a map of standard errors"
    if not other:
        return
    if derivation.verb == "decompose":
        raise InputError(
            f"'{name}' is {other} by the name that the report's run gives its files, and no "
            f"{_called(derivation)}: say what it is, or rename it if it is something else."
        )
    tell(f"'{name}' is {other} by its name: make sure that it is a {_called(derivation)}.")


def _ends(stem: str, ending: str) -> bool:
    return stem == ending or stem.endswith(f"_{ending}")


def _has_air_in_hu(sample: np.ndarray) -> bool:
    air, below, above = (_share(sample, *ends) for ends in (_AIR, _BELOW_AIR, _ABOVE_AIR))
    return air > max(_LEAST_AIR, _CLEARLY * below, _CLEARLY * above)


def _odd_values(sample: np.ndarray, derivation: Derivation) -> str:
    """What in the values no map of a quantity has, in words; '' for all that may be one."""
    if derivation.quantity not in ("zeff", "electron-density"):
        return ""
    low, high = _Z if derivation.quantity == "zeff" else _DENSITY
    outside = 1 - _share(sample, low, high)
    ends = f"{float(sample.min()):.4g} to {float(sample.max()):.4g}"
    if outside > _MOST_OUTSIDE:
        return f"its values run from {ends}, and {100 * outside:.0f} % lie where none is"
    least = 0.3 * float(np.percentile(sample, 99))
    typical = float(np.median(sample[sample > least])) if least > 0 else 0.0
    if derivation.quantity == "zeff" and 0 < typical < _LEAST_Z_OF_BODY:
        return f"matter has {typical:.2g} in it, and water's is 7.4"
    if derivation.quantity == "electron-density" and typical > _MOST_DENSITY_OF_BODY:
        return f"matter has {typical:.2g} in it, and water's is 1"
    return ""


def _share(values: np.ndarray, low: float, high: float) -> float:
    return float(np.mean((values >= low) & (values <= high)))
