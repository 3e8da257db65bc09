"""`ctenhance enhance`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import ctenhance
from ctenhance.commands.apps import app
from ctenhance.commands.options import (
    Choice,
    EngineOption,
    InputPath,
    KeepFaintOption,
    ModelOption,
    OutputPath,
    SamplesOption,
    StepsOption,
    StrengthOption,
)
from ctenhance.commands.support import VOLUME_SUFFIXES, Run, command


@command(app, "ctenhance enhance chest.nii.gz enhanced.nii.gz --strength 0.8 --report enhanced.json")
def enhance(
    run: Run,
    source: InputPath,
    target: OutputPath,
    choice: Choice,
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    keep_faint: KeepFaintOption = 0.0,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    engine: EngineOption = "auto",
    uncertainty: Annotated[
        Path | None, typer.Option(metavar="MAP", help="Write the draws' standard deviation (HU) as a volume.")
    ] = None,
) -> None:
    """Enhance a routine CT: less noise, edges kept, the same HU."""
    from ctenhance.enhancement.inference import load_soon

    run.plan([source], (target, VOLUME_SUFFIXES), (uncertainty, VOLUME_SUFFIXES))
    options = ctenhance.EnhanceOptions(
        model=model,
        strength=strength,
        keep_faint=keep_faint,
        steps=steps,
        samples=samples,
        uncertainty=uncertainty is not None,
        device=run.device,
        engine=engine,
        seed=run.seed,
    )
    load_soon(options)
    volume = run.read(source, choice)
    result = ctenhance.enhance(volume, options=options, progress=run.progress, cancel=run.cancel)
    run.write_result(result, {"enhanced": target, "uncertainty": uncertainty})
