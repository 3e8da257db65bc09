"""The `ctenhance` command: one sub-command a verb.

Nothing heavy is imported here, so that `--help` answers at once; each command imports what it runs.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import ctenhance
from ctenhance.cli_support import FIGURE_SUFFIXES, VOLUME_SUFFIXES, Run, command, read_json
from ctenhance.runtime.errors import CTEnhanceError, InputError

_SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "no_args_is_help": True,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}

app = typer.Typer(
    help="Make a routine CT look as if a photon-counting scanner had made it. Research use only.",
    **_SETTINGS,
)
train_app = typer.Typer(help="Train a model on a folder of CTs.", **_SETTINGS)
weights_app = typer.Typer(help="List, check and add trained weights.", **_SETTINGS)
app.add_typer(train_app, name="train")
app.add_typer(weights_app, name="weights")

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
SamplesOption = Annotated[int, typer.Option(min=1, help="Average this many draws.")]
DataFolder = Annotated[Path, typer.Argument(metavar="DATA_DIR", help="A folder of high-quality CT volumes.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Checkpoints and logs; a rerun resumes.")]
MinutesOption = Annotated[float | None, typer.Option(min=0.01, help="Stop after this many minutes.")]
TrainStepsOption = Annotated[int | None, typer.Option(min=1, help="Stop at this many optimiser steps.")]
SeriesOption = Annotated[
    str | None,
    typer.Option(metavar="NUMBER", help="Which series of a DICOM folder that has several."),
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Pairs in one optimiser step.")]
ValidationOption = Annotated[
    Path | None, typer.Option(help="A folder of held-out pairs; the best state on them is kept.")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(help="Leave out files with this in their name; may be given again.")
]
StartOption = Annotated[Path | None, typer.Option(help="twin: weights to go on from.")]
AutoencoderOption = Annotated[
    Path | None, typer.Option(help="enhance: the weights of 'train autoencoder' to work in.")
]
TwinOption = Annotated[Path | None, typer.Option(help="enhance: the twin's weights to start detail from.")]
ResumeOption = Annotated[bool, typer.Option(help="Go on from the last checkpoint in RUN_DIR.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"ctenhance {ctenhance.__version__}")
        raise typer.Exit


@command(app, "ctenhance enhance chest.nii.gz enhanced.nii.gz --strength 0.8 --report enhanced.json")
def enhance(
    run: Run,
    source: InputPath,
    target: OutputPath,
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    steps: StepsOption = None,
    samples: SamplesOption = 1,
    uncertainty: Annotated[
        Path | None, typer.Option(metavar="MAP", help="Write the draws' standard deviation (HU) as a volume.")
    ] = None,
    series: SeriesOption = None,
) -> None:
    """Enhance a routine CT: less noise, sharper detail, the same HU."""
    run.plan([source], (target, VOLUME_SUFFIXES), (uncertainty, VOLUME_SUFFIXES))
    volume = run.read(source, series)
    result = ctenhance.enhance(
        volume,
        model=model,
        strength=strength,
        steps=steps,
        samples=samples,
        uncertainty=uncertainty is not None,
        device=run.device,
        seed=run.seed,
        progress=run.progress,
        cancel=run.cancel,
    )
    outputs = {"enhanced": target}
    planned = [(result.volumes["enhanced"], target)]
    if uncertainty is not None:
        outputs["uncertainty"] = uncertainty
        planned.append((result.maps["uncertainty"], uncertainty))
    run.write(*planned)
    run.finish(result.report, outputs)


@command(app, "ctenhance degrade chest.nii.gz routine.nii.gz --preset routine --dose 0.25 --seed 1")
def degrade(
    run: Run,
    source: InputPath,
    target: OutputPath,
    preset: Annotated[
        str, typer.Option(help="routine, sumi-paper, sumi-paper-validation or sumi-paper-3d.")
    ] = "routine",
    dose: Annotated[
        float | None, typer.Option(help="Fraction of the full dose, such as 0.25; drawn if not given.")
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="REPORT", help="Apply the degradation recorded in this report again."),
    ] = None,
    series: SeriesOption = None,
) -> None:
    """Make a high-quality CT look like a routine one, with every drawn parameter recorded."""
    inputs = [source] if replay is None else [source, replay]
    run.plan(inputs, (target, VOLUME_SUFFIXES))
    recorded = None if replay is None else read_json(replay)
    volume = run.read(source, series)
    result = ctenhance.degrade(
        volume,
        preset=preset,
        dose=dose,
        seed=run.seed,
        device=run.device,
        replay=recorded,
        progress=run.progress,
        cancel=run.cancel,
    )
    run.write((result.volumes["degraded"], target))
    run.finish(result.report, {"degraded": target})


@command(app, "ctenhance compare before.nii.gz after.nii.gz --reference full.nii.gz --page compare.html")
def compare(
    run: Run,
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The volume before.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The volume after, on the same grid.")],
    reference: Annotated[
        Path | None, typer.Option(help="The truth, if there is one: adds PSNR and SSIM.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Write before | after | difference as a picture.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a self-contained page with a slider (.html).")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the metrics as JSON.")] = None,
) -> None:
    """Compare two volumes: noise, sharpness, HU by tissue, and likeness to a reference."""
    from ctenhance import quality
    from ctenhance.runtime.progress import check
    from ctenhance.runtime.report import ReportBuilder, write_report

    inputs = [before, after] if reference is None else [before, after, reference]
    run.plan(inputs, (figure, FIGURE_SUFFIXES), (page, (".html",)), (json, (".json",)))
    builder = ReportBuilder("compare", seed=run.seed)
    first, second = run.read(before), run.read(after)
    truth = None if reference is None else run.read(reference)
    builder.input = {"before": first.identity(), "after": second.identity()}
    if truth is not None:
        builder.input["reference"] = truth.identity()
    outputs: dict[str, Path] = {}
    with builder.stage("metrics"):
        metrics = quality.compare(first, second, truth, progress=run.progress, cancel=run.cancel)
    builder.details = {"metrics": metrics}
    if figure is not None:
        check(run.cancel)
        with builder.stage("figure"):
            quality.figure(first, second, figure, reference=truth, metrics=metrics)
        outputs["figure"] = figure
    if page is not None:
        check(run.cancel)
        with builder.stage("page"):
            quality.page(first, second, page, reference=truth, metrics=metrics)
        outputs["page"] = page
    if json is not None:
        write_report(json, metrics)
        outputs["metrics"] = json
    run.finish(builder.finish(), outputs, text=quality.table(metrics), metrics=metrics)


@command(app, "ctenhance batch incoming/ enhanced/ --strength 0.8")
def batch(
    run: Run,
    source: Annotated[
        Path, typer.Argument(metavar="IN_DIR", help="Volumes and DICOM folders, at any depth.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="Enhanced volumes and a report for each.")
    ],
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    steps: StepsOption = None,
    samples: SamplesOption = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also do the finished cases again.")] = False,
) -> None:
    """Enhance every CT in a folder; a rerun resumes, and a failing case stops no other."""
    from ctenhance.batch import find_cases, run_batch

    run.plan([])
    cases = find_cases(source, target)
    settings = {"model": model, "strength": strength, "steps": steps, "samples": samples}
    outcome = run_batch(run, cases, settings, overwrite=overwrite)
    report = {"verb": "batch", "settings": settings, **outcome.summary()}
    text = f"{len(outcome.done)} done, {len(outcome.skipped)} finished before, {len(outcome.failed)} failed."
    run.finish(report, {"folder": target}, text=text, **outcome.summary())
    if outcome.failed:
        raise CTEnhanceError(
            f"{len(outcome.failed)} of {len(cases)} cases failed, the others are in '{target}'; "
            f"the first: {next(iter(outcome.failed.values()))}"
        )


@command(app, "make demo CT=chest.nii.gz, or: ctenhance demo demo/ --ct chest.nii.gz")
def demo(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Where the results go.")] = Path("demo"),
    ct: Annotated[Path | None, typer.Option(help="Your own CT; a chest phantom is built otherwise.")] = None,
    slices: Annotated[
        int, typer.Option(min=0, help="Take only so many slices of it, from the middle; 0: all.")
    ] = 40,
    dose: Annotated[float, typer.Option(help="Fraction of the dose that the degraded volume shows.")] = 0.25,
    model: ModelOption = None,
) -> None:
    """Degrade a CT to a quarter of its dose, enhance it, and show both beside the original."""
    from ctenhance.demo import run_demo

    run_demo(run, folder, ct, slices, dose, model)


def _train(method: str, example: str, doc: str) -> None:
    """Register `train METHOD`, which calls `ctenhance.enhance.training.train_METHOD`."""

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
        autoencoder: AutoencoderOption = None,
        twin: TwinOption = None,
        resume: ResumeOption = True,
    ) -> None:
        from ctenhance.enhance import training
        from ctenhance.runtime.files import check_output_folder
        from ctenhance.runtime.report import ReportBuilder

        if (
            os.environ.get("RANK", "0") != "0"
        ):  # torchrun starts this command once a card; the first one speaks
            run.hush()
        run.plan([])
        if not data.is_dir():
            raise InputError(f"'{data}' is no folder; give the folder that holds the training volumes.")
        check_output_folder(runs)
        asked = {
            "minutes": minutes,
            "steps": steps,
            "batch": batch,
            "validation": validation,
            "exclude": exclude,
            "start": start,
            "autoencoder": autoencoder,
            "twin": twin,
        }
        given = {name: value for name, value in asked.items() if value}  # the method has its own defaults
        work = getattr(training, f"train_{method}")
        takes = inspect.signature(work).parameters
        for name in given:
            if name not in takes:
                raise InputError(f"'train {method}' takes no --{name}: leave it out.")
        if "autoencoder" in takes and autoencoder is None:
            raise InputError(
                f"'train {method}' needs the weights of 'train autoencoder': name them with --autoencoder."
            )
        settings = {**asked, "resume": resume, "device": run.device}
        builder = ReportBuilder(f"train {method}", settings, seed=run.seed)
        with builder.stage("train"):
            weights = work(
                data,
                runs,
                **given,
                resume=resume,
                device=run.device,
                seed=run.seed,
                progress=run.progress,
                cancel=run.cancel,
            )
        run.finish(builder.finish(), {"weights": weights})

    train.__name__, train.__doc__ = method, doc
    command(train_app, example)(train)


_train("twin", "ctenhance train twin data/ runs/twin --minutes 60", "Train the one-step network.")
_train(
    "autoencoder",
    "ctenhance train autoencoder data/ runs/autoencoder --minutes 60",
    "Train the autoencoder whose latent space the diffusion model works in.",
)
_train(
    "enhance",
    "ctenhance train enhance data/ runs/enhance --autoencoder runs/autoencoder/best.safetensors",
    "Train the latent diffusion model; several graphics cards: torchrun -m ctenhance train enhance …",
)


@command(weights_app, "ctenhance weights list", name="list")
def list_weights(run: Run) -> None:
    """List the embedded weights and your own."""
    from dataclasses import asdict

    from ctenhance.runtime.weights import default_name, entries

    run.plan([])
    known = entries()
    default = ""
    with contextlib.suppress(InputError):  # none is marked
        default = default_name("enhance")
    lines = [
        f"{entry.name}{' (default)' if entry.name == default else ''}  version {entry.version}, "
        f"{entry.architecture}, {entry.licence}; trained on {entry.trained_on}"
        for entry in known
    ]
    found = [asdict(entry) for entry in known]
    run.finish({"weights": found}, text="\n".join(lines) or "There are no weights.", weights=found)


@command(weights_app, "ctenhance weights verify")
def verify(
    run: Run,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="All if none is named.")
    ] = None,
) -> None:
    """Check that weights are there and have the registered hash."""
    from ctenhance.runtime.weights import entries
    from ctenhance.runtime.weights import verify as verify_one

    run.plan([])
    checked = {name: verify_one(name).sha256 for name in names or [entry.name for entry in entries()]}
    lines = [f"{name}: whole ({sha256[:12]}…)" for name, sha256 in checked.items()]
    run.finish({"verified": checked}, text="\n".join(lines) or "There are no weights.", verified=checked)


@command(weights_app, "ctenhance weights add runs/twin/twin.safetensors --name my-twin")
def add(
    run: Run,
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors file that the training wrote.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Call them so, instead of by the name in the file.")
    ] = None,
) -> None:
    """Copy your own trained weights to where `--model NAME` finds them."""
    from dataclasses import asdict

    from ctenhance.runtime.weights import add as add_weights

    run.plan([path])
    entry = add_weights(path, name)
    run.finish({"added": asdict(entry)}, text=f"Added; use it with --model {entry.name}", name=entry.name)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # Consoles with a small character set must not turn a sentence into a crash.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(prog_name="ctenhance")
