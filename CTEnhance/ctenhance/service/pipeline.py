"""A pipeline's work on a series: the ordinary command as a child process, and the sending of what it made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
from pydicom.uid import UID

import ctenhance
from ctenhance.files.dicom.choice import Conditions
from ctenhance.files.dicom.header import read_file
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import folder_when_done
from ctenhance.runtime.parent import VARIABLE
from ctenhance.service.network import Sender
from ctenhance.service.settings import Pipeline
from ctenhance.service.store import Job, Store

_POLL_S = 0.2
_INPUT = 2  # a command's exit code for what it refuses


class RefusedError(InputError):
    """The command refused the series: trying again would not help."""


def matching(pipelines: Sequence[Pipeline], files: Sequence[Path]) -> list[str]:
    """The names of the pipelines that a series is for: those with a `where` that one of its images meets.

    Damaged images meet none, and do not keep the command from saying what is wrong with them.
    """
    asked = [(pipeline.name, Conditions.of(pipeline.where)) for pipeline in pipelines]
    keywords = {keyword for _, conditions in asked for keyword in conditions.keywords}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = []
        for path in files:
            with contextlib.suppress(InputError):
                found.append(read_file(path, keywords))
        read = [file for file in found if file is not None]
        names = []
        for name, conditions in asked:
            with contextlib.suppress(InputError):
                conditions.files(read)
                names.append(name)
    return names


def require_options(pipelines: Sequence[Pipeline]) -> None:
    """Raise InputError for a pipeline whose command refuses its options before it looks at any image."""
    for pipeline in pipelines:
        with tempfile.TemporaryDirectory(prefix="ctenhance-") as folder:
            none, nowhere = Path(folder, "no-image"), Path(folder, "volume.mha")
            try:
                _run([pipeline.verb, none, nowhere, *_where(pipeline), *pipeline.options], threading.Event())
            except RefusedError as error:
                if none.name not in str(error):
                    raise InputError(f"The pipeline '{pipeline.name}' cannot run: {error}") from error


def _where(pipeline: Pipeline) -> list[str]:
    return [one for keyword, value in pipeline.where.items() for one in ("--where", f"{keyword}={value}")]


def make(store: Store, job: Job, pipeline: Pipeline, stopped: threading.Event) -> bool:
    """Make the derived series of a job; False where more images have come since, or the service is to end.

    Raises RefusedError for a series that the command refuses, other errors where trying again may help."""
    given = store.input_of(job)
    if given is None:
        return False
    work = given.parent
    report, volume = work / "report.json", work / "volume.mha"
    where = _where(pipeline)
    arguments: list[str | Path] = [pipeline.verb, given, volume, *where, *pipeline.options]
    try:
        if not _run([*arguments, "--report", report], stopped):
            return False
    except RefusedError:
        store.files_of(job.series)  # raises OSError where the disk has gone: not the series' fault
        raise
    made_by = json.loads(report.read_text(encoding="utf-8"))
    identity = _identity(given, pipeline, made_by)
    # Once this folder is there it is never made again, so that a series is sent in one version only.
    with folder_when_done(store.derived(job)) as unfinished:
        series: list[str | Path] = [
            "dicom",
            "write",
            volume,
            unfinished,
            "--like",
            given,
            "--made-by",
            report,
            *where,
        ]
        tilt = ["--resample-tilt"] if "--resample-tilt" in pipeline.options else []
        if not _run([*series, *tilt, "--uids-of", identity], stopped):
            raise CTEnhanceError("stopped")
    shutil.rmtree(work, ignore_errors=True)
    return True


def _identity(given: Path, pipeline: Pipeline, report: dict[str, object]) -> str:
    """What the derived UIDs are made of: the images' UIDs, the settings, and the weights' hash."""
    uids = []
    for path in given.iterdir():
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        uids.append(str(header.get("SOPInstanceUID")))
    model = report.get("model")
    weights = str(model.get("sha256")) if isinstance(model, dict) else ""
    facts = [
        sorted(uids),
        pipeline.verb,
        pipeline.options,
        dict(pipeline.where),
        weights,
        ctenhance.__version__,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _run(arguments: Sequence[str | Path], stopped: threading.Event) -> bool:
    """Run a command to its end and return True; False where it was stopped with the service."""
    command = [
        sys.executable,
        "-m",
        "ctenhance",
        *(os.fspath(one) for one in arguments),
        "--progress",
        "none",
    ]
    environment = {**os.environ, VARIABLE: str(os.getpid())}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        assert child.stderr is not None
        heard: list[bytes] = []
        listener = threading.Thread(target=lambda: heard.extend(child.stderr or ()), daemon=True)
        listener.start()
        while child.poll() is None:
            if stopped.wait(_POLL_S):
                child.terminate()
                child.wait()
                return False
        listener.join()
    if child.returncode:
        lines = b"".join(heard).decode("utf-8", "replace").strip().splitlines()
        said = next(
            (line for line in reversed(lines) if line.startswith("Error: ")), "it ended without a word"
        )
        why = f"{arguments[0]} (exit code {child.returncode}): {said.removeprefix('Error: ')}"
        raise RefusedError(why) if child.returncode == _INPUT else CTEnhanceError(why)
    return True


def send(
    store: Store, job: Job, pipeline: Pipeline, connect: Callable[[Pipeline, list[UID]], Sender]
) -> None:
    """Send what has not arrived yet of a job's series; raises CTEnhanceError where not all of it does."""
    left = [path for path in sorted(store.derived(job).glob("*.dcm")) if path.name not in store.sent(job)]
    if not left:
        return
    classes = {
        pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).SOPClassUID
        for path in left
    }
    with connect(pipeline, sorted(classes)) as sender:
        for path in left:
            sender.send(path)
            store.put_sent(job, path.name)
