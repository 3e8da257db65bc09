"""The chains that have a name: SUMI's published ones, and `routine`, a realistic routine scan."""

from __future__ import annotations

from collections.abc import Callable

from ctenhance.degradation.dose import Dose
from ctenhance.degradation.image_steps import Clip, Kernel, SliceThickness
from ctenhance.degradation.projection_steps import BeamHardening, Motion, Ring, SparseViews
from ctenhance.degradation.steps import Choice, Distribution, Fixed, Integers, LogUniform, Uniform
from ctenhance.degradation.sumi_steps import (
    DirectionalStreak,
    FewViewReconstruction,
    GaussianNoise,
    PoissonNoise,
    Resolution,
    Zoom,
)
from ctenhance.options import DegradeOptions

#: Doses that `routine` draws from, evenly in the logarithm, when none is asked for.
DOSES = (0.05, 0.6)

_PAPER_RANGE = Distribution(Clip, {"low": Fixed(-1000.0), "high": Fixed(1000.0)})


def sumi_paper() -> tuple[Distribution, ...]:
    """The 2-D chain of the paper's training (METHODS A.3).

    Drawn once for a volume; the paper draws anew for every sample of 3 slices.
    """
    return (
        _PAPER_RANGE,
        Distribution(Resolution, {"size": Integers(200, 500)}),
        Distribution(PoissonNoise, {"counts": Fixed(1e5)}),
        Distribution(GaussianNoise, {"sigma": Uniform(0, 0.2)}),
        Distribution(
            DirectionalStreak,
            {
                "across": Uniform(0, 1),
                "down": Uniform(0, 1),
                "angle_deg": Uniform(0, 180),
                "reach": Uniform(0.25, 0.5),
                "thickness": Integers(1, 3),
                "brightness": Uniform(0.05, 0.15),
            },
            probability=0.1,
        ),
        Distribution(FewViewReconstruction, {"n_views": Integers(80, 200)}, probability=0.5),
        _PAPER_RANGE,
    )


def sumi_paper_validation() -> tuple[Distribution, ...]:
    """The paper's validation volumes (METHODS A.3, end)."""
    return (
        _PAPER_RANGE,
        Distribution(Resolution, {"factor": Uniform(2, 4)}),
        Distribution(PoissonNoise, {"counts": Fixed(3e4)}),
        Distribution(GaussianNoise, {"sigma": Uniform(0.005, 0.03)}),
        Distribution(FewViewReconstruction, {"n_views": Integers(80, 200)}),
        _PAPER_RANGE,
    )


def sumi_paper_3d() -> tuple[Distribution, ...]:
    """The paper's 3-D chain (METHODS A.4)."""
    return (
        _PAPER_RANGE,
        Distribution(Zoom, {"scale": Uniform(0.3, 0.8)}),
        Distribution(PoissonNoise, {"counts": Fixed(1e5)}),
        Distribution(GaussianNoise, {"sigma": Uniform(0, 0.08)}),
        _PAPER_RANGE,
    )


def routine(options: DegradeOptions) -> tuple[Distribution, ...]:
    """A routine scan: noise always, thicker slices and another kernel mostly, artefacts now and then.

    In the order of a scan: the slice's profile, what happens to the projections, the kernel.
    """
    lowered = Distribution(
        Dose,
        {
            "dose": LogUniform(*DOSES) if options.dose is None else Fixed(float(options.dose)),
            "photons": Fixed(None if options.photons is None else float(options.photons)),
            "electronic_sd": Uniform(2, 5),
            "bowtie_strength": Uniform(0.3, 0.6),
            "bowtie_radius_mm": Uniform(160, 220),
            "modulation": Choice((0.0, 0.25, 0.5), (0.2, 0.4, 0.4)),
        },
        probability=0.0 if options.dose == 1 else 1.0,
    )
    chain = (
        Distribution(
            SliceThickness, {"thickness_mm": Uniform(1, 5), "slope": Uniform(0, 0.5)}, probability=0.6
        ),
        Distribution(
            Motion,
            {
                "amplitude_mm": LogUniform(0.3, 2),
                "direction_deg": Uniform(0, 360),
                "onset": Uniform(0, 1),
                "duration": Uniform(0.15, 0.6),
                "lag_per_slice": Uniform(0, 0.1),
            },
            probability=0.1,
        ),
        Distribution(BeamHardening, {"strength": LogUniform(0.5, 4)}, probability=0.1),
        lowered,
        Distribution(
            Ring,
            {
                "amplitude_hu": LogUniform(2, 8),
                "width_mm": Uniform(0.5, 2),
                "alike_mm": Uniform(2, 15),
                "drift": Uniform(0, 0.4),
            },
            probability=0.1,
        ),
        Distribution(SparseViews, {"n_views": Integers(180, 480)}, probability=0.05),
        Distribution(
            Kernel,
            {
                "kernel": Choice(("soft", "standard", "sharp"), (0.4, 0.45, 0.15)),
                "strength": Uniform(0, 1),
                "edge": Uniform(0, 1),
            },
            probability=0.7,
        ),
    )
    if options.clip is None:
        return chain
    low, high = options.clip
    return (*chain, Distribution(Clip, {"low": Fixed(float(low)), "high": Fixed(float(high))}))


PAPER_PRESETS: dict[str, Callable[[], tuple[Distribution, ...]]] = {
    "sumi-paper": sumi_paper,
    "sumi-paper-validation": sumi_paper_validation,
    "sumi-paper-3d": sumi_paper_3d,
}
