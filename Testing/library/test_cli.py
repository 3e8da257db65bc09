"""The command line: what it hands to the verbs, what it writes, and how it refuses.

The verbs are stand-ins here, so that these tests see the command line alone; `test_cli_process.py` runs real
ones.
"""

from __future__ import annotations

import ast
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from synthetic_dicom import hounsfield, write_series
from typer.main import get_command
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.volume import CTVolume
from ctenhance.options import Options
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.failures import DEBUG
from ctenhance.runtime.progress import Cancellable, Progress, check

runner = CliRunner()


def small_ct(seed: int = 0) -> CTVolume:
    """Air around noisy soft tissue, small but plausibly CT."""
    noise = np.random.default_rng(seed).normal(0, 12, (4, 24, 32))
    array = np.full((4, 24, 32), -1000.0) + noise
    array[:, 6:18, 6:26] = 40 + noise[:, 6:18, 6:26]
    return CTVolume(np.round(array).astype(np.float32), (0.8, 0.8, 2.5), (1.0, 2.0, 3.0))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    path = tmp_path / "ct.nii.gz"
    small_ct().write(path)
    return path


class Verb:
    """A stand-in for a verb: keeps what it was given, and does `act` before it answers."""

    def __init__(self, name: str, output: str) -> None:
        self.name, self.output = name, output
        self.given: dict[str, Any] = {}
        self.calls = 0
        self.act: Callable[[], None] = lambda: None

    def __call__(
        self, volume: CTVolume, *, options: Options, progress: Progress, cancel: Cancellable
    ) -> Result:
        self.given = dict(vars(options))
        self.calls += 1
        for done in range(3):
            progress(self.name, done, 3)
        self.act()
        check(cancel)
        progress(self.name, 3, 3)
        builder = ReportBuilder(self.name, seed=options.seed)
        builder.warn("A warning.")
        builder.note("A note.")
        report = {**builder.finish(), "input": volume.identity()}
        maps = {"uncertainty": volume.with_array(np.abs(volume.array))}
        return Result({self.output: volume.with_array(volume.array + 1)}, maps, report)


@pytest.fixture
def enhance(monkeypatch: pytest.MonkeyPatch) -> Verb:
    verb = Verb("enhance", "enhanced")
    monkeypatch.setattr(ctenhance, "enhance", verb, raising=False)
    return verb


@pytest.fixture
def degrade(monkeypatch: pytest.MonkeyPatch) -> Verb:
    verb = Verb("degrade", "degraded")
    monkeypatch.setattr(ctenhance, "degrade", verb, raising=False)
    return verb


def run(*arguments: object, code: int = 0) -> Any:
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def commands(command: Any = None, trail: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    command = get_command(app) if command is None else command
    if not hasattr(command, "commands"):
        return [trail]
    return [leaf for name, sub in command.commands.items() for leaf in commands(sub, (*trail, name))]


def test_all_commands_are_there() -> None:
    assert {" ".join(trail) for trail in commands()} == {
        "enhance", "reconstruct", "decompose", "project", "simulate", "degrade", "compare",
        "dicom list", "dicom write", "serve-dicom", "film", "convert",
        "batch", "demo", "calibrate drift", "calibrate scatter", "calibrate inserts", "compare-maps",
        "study create", "study from-folders", "study from-template", "study status", "study unblind",
        "study analyse", "study export", "study plan", "study serve",
        "train twin", "train detail", "train enhance",
        "train projection", "train image", "train scatter",
        "weights list", "weights verify", "weights add", "weights export", "view",
    }  # fmt: skip


@pytest.mark.parametrize("trail", commands(), ids=" ".join)
def test_every_command_explains_itself(trail: tuple[str, ...]) -> None:
    text = " ".join(run(*trail, "--help").output.split())
    assert "Example: " in text
    assert "ctenhance " + " ".join(trail) in text.partition("Example: ")[2]
    assert "--report" in text and "--progress" in text


#: The commands in which --device changes nothing; those in which --seed does are marked.
WITHOUT_DEVICE = {
    "simulate": True, "study from-folders": True, "study from-template": True, "study analyse": True,
} | dict.fromkeys((
    "compare", "compare-maps", "convert", "film", "dicom list", "dicom write", "serve-dicom", "view",
    "calibrate drift", "calibrate scatter", "calibrate inserts", "study create", "study status",
    "study unblind", "study export", "study plan", "study serve", "weights list", "weights verify",
    "weights add", "weights export",
), False)  # fmt: skip


@pytest.mark.parametrize("trail", commands(), ids=" ".join)
def test_options_without_effect_are_neither_offered_nor_taken(trail: tuple[str, ...], tmp_path: Path) -> None:
    name = " ".join(trail)
    text = run(*trail, "--help").output
    assert ("--device" in text) == (name not in WITHOUT_DEVICE)
    assert ("--seed" in text) == WITHOUT_DEVICE.get(name, True)
    if name in {"film", "convert", "weights list"}:
        told = {"film": [tmp_path, tmp_path / "a.gif"], "convert": [tmp_path, tmp_path / "a.nii"]}
        for option, value in (("--device", "cuda"), ("--seed", 3)):
            refused = run(*trail, *told.get(name, []), option, value, code=2)
            assert f"Error: {option} has no effect on this command: leave it out." in refused.stderr


def options_of(trail: tuple[str, ...]) -> set[str]:
    command: Any = get_command(app)
    for name in trail:
        command = command.commands[name]
    return {one for parameter in command.params for one in (*parameter.opts, *parameter.secondary_opts)}


def test_what_sentences_advise_is_there() -> None:
    """Reading DICOM may advise to choose, in whatever verb; no sentence names an option that no verb has."""
    choosing = {"--series", "--acquisition", "--where", "--resample-tilt"}
    assert all(choosing & options_of(trail) in (choosing, set()) for trail in commands())
    for verb in ("decompose", "compare-maps", "calibrate inserts", "batch", "compare", "view", "demo"):
        assert choosing <= options_of(tuple(verb.split())), verb
    known = {one for trail in commands() for one in options_of(trail)} | {"--version", "--help"}
    of_other_programs = {"--raw"}  # gdcmconv's
    for file in Path(ctenhance.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", node.value))
                assert named <= known | of_other_programs, (file.name, node.lineno, named - known)


def test_enhance_hands_everything_over(ct: Path, tmp_path: Path, enhance: Verb) -> None:
    out, sd, report = tmp_path / "out.nrrd", tmp_path / "sd.mha", tmp_path / "report.json"
    done = run(
        "enhance", ct, out, "--model", "twin", "--strength", 0.5, "--keep-faint", 0.25, "--steps", 4,
        "--samples", 3, "--uncertainty", sd, "--device", "cpu", "--engine", "torch", "--seed", 7,
        "--report", report, "--progress", "none",
    )  # fmt: skip
    assert enhance.given == {
        "model": "twin", "strength": 0.5, "keep_faint": 0.25, "steps": 4, "samples": 3, "uncertainty": True,
        "device": "cpu", "engine": "torch", "seed": 7,
    }  # fmt: skip
    original = small_ct()
    assert np.array_equal(CTVolume.read(out).array, original.array + 1)
    assert CTVolume.read(out).origin == pytest.approx(original.origin)
    assert sd.exists()
    assert json.loads(report.read_text(encoding="utf-8"))["verb"] == "enhance"
    assert str(out) in done.stdout and str(report) in done.stdout
    assert done.stderr == "Warning: A warning.\nNote: A note.\n"


def test_defaults(ct: Path, tmp_path: Path, enhance: Verb) -> None:
    run("enhance", ct, tmp_path / "out.nii")
    assert enhance.given == {
        "model": None, "strength": 1.0, "keep_faint": 0.0, "steps": None, "samples": None,
        "uncertainty": False, "device": "auto", "engine": "auto", "seed": 0,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.nii.gz", "out.nii"]


def test_json_progress(ct: Path, tmp_path: Path, enhance: Verb) -> None:
    enhance.act = lambda: print("a library that talks")
    done = run("enhance", ct, tmp_path / "out.mha", "--progress", "json")
    lines = events(done.stdout)
    kinds = [line["event"] for line in lines]
    assert kinds[0] == "progress" and kinds[-1] == "result" and set(kinds) == {"progress", "log", "result"}
    assert {"event": "progress", "stage": "enhance", "done": 3, "total": 3} in lines
    assert {"event": "log", "level": "warning", "text": "A warning."} in lines
    assert {"event": "log", "level": "note", "text": "A note."} in lines
    assert lines[-1]["outputs"] == {"enhanced": str(tmp_path / "out.mha")}
    assert lines[-1]["warnings"] == ["A warning."]
    assert "a library that talks" in done.stderr


def test_what_the_reader_changed_is_told_and_reported(tmp_path: Path) -> None:
    values = hounsfield(4)
    values[:, :3] = -2000
    write_series(tmp_path / "series", values=values, PixelRepresentation=1)
    (tmp_path / "series" / "again.dcm").write_bytes((tmp_path / "series" / "image0002.dcm").read_bytes())
    out, report = tmp_path / "out.nii", tmp_path / "report.json"
    done = run("degrade", tmp_path / "series", out, "--preset", "sumi-paper-3d", "--report", report)
    notes = json.loads(report.read_text(encoding="utf-8"))["input"]["notes"]
    assert notes == ["repeated slices left out: 1", "padding outside the field of view set to -1024 HU"]
    for note in notes:
        assert f"Note: 'series': {note}." in done.stderr


def test_json_error(tmp_path: Path, enhance: Verb) -> None:
    done = run("enhance", tmp_path / "none.nii", tmp_path / "out.mha", "--progress", "json", code=2)
    (error,) = [line for line in events(done.stdout) if line["event"] == "error"]
    assert "none.nii" in error["text"] and error["exit_code"] == 2
    assert done.stderr == f"Error: {error['text']}\n"


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("out.png", "must end in .nii, .nii.gz, .nrrd or .mha"),
        ("out.dcm", "DICOM is written by 'ctenhance dicom write'"),
        ("out", "DICOM is written by 'ctenhance dicom write'"),
        ("folder", "DICOM is written by 'ctenhance dicom write'"),
        ("missing/out.nii", "does not exist; create it first"),
        ("ct.nii.gz", "it is the input itself"),
        ("folder.nii.gz", "it is a folder; give a file name inside it"),
        ("ct.nii.gz/deep/out.nii", "ct.nii.gz' is a file, not a folder; choose another folder"),
        ("s3://bucket/out.nii", "an address, not a place on this machine"),
    ],
)
def test_outputs_are_refused_before_the_work(
    ct: Path, tmp_path: Path, enhance: Verb, monkeypatch: pytest.MonkeyPatch, out: str, sentence: str
) -> None:
    for name in ("folder", "folder.nii.gz"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    before = ct.read_bytes()
    done = run("enhance", ct, out, code=2)
    assert sentence in done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert enhance.calls == 0 and ct.read_bytes() == before
    if out.startswith("s3:"):
        assert "an address" in run("batch", ".", "s3://bucket/out", code=2).stderr
        assert not (tmp_path / "s3:").exists()


def test_other_outputs_are_refused_too(ct: Path, tmp_path: Path, enhance: Verb) -> None:
    out = tmp_path / "out.nii"
    for extra, sentence in [
        (["--report", tmp_path / "out.txt"], "must end in .json"),
        (["--samples", 2, "--uncertainty", out], "Two outputs have the same name"),
        (["--samples", 2, "--uncertainty", tmp_path / "sd.png"], "must end in"),
    ]:
        assert sentence in run("enhance", ct, out, *extra, code=2).stderr
    assert enhance.calls == 0


@pytest.mark.parametrize(
    "extra",
    [
        ["--strength", "1.5"],
        ["--steps", "0"],
        ["--samples", "x"],
        ["--seed", "-1"],
        ["--progress", "loud"],
        ["--no"],
    ],
)
def test_settings_out_of_range(ct: Path, tmp_path: Path, enhance: Verb, extra: list[str]) -> None:
    done = run("enhance", ct, tmp_path / "out.nii", *extra, code=2)
    assert extra[0] in done.stderr and enhance.calls == 0


def test_input_that_is_no_ct(tmp_path: Path, enhance: Verb) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not an image")
    empty = tmp_path / "empty"
    empty.mkdir()
    for source in (broken, empty, tmp_path / "none.nii"):
        done = run("enhance", source, tmp_path / "out.nii", code=2)
        assert source.name in done.stderr
    assert enhance.calls == 0


def fails(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (InputError("The model is unknown."), 2, "Error: The model is unknown."),
        (CTEnhanceError("The disk is full."), 1, "Error: The disk is full."),
        (KeyboardInterrupt(), 130, "Cancelled; no output was written."),
        (BrokenPipeError(), 130, "Cancelled; no output was written."),
        (ValueError("shape\nmore"), 1, "(ValueError: shape); run with CTENHANCE_DEBUG=1 for details."),
        (ZeroDivisionError(), 1, "(ZeroDivisionError: no message)"),
    ],
)
def test_errors_become_one_sentence(
    ct: Path, tmp_path: Path, enhance: Verb, error: BaseException, code: int, sentence: str
) -> None:
    enhance.act = fails(error)
    done = run("enhance", ct, tmp_path / "out.nii", "--progress", "none", code=code)
    assert sentence in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]


def test_debug_adds_the_trace(
    ct: Path, tmp_path: Path, enhance: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG, "1")
    enhance.act = fails(ValueError("shape"))
    assert "Traceback" in run("enhance", ct, tmp_path / "out.nii", code=1).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_cancel(ct: Path, tmp_path: Path, enhance: Verb, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    enhance.act = lambda: signal.raise_signal(number)
    done = run("enhance", ct, tmp_path / "out.nii", "--progress", "json", code=130)
    assert events(done.stdout)[-1] == {
        "event": "error", "text": "Cancelled; no output was written.", "exit_code": 130,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]
    assert signal.getsignal(number) is before


def test_second_signal_ends_what_does_not_listen(ct: Path, tmp_path: Path, enhance: Verb) -> None:
    reached = []

    def act() -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
        signal.raise_signal(signal.SIGINT)
        reached.append(2)

    enhance.act = act
    run("enhance", ct, tmp_path / "out.nii", code=130)
    assert reached == [1]


def test_cancel_after_the_last_step_writes_nothing(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verb(volume: CTVolume, **given: Any) -> Result:
        given["cancel"].cancel()  # nobody looks any more
        return Result({"enhanced": volume}, {}, {})

    monkeypatch.setattr(ctenhance, "enhance", verb, raising=False)
    run("enhance", ct, tmp_path / "out.nii", code=130)
    assert not (tmp_path / "out.nii").exists()


def test_degrade_hands_everything_over(ct: Path, tmp_path: Path, degrade: Verb) -> None:
    replay = tmp_path / "old.json"
    replay.write_text('{"details": {"degradation": 1}}')
    run("degrade", ct, tmp_path / "a.nii", "--preset", "routine", "--dose", 0.5, "--seed", 3)
    assert (degrade.given["preset"], degrade.given["dose"], degrade.given["seed"]) == ("routine", 0.5, 3)
    run("degrade", ct, tmp_path / "a.nii", "--preset", "sumi-paper")
    assert (degrade.given["preset"], degrade.given["dose"]) == ("sumi-paper", None)
    assert degrade.given["replay"] is None
    run("degrade", ct, tmp_path / "a.nii", "--replay", replay)
    assert degrade.given["replay"] == {"details": {"degradation": 1}}
    assert np.array_equal(CTVolume.read(tmp_path / "a.nii").array, small_ct().array + 1)


def test_replay_that_is_no_report(ct: Path, tmp_path: Path, degrade: Verb) -> None:
    bad = tmp_path / "bad.json"
    for text, sentence in [("{", "cannot be read as JSON"), ("[]", "holds no JSON object")]:
        bad.write_text(text)
        assert sentence in run("degrade", ct, tmp_path / "a.nii", "--replay", bad, code=2).stderr
    none = tmp_path / "none.json"
    assert "There is no report at" in run("degrade", ct, tmp_path / "a.nii", "--replay", none, code=2).stderr
    assert degrade.calls == 0


def test_version_and_no_command() -> None:
    assert run("--version").stdout.strip() == f"ctenhance {ctenhance.__version__}"
    assert "enhance" in run(code=2).output
    assert "nonsense" in run("nonsense", code=2).stderr


def test_typer_is_new_enough() -> None:
    assert tuple(int(part) for part in typer.__version__.split(".")[:2]) >= (0, 12)
