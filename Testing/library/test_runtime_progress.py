"""Progress, cancellation and modules that can be called."""

from __future__ import annotations

import inspect
import io
import json
import pickle
from pathlib import Path

import pytest

from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.progress import (
    BARS_SHOWN,
    BarProgress,
    CancelToken,
    check,
    json_progress,
    silent,
    write_event,
)


def test_cancel_token() -> None:
    token = CancelToken()
    check(None)
    check(token)
    token.cancel()
    with pytest.raises(Cancelled, match="no output was written"):
        check(token)


def test_errors_are_of_one_family() -> None:
    assert issubclass(InputError, CTEnhanceError)
    assert issubclass(Cancelled, CTEnhanceError)
    assert str(InputError("One sentence.")) == "One sentence."


def test_json_lines_are_few_but_complete() -> None:
    stream, now = io.StringIO(), 0.0
    progress = json_progress(stream, clock=lambda: now)
    for done in range(1001):
        now += 0.001
        progress("encode", done, 1000)
    progress("decode", 0, 1)
    progress("decode", 1, 1)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events[0] == {"event": "progress", "stage": "encode", "done": 0, "total": 1000}
    assert {"event": "progress", "stage": "encode", "done": 1000, "total": 1000} in events
    assert [event["done"] for event in events if event["stage"] == "decode"] == [0, 1]
    assert 5 <= len(events) <= 20


def test_json_events_are_one_ascii_line_each() -> None:
    stream = io.StringIO()
    write_event("log", stream, text="50 µm\nsecond line")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    with pytest.raises(ValueError, match="JSON"):
        write_event("log", stream, value=float("nan"))


def test_json_progress_takes_numpy_integers() -> None:
    import numpy as np

    stream = io.StringIO()
    json_progress(stream)("a", np.int64(1), np.int64(2))
    assert json.loads(stream.getvalue())["done"] == 1


def test_bars_go_to_their_stream_and_close() -> None:
    stream = io.StringIO()
    with BarProgress(stream) as progress:
        for case in range(BARS_SHOWN * 3):  # a batch
            progress(f"case {case}", 0, 2)
            progress(f"case {case}", 2, 2)
        progress.close()
    assert f"case {BARS_SHOWN * 3 - 1}" in stream.getvalue()
    assert "case 0" not in stream.getvalue()


def test_unused_bar_draws_nothing() -> None:
    stream = io.StringIO()
    BarProgress(stream).close()
    assert stream.getvalue() == ""
    silent("anything", 0, 1)


def test_verbs_are_functions() -> None:
    """Their parameters can be looked up, they can be pickled, and `help` knows them."""
    import ctenhance

    for verb in ("enhance", "degrade", "reconstruct", "decompose", "read", "write"):
        function = getattr(ctenhance, verb)
        assert inspect.isfunction(function)
        assert len(inspect.signature(function).parameters) > 1
        assert pickle.loads(pickle.dumps(function)) is function
        assert function.__doc__


def test_every_public_name_is_there_and_in_the_stub() -> None:
    import ctenhance

    stub = (Path(ctenhance.__file__).parent / "__init__.pyi").read_text(encoding="utf-8")
    for name in ctenhance.__all__:
        assert getattr(ctenhance, name) is not None
        assert f" as {name}\n" in stub or f"{name}: " in stub


def test_package_imports_lazily() -> None:
    import ctenhance

    assert "CTVolume" in dir(ctenhance) and "runtime" in dir(ctenhance)
    assert ctenhance.Result.__module__ == "ctenhance.core.report"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ctenhance.nothing
