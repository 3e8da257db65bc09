"""The settings of each training: one frozen object a method; PyTorch is not imported.

What is common ends a run after `steps` or `minutes`, whichever comes first; `exclude` are parts of file names
to leave out (validation and test patients); `validation` is a folder of held-out patients on which the best
state is chosen; with `resume` it goes on from the last checkpoint in its folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctenhance import choices
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.words import either


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What all trainings take. `batch`: pairs or scans in one optimiser step."""

    validation: str | Path | None = None
    exclude: Sequence[str] = ()
    minutes: float = math.inf
    steps: int = 20000
    batch: int = 8
    resume: bool = True
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TwinTraining(TrainOptions):
    """`start`: weights to go on from, of this size or a smaller one; `crop`: side of a pair in pixels."""

    start: str | Path | None = None
    architecture: str = choices.TWIN_SIZES[0]
    crop: int = 128

    def __post_init__(self) -> None:
        if self.architecture not in choices.TWIN_SIZES:
            raise InputError(
                f"There is no size '{self.architecture}' of the one-step network: choose "
                f"{either(choices.TWIN_SIZES)}."
            )


@dataclass(frozen=True, kw_only=True)
class DiffusionTraining(TrainOptions):
    """`twin`: weights of the one-step network to train the diffusion round, the default ones otherwise;
    `crop`: side of a pair in pixels, a multiple of 64."""

    twin: str | Path | None = None
    crop: int = 128

    def __post_init__(self) -> None:
        if self.crop < 64 or self.crop % 64:
            raise InputError(f"The crop is {self.crop} pixels: choose a multiple of 64.")


@dataclass(frozen=True, kw_only=True)
class ProjectionTraining(TrainOptions):
    """`architecture`: spdiff-compact, or spdiff-published (4.4 million parameters, for a graphics card);
    `start`: weights of an earlier such training to go on from; `crop`: columns and views of a pair."""

    architecture: str = choices.PROJECTION_ARCHITECTURES[0]
    start: str | Path | None = None
    crop: int = 128

    def __post_init__(self) -> None:
        if self.architecture not in choices.PROJECTION_ARCHITECTURES:
            raise InputError(
                f"There is no projection network '{self.architecture}': choose "
                f"{either(choices.PROJECTION_ARCHITECTURES)}."
            )


@dataclass(frozen=True, kw_only=True)
class ImageTraining(TrainOptions):
    """`projection`: weights of the projection network, the default ones otherwise; `start`: weights of an
    earlier such training, or of the one-step enhancing network; `crop`: side of a pair in pixels."""

    projection: str | Path | None = None
    start: str | Path | None = None
    crop: int = 128


@dataclass(frozen=True, kw_only=True)
class ScatterTraining(TrainOptions):
    """`labels`: learn from known scatter in place of material images, as a reference to compare with;
    `start`: weights to go on from; `scans_per_volume`: scans that are drawn of each volume."""

    labels: bool = False
    start: str | Path | None = None
    scans_per_volume: int = 80
    steps: int = 3000
    batch: int = 4
