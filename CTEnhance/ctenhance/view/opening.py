"""Reading what is to be looked at, each file in a process of its own: `python -m ctenhance.view.opening
FILE OUT`.

The process prints a line of JSON: the volume as it is shared, or the sentence that says why there is none.
In HU it prints another one, later: notes on what may be wrong with it all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctenhance.runtime.errors import CTEnhanceError, InputError, SeveralSeriesError
from ctenhance.view.shared import SharedVolume, require_same_grid, share
from ctenhance.view.windows import first_window

_MOST_BYTES = 1 << 20  # of a report
_LONGEST_LINE = 1 << 22  # of what a reading process prints
#: By how much this goes after the viewer's libraries, which take longest to load and are needed as soon, and
#: then the search for doubts after the first picture.
_BEHIND_LIBRARIES, _BEHIND_PICTURE = 5, 10
_UNCHECKED = (
    "the values could not be checked to the end (is there enough memory?): open them again before you rely "
    "on what you see"
)


@dataclass(frozen=True)
class Subject:
    """What is to be looked at: files or DICOM folders; or `maps`, a folder that `decompose` wrote, by
    `table`.

    `series` and `where` choose in DICOM folders, as in `CTVolume.read`; `names` says what `before` and
    `after` are called. `descriptors` are files that stay open for those who read (`folder.Pinned`).
    """

    before: Path | None = None
    after: Path | None = None
    uncertainty: Path | None = None
    maps: Path | None = None
    table: Mapping[str, Any] | None = None
    series: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Opened:
    """What was read: volumes by their part, the table of a decomposition, sentences of the readers, names.

    `window` is the level and width in which it is shown first, None for a decomposition; `doubts` gives
    further sentences, once the values of all volumes have been looked through.
    """

    volumes: dict[str, SharedVolume]
    table: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    doubts: asyncio.Task[list[str]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object for a viewer's process."""
        volumes = {name: volume.to_json() for name, volume in self.volumes.items()}
        return {"volumes": volumes, "table": self.table, "names": dict(self.names), "window": self.window}


def subject_of(
    before: Path | None,
    after: Path | None = None,
    uncertainty: Path | None = None,
    basis: Sequence[str] = (),
    **choice: Any,
) -> Subject:
    """Return what the arguments mean: a volume and another, or the folder of a decomposition alone.

    `basis` names the materials of a decomposition whose report is not in its folder.
    Raises InputError for paths that are not there, and for a second volume beside a decomposition.
    """
    for path in (before, after, uncertainty):
        if path is not None and not path.exists():
            raise InputError(f"There is no file or folder '{path}'; check the path.")
    table = None if before is None or not before.is_dir() else _table(before, basis)
    if table is None:
        if basis:
            raise InputError(
                "A basis belongs to the folder of a decomposition; leave it out, or give the folder."
            )
        return Subject(before, after, uncertainty, **choice)
    if after is not None or uncertainty is not None:
        raise InputError(f"'{before}' is a decomposition, which is looked at alone; leave the others out.")
    return Subject(maps=before, table=table)


def _table(folder: Path, basis: Sequence[str]) -> Mapping[str, Any] | None:
    """Return how images are made of the maps in a folder (`images.viewing_table`), None if there are none."""
    if basis:
        from ctenhance.decomposition.images import viewing_table

        return _there(folder, viewing_table(basis))
    tables = [table for path in sorted(folder.glob("*.json")) if (table := _reported(path)) is not None]
    if len(tables) > 1:
        raise InputError(
            f"The folder '{folder}' has the reports of {len(tables)} decompositions; say which with --basis."
        )
    if tables:
        return _there(folder, tables[0])
    if any((folder / f"{name}.nii.gz").is_file() for name in ("water", "iodine")):
        raise InputError(
            f"The maps in '{folder}' have no report beside them (decompose --report); name their materials "
            "with --basis, such as --basis water,iodine."
        )
    return None


def _reported(path: Path) -> Mapping[str, Any] | None:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        report = json.loads(path.read_text(encoding="utf-8"))
        table: Mapping[str, Any] = report["details"]["viewing"]
        return table if report["verb"] == "decompose" and table["materials"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _there(folder: Path, table: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in table["materials"]:
        if not (folder / f"{name}.nii.gz").is_file():
            raise InputError(f"The map '{name}.nii.gz' is missing in '{folder}'; decompose the scan again.")
    return table


async def opened(what: Subject, folder: Path) -> Opened:
    """Read all of it at once, into files in `folder`; raises InputError as `CTVolume.read` does."""
    paths: dict[str, Path | None] = {
        "before": what.before,
        "after": what.after,
        "uncertainty": what.uncertainty,
    }
    if what.maps is not None and what.table is not None:
        paths = {f"map {name}": what.maps / f"{name}.nii.gz" for name in what.table["materials"]}
    named = {name: path for name, path in paths.items() if path is not None}
    choice = {"series": what.series, "where": dict(what.where)}
    reads = [
        _read(
            path,
            folder / f"{number}.raw",
            json.dumps({**choice, "map": name not in ("before", "after")}),
            what.descriptors,
        )
        for number, (name, path) in enumerate(named.items())
    ]
    tasks = [asyncio.ensure_future(read) for read in reads]
    window = None
    try:
        results = await asyncio.gather(*tasks)
        volumes = {name: read.volume for name, read in zip(named, results, strict=True)}
        first = next(iter(volumes.values()), None)
        for name, volume in volumes.items():
            if first is not None and volume is not first:
                require_same_grid(first, volume, {"after": "second volume"}.get(name, name))
        # Here and not in the viewer's process, which has enough to load before its first picture.
        if first is not None and what.table is None:
            window = await asyncio.to_thread(first_window, first)
    except BaseException:
        for task in tasks:
            task.cancel()
        for one in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(one, _Reading):
                await _end(one.process)
        raise
    table = None if what.table is None else dict(what.table)
    notes = tuple(note for read in results for note in read.notes)
    doubts = asyncio.ensure_future(_doubts(results))
    return Opened(volumes, table, notes, what.names, window, doubts)


@dataclass(frozen=True)
class _Reading:
    """A volume that was read, sentences on it, and the process that still looks for more of them."""

    volume: SharedVolume
    notes: list[str]
    process: asyncio.subprocess.Process

    async def doubts(self) -> list[str]:
        """Return what that process says of the values; raises ValueError where it ended without a word."""
        assert self.process.stdout is not None
        try:
            found: list[str] = json.loads(await self.process.stdout.read())
            return found
        finally:
            await _end(self.process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _doubts(readings: Sequence[_Reading]) -> list[str]:
    try:
        found = await asyncio.gather(*(one.doubts() for one in readings))
    except ValueError:
        return [_UNCHECKED]
    return [doubt for doubts in found for doubt in doubts]


async def _read(path: Path, out: Path, choice: str, descriptors: tuple[int, ...]) -> _Reading:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(path), str(out), choice,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        pass_fds=descriptors, limit=_LONGEST_LINE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        answer = json.loads(await process.stdout.readline())
    except asyncio.CancelledError:
        await _end(process)
        raise
    except ValueError as error:
        await _end(process)
        raise CTEnhanceError(
            "A volume could not be read: is there enough memory and room on the disk?"
        ) from error
    if "error" in answer:
        await _end(process)
    if "series" in answer:
        raise SeveralSeriesError(answer["error"], [(number, label) for number, label in answer["series"]])
    if "error" in answer:
        raise InputError(answer["error"])
    return _Reading(SharedVolume.of_json(answer["volume"]), answer["notes"], process)


def step_back(by: int) -> None:
    """Let other processes go first, where more want to run than there are cores."""
    if hasattr(os, "nice"):
        os.nice(by)


def main(path: str, out: str, choice: str) -> Iterator[Any]:
    """Read a volume and write its voxels to `out`, or one beside it; yield what is printed."""
    from ctenhance.core.volume import READABLE_SUFFIXES
    from ctenhance.files.ct import doubts_of, read_or_map
    from ctenhance.runtime.files import suffix_of

    asked = json.loads(choice)
    hounsfield = not asked.pop("map", False)
    if Path(path).is_file() and suffix_of(path) in READABLE_SUFFIXES:
        asked = {}
    place = Path(out).with_suffix(".nii")
    place.unlink(missing_ok=True)
    Path(out).unlink(missing_ok=True)
    failed: dict[str, Any] | None = None
    try:
        try:
            volume = read_or_map(path, place, **asked, check_hu=hounsfield)
        except InputError as error:
            if not hounsfield or isinstance(error.__cause__, SeveralSeriesError):
                raise
            # A map (an uncertainty, a density) can be looked at, too; what cannot be read fails again.
            place.unlink(missing_ok=True)
            volume, hounsfield = read_or_map(path, place, **asked, check_hu=False), False
        shared = share(volume, Path(out), hounsfield)
    except CTEnhanceError as error:
        failed = {"error": str(error)}
        if isinstance(error.__cause__, SeveralSeriesError):
            failed["series"] = error.__cause__.series
    except MemoryError:
        failed = {
            "error": "There is not enough memory to read the volume; close other programs and try again."
        }
    except OSError as error:
        failed = {
            "error": f"The volume cannot be shown ({error.strerror or error}); free some space on the disk."
        }
    if failed is not None:
        yield failed
        return
    yield {"volume": shared.to_json(), "notes": list(volume.meta.get("notes", []))}
    yield doubts_of(volume) if hounsfield else []


if __name__ == "__main__":
    _out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints, the lines below are alone
    step_back(_BEHIND_LIBRARIES)
    for _answer in main(*sys.argv[1:4]):
        os.write(_out, json.dumps(_answer).encode("ascii") + b"\n")
        step_back(_BEHIND_PICTURE)
