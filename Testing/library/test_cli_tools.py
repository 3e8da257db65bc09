"""`ctenhance compare`, `demo`, `train` and `weights`, with stand-ins for what they call."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.core.report import Result
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement import training
from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import check

runner = CliRunner()


def write_ct(path: Path, slices: int = 4, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).normal(0, 12, (slices, 16, 16))
    noise[:, :4] -= 1000
    CTVolume(np.round(noise).astype(np.float32), (1, 1, 2), (10, 20, 30)).write(path)
    return path


def run(*arguments: object, code: int = 0) -> Any:
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the stand-in for `ctenhance.quality` was asked for."""
    calls: list[tuple[str, dict[str, Any]]] = []
    module, doubts_of_pair = ModuleType("ctenhance.quality"), ctenhance.quality.doubts_of_pair

    def compare(
        before: CTVolume, after: CTVolume, reference: CTVolume | None = None, **given: Any
    ) -> dict[str, Any]:
        given["progress"]("compare", 1, 1)
        check(given["cancel"])
        calls.append(("compare", {"before": before, "after": after, "reference": reference}))
        return {"psnr_db": np.float32(40.5), "reference": reference is not None}

    def figure(before: CTVolume, after: CTVolume, path: Path, **given: Any) -> None:
        calls.append(("figure", given))
        Path(path).write_bytes(b"figure")

    def page(before: CTVolume, after: CTVolume, path: Path, **given: Any) -> None:
        calls.append(("page", given))
        Path(path).write_text("<html>")

    module.compare, module.figure, module.page = compare, figure, page  # type: ignore[attr-defined]
    module.doubts_of_pair = doubts_of_pair  # type: ignore[attr-defined]
    module.table = lambda metrics: f"PSNR {metrics['psnr_db']:.1f} dB"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ctenhance.quality", module)
    monkeypatch.setattr(ctenhance, "quality", module, raising=False)
    return calls


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the stand-ins for `degrade` and `enhance` were called with."""
    calls: dict[str, dict[str, Any]] = {}

    def stand_in(name: str, output: str, add: float) -> None:
        def verb(volume: CTVolume, **given: Any) -> Result:
            calls[name] = {"volume": volume, **given}
            changed = volume.with_array(volume.array + add)
            return Result({output: changed}, {}, {"verb": name, "warnings": [f"{name} warns."]})

        monkeypatch.setattr(ctenhance, name, verb, raising=False)

    stand_in("degrade", "degraded", 1)
    stand_in("enhance", "enhanced", 2)
    return calls


def test_compare_prints_the_table_and_writes_what_is_asked(tmp_path: Path, quality: list[Any]) -> None:
    before, after = write_ct(tmp_path / "b.nii", seed=1), write_ct(tmp_path / "a.nii", seed=2)
    done = run(
        "compare", before, after, "--reference", before, "--figure", tmp_path / "f.png", "--page",
        tmp_path / "p.html", "--json", tmp_path / "m.json", "--report", tmp_path / "r.json",
    )  # fmt: skip
    assert "PSNR 40.5 dB" in done.stdout and str(tmp_path / "p.html") in done.stdout
    assert json.loads((tmp_path / "m.json").read_text()) == {
        "psnr_db": 40.5,
        "reference": True,
    }
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["details"]["metrics"]["psnr_db"] == 40.5
    assert set(report["input"]) == {"before", "after", "reference"}
    assert [name for name, _given in quality] == ["compare", "figure", "page"]
    assert all(given["metrics"]["psnr_db"] == 40.5 for _name, given in quality[1:])  # not measured again
    assert np.array_equal(quality[0][1]["after"].array, CTVolume.read(after).array)


def test_compare_without_files_in_json(tmp_path: Path, quality: list[Any]) -> None:
    before, after = write_ct(tmp_path / "b.nii"), write_ct(tmp_path / "a.nii")
    done = run("compare", before, after, "--progress", "json")
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["event"] == "result" and result["metrics"] == {"psnr_db": 40.5, "reference": False}
    assert [name for name, _given in quality] == ["compare"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "b.nii"]


def test_compare_refuses_outputs_early(tmp_path: Path, quality: list[Any]) -> None:
    before, after = write_ct(tmp_path / "b.nii"), write_ct(tmp_path / "a.nii")
    for option, name in [
        ("--figure", "f.jpg"),
        ("--page", "p.png"),
        ("--json", "m.txt"),
        ("--json", "a.nii"),
    ]:
        assert "must end in" in run("compare", before, after, option, tmp_path / name, code=2).stderr
    assert not quality


def test_demo_with_the_phantom(
    tmp_path: Path, quality: list[Any], verbs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, Any] = {}
    module = ModuleType("ctenhance.physics.phantom")
    phantom = CTVolume.read(write_ct(tmp_path / "phantom.nii"))

    def chest_phantom(**given: Any) -> CTVolume:
        sizes.update(given)
        return phantom

    module.chest_phantom = chest_phantom  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ctenhance.physics.phantom", module)
    out = tmp_path / "new" / "demo"
    done = run("demo", out, "--seed", 5, "--slices", 3, "--device", "cpu")
    assert sizes == {"slices": 3, "seed": 5}
    assert sorted(path.name for path in out.iterdir()) == [
        "degraded.nii.gz", "enhanced.nii.gz", "figure.png", "index.html", "original.nii.gz", "report.json",
    ]  # fmt: skip
    assert str(out / "index.html") in done.stdout and "PSNR 40.5 dB" in done.stdout
    assert "Warning: degrade warns." in done.stderr and "Warning: enhance warns." in done.stderr
    assert (verbs["degrade"]["preset"], verbs["degrade"]["dose"], verbs["degrade"]["seed"]) == (
        "routine",
        0.25,
        5,
    )
    assert np.array_equal(verbs["enhance"]["volume"].array, phantom.array + 1)
    assert np.array_equal(CTVolume.read(out / "enhanced.nii.gz").array, phantom.array + 3)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["settings"] == {"dose": 0.25, "slices": 3, "phantom": True}
    assert set(report["details"]) == {"degrade", "enhance", "metrics"}


def test_demo_takes_the_middle_of_a_ct(tmp_path: Path, quality: list[Any], verbs: dict[str, Any]) -> None:
    source = write_ct(tmp_path / "ct.nii.gz", slices=9)
    run("demo", tmp_path / "out", "--ct", source, "--slices", 3, "--dose", 0.5)
    whole, middle = CTVolume.read(source), CTVolume.read(tmp_path / "out" / "original.nii.gz")
    assert np.array_equal(middle.array, whole.array[3:6])
    assert middle.origin == pytest.approx((10, 20, 30 + 3 * 2))
    assert middle.spacing == pytest.approx(whole.spacing)
    assert verbs["degrade"]["dose"] == 0.5
    run("demo", tmp_path / "all", "--ct", source, "--slices", 0)
    assert CTVolume.read(tmp_path / "all" / "original.nii.gz").array.shape == whole.array.shape


def test_demo_refusals(tmp_path: Path, verbs: dict[str, Any], quality: list[Any]) -> None:
    (tmp_path / "file").touch()
    for extra, sentence in [
        ([tmp_path / "out", "--ct", tmp_path / "none.nii"], "There is no CT at"),
        ([tmp_path / "out", "--dose", 0], "no fraction of the full dose"),
        ([tmp_path / "out", "--dose", 2], "no fraction of the full dose"),
        ([tmp_path / "file"], "it is a file, not a folder"),
    ]:
        assert sentence in run("demo", *extra, code=2).stderr
    assert not verbs and not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["twin", "enhance"])
def test_train_calls_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    given: dict[str, Any] = {}
    module, package = ModuleType("ctenhance.enhancement.training"), ModuleType("ctenhance.enhance")

    def train(data, runs, options, progress, cancel):  # type: ignore[no-untyped-def]
        assert (
            type(options).__name__
            in inspect.signature(getattr(training, f"train_{method}")).parameters["options"].annotation
        )
        plain = {field.name: field.default for field in dataclasses.fields(options)}
        changed = {name: value for name, value in vars(options).items() if value != plain[name]}
        given.clear()
        given.update(changed, data=data, runs=runs, resume=options.resume, device=options.device)
        given.update(seed=options.seed, progress=progress, cancel=cancel)
        return runs / "best.safetensors"

    setattr(module, f"train_{method}", train)
    package.training = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ctenhance.enhance", package)
    monkeypatch.setitem(sys.modules, "ctenhance.enhancement.training", module)
    folder, runs = tmp_path / "data", tmp_path / "runs"
    folder.mkdir()
    done = run("train", method, folder, runs / "x", "--minutes", 2, "--no-resume")
    assert str(tmp_path / "runs" / "x" / "best.safetensors") in done.stdout
    assert given.pop("progress") is not None and given.pop("cancel") is not None
    assert given == {
        "data": tmp_path / "data", "runs": tmp_path / "runs" / "x", "minutes": 2.0, "resume": False,
        "device": "auto", "seed": 0,
    }  # fmt: skip
    run(
        "train", method, folder, runs, "--steps", 9, "--batch", 2, "--exclude", "a",
        "--exclude", "b", "--validation", tmp_path,
    )  # fmt: skip
    assert (given["steps"], given["batch"], given["exclude"], given["validation"]) == (
        9,
        2,
        ["a", "b"],
        tmp_path,
    )
    assert given["resume"] is True
    monkeypatch.setenv("RANK", "1")  # as torchrun sets it for all cards but the first
    done = run("train", method, folder, runs, "--report", tmp_path / "r.json")
    assert done.stdout == "" and not (tmp_path / "r.json").exists()
    monkeypatch.delenv("RANK")
    wrong = {"twin": "--twin", "enhance": "--start"}[method]
    refused = run("train", method, folder, runs, wrong, tmp_path, code=2)
    assert f"No such option: {wrong}" in refused.stderr
    assert "is no folder" in run("train", method, tmp_path / "none", runs, code=2).stderr


def entry(name: str) -> weights.WeightsEntry:
    return weights.WeightsEntry(
        name=name, file="", sha256="", licence="CC BY 4.0", trained_on="a phantom", architecture="twin",
        arguments={}, version="1", card="",
    )  # fmt: skip


@pytest.fixture
def none_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "EMBEDDED", tmp_path / "embedded")


def test_weights_life(tmp_path: Path, none_embedded: None) -> None:
    assert "There are no weights." in run("weights", "list").stdout
    assert "There are no weights." in run("weights", "verify").stdout
    own = tmp_path / "own.safetensors"
    weights.save(own, {"w": torch.ones(3)}, entry("own-net"))
    assert "--model own-net" in run("weights", "add", own).stdout
    assert "--model other" in run("weights", "add", own, "--name", "other", "--progress", "none").stdout
    listed = run("weights", "list").stdout
    assert "own-net  version 1, twin, CC BY 4.0; trained on a phantom" in listed and "other" in listed
    result = json.loads(run("weights", "list", "--progress", "json").stdout)
    assert [line["name"] for line in result["weights"]] == ["own-net", "other"]
    assert "own-net: whole" in run("weights", "verify", "own-net").stdout
    (weights.user_folder() / "other.safetensors").write_bytes(b"changed")
    assert "own-net" in run("weights", "verify", "own-net").stdout
    assert "not the registered one" in run("weights", "verify", code=2).stderr


def test_weights_refusals(tmp_path: Path, none_embedded: None) -> None:
    assert "no weights called 'nothing'" in run("weights", "verify", "nothing", code=2).stderr
    assert "is missing" in run("weights", "add", tmp_path / "a.safetensors", code=2).stderr
    (tmp_path / "a.pt").write_bytes(b"PK")
    assert "only .safetensors files are read" in run("weights", "add", tmp_path / "a.pt", code=2).stderr
    with pytest.raises(InputError):
        weights.load("nothing")
