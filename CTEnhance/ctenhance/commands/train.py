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
from ctenhance.training.options import (
    DiffusionTraining,
    ImageTraining,
    ProjectionTraining,
    ScatterTraining,
    TrainOptions,
    TwinTraining,
)

train_app = group("train", "Train a model on a folder of CTs.")

DataFolder = Annotated[Path, typer.Argument(metavar="DATA_DIR", help="A folder of high-quality CT volumes.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Checkpoints and logs; a rerun resumes.")]
ResumeOption = Annotated[bool, typer.Option(help="Go on from the last checkpoint in RUN_DIR.")]
# By the names of the fields of `training.options`: a method takes those that its class has.
_OPTIONS: dict[str, Any] = {
    "minutes": Annotated[float | None, typer.Option(min=0.01, help="Stop after this many minutes.")],
    "steps": Annotated[int | None, typer.Option(min=1, help="Stop at this many optimiser steps.")],
    "batch": Annotated[int | None, typer.Option(min=1, help="Pairs in one optimiser step.")],
    "validation": Annotated[
        Path | None, typer.Option(help="A folder of held-out pairs; the best state on them is kept.")
    ],
    "exclude": Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Leave out files with this in their or their folder's name; may be given again.",
        ),
    ],
    "start": Annotated[Path | None, typer.Option(help="Weights to start from.")],
    "twin": Annotated[
        Path | None, typer.Option(help="The one-step network to train round; the default one otherwise.")
    ],
    "projection": Annotated[
        Path | None, typer.Option(help="The projection network that makes what this one sees.")
    ],
}
_SIZES = "twin, twin-wide, or twin-lean, pruned from --start."
_NETWORKS = "spdiff-compact, or spdiff-published for a graphics card."


def _train(package: str, method: str, kind: type[TrainOptions], example: str, doc: str) -> None:
    """Register `train METHOD`, which calls the function of this name of the package's `training` with its
    options, of the class `kind`."""
    architecture = Annotated[
        str | None, typer.Option(help=_NETWORKS if kind is ProjectionTraining else _SIZES)
    ]
    fields = {field.name for field in dataclasses.fields(kind)}
    options = {
        name: option for name, option in {**_OPTIONS, "architecture": architecture}.items() if name in fields
    }

    def train(run: Run, data: DataFolder, runs: RunFolder, resume: ResumeOption = True, **given: Any) -> None:
        from ctenhance.core.report import ReportBuilder
        from ctenhance.runtime.files import folder_made

        # torchrun starts this command once a card; the first one speaks
        if os.environ.get("RANK", "0") != "0":
            run.hush()
        run.plan([])
        if not data.is_dir():
            raise InputError(f"'{data}' is no folder; give the folder that holds the training volumes.")
        # the method has its own defaults
        values = {name: value for name, value in given.items() if value}
        chosen = kind(**values, resume=resume, device=run.device, seed=run.seed)
        settings = {**given, "resume": resume, "device": run.device}
        builder = ReportBuilder(f"train {method}", settings, seed=run.seed)
        with folder_made(runs), builder.stage("train"):
            training = importlib.import_module(f"ctenhance.{package}.training")
            weights = getattr(training, f"train_{method}")(data, runs, chosen, run.progress, run.cancel)
        run.finish(builder.finish(), {"weights": weights})

    train.__name__, train.__doc__ = method, doc
    command(train_app, example, options=options)(train)


_train(
    "enhancement",
    "twin",
    TwinTraining,
    "ctenhance train twin data/ runs/twin --minutes 60",
    "Train the one-step network.",
)
_train(
    "enhancement",
    "detail",
    TwinTraining,
    "ctenhance train detail data/ runs/detail --minutes 60 --architecture twin-wide",
    "Train the one-step network to sharpen, too. References are sharper than their blurred inputs.",
)
_train(
    "enhancement",
    "enhance",
    DiffusionTraining,
    "ctenhance train enhance data/ runs/enhance --twin runs/twin/best.safetensors",
    "Train the diffusion round a one-step network. Several cards: torchrun -m ctenhance train enhance …",
)
_train(
    "reconstruction",
    "projection",
    ProjectionTraining,
    "ctenhance train projection data/ runs/need --minutes 60",
    "Train the diffusion on projections. Data of normal dose is enough.",
)
_train(
    "reconstruction",
    "image",
    ImageTraining,
    "ctenhance train image data/ runs/need --projection runs/need/best.safetensors --minutes 60",
    "Train the guided diffusion on images. In the folder of 'train projection' it takes its scans.",
)
_train(
    "decomposition",
    "scatter",
    ScatterTraining,
    "ctenhance train scatter data/ runs/scatter --minutes 45",
    "Train the scatter network of 'decompose'. From material images, without scatter labels.",
)
