"""Progress, cancellation and modules that can be called."""

from __future__ import annotations

import io
import json
import sys
import types

import pytest

from ctenhance.runtime.callable_module import make_callable
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.progress import (
    BARS_SHOWN,
    CancelToken,
    bar_progress,
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
    with bar_progress(stream) as progress:
        for case in range(BARS_SHOWN * 3):  # a batch
            progress(f"case {case}", 0, 2)
            progress(f"case {case}", 2, 2)
        progress.close()
    assert f"case {BARS_SHOWN * 3 - 1}" in stream.getvalue()
    assert "case 0" not in stream.getvalue()


def test_unused_bar_draws_nothing() -> None:
    stream = io.StringIO()
    bar_progress(stream).close()
    assert stream.getvalue() == ""
    silent("anything", 0, 1)


def test_callable_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("some_verb")
    monkeypatch.setitem(sys.modules, "some_verb", module)
    module.some_verb = lambda value, *, twice=False: value * (2 if twice else 1)  # type: ignore[attr-defined]
    module.other = 7  # type: ignore[attr-defined]
    make_callable("some_verb", "some_verb")
    import some_verb

    assert some_verb(3, twice=True) == 6
    assert some_verb.other == 7
    assert isinstance(some_verb, types.ModuleType)
    monkeypatch.setattr(some_verb, "some_verb", lambda value: -value)
    assert some_verb(3) == -3  # looked up at each call


def test_callable_module_with_a_lazy_function(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lazy_verb")
    monkeypatch.setitem(sys.modules, "lazy_verb", module)
    module.__getattr__ = lambda name: {"run": str}[name]  # type: ignore[method-assign]
    make_callable("lazy_verb", "run")
    import lazy_verb

    assert lazy_verb(5) == "5"


def test_package_imports_lazily() -> None:
    import ctenhance

    assert "CTVolume" in dir(ctenhance) and "runtime" in dir(ctenhance)
    assert ctenhance.Result.__module__ == "ctenhance.core.report"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ctenhance.nothing
