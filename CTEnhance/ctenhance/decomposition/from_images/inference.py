"""The verb for images: series at two or more energies in, maps of materials and spectral images out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ctenhance.choices import BASIS
from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.stack import ImageStack
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition import images as spectral
from ctenhance.decomposition import products
from ctenhance.decomposition.from_images import checks
from ctenhance.decomposition.from_images import noise as noises
from ctenhance.decomposition.from_images.attenuation import (
    Attenuation,
    Table,
    attenuation_of,
    require_distinct,
)
from ctenhance.decomposition.from_images.energies import Energy, different
from ctenhance.decomposition.from_images.estimate import ImageDecomposer
from ctenhance.decomposition.from_images.options import HU, ImageDecomposeOptions
from ctenhance.decomposition.from_images.plausibility import Impossible, Negatives, doubts_of_table
from ctenhance.files.dicom.units import VIRTUAL
from ctenhance.options import chosen
from ctenhance.runtime.device import pick_device
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check, silent

#: Where volume is conserved, voxels below this attenuation relative to water are mostly air: they hold the
#: first material alone.
_MOSTLY_AIR = 0.7
#: What counts as the object where residuals are told, relative to water.
_BODY = 0.5
#: So many slices at least, or all, are looked at without the bound at zero.
_LOOKED_AT = 8
#: Misfit in standard deviations of the noise above which the user is told.
LARGE_MISFIT = 2.0


def decompose_images(
    images: Mapping[str, CTVolume] | Mapping[float, CTVolume] | Mapping[str | float, CTVolume],
    *,
    basis: Sequence[str] = BASIS,
    vmi: Sequence[float] = (),
    low_noise: bool = False,
    guided_maps: bool = False,
    vnc: bool = False,
    zeff: bool = False,
    electron_density: bool = False,
    errors: bool = False,
    residual: bool = False,
    attenuation: Table | None = None,
    unit: str = HU,
    noise: Sequence[float] | np.ndarray | None = None,
    nonnegative: bool = False,
    conserve_volume: bool = False,
    at_most: int | None = None,
    resample: bool = False,
    tolerance_mm: float = 1.0,
    apart_s: float = 10.0,
    energies_as_given: bool = False,
    body_mm: float = 200.0,
    device: str = "auto",
    seed: int = 0,
    options: ImageDecomposeOptions | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Result:
    """Decompose images of one scan at two or more energies: `.volumes` and `.maps` as `decompose` gives them.

    `images`: volumes by energy: 40 or "40" (keV), "80kV", "Sn140kV", or a bin's name. `basis` and what is
    made of its maps (`vmi` to `errors`) are as in `decompose`, up to five materials; `residual` adds `.maps`
    "residual": by how many standard deviations of the noise the basis fails to explain the images.
    `attenuation`: mass attenuations in cm²/g by image and material, or spectra by image (`read_table`),
    needed for bins and used for all images where given. `unit` of the values: HU, 1/cm or 1/mm. `noise`: a
    standard deviation in HU for each image, or a covariance in HU²; measured in uniform regions otherwise.
    `nonnegative`: no density below zero; `conserve_volume`: partial volumes (density by that of the pure
    material) add up to one, except in voxels mostly of air, which hold the first material alone; `at_most`:
    so many materials in one voxel, the likeliest ones. `resample`: onto the grid of the first image;
    `tolerance_mm`: how far they may lie apart. Of volumes from DICOM, `apart_s`: how many seconds they may be
    apart; `energies_as_given`: even where their headers tell others. `body_mm`: water that hardens the beam
    of images at a tube voltage or of a spectrum. Nothing is drawn by the `seed`. `options`: all of these but
    the table and the noise in one object.
    Raises InputError for images that do not belong together and for what they cannot tell, Cancelled when
    asked to stop."""
    options = chosen(
        options,
        ImageDecomposeOptions(
            basis=basis,
            vmi=vmi,
            low_noise=low_noise,
            guided_maps=guided_maps,
            vnc=vnc,
            zeff=zeff,
            electron_density=electron_density,
            errors=errors,
            residual=residual,
            unit=unit,
            nonnegative=nonnegative,
            conserve_volume=conserve_volume,
            at_most=at_most,
            resample=resample,
            tolerance_mm=tolerance_mm,
            apart_s=apart_s,
            energies_as_given=energies_as_given,
            body_mm=body_mm,
            device=device,
            seed=seed,
        ),
    )
    tell = progress or silent
    energies = [Energy.of(label) for label in images]
    different(energies)
    how = attenuation_of(energies, options.basis, attenuation, options.body_mm)
    products.check_possible(how.materials, options)
    distinct = require_distinct(how, options.conserve_volume)
    selected = pick_device(options.device)
    origin = {"from_images": [one.label for one in energies], "table": attenuation is not None}
    report = ReportBuilder("decompose", options.settings() | origin, selected, options.seed)
    for doubt in doubts_of_table(how) if isinstance(attenuation, Mapping) else ():
        report.warn(doubt)
    with report.stage("check"):
        scene = _Scene.of(list(images.values()), how, options, report)
        check(cancel)
    with report.stage("noise"):
        covariance, regions = _covariance(scene, noise)
        if regions == 0 and noise is None:
            if options.errors or options.residual:
                raise InputError(
                    "No region of the images is uniform enough to measure their noise, which errors and "
                    "residual need: give it (--noise)."
                )
            report.warn("No region is uniform enough to measure noise in: all images count alike.")
    solver = _Solver(how, covariance, options)
    stack = ImageStack(scene.volumes[0].array.shape)
    sums = _Residuals(len(energies))
    doubts = (
        Negatives(how, solver.errors[0]),
        Impossible(how, solver.errors[0], options.conserve_volume),
    )
    # Densities that may not be below zero show no doubt: some slices are estimated without the bound, too.
    unbound = replace(options, nonnegative=False, residual=False)
    free = _Solver(how, covariance, unbound) if options.nonnegative else None
    every = max(1, stack.shape[0] // _LOOKED_AT)
    for index in range(stack.shape[0]):
        check(cancel)
        with report.stage("decompose"):
            values = scene.values(index).to(selected)
            maps, sets = solver(values)
            misfit = solver.misfit(values, maps)
            body = values.mean(0) > _BODY
            sums.add(solver.full.residual(values, maps), misfit, body)
            if free is None or index % every == 0:
                looked_at = maps if free is None else free(values)[0]
                for doubtful in doubts:
                    doubtful.add(looked_at, body)
        with report.stage("images"):
            products.put_images(stack, index, maps, how.materials, options)
            if options.residual and misfit is not None:
                stack.put("residual", index, misfit)
            if options.errors:
                scale = noises.local_scale(1000 * (values - 1), solver.noise)
                errors_here = solver.errors.to(scale)[sets.long()] * scale[..., None]
                for one, image in zip(how.materials, errors_here.unbind(-1), strict=True):
                    stack.put(f"{one.name}_sd", index, image)
        tell("decompose", index + 1, stack.shape[0])
    report.details["viewing"] = spectral.viewing_table(how.materials)
    if options.guided_maps or (options.low_noise and options.vmi):
        with report.stage("low noise"):
            quiet = products.put_low_noise(stack, how.materials, options, selected, tell, cancel)
        report.details["viewing"]["quiet_keV"] = quiet
    _tell(report, how, distinct, solver, regions, sums, scene)
    for doubtful in doubts:
        for sentence in doubtful.sentences():
            report.warn(sentence if free is None else f"Hidden by --nonnegative: {sentence}")
    densities = {one.name for one in how.materials}
    volumes = {
        name: scene.volumes[0].with_array(array, notes=[], **_unit(name, densities))
        for name, array in stack.arrays.items()
    }
    about = {name: volumes.pop(name) for name in list(volumes) if name.endswith(products.MAP_ENDINGS)}
    if "residual" in volumes:
        about["residual"] = volumes.pop("residual")
    return Result(volumes=volumes, maps=about, report=report.finish())


def _unit(name: str, materials: set[str]) -> dict[str, str]:
    """What says of a density that it is no CT in HU."""
    return {"unit": "mg/ml"} if name in materials or name.endswith(products.MAP_ENDINGS) else {}


@dataclass(frozen=True)
class _Scene:
    """The images on one grid; `to_relative` are factor and offset that make values relative to water's."""

    volumes: list[CTVolume]
    to_relative: list[tuple[float, float]]
    shifts: list[float]

    @classmethod
    def of(
        cls,
        given: Sequence[CTVolume],
        how: Attenuation,
        options: ImageDecomposeOptions,
        report: ReportBuilder,
    ) -> _Scene:
        """Check all that can be wrong with images; raises InputError, and tells the rest to the report."""
        energies = how.energies
        checks.require_one_scan(given, energies, options.apart_s)
        sources = checks.energies_from(given, energies, options.energies_as_given)
        report.details["energies_from"] = sources
        checks.require_unit(given, energies, options.unit)
        volumes, notes = checks.on_one_grid(given, energies, options.resample)
        for volume, energy in zip(given, energies, strict=True):
            for note in map(str, volume.meta.get("notes", [])):
                if not note.startswith(VIRTUAL):  # such images are what is asked for
                    report.warn(f"The image at {energy}: {note}")
        for note in (*checks.differences(given, energies), *notes):
            report.warn(note)
        per_cm = checks.PER_CM_OF[options.unit]
        scale = [(1e-3, 1.0) if per_cm is None else (per_cm / float(water), 0.0) for water in how.water]
        if per_cm is not None:
            checks.require_attenuation(volumes, scale, energies)
        checks.require_others(volumes, scale, energies)
        some = [
            1000 * (factor * v.array[:: checks.step(v.array)] + offset - 1)
            for v, (factor, offset) in zip(volumes, scale, strict=True)
        ]
        shifts = checks.same_object(some, how, volumes[0].spacing)
        for index, volume in enumerate(volumes[1:]):
            scales = (scale[0], scale[index + 1])
            along = checks.slices_apart(volumes[0].array, volume.array, scales) * volume.spacing[2]
            shifts[index] = math.hypot(shifts[index], along)
        checks.require_registered(shifts, energies, options.tolerance_mm)
        rank, most = noises.independent_images(some), len(how.materials) - options.conserve_volume
        if rank < most:
            raise InputError(
                f"The {len(energies)} images are made of {rank}, as monoenergetic images of one dual-energy "
                f"scan are: name at most {rank + options.conserve_volume} basis materials."
            )
        report.input = {
            **volumes[0].identity(),
            "images": {one.label: v.identity() for one, v in zip(energies, given, strict=True)},
        }
        return cls(volumes, scale, shifts)

    def values(self, index: int) -> torch.Tensor:
        """Slice `index` of all images, relative to water, float32 `[image, row, column]`."""
        planes = [
            torch.from_numpy(volume.array[index]) * factor + offset
            for volume, (factor, offset) in zip(self.volumes, self.to_relative, strict=True)
        ]
        return torch.stack(planes)

    def sample(self, most: int) -> list[np.ndarray]:
        """Some slices of each image in HU."""
        step = max(1, len(self.volumes[0].array) // most)
        return [
            np.asarray(1000 * (factor * volume.array[::step] + offset - 1), dtype=np.float32)
            for volume, (factor, offset) in zip(self.volumes, self.to_relative, strict=True)
        ]


class _Solver:
    """The estimate, with what else it needs where volume is conserved."""

    def __init__(self, how: Attenuation, covariance: np.ndarray, options: ImageDecomposeOptions) -> None:
        self.noise = torch.from_numpy(covariance)
        noise = self.noise / 1e6
        model = noise + (noises.MODEL_HU / 1000) ** 2 * torch.eye(len(noise), dtype=torch.float64)
        densities = torch.tensor([one.density for one in how.materials], dtype=torch.float64)
        self.full = ImageDecomposer(
            how.relative,
            model,
            densities if options.conserve_volume else None,
            options.nonnegative,
            options.at_most,
        )
        self.thin: ImageDecomposer | None = None
        if options.conserve_volume:
            self.thin = ImageDecomposer(how.relative[:, :1], model, None, options.nonnegative)
        if options.residual and self.full.spare < 1:
            self.full.misfit(torch.zeros(len(noise)), torch.zeros(len(densities)))  # raises the sentence
        #: Standard errors in mg/mL by set of materials `[set, material]`.
        self.errors = 1000 * self.full.standard_errors(noise)

    def __call__(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Densities in g/cm³ `[material, row, column]` of a slice, and the set of materials of each pixel."""
        found, sets = self.full.estimate_sets(values)
        if self.thin is not None:
            airy = values.mean(0) < _MOSTLY_AIR
            found[0, airy] = self.thin.estimate(values[:, airy])[0]
            found[1:, airy] = 0
        return found, sets

    def misfit(self, values: torch.Tensor, maps: torch.Tensor) -> torch.Tensor | None:
        """The misfit, None where there are no more images than unknowns."""
        return self.full.misfit(values, maps) if self.full.spare > 0 else None


class _Residuals:
    """Sums over the object's voxels: residuals by image, and the misfit."""

    def __init__(self, n_images: int) -> None:
        self.count = 0
        self.total, self.square = (torch.zeros(n_images, dtype=torch.float64) for _ in range(2))
        self.misfit: float | None = None

    def add(self, residual: torch.Tensor, misfit: torch.Tensor | None, body: torch.Tensor) -> None:
        inside = residual[:, body].double().cpu()
        self.total += inside.sum(1)
        self.square += inside.square().sum(1)
        self.count += inside.shape[1]
        if misfit is not None:
            self.misfit = (self.misfit or 0.0) + float(misfit[body].double().square().sum())

    def by_image(self, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """Mean and root mean square in HU, by image."""
        n = max(self.count, 1)
        return {
            label: {"mean_HU": 1000 * float(total) / n, "rms_HU": 1000 * float(square / n) ** 0.5}
            for label, total, square in zip(labels, self.total, self.square, strict=True)
        }


def _covariance(scene: _Scene, noise: Sequence[float] | np.ndarray | None) -> tuple[np.ndarray, int]:
    """The noise's covariance in HU², and in how many regions it was measured."""
    n_images = len(scene.volumes)
    if noise is not None:
        return noises.given_covariance(noise, n_images), 0
    found, regions = noises.measured_covariance(scene.sample(noises.MOST_SLICES), scene.volumes[0].spacing)
    return found, regions


def _tell(
    report: ReportBuilder,
    how: Attenuation,
    distinct: torch.Tensor,
    solver: _Solver,
    regions: int,
    sums: _Residuals,
    scene: _Scene,
) -> None:
    labels = [one.label for one in how.energies]
    names = [one.name for one in how.materials]
    details: dict[str, Any] = {
        "attenuation_cm2_per_g": {
            label: dict(zip(names, row.tolist(), strict=True))
            for label, row in zip(labels, how.mass, strict=True)
        },
        "distinctness": dict(zip(names, distinct.tolist(), strict=True)),
        "noise_HU": dict(zip(labels, solver.noise.diagonal().sqrt().tolist(), strict=True)),
        "noise_covariance_HU2": solver.noise.tolist(),
        "noise_regions": regions,
        "standard_error_mg_ml": dict(zip(names, solver.errors[0].tolist(), strict=True)),
        "residual": sums.by_image(labels),
        "apart_mm": dict(zip(labels[1:], scene.shifts, strict=True)),
    }
    if sums.misfit is not None:
        misfit = (sums.misfit / max(sums.count, 1)) ** 0.5
        details["misfit"] = misfit
        if misfit > LARGE_MISFIT:
            report.warn(
                f"The basis does not explain the images (misfit {misfit:.1f} times noise): a material is "
                "missing, or the attenuations are not those of these images; see the residual."
            )
    report.details.update(details)
