"""Arguments and options that several verbs take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctenhance.choices import LAID_STRAIGHT, NOT_LAID_STRAIGHT
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of

if TYPE_CHECKING:
    from ctenhance.physics.detector import PileUp

InputPath = Annotated[
    Path,
    typer.Argument(metavar="IN", help="A CT: .nii, .nii.gz, .nrrd, .mha, or a folder with a DICOM series."),
]
OutputPath = Annotated[
    Path, typer.Argument(metavar="OUT", help="The new volume: .nii, .nii.gz, .nrrd or .mha.")
]
ModelOption = Annotated[
    str | None, typer.Option(help="Weights by name (see 'weights list') or path; the default ones otherwise.")
]
StrengthOption = Annotated[float, typer.Option(min=0, max=1, help="0 keeps the input, 1 is the full effect.")]
KeepFaintOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of what is taken away coarsely to keep, for faint lesions; 1 leaves some noise.",
    ),
]
StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Diffusion steps; the model's default otherwise.")
]
SamplesOption = Annotated[
    int | None, typer.Option(min=1, help="Average this many draws; the model's default otherwise.")
]
EngineOption = Annotated[
    str,
    typer.Option(
        help="What runs the networks: auto, torch, openvino, openvino:float32 or openvino:bfloat16. auto is "
        "torch on a graphics card, else OpenVINO where it is installed, else torch."
    ),
]
KernelOption = Annotated[str, typer.Option(help="ramp, shepp-logan, hann, soft, standard or sharp.")]
GridRatioOption = Annotated[
    float | None, typer.Option(help="Height by gap of the anti-scatter grid, if the scan tells none.")
]
MatrixOption = Annotated[
    int | None, typer.Option(help="Pixels a side of the image; as the file suggests otherwise.")
]


@dataclass(frozen=True)
class Choice:
    """Which slices of a DICOM folder are meant: the arguments `series` and `where` of `CTVolume.read`.

    A command that takes one as an argument has the options of `CHOICE_OPTIONS` in its place.
    """

    series: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_options(
        cls,
        series: str | None,
        acquisition: str | None,
        where: Sequence[str] | None,
        resample_tilt: bool | None = None,
    ) -> Choice:
        """Return the choice that the options make; raises InputError where `where` has no value."""
        conditions = {} if acquisition is None else {"AcquisitionNumber": acquisition}
        for condition in where or ():
            keyword, equals, value = condition.partition("=")
            if not equals:
                raise InputError(f"--where {condition} names no value; write, for instance, --where KVP=80.")
            if keyword in conditions:
                raise InputError(f"{keyword} is asked for twice; give each attribute once.")
            conditions[keyword] = value
        if resample_tilt:
            ((keyword, value),) = LAID_STRAIGHT.items()
            if conditions.setdefault(keyword, value) != value:
                raise InputError(f"{keyword} is asked for twice; leave out --resample-tilt or the --where.")
        return cls(series, conditions)

    def __bool__(self) -> bool:
        return self.series is not None or bool(self.where)

    def each(self, paths: Sequence[Path]) -> list[Choice]:
        """Return the choice for each of several inputs: this one for DICOM, none for volume files.

        Raises InputError for a choice where all are volume files.
        """
        from ctenhance.core.volume import READABLE_SUFFIXES

        files = [path.is_file() and suffix_of(path) in READABLE_SUFFIXES for path in paths]
        if self and all(files):
            named = " and ".join(f"'{path.name}'" for path in paths)
            if self == Choice(where=LAID_STRAIGHT):
                raise InputError(f"Only DICOM slices are laid straight, not {named}: {NOT_LAID_STRAIGHT}")
            raise InputError(f"Series and images can be chosen in DICOM folders only, not in {named}.")
        return [Choice() if file else self for file in files]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for `CTVolume.read`."""
        return {"series": self.series, "where": self.where}


CHOICE_OPTIONS: dict[str, Any] = {
    "series": Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Which series of a DICOM folder that has several.")
    ],
    "acquisition": Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Which acquisition of a series that has several.")
    ],
    "where": Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE=VALUE",
            help="Take the DICOM images with this value only, such as KVP=80 or InstanceNumber=1..40; "
            "ATTRIBUTE=any takes different ones as one scan. May be repeated.",
        ),
    ],
    "resample_tilt": Annotated[
        bool | None,
        typer.Option(
            "--resample-tilt",
            help="Lay DICOM slices of a tilted gantry straight, by interpolation within each; else refused.",
        ),
    ],
}


def pile_up_of(dead_time: float | None, view_time: float | None) -> PileUp | None:
    """Return what --dead-time (ns) and --view-time (µs) say of pile-up; raises InputError for only one."""
    if dead_time is None and view_time is None:
        return None
    if dead_time is None or view_time is None:
        raise InputError("Pile-up needs both --dead-time and --view-time.")
    from ctenhance.physics.detector import PileUp

    return PileUp(1e-9 * dead_time, 1e-6 * view_time)


def require_grid_ratio_used(grid_ratio: float | None, scatter: str) -> None:
    """Raise InputError where no network takes the ratio."""
    if grid_ratio is not None and scatter == "kernel":
        raise InputError("--grid-ratio has no effect on the kernel correction: leave it out.")
