"""Chains of degradation steps: named, drawn for a volume, applied, reported and replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch

from ctenhance.core.padding import padding_to_air
from ctenhance.core.volume import CTVolume
from ctenhance.degradation.dose import Dose
from ctenhance.degradation.image_steps import Clip, Kernel, SliceThickness
from ctenhance.degradation.presets import PAPER_PRESETS, routine
from ctenhance.degradation.projection_steps import BeamHardening, Motion, Ring, SparseViews
from ctenhance.degradation.reconstruction import VIEWS, Reconstruction, matching
from ctenhance.degradation.slice_scan import SliceScan
from ctenhance.degradation.source_noise import OwnNoise, measure, overlap_thickness, overlap_weights
from ctenhance.degradation.steps import (
    Choice,
    Distribution,
    ProjectionStep,
    Step,
    Tick,
    VolumeInfo,
    VolumeStep,
    from_parameters,
    parameters,
    square_pixel_mm,
    stream,
)
from ctenhance.degradation.sumi_steps import (
    DirectionalStreak,
    FewViewReconstruction,
    GaussianNoise,
    PoissonNoise,
    Resolution,
    Zoom,
)
from ctenhance.options import DegradeOptions
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check

REPORT_VERSION = 1
_AIR_HU = -1000.0
KINDS: dict[str, type[Step]] = {
    kind.name: kind
    for kind in (
        SliceThickness,
        Motion,
        BeamHardening,
        Dose,
        Ring,
        SparseViews,
        Kernel,
        Clip,
        Resolution,
        PoissonNoise,
        GaussianNoise,
        DirectionalStreak,
        FewViewReconstruction,
        Zoom,
    )
}
# Roll-off in cycles/mm of the noise added to a volume without noise to match: a soft to a sharp kernel's.
_NOISELESS_ROLL_OFFS = Choice((0.28, 0.35, 0.6), (0.35, 0.5, 0.15))
# Key under which `degrade` keeps the drawn chain in its report.
REPORT_KEY = "degradation"


@dataclass(frozen=True)
class Chain:
    """Steps as distributions, in order; `simulates_scan`: whether drawing measures the volume's own noise."""

    name: str
    distributions: tuple[Distribution, ...]
    simulates_scan: bool

    @classmethod
    def preset(
        cls,
        name: str,
        dose: float | None = None,
        photons: float | None = None,
        clip: tuple[float, float] | None = None,
    ) -> Chain:
        """The chain called `name` (one of `choices.PRESETS`).

        Only `routine` takes options.  `dose`: fraction of the volume's own, above 0 and at most 1; None
        draws it. `photons`: per ray of the volume's own scan (see `Dose`); None estimates it from the
        volume's noise.  `clip`: HU range of the result; None leaves it open.  Raises InputError for unknown
        names and impossible values.
        """
        return cls.of(DegradeOptions(preset=name, dose=dose, photons=photons, clip=clip))

    @classmethod
    def of(cls, options: DegradeOptions) -> Chain:
        """The chain that the options ask for."""
        if options.preset in PAPER_PRESETS:
            return cls(options.preset, PAPER_PRESETS[options.preset](), False)
        return cls(options.preset, routine(options), True)

    def draw(self, volume: CTVolume, seed: int = 0) -> DrawnChain:
        """Draw every step's numbers for a volume.  The same volume and seed draw the same chain."""
        info = _scan_info(volume, seed) if self.simulates_scan else _plain_info(volume)
        steps = []
        for number, distribution in enumerate(self.distributions):
            rng, step_seed = _streams(seed, number)
            step = distribution.draw(rng, info)
            if step is not None:
                steps.append((step, step_seed))
                info = step.after(info)
        return DrawnChain(self.name, seed, tuple(steps), info.reconstruction)


@dataclass(frozen=True)
class DrawnChain:
    """Steps with their drawn numbers and a seed each, and how errors of projections are reconstructed."""

    name: str
    seed: int
    steps: tuple[tuple[Step, int], ...]
    reconstruction: Reconstruction

    def apply(
        self,
        volume: CTVolume,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
        cancel: Cancellable | None = None,
    ) -> CTVolume:
        """The degraded volume on the same grid, float32 HU.

        Padding outside the field of view (`padding.Padding`) counts as air, and is padding again in
        the end: no scanner puts noise there.  Only a chain that clips leaves it as air.  One copy of the
        volume is made and changed in place, slice by slice.  Raises Cancelled when asked to stop, and
        InputError where projections are to be simulated but the pixels are not square.
        """
        array = np.array(volume.array, dtype=np.float32, order="C")
        padding = padding_to_air(array, _AIR_HU)
        spacing = _spacing(volume)
        if any(isinstance(step, ProjectionStep) for step, _ in self.steps):
            square_pixel_mm(spacing)
        for across_slices, group in groupby(self.steps, lambda entry: isinstance(entry[0], VolumeStep)):
            if across_slices:
                for step, _ in group:
                    step.apply(array, _ticker(step.name, progress, cancel))  # type: ignore[attr-defined]
            else:
                self._slice_by_slice(array, list(group), spacing, torch.device(device), progress, cancel)
        if padding is not None and not any(isinstance(step, Clip) for step, _ in self.steps):
            for plane, original in zip(array, volume.array, strict=True):
                outside = padding.mask(original)
                plane[outside] = original[outside]
        thickened = [s for s, _ in self.steps if isinstance(s, SliceThickness) and len(s.weights) > 1]
        changed = {"slice_thickness_mm": thickened[-1].thickness_mm} if thickened else {}
        return volume.with_array(array, **changed)

    def _slice_by_slice(
        self,
        array: np.ndarray,
        steps: list[tuple[Step, int]],
        spacing: tuple[float, float, float],
        device: torch.device,
        progress: Progress | None,
        cancel: Cancellable | None,
    ) -> None:
        tick = _ticker("slices", progress, cancel)
        tick(0, len(array))
        for z in range(len(array)):
            image = array[z]
            for projected, group in groupby(steps, lambda entry: isinstance(entry[0], ProjectionStep)):
                if projected:
                    image = self._scan(image, z, list(group), square_pixel_mm(spacing), device, cancel)
                    continue
                for step, seed in group:
                    check(cancel)
                    image = step.apply(image, spacing[:2], stream(seed, z))  # type: ignore[attr-defined]
            array[z] = image
            tick(z + 1, len(array))

    def _scan(
        self,
        image: np.ndarray,
        index: int,
        steps: list[tuple[Step, int]],
        pixel_mm: float,
        device: torch.device,
        cancel: Cancellable | None,
    ) -> np.ndarray:
        """The image and what the errors of one acquisition, all `steps` together, add to it."""
        detail = any(step.needs_detail for step, _ in steps)  # type: ignore[attr-defined]
        scan = SliceScan(torch.from_numpy(image).to(device), pixel_mm, self.reconstruction, detail)
        for step, seed in steps:
            check(cancel)
            step.apply(scan, seed, index)  # type: ignore[attr-defined]
        check(cancel)
        return np.asarray(image + scan.error_image().cpu().numpy())

    def to_report(self) -> dict[str, Any]:
        """All that a replay needs, in JSON types."""
        entries = []
        for step, seed in self.steps:
            entry: dict[str, Any] = {"step": step.name, "seed": seed, "parameters": parameters(step)}
            if step.note:
                entry["note"] = step.note
            entries.append(entry)
        return {
            "version": REPORT_VERSION,
            "preset": self.name,
            "seed": self.seed,
            "reconstruction": asdict(self.reconstruction),
            "steps": entries,
        }

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> DrawnChain:
        """The chain of `to_report`, or of a whole report of `degrade`; gives the same voxels on the
        same device with the same number of threads.

        Raises InputError where the report holds no degradation, or one that this version does not know.
        """
        try:
            recorded = report.get("details", {}).get(REPORT_KEY, report)
            if recorded["version"] != REPORT_VERSION:
                raise InputError(
                    f"The degradation report has version {recorded['version']}, not {REPORT_VERSION}: "
                    "replay with the version that wrote it."
                )
            kernel = recorded["reconstruction"]  # reports of older versions have no order
            reconstruction = Reconstruction(
                int(kernel["views"]), float(kernel["roll_off_per_mm"]), float(kernel.get("order", 2))
            )
            steps = [_recorded_step(entry) for entry in recorded["steps"]]
            return cls(str(recorded["preset"]), int(recorded["seed"]), tuple(steps), reconstruction)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"The report holds no whole degradation to replay ({type(error).__name__}: {error}): "
                "give the JSON that `degrade` wrote."
            ) from error


def _recorded_step(entry: Mapping[str, Any]) -> tuple[Step, int]:
    name = entry["step"]
    if name not in KINDS:
        raise InputError(
            f"There is no degradation step '{name}': replay with the version that wrote the report."
        )
    return from_parameters(KINDS[name], entry["parameters"]), int(entry["seed"])


def _streams(seed: int, number: int) -> tuple[np.random.Generator, int]:
    """For step `number`: the stream that its parameters are drawn from, and the seed of its own noise."""
    drawing, own = np.random.SeedSequence(seed, spawn_key=(number,)).spawn(2)
    return np.random.default_rng(drawing), int(own.generate_state(1)[0])


def _ticker(stage: str, progress: Progress | None, cancel: Cancellable | None) -> Tick:
    def tick(done: int, total: int) -> None:
        check(cancel)
        if progress is not None:
            progress(stage, done, total)

    return tick


def _spacing(volume: CTVolume) -> tuple[float, float, float]:
    """As NIfTI holds it: the 1e-8 that float32 takes away would tip draws of quanta in single rays, and a
    DICOM series and the file converted from it would be degraded in two ways."""
    x, y, z = (float(np.float32(value)) for value in volume.spacing)
    return x, y, z


def _plain_info(volume: CTVolume) -> VolumeInfo:
    """For chains that work on the image alone: the volume's noise is not looked at."""
    spacing = _spacing(volume)
    unmeasured = OwnNoise(0.0, (), 0.0, ())
    return VolumeInfo(volume.array, spacing, spacing[2], unmeasured, Reconstruction(VIEWS, 0.35))


def _scan_info(volume: CTVolume, seed: int) -> VolumeInfo:
    """For chains that simulate a scan: the volume's own noise, and a reconstruction that fits it."""
    spacing = _spacing(volume)
    pixel_mm = square_pixel_mm(spacing)
    own = measure(volume.array)
    if own.measurable:
        reconstruction = matching(own.texture, pixel_mm)
    else:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 16,)))
        reconstruction = Reconstruction(VIEWS, _NOISELESS_ROLL_OFFS.draw(rng))
    thickness = volume.meta.get("slice_thickness_mm") or overlap_thickness(spacing[2], own.axial_correlation)
    weights = overlap_weights(spacing[2], overlap_thickness(spacing[2], own.axial_correlation))
    return VolumeInfo(volume.array, spacing, float(thickness), own, reconstruction, weights)
