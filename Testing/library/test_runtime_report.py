"""Reports: JSON types, timings, and nobody's name."""

from __future__ import annotations

import enum
import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ctenhance
from ctenhance.core.report import ReportBuilder, Result, plain, write_report
from ctenhance.runtime.errors import CTEnhanceError
from ctenhance.runtime.weights import WeightsEntry

ENTRY = WeightsEntry(
    name="twin",
    file="twin.safetensors",
    sha256="a" * 64,
    licence="CC BY 4.0",
    trained_on="some collection",
    architecture="twin",
    arguments={"width": 8},
    version="1",
    card="twin.md",
)


def test_report_holds_what_the_design_asks_for() -> None:
    builder = ReportBuilder("enhance", {"strength": 0.5}, device=torch.device("cpu"), seed=3)
    builder.input = {"shape": (1, 2, 3), "sha256": "0" * 64}
    builder.model(ENTRY)
    with builder.stage("encode"):
        pass
    with builder.stage("encode"):
        pass
    builder.warn("Too little memory.")
    builder.warn("Too little memory.")
    builder.note("The feed was not checked.")
    builder.note("The feed was not checked.")
    builder.details = {"flicker": np.float32(0.5)}
    report = builder.finish()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["verb"] == "enhance" and report["seed"] == 3 and report["settings"] == {"strength": 0.5}
    assert report["input"]["shape"] == [1, 2, 3]
    assert report["model"]["sha256"] == "a" * 64 and report["model"]["version"] == "1"
    assert report["device"].startswith("cpu") and report["threads"] == torch.get_num_threads()
    assert report["warnings"] == ["Too little memory."]
    assert report["notes"] == ["The feed was not checked."]
    assert set(report["seconds"]) == {"encode", "total"}
    assert report["peak_memory_mb"]["main"] > 10
    assert report["versions"]["torch"] == torch.__version__
    assert report["ctenhance"] == ctenhance.__version__
    assert report["details"] == {"flicker": 0.5}


def test_stage_is_timed_even_when_it_fails() -> None:
    builder = ReportBuilder("x")
    with pytest.raises(KeyError), builder.stage("broken"):
        raise KeyError
    assert "broken" in builder.finish()["seconds"]


def test_empty_report_and_result() -> None:
    report = ReportBuilder("compare").finish()
    assert report["model"] is None and report["device"] is None and "details" not in report
    assert Result().volumes == {} and Result().report == {}


def test_plain_reduces_to_json_types() -> None:
    class Colour(enum.Enum):
        RED = "red"

    value = {
        "array": np.arange(3),
        "scalar": np.float32(1.5),
        "tensor": torch.tensor([1.0, 2.0]),
        "nan": float("nan"),
        "inf": np.array([np.inf, 1.0]),
        "path": Path("/home/someone/ct.nii.gz"),
        "tuple": (1, "a", None, True),
        "other": Colour.RED,
        7: "number key",
    }
    assert plain(value) == {
        "array": [0, 1, 2],
        "scalar": 1.5,
        "tensor": [1.0, 2.0],
        "nan": None,
        "inf": [None, 1.0],
        "path": "ct.nii.gz",
        "tuple": [1, "a", None, True],
        "other": "Colour.RED",
        "7": "number key",
    }


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
        max_leaves=12,
    )
)
def test_plain_is_always_json_and_settled(value: object) -> None:
    once = plain(value)
    json.dumps(once, allow_nan=False)
    assert plain(once) == once


@pytest.mark.parametrize(
    "key",
    [
        "PatientName", "patient_id", "Patient's Birth Date", "AccessionNumber", "institution_name",
        "ReferringPhysicianName", "study_instance_uid", "SeriesInstanceUID", "StudyDate", "OperatorsName",
        "sop_instance_uids",
        "source_files",
    ],
)  # fmt: skip
def test_identifying_keys_are_dropped_at_any_depth(tmp_path: Path, key: str) -> None:
    write_report(tmp_path / "r.json", {"kept": 1, "meta": [{"deep": {key: "Someone", "kvp": 120}}]})
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert "Someone" not in text
    assert json.loads(text) == {"kept": 1, "meta": [{"deep": {"kvp": 120}}]}


def test_technical_keys_stay() -> None:
    keys = {"kernel": 1, "kvp": 2, "seriesdescription_hash": 3, "dose": 4, "study": 5, "operator": 6}
    assert plain(keys) == keys


def test_failing_report_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    write_report(path, {"a": 1})

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(CTEnhanceError, match="the disk is full; free some space"):
        write_report(path, {"a": 2})
    monkeypatch.undo()
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
    assert math.isfinite(json.loads(path.read_text(encoding="utf-8"))["a"])
