"""`ctenhance train METHOD`."""

from __future__ import annotations

import dataclasses
import importlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ctenhance.commands.apps import group
from ctenhance.commands.support import Run, command
from ctenhance.runtime.errors import InputError

train_app = group("train", "Train a model on a folder of CTs.")

DataFolder = Annotated[Path, typer.Argument(metavar="DATA_DIR", help="A folder of high-quality CT volumes.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Checkpoints and logs; a rerun resumes.")]
MinutesOption = Annotated[float | None, typer.Option(min=0.01, help="Stop after this many minutes.")]
TrainStepsOption = Annotated[int | None, typer.Option(min=1, help="Stop at this many optimiser steps.")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Pairs in one optimiser step.")]
ValidationOption = Annotated[
    Path | None, typer.Option(help="A folder of held-out pairs; the best state on them is kept.")
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(help="Leave out files with this in their or their folder's name; may be given again."),
]
StartOption = Annotated[
    Path | None, typer.Option(help="twin, detail, projection, image, scatter: weights to start from.")
]
TwinOption = Annotated[
    Path | None, typer.Option(help="enhance: the one-step network to train round; the default one otherwise.")
]
ProjectionOption = Annotated[
    Path | None, typer.Option(help="image: the projection network that makes what this one sees.")
]
ArchitectureOption = Annotated[
    str | None,
    typer.Option(
        help="projection: spdiff-compact, or spdiff-published for a graphics card. Others: twin, twin-wide, "
        "or twin-lean, pruned from --start."
    ),
]
ResumeOption = Annotated[bool, typer.Option(help="Go on from the last checkpoint in RUN_DIR.")]


def _train(package: str, method: str, options: str, example: str, doc: str) -> None:
    """Register `train METHOD`, which calls `train_METHOD` of the package's `training` with its options,
    a class of `training.options`."""

    def train(
        run: Run,
        data: DataFolder,
        runs: RunFolder,
        minutes: MinutesOption = None,
        steps: TrainStepsOption = None,
        batch: BatchOption = None,
        validation: ValidationOption = None,
        exclude: ExcludeOption = None,
        start: StartOption = None,
        twin: TwinOption = None,
        projection: ProjectionOption = None,
        architecture: ArchitectureOption = None,
        resume: ResumeOption = True,
    ) -> None:
        from ctenhance.core.report import ReportBuilder
        from ctenhance.runtime.files import check_output_folder

        if (
            os.environ.get("RANK", "0") != "0"
        ):  # torchrun starts this command once a card; the first one speaks
            run.hush()
        run.plan([])
        if not data.is_dir():
            raise InputError(f"'{data}' is no folder; give the folder that holds the training volumes.")
        check_output_folder(runs)
        options_given: dict[str, Any] = {
            "minutes": minutes,
            "steps": steps,
            "batch": batch,
            "validation": validation,
            "exclude": exclude,
            "start": start,
            "twin": twin,
            "projection": projection,
            "architecture": architecture,
        }
        # the method has its own defaults
        values = {name: value for name, value in options_given.items() if value}
        kind = getattr(importlib.import_module("ctenhance.training.options"), options)
        fields = {field.name for field in dataclasses.fields(kind)}
        for name in values:
            if name not in fields:
                raise InputError(f"'train {method}' takes no --{name}: leave it out.")
        chosen = kind(**values, resume=resume, device=run.device, seed=run.seed)
        settings = {**options_given, "resume": resume, "device": run.device}
        builder = ReportBuilder(f"train {method}", settings, seed=run.seed)
        with builder.stage("train"):
            training = importlib.import_module(f"ctenhance.{package}.training")
            weights = getattr(training, f"train_{method}")(data, runs, chosen, run.progress, run.cancel)
        run.finish(builder.finish(), {"weights": weights})

    train.__name__, train.__doc__ = method, doc
    command(train_app, example)(train)


_train(
    "enhancement",
    "twin",
    "TwinTraining",
    "ctenhance train twin data/ runs/twin --minutes 60",
    "Train the one-step network.",
)
_train(
    "enhancement",
    "detail",
    "TwinTraining",
    "ctenhance train detail data/ runs/detail --minutes 60 --architecture twin-wide",
    "Train the one-step network to sharpen, too: references sharper than their blurred inputs.",
)
_train(
    "enhancement",
    "enhance",
    "DiffusionTraining",
    "ctenhance train enhance data/ runs/enhance --twin runs/twin/best.safetensors",
    "Train the diffusion round a one-step network; several cards: torchrun -m ctenhance train enhance …",
)
_train(
    "reconstruction",
    "projection",
    "ProjectionTraining",
    "ctenhance train projection data/ runs/need --minutes 60",
    "Train the diffusion on projections; data of normal dose is enough.",
)
_train(
    "reconstruction",
    "image",
    "ImageTraining",
    "ctenhance train image data/ runs/need --projection runs/need/best.safetensors --minutes 60",
    "Train the guided diffusion on images; in the folder of 'train projection' it takes its scans.",
)
_train(
    "decomposition",
    "scatter",
    "ScatterTraining",
    "ctenhance train scatter data/ runs/scatter --minutes 45",
    "Train the scatter network of 'decompose' from material images, without scatter labels.",
)
