"""The verbs' options: one place for names, defaults and checks, from the command line to the report."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import ctenhance
from ctenhance import choices
from ctenhance.cli import app
from ctenhance.options import (
    DecomposeOptions,
    DegradeOptions,
    EnhanceOptions,
    Options,
    ReconstructOptions,
    chosen,
)
from ctenhance.runtime.errors import InputError

VERBS: dict[str, type[Options]] = {
    "enhance": EnhanceOptions,
    "reconstruct": ReconstructOptions,
    "decompose": DecomposeOptions,
    "degrade": DegradeOptions,
}


@pytest.mark.parametrize("verb", VERBS)
def test_keywords_of_a_verb_are_the_fields_of_its_options(verb: str) -> None:
    parameters = dict(inspect.signature(getattr(ctenhance, verb)).parameters)
    data, *others = parameters.values()
    assert data.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and data.default is inspect.Parameter.empty
    assert {one.kind for one in others} == {inspect.Parameter.KEYWORD_ONLY}
    for name in (data.name, "options", "progress", "cancel"):
        del parameters[name]
    fields = {field.name: field for field in dataclasses.fields(VERBS[verb])}
    assert set(parameters) == set(fields)
    for name, parameter in parameters.items():
        assert parameter.default == fields[name].default, name
        assert parameter.annotation == fields[name].type, name


@pytest.mark.parametrize("verb", VERBS)
def test_options_cannot_be_changed_nor_given_by_place(verb: str) -> None:
    options = VERBS[verb](seed=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.seed = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        VERBS[verb]("cpu")  # type: ignore[misc]


def test_options_and_keywords_exclude_each_other() -> None:
    given = EnhanceOptions(strength=0.5)
    assert chosen(given, EnhanceOptions()) is given
    assert chosen(None, EnhanceOptions(seed=2)) == EnhanceOptions(seed=2)
    with pytest.raises(TypeError, match="once"):
        chosen(given, EnhanceOptions(seed=2))


COMMANDS: list[tuple[str, Options, dict[str, Any], list[str]]] = [
    (
        "enhance",
        EnhanceOptions(
            model="own", strength=0.7, keep_faint=0.3, samples=3, uncertainty=True, device="cpu", seed=5
        ),
        {"uncertainty": Path("sd.nii.gz")},
        ["in.nii.gz", "out.nii.gz"],
    ),
    ("enhance", EnhanceOptions(steps=2), {}, ["in.nii.gz", "out.nii.gz"]),
    (
        "reconstruct",
        ReconstructOptions(
            method="projection",
            kernel="sharp",
            image_size=[96, 96],  # type: ignore[arg-type]
            fov_mm=300.5,
            all_stages=True,
            uncertainty=True,
            residual=True,
            samples=6,
            model_projection=Path("own.safetensors"),
            projection_steps=2,
            seed=1,
        ),
        {"uncertainty": Path("sd.nii"), "residual": Path("rest.nii")},
        ["in.ctproj.h5", "out.nii.gz"],
    ),
    ("reconstruct", ReconstructOptions(), {}, ["in.ctproj.h5", "out.nii.gz"]),
    (
        "decompose",
        DecomposeOptions(
            basis=["water", "iodine", "calcium"],
            vmi=[40, 70.5],
            low_noise=True,
            guided_maps=True,
            vnc=True,
            zeff=True,
            electron_density=True,
            errors=True,
            kernel="soft",
            image_size=64,
            calibration=Path("drift.h5"),
            scatter="network",
            scatter_ratio=0.12,
            grid_ratio=8.0,
        ),
        {},
        ["in.ctproj.h5", "maps"],
    ),
    ("decompose", DecomposeOptions(), {}, ["in.ctproj.h5", "maps"]),
    ("degrade", DegradeOptions(dose=0.25, seed=9), {}, ["in.nii.gz", "out.nii.gz"]),
    ("degrade", DegradeOptions(preset="sumi-paper"), {}, ["in.nii.gz", "out.nii.gz"]),
]


class _ReachedError(Exception):
    """The verb was reached."""


@pytest.mark.parametrize(("verb", "options", "files", "paths"), COMMANDS)
def test_the_command_makes_the_same_options_of_their_arguments(
    verb: str,
    options: Any,
    files: dict[str, Path],
    paths: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in.nii.gz", "in.ctproj.h5", "drift.h5"):
        Path(name).touch()
    reached: list[Options] = []

    def reach(data: object, *, options: Options, progress: object, cancel: object) -> None:
        reached.append(options)
        raise _ReachedError

    volume = ctenhance.CTVolume([[[0.0]]])  # type: ignore[arg-type]
    for name in ("read", "read_projections"):
        monkeypatch.setattr(ctenhance, name, lambda *_, **__: volume, raising=False)
    monkeypatch.setattr(ctenhance, verb, reach, raising=False)
    done = CliRunner().invoke(app, [verb, *paths, *options.to_arguments(**files), "--progress", "none"])
    assert reached, done.output
    found = dataclasses.asdict(reached[0])
    asked = dataclasses.asdict(options)
    if isinstance(options, ReconstructOptions):
        asked["image_size"] = options.image_size and options.image_size[0]  # type: ignore[index]
    assert {name: str(value) for name, value in found.items()} == {
        name: str(tuple(map(float, value)) if name == "vmi" else value) for name, value in asked.items()
    }


def test_pile_up_goes_to_the_command_in_its_units() -> None:
    from ctenhance.physics.detector import PileUp

    arguments = DecomposeOptions(pile_up=PileUp(2e-8, 3e-4)).to_arguments()
    at = arguments.index("--dead-time")
    assert float(arguments[at + 1]) == pytest.approx(20)
    assert float(arguments[arguments.index("--view-time") + 1]) == pytest.approx(300)


def test_what_no_command_can_say_is_refused() -> None:
    refused = (
        ReconstructOptions(image_size=(64, 96)),
        ReconstructOptions(pixel_mm=0.5),
        DecomposeOptions(pixel_mm=0.5),
        DecomposeOptions(calibration=object()),  # type: ignore[arg-type]
        DegradeOptions(photons=1e5),
    )
    for options in refused:
        with pytest.raises(InputError, match="The command"):
            options.to_arguments()
    with pytest.raises(ValueError, match="uncertainty"):
        EnhanceOptions(uncertainty=True).to_arguments()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EnhanceOptions(strength=1.5), "between 0"),
        (lambda: EnhanceOptions(strength=float("nan")), "between 0"),
        (lambda: EnhanceOptions(steps=9), "no model takes more than 8"),
        (lambda: EnhanceOptions(samples=0), "choose 1 or more"),
        (lambda: EnhanceOptions(uncertainty=True, samples=1), "at least 2 samples"),
        (lambda: ReconstructOptions(method="magic"), "magic"),
        (lambda: ReconstructOptions(kernel="B40f"), "B40f"),
        (lambda: ReconstructOptions(image_steps=11), "image steps"),
        (lambda: ReconstructOptions(samples=0), "choose 1 or more"),
        (lambda: ReconstructOptions(uncertainty=True, samples=1), "at least 2 samples"),
        (lambda: ReconstructOptions(method="fbp", uncertainty=True), "no uncertainty map"),
        (lambda: DecomposeOptions(kernel="bone"), "bone"),
        (lambda: DecomposeOptions(basis="water"), "list of names"),
        (lambda: DecomposeOptions(vmi=70), "list of keV"),
        (lambda: DegradeOptions(dose=0.0), "fraction"),
        (lambda: DegradeOptions(preset="sumi-paper", dose=0.5), "choose routine"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_lists_may_be_arrays() -> None:
    options = DecomposeOptions(vmi=np.arange(40, 61, 10), basis=("water", "iodine"))  # type: ignore[arg-type]
    assert options.vmi == (40, 50, 60) and "40,50,60" in options.to_arguments()


def test_one_sample_is_enough_without_an_uncertainty_map() -> None:
    assert EnhanceOptions(samples=1).samples == 1
    options = ReconstructOptions(samples=1)
    assert options.draws == 0 and options.settings()["samples"] == 0
    assert ReconstructOptions(uncertainty=True).draws == choices.SPREAD_SAMPLES
    assert ReconstructOptions(uncertainty=True, samples=7).draws == 7


def test_reports_of_other_verbs_and_without_settings_are_refused() -> None:
    report = {"verb": "enhance", "settings": {}, "seed": 1}
    with pytest.raises(InputError, match="no report of 'degrade'"):
        DegradeOptions.from_report(report)
    with pytest.raises(InputError, match="does not say 'strength'"):
        EnhanceOptions.from_report(report)


def test_a_report_from_before_faint_structures_could_be_kept_kept_none() -> None:
    settings = {"strength": 0.5, "steps": 1, "samples": 1, "uncertainty": False}
    report = {"verb": "enhance", "settings": settings, "seed": 1, "model": {"name": "enhance-twin"}}
    assert EnhanceOptions.from_report(report).keep_faint == 0
    settings["keep_faint"] = 0.5  # type: ignore[assignment]
    assert EnhanceOptions.from_report(report).keep_faint == 0.5


def test_choices_are_what_the_methods_know() -> None:
    from ctenhance.decomposition.scatter.network import ARCHITECTURE
    from ctenhance.degradation.presets import PAPER_PRESETS
    from ctenhance.enhancement import networks as enhancing
    from ctenhance.physics.fbp import KERNEL_MTF
    from ctenhance.reconstruction import networks as reconstructing
    from ctenhance.runtime.weights import entries

    assert ("ramp", "shepp-logan", "hann", *KERNEL_MTF) == choices.KERNELS
    assert (choices.DEFAULT_PRESET, *PAPER_PRESETS) == choices.PRESETS
    able = {name for name, one in enhancing.ARCHITECTURES.items() if hasattr(one, "stochastic")}
    assert set(choices.ENHANCE_ARCHITECTURES) == able
    known = {*choices.PROJECTION_ARCHITECTURES, *choices.IMAGE_ARCHITECTURES}
    assert known == set(reconstructing.ARCHITECTURES)
    assert {one.architecture for one in entries()} <= {*able, *known, ARCHITECTURE}


def test_the_help_names_all_choices() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]

    def told(verb: str, option: str) -> str:
        return next(str(one.help) for one in commands[verb].params if one.name == option)

    for verb, option, names in (
        ("reconstruct", "kernel", choices.KERNELS),
        ("reconstruct", "method", choices.METHODS),
        ("decompose", "scatter", choices.SCATTER_MODES),
        ("degrade", "preset", choices.PRESETS),
    ):
        assert all(name in told(verb, option) for name in names)


def test_options_import_no_torch() -> None:
    code = (
        "import sys, ctenhance.options, ctenhance.choices\n"
        "sys.exit(str({'torch', 'numpy', 'monai'} & set(sys.modules) or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
