"""Arguments and options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Diffusion steps; the model's default otherwise.")
]
SamplesOption = Annotated[
    int | None, typer.Option(min=1, help="Average this many draws; the model's default otherwise.")
]
SeriesOption = Annotated[
    str | None,
    typer.Option(metavar="NUMBER", help="Which series of a DICOM folder that has several."),
]
KernelOption = Annotated[str, typer.Option(help="ramp, shepp-logan, hann, soft, standard or sharp.")]
GridRatioOption = Annotated[
    float | None, typer.Option(help="Height by gap of the anti-scatter grid, if the scan tells none.")
]
MatrixOption = Annotated[
    int | None, typer.Option(help="Pixels a side of the image; as the file suggests otherwise.")
]
