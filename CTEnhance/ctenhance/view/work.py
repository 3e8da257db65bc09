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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.parent import VARIABLE
from ctenhance.view.opening import Subject, subject_of

VERBS = ("enhance", "reconstruct", "decompose")
_METHODS = ("need", "projection", "fbp")
_BASES = ("water,iodine", "water,bone", "water,iodine,gadolinium", "water,iodine,gold")
_CANCELLED = 130
_END_SECONDS = 15.0
_LONGEST_LINE = 1 << 20

Tell = Callable[[dict[str, Any]], None]


@dataclass
class Result:
    """What a job made: files to fetch by name, and what is to be looked at."""

    look: Subject
    files: dict[str, Path] = field(default_factory=dict)


class Work:
    """The jobs of one session, one at a time; `turn` is shared by all, so that no session takes the machine.

    Files are made in `folder`, which goes with the session.
    """

    def __init__(self, folder: Path, turn: asyncio.Semaphore, tell: Tell) -> None:
        self._folder, self._turn, self._tell = folder, turn, tell
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
        self, verb: str, source: Path, options: Mapping[str, Any], done: Callable[[Subject], Any]
    ) -> None:
        """Begin a job on a file or folder; `done` opens what it made. Raises InputError when it cannot
        begin."""
        if self.busy:
            raise InputError("Something is running already; wait for it, or cancel it.")
        self._count += 1
        place = self._folder / f"run-{self._count}"
        place.mkdir()
        arguments, result = _planned(verb, source, place, options)
        self._stopped = False
        self._task = asyncio.get_running_loop().create_task(self._run(arguments, result, source, done))

    def cancel(self) -> None:
        """Ask the job to stop; nothing of it is left."""
        self._stopped = True
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        elif self._task is not None and self._process is None:
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
        self, arguments: list[str], result: Result, source: Path, done: Callable[[Subject], Any]
    ) -> None:
        try:
            self._tell({"type": "work", "state": "waiting"})
            async with self._turn:
                await self._command(arguments)
                if self._stopped:
                    raise Cancelled
                self._tell({"type": "work", "state": "running", "stage": "show", "done": 0, "total": 0})
                await self._offer(result, source)
                await done(result.look)
            self._tell({"type": "work", "state": "done", "files": self._offered()})
        except (Cancelled, asyncio.CancelledError):
            self._tell({"type": "work", "state": "cancelled", "text": "Cancelled; nothing was kept."})
        except CTEnhanceError as error:
            self._tell(
                {"type": "work", "state": "failed", "text": str(error).replace(f"'{source}'", "the input")}
            )
        except Exception as error:  # the page must not wait for what will not come
            what = f"Something unexpected happened ({type(error).__name__})."
            self._tell({"type": "work", "state": "failed", "text": what})
        finally:
            self._process = None

    async def _command(self, arguments: list[str]) -> None:
        """Run a command of this program; raises CTEnhanceError with its sentence, Cancelled."""
        environment = {**os.environ, VARIABLE: str(os.getpid())}
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ctenhance", *arguments, "--progress", "json",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env=environment, limit=_LONGEST_LINE,
        )  # fmt: skip
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):  # viewers have the machine first
                os.setpriority(os.PRIO_PROCESS, process.pid, 5)
        sentence = ""
        assert process.stdout is not None
        async for line in process.stdout:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event["event"] == "progress":
                    step = {name: event[name] for name in ("stage", "done", "total")}
                    self._tell({"type": "work", "state": "running", **step})
                elif event["event"] == "error":
                    sentence = str(event["text"])
        code = await process.wait()
        if code == _CANCELLED or (code and self._stopped):
            raise Cancelled
        if code:
            raise CTEnhanceError(sentence or "It ended without a word: is there enough memory?")

    async def _offer(self, result: Result, source: Path) -> None:
        """Make the files that can be fetched: volumes as they are, and as DICOM where they are images in
        HU."""
        self.downloads = {}
        for name, path in result.files.items():
            if path.exists():
                self.downloads[f"{secrets.token_urlsafe(12)}/{name}"] = path
        image = result.look.after or result.look.before
        if image is None:
            return
        series = image.with_name("series")
        like = ["--like", str(source)] if source.is_dir() else []
        with contextlib.suppress(CTEnhanceError):  # then there is the volume file only
            await self._command(["dicom", str(image), str(series), *like])
            packed = await asyncio.to_thread(_zipped, series)
            self.downloads[f"{secrets.token_urlsafe(12)}/{packed.name}"] = packed

    def _offered(self) -> list[dict[str, str]]:
        return [{"id": key, "name": key.rpartition("/")[2]} for key in self.downloads]


def _planned(verb: str, source: Path, place: Path, options: Mapping[str, Any]) -> tuple[list[str], Result]:
    """Return a verb's arguments and what will come of it; raises InputError for options that it has not."""
    report = ["--report", str(place / "report.json")]
    if verb == "enhance":
        target, spread = place / "enhanced.nii.gz", place / "uncertainty.nii.gz"
        more = ["--samples", "4", "--uncertainty", str(spread)] if options.get("uncertainty") is True else []
        look = Subject(source, target, spread if more else None)
        files = {"enhanced.nii.gz": target, **({"uncertainty.nii.gz": spread} if more else {})}
        return ["enhance", str(source), str(target), *more, *report], Result(look, files)
    if verb == "reconstruct":
        target, method = place / "image.nii.gz", options.get("method", _METHODS[0])
        if method not in _METHODS:
            raise InputError(f"There is no method of this name; choose {', '.join(_METHODS)}.")
        arguments = ["reconstruct", str(source), str(target), "--method", str(method)]
        if method == "fbp":
            return [*arguments, *report], Result(Subject(target), {target.name: target})
        first = place / "image_fbp.nii.gz"
        look = Subject(first, target)
        return [*arguments, "--all", *report], Result(look, {one.name: one for one in (target, first)})
    if verb == "decompose":
        basis = options.get("basis", _BASES[0])
        if basis not in _BASES:
            raise InputError(f"There is no basis of this name; choose {'; '.join(_BASES)}.")
        maps = place / "maps"
        maps.mkdir()
        names = str(basis).split(",")
        files = {f"{name}.nii.gz": maps / f"{name}.nii.gz" for name in names}
        arguments = ["decompose", str(source), str(maps), "--basis", str(basis), "--report"]
        return [*arguments, str(maps / "report.json")], Result(Subject(maps=maps), files)
    raise InputError(f"The page cannot run this; choose {', '.join(VERBS)}.")


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
