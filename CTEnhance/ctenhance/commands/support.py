"""What all commands share: the common options, signals, progress, results, and errors as one sentence."""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import ctenhance
from ctenhance.commands.options import CHOICE_OPTIONS, Choice
from ctenhance.runtime.errors import Cancelled, InputError, printable
from ctenhance.runtime.failures import EXIT_CANCELLED, sentence_and_code
from ctenhance.runtime.files import check_output, suffix_of
from ctenhance.runtime.memory import require_address_space
from ctenhance.runtime.parent import end_with_parent
from ctenhance.runtime.progress import (
    BarProgress,
    CancelToken,
    Progress,
    check,
    json_progress,
    silent,
    write_event,
)
from ctenhance.runtime.words import either

if TYPE_CHECKING:
    from ctenhance.core.report import Result
    from ctenhance.core.volume import CTVolume

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
_DICOM_SUFFIXES = ("", ".dcm", ".dicom", ".ima")

# Volumes at once: packing takes most of the time, on one core each.
_WRITTEN_AT_ONCE = 2
# The files whose verbs compute nothing with torch.
_LIGHT = ("compare", "convert", "dicom", "film", "study", "weights")


class ProgressMode(str, enum.Enum):
    """How a command reports its progress."""

    BAR = "bar"
    JSON = "json"
    NONE = "none"


# Every command knows these four, so that a panel can start each of them in the same way.
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1 … or mps; Intel's gpu or npu for OpenVINO.")
]
SeedOption = Annotated[
    int,
    typer.Option(
        min=0,
        help="The same seed on the same device with the same number of threads (OMP_NUM_THREADS) gives the "
        "same result; with another number it differs by rounding.",
    ),
]
ReportOption = Annotated[Path | None, typer.Option(help="Write what was done, as JSON, to this file.")]
ProgressOption = Annotated[
    ProgressMode, typer.Option(help="A bar, JSON lines on standard output, or nothing.")
]
_COMMON: dict[str, tuple[Any, Any]] = {
    "device": (DeviceOption, "auto"),
    "seed": (SeedOption, 0),
    "report": (ReportOption, None),
    "progress": (ProgressOption, ProgressMode.BAR),
}
#: Of what computes no images, and of what is computed on the CPU whatever is asked for.
NEITHER, NO_DEVICE = ("device", "seed"), ("device",)
# What such commands do anyway.
_ANYWAY: dict[str, tuple[Any, ...]] = {"device": ("auto", "cpu"), "seed": (0,)}


class Run:
    """One command's run: its common settings, how it reports progress, and where its results are printed."""

    def __init__(self, device: str, seed: int, report: Path | None, mode: ProgressMode) -> None:
        self.device = device
        self.seed = seed
        self.report_path = report
        self.mode = mode
        self.cancel = CancelToken()
        # While a command runs, sys.stdout is standard error, so that no library can write between our lines.
        self._out: IO[str] | None = sys.stdout
        self.progress: Progress = silent
        if mode is ProgressMode.JSON:
            self.progress = json_progress(self._out)
        elif mode is ProgressMode.BAR:
            self.progress = BarProgress()

    def hush(self) -> None:
        """Report no progress and no result any more; errors are still told."""
        self.close()
        self.mode, self.progress, self.report_path = ProgressMode.NONE, silent, None
        self._out = None

    def close(self) -> None:
        """Give the terminal back."""
        if isinstance(self.progress, BarProgress):
            self.progress.close()

    def plan(self, inputs: Sequence[Path], *outputs: tuple[Path | None, Sequence[str]]) -> None:
        """Check every output (path and allowed suffixes; None: not asked for) before the work begins.

        Raises InputError as `check_output` does, for DICOM as output, and for two outputs with one name.
        """
        resolved_paths: set[Path] = set()
        for path, suffixes in [*outputs, (self.report_path, (".json",))]:
            if path is None:
                continue
            suffix = suffix_of(path)
            if suffixes is VOLUME_SUFFIXES and (
                suffix in _DICOM_SUFFIXES or (path.is_dir() and suffix not in VOLUME_SUFFIXES)
            ):
                raise InputError(
                    f"Cannot write '{path}': DICOM is written by 'ctenhance dicom write'; give a name ending "
                    f"in {either(VOLUME_SUFFIXES)}."
                )
            check_output(path, suffixes, inputs)
            resolved = path.resolve()
            if resolved in resolved_paths:
                raise InputError(f"Two outputs have the same name '{path}'; give each its own.")
            resolved_paths.add(resolved)

    def read(self, path: Path, choice: Choice | None = None) -> CTVolume:
        """Read a volume file or a DICOM folder; `choice` selects series and images."""
        self.progress("read", 0, 1)
        volume = ctenhance.read(path, **(choice or Choice()).arguments())
        self.progress("read", 1, 1)
        for note in volume.meta.get("notes", []):
            self.log(f"'{path.name}': {note}.", "note")
        check(self.cancel)
        return volume

    def write(self, *volumes: tuple[CTVolume, Path]) -> None:
        """Write the volumes, two at a time; nothing more is written once the user has asked to stop."""

        def write(volume: CTVolume, path: Path) -> None:
            check(self.cancel)
            ctenhance.write(volume, path)

        self.progress("write", 0, len(volumes))
        with ThreadPoolExecutor(_WRITTEN_AT_ONCE) as pool:
            under_way = [pool.submit(write, volume, path) for volume, path in volumes]
            try:
                for done, one in enumerate(under_way, start=1):
                    one.result()
                    self.progress("write", done, len(volumes))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def write_result(self, result: Result, outputs: Mapping[str, Path | None]) -> None:
        """Write a verb's images to `outputs` by their names (None: not asked for), and finish with its
        report."""
        images = {**result.volumes, **result.maps}
        paths = {name: path for name, path in outputs.items() if path is not None}
        self.write(*((images[name], path) for name, path in paths.items()))
        self.finish(result.report, paths)

    def log(self, text: str, level: str = "warning") -> None:
        """Print something that is neither a result nor a failure."""
        if self.mode is ProgressMode.JSON:
            write_event("log", self._out, level=level, text=text)
        else:
            print(f"{level.capitalize()}: {printable(text)}", file=sys.stderr)

    def event(self, event: str, /, **fields: Any) -> None:
        """Tell programs that read `--progress json` something; at a terminal nothing is printed."""
        if self.mode is ProgressMode.JSON:
            write_event(event, self._out, **fields)

    def announce(self, text: str, **fields: str) -> None:
        """Tell where a command that stays can be reached; its values go into the event as they are."""
        if self.mode is ProgressMode.JSON:
            write_event("serving", self._out, **fields)
        elif self._out is not None:
            print(text, file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Print a line of a result that is told as it is found; in JSON mode as an event of its own."""
        if self.mode is ProgressMode.JSON:
            write_event("line", self._out, text=text)
        elif self._out is not None:
            print(text, file=self._out, flush=True)

    def finish(
        self,
        report: Mapping[str, Any],
        outputs: Mapping[str, Path] | None = None,
        text: str | None = None,
        **fields: Any,
    ) -> None:
        """Write the report if asked for, and tell the warnings, the text to read and where the outputs are.

        `fields` go into the result event of `--progress json` as they are.
        """
        from ctenhance.core.report import plain, write_report

        named = dict(outputs or {})
        if self.report_path is not None:
            write_report(self.report_path, report)
            named["report"] = self.report_path
        self.close()
        if self._out is None:
            return
        warnings = [str(warning) for warning in report.get("warnings", [])]
        for warning in warnings:
            self.log(warning)
        for note in report.get("notes", []):
            self.log(str(note), "note")
        if self.mode is ProgressMode.JSON:
            paths = {name: str(path) for name, path in named.items()}
            write_event("result", self._out, outputs=paths, warnings=warnings, **plain(fields))
            return
        if text:
            print(text, file=self._out)
        for name, path in named.items():
            print(f"{name}: {path}", file=self._out)

    def fail(self, error: BaseException) -> NoReturn:
        """End the command with one sentence on standard error and the exit code for this error."""
        self.close()
        sentence, code = sentence_and_code(error)
        if self.mode is ProgressMode.JSON:
            with contextlib.suppress(OSError):  # the reader may be gone
                write_event("error", self._out, text=sentence, exit_code=code)
        print(f"Error: {sentence}" if code != EXIT_CANCELLED else sentence, file=sys.stderr)
        raise typer.Exit(code)


def _hidden(names: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Return these of the common options as ones that the help does not show."""
    found = {}
    for name in names:
        annotation, default = _COMMON[name]
        kind, *_ = typing.get_args(annotation)
        found[name] = (
            Annotated[kind, typer.Option(min=annotation.__metadata__[0].min, hidden=True)],
            default,
        )
    return found


def _require_effect(common: Mapping[str, Any], without: Sequence[str]) -> None:
    """Raise InputError for a common option that would change nothing."""
    for name in without:
        if common[name] not in _ANYWAY[name]:
            raise InputError(f"--{name} has no effect on this command: leave it out.")


@contextlib.contextmanager
def _cancel_on_signals(cancel: CancelToken) -> Iterator[None]:
    """Let SIGINT and SIGTERM ask for the end; the second one ends at once (temporary files still go)."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if cancel.cancelled:
            raise Cancelled
        cancel.cancel()

    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command(
    app: typer.Typer,
    example: str,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register `function(run, …)` as a command (`name`, or the function's) with the four common options.

    An argument of the type `Choice` becomes the options of `CHOICE_OPTIONS`. `options`: annotations, by name,
    of further ones that the function takes as keywords (None: not given). `without`: those of the common ones
    that change nothing of what it does (`NEITHER`, say): its help does not offer them, and it refuses a value
    other than what it does anyway. Whatever the function raises becomes one sentence and an exit code (see
    `Run.fail`).
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(function, include_extras=True)
        choice = next((name for name, hint in hints.items() if hint is Choice), None)

        def wrapper(**values: Any) -> None:
            common = {name: values.pop(name) for name in _COMMON}
            run = Run(common["device"], common["seed"], common["report"], common["progress"])
            end_with_parent(run.cancel)
            try:
                with _cancel_on_signals(run.cancel), contextlib.redirect_stdout(sys.stderr):
                    _require_effect(common, without)
                    require_address_space(function.__module__.rpartition(".")[2] not in _LIGHT)
                    if choice is not None:
                        values[choice] = Choice.of_options(
                            **{name: values.pop(name) for name in CHOICE_OPTIONS}
                        )
                    function(run, **values)
            except typer.Exit:
                raise
            except (KeyboardInterrupt, BrokenPipeError):  # the latter: whoever read our events has gone
                run.fail(Cancelled())
            except Exception as error:
                run.fail(error)
            finally:
                run.close()

        # typer reads parameters from the signature and the annotations: those of the function without its
        # `run`, then the common ones.
        functools.update_wrapper(wrapper, function)
        del wrapper.__wrapped__  # type: ignore[attr-defined]
        keyword = inspect.Parameter.KEYWORD_ONLY
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(function).parameters.values())[1:]
            if parameter.name != choice and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        without_default = {**(options or {}), **({} if choice is None else CHOICE_OPTIONS)}
        further = {name: (annotation, None) for name, annotation in without_default.items()}
        extra = [
            inspect.Parameter(name, keyword, default=default, annotation=annotation)
            for name, (annotation, default) in (further | _COMMON | _hidden(without)).items()
        ]
        parameters = [parameter.replace(kind=keyword) for parameter in own] + extra
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, epilog=f"Example: {example}")(wrapper)
        return wrapper

    return register
