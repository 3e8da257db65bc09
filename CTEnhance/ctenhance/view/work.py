"""Work that a page asks for: a command of this program in a process of its own, with progress and
cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.parent import VARIABLE
from ctenhance.view.opening import Subject, subject_of

VERBS = ("enhance", "reconstruct", "decompose")
_METHODS = {"need": "NEED", "projection": "Projections", "fbp": "FBP"}
_BASES = ("water,iodine", "water,bone", "water,iodine,gadolinium", "water,iodine,gold")
_CANCELLED = 130
_END_SECONDS = 15.0
_LONGEST_LINE = 1 << 20

Tell = Callable[[dict[str, Any]], None]


@dataclass
class Result:
    """What a job made: what is to be looked at, files to fetch by name, and the report."""

    look: Subject
    files: dict[str, Path]
    report: Path


class Work:
    """The jobs of one session, one at a time; `turn` is shared by all, so that no session takes the machine.

    Files are made in `folder`, which goes with the session; those of a job stay until the next one is done.
    A job that takes longer than `longest_seconds` is stopped.
    """

    def __init__(self, folder: Path, turn: asyncio.Semaphore, tell: Tell, longest_seconds: float) -> None:
        self._folder, self._turn, self._tell, self._longest = folder, turn, tell, longest_seconds
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._stopped = False
        self.downloads: dict[str, Path] = {}
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether a job is waiting or running."""
        return self._task is not None and not self._task.done()

    def start(
        self,
        verb: str,
        source: Subject,
        options: Mapping[str, Any],
        done: Callable[[Subject], Any],
        let_go: Callable[[], None],
    ) -> None:
        """Begin a job on the source; `done` opens what it made, `let_go` is called at the end.

        Raises InputError when it cannot begin.
        """
        if self.busy:
            raise InputError("Something is running already; wait for it, or cancel it.")
        self._count += 1
        place = self._folder / f"run-{self._count}"
        place.mkdir()
        try:
            plan = _planned(verb, source, place, options)
        except InputError:
            place.rmdir()
            raise
        self._stopped = False
        self._task = asyncio.get_running_loop().create_task(self._run(place, *plan, source, done))
        self._task.add_done_callback(lambda _task: let_go())

    def cancel(self) -> None:
        """Ask the job to stop; nothing of it is left."""
        self._stopped = True
        self._signal()
        if self._task is not None and self._process is None:
            self._task.cancel()

    async def close(self) -> None:
        """Stop what is running and remove all files."""
        self.cancel()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError, asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), _END_SECONDS)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def state(self) -> dict[str, Any]:
        """Return what the page is told when it comes (again)."""
        return {"type": "work", "state": "running" if self.busy else "idle", "files": self._offered()}

    async def _run(
        self,
        place: Path,
        arguments: list[str],
        result: Result,
        source: Subject,
        done: Callable[[Subject], Any],
    ) -> None:
        finished = False
        try:
            self._tell({"type": "work", "state": "waiting"})
            async with self._turn:
                await self._in_time(self._command(arguments, source))
                if self._stopped:
                    raise Cancelled
                self._tell({"type": "work", "state": "running", "stage": "show", "done": 0, "total": 0})
                files = await self._fetchable(result, source)
                await done(result.look)
            self.downloads = files
            finished = True
            self._tell({"type": "work", "state": "done", "files": self._offered()})
        except (Cancelled, asyncio.CancelledError):
            self._tell({"type": "work", "state": "cancelled", "text": "Cancelled; nothing was kept."})
        except CTEnhanceError as error:
            self._tell(
                {
                    "type": "work",
                    "state": "failed",
                    "text": str(error).replace(f"'{source.before}'", "the input"),
                }
            )
        except Exception as error:  # the page must not wait for what will not come
            what = f"Something unexpected happened ({type(error).__name__})."
            self._tell({"type": "work", "state": "failed", "text": what})
        finally:
            self._process = None
            for one in self._folder.glob("run-*"):  # a result, or what came to none, is followed by no other
                if (one == place) is not finished:
                    shutil.rmtree(one, ignore_errors=True)

    async def _in_time(self, command: Awaitable[None]) -> None:
        """Wait for a command; raises CTEnhanceError when it takes too long and was stopped."""
        task = asyncio.ensure_future(command)
        try:
            _done, late = await asyncio.wait({task}, timeout=self._longest)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if late:
            self._signal()
            with contextlib.suppress(CTEnhanceError):
                await task
            minutes = f"{self._longest / 60:g} minutes"
            raise CTEnhanceError(
                f"It was stopped after {minutes}, as others may wait for a turn; run it on the command line, "
                "or start the page with more --job-minutes."
            )
        await task

    def _signal(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def _command(self, arguments: list[str], source: Subject) -> None:
        """Run a command of this program; raises CTEnhanceError with its sentence, Cancelled."""
        environment = {**os.environ, VARIABLE: str(os.getpid())}
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ctenhance", *arguments, "--progress", "json",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env=environment, limit=_LONGEST_LINE,
            pass_fds=source.descriptors,
        )  # fmt: skip
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):  # viewers have the machine first
                os.setpriority(os.PRIO_PROCESS, process.pid, 5)
        sentence = ""
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if event["event"] == "progress":
                        step = {name: event[name] for name in ("stage", "done", "total")}
                        self._tell({"type": "work", "state": "running", **step})
                    elif event["event"] == "error":
                        sentence = str(event["text"])
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            raise
        if code == _CANCELLED or (code and self._stopped):
            raise Cancelled
        if code:
            raise CTEnhanceError(sentence or "It ended without a word: is there enough memory?")

    async def _fetchable(self, result: Result, source: Subject) -> dict[str, Path]:
        """Return what can be fetched, by what cannot be guessed: volumes as they are, the report, and the
        image as DICOM, where it is one in HU."""
        image = result.look.after or result.look.before
        report = result.report
        found = [(name, path) for name, path in result.files.items() if path.exists()]
        if report.exists():
            found.append((report.name, report))
        if image is not None:
            series = image.with_name("series")
            is_dicom = source.before is not None and source.before.is_dir()
            like = ["--like", str(source.before), *_choice(source)] if is_dicom else []
            with contextlib.suppress(CTEnhanceError):  # then there is the volume file only
                lineage = ["--made-by", str(report)]
                await self._in_time(
                    self._command(["dicom", str(image), str(series), *lineage, *like], source)
                )
                packed = await asyncio.to_thread(_zipped, series)
                found.append((packed.name, packed))
        return {f"{secrets.token_urlsafe(12)}/{name}": path for name, path in found}

    def _offered(self) -> list[dict[str, str]]:
        return [{"id": key, "name": key.rpartition("/")[2]} for key in self.downloads]


def _choice(source: Subject) -> list[str]:
    """Return the arguments that choose the same in a DICOM folder."""
    series = [] if source.series is None else ["--series", source.series]
    return [
        *series,
        *(part for name, value in source.where.items() for part in ("--where", f"{name}={value}")),
    ]


def _planned(
    verb: str, subject: Subject, place: Path, options: Mapping[str, Any]
) -> tuple[list[str], Result]:
    """Return a verb's arguments and what will come of it; raises InputError for options that it has not."""
    source, report = subject.before, place / "report.json"
    if source is None:
        raise InputError("These are the maps of a decomposition; choose a CT or projections to work on.")
    if verb == "enhance":
        target, spread = place / "enhanced.nii.gz", place / "uncertainty.nii.gz"
        more = ["--samples", "4", "--uncertainty", str(spread)] if options.get("uncertainty") is True else []
        over = spread if more else None
        look = replace(subject, after=target, uncertainty=over, names={"after": "Enhanced"})
        files = {one.name: one for one in (target, *([spread] if more else []))}
        arguments = ["enhance", str(source), str(target), *_choice(subject), *more]
    elif verb == "reconstruct":
        target, first = place / "image.nii.gz", place / "image_fbp.nii.gz"
        method = options.get("method", "need")
        if method not in _METHODS:
            raise InputError(f"There is no method of this name; choose {', '.join(_METHODS)}.")
        arguments = ["reconstruct", str(source), str(target), "--method", str(method)]
        if method == "fbp":
            look, files = Subject(target, names={"before": "FBP"}), {target.name: target}
        else:
            arguments.append("--all")
            look = Subject(first, target, names={"before": "FBP", "after": _METHODS[str(method)]})
            files = {one.name: one for one in (target, first)}
    elif verb == "decompose":
        basis = options.get("basis", _BASES[0])
        if basis not in _BASES:
            raise InputError(f"There is no basis of this name; choose {'; '.join(_BASES)}.")
        maps = place / "maps"
        maps.mkdir()
        report = maps / report.name
        arguments = ["decompose", str(source), str(maps), "--basis", str(basis)]
        look = Subject(maps=maps)
        files = {f"{name}.nii.gz": maps / f"{name}.nii.gz" for name in str(basis).split(",")}
    else:
        raise InputError(f"The page cannot run this; choose {', '.join(VERBS)}.")
    return [*arguments, "--report", str(report)], Result(look, files, report)


def found(look: Subject) -> Subject:
    """Return what there is to look at now that the job has run: a decomposition's table is in its report."""
    return look if look.maps is None else subject_of(look.maps)


def _zipped(folder: Path) -> Path:
    target = folder.with_name("series.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    shutil.rmtree(folder)
    return target
