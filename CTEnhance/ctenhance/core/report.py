"""What a run did, in a form that can be written beside its result and read years later."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

import ctenhance
from ctenhance.runtime.files import write_text

if TYPE_CHECKING:
    import torch

    from ctenhance.core.volume import CTVolume
    from ctenhance.runtime.engines.base import Engine
    from ctenhance.runtime.weights import WeightsEntry

# The libraries whose version can change the numbers.
_LIBRARIES = ("numpy", "scipy", "torch", "monai", "openvino", "SimpleITK", "pydicom")

# Keys that name a person or lead back to one (DICOM PS3.15, annex E). Reports travel with images, so such a
# key is dropped wherever it stands, whoever put it there.
_IDENTIFYING = re.compile(
    "^patient|^institution|accession|physician|operators?name|stationname|deviceserial|sourcefiles"
    "|instanceuids?$|frameofreferenceuid|^(study|series|acquisition|content)(date|time|id)$"
)


@dataclass
class Result:
    """What a verb returns: named volumes, named maps (uncertainty and the like), and the JSON-able report."""

    volumes: dict[str, CTVolume] = field(default_factory=dict)
    maps: dict[str, CTVolume] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


class ReportBuilder:
    """Collects a run's report while it goes on.

        report = ReportBuilder("enhance", settings={"strength": 1.0}, device=device, seed=0)
        report.input = volume.identity()
        with report.stage("decode"):
            ...
        return Result(volumes, maps, report.finish())

    `settings`, `input` and `details` are plain dictionaries to fill; `details` is for what only one verb has.
    """

    def __init__(
        self,
        verb: str,
        settings: Mapping[str, Any] | None = None,
        device: torch.device | None = None,
        seed: int | None = None,
    ) -> None:
        self.verb = verb
        self.settings: dict[str, Any] = dict(settings or {})
        self.input: dict[str, Any] = {}
        self.details: dict[str, Any] = {}
        self.device = device
        #: What ran the networks, where there are any.
        self.engine: Engine | None = None
        self.seed = seed
        self._model: WeightsEntry | None = None
        self._warnings: list[str] = []
        self._notes: list[str] = []
        self._stages: dict[str, float] = {}
        self._started = time.perf_counter()
        self._when = datetime.now(timezone.utc)
        if device is not None and device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)

    def model(self, entry: WeightsEntry) -> None:
        """Name the weights that were used."""
        self._model = entry

    def warn(self, text: str) -> None:
        """Record a sentence that the user must see; the same sentence is kept once."""
        if text not in self._warnings:
            self._warnings.append(text)

    def note(self, text: str) -> None:
        """Record a sentence that is no warning, as on what could not be checked; kept once, too."""
        if text not in self._notes:
            self._notes.append(text)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; entering the same stage again adds to its time."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = self._stages.get(name, 0.0) + time.perf_counter() - start

    def finish(self) -> dict[str, Any]:
        """Return the report as a dictionary of JSON types."""
        from ctenhance.runtime.device import describe

        model = self._model
        report: dict[str, Any] = {
            "verb": self.verb,
            "ctenhance": ctenhance.__version__,
            "started": self._when.isoformat(timespec="seconds"),
            "input": self.input,
            "settings": self.settings,
            "seed": self.seed,
            "device": None if self.device is None else describe(self.device),
            "threads": _threads(self.engine),
            "engine": None
            if self.engine is None
            else {
                "name": self.engine.name,
                "version": self.engine.version,
                "precision": self.engine.precision,
            },
            "model": None
            if model is None
            else {
                "name": model.name,
                "version": model.version,
                "sha256": model.sha256,
                "architecture": model.architecture,
                "licence": model.licence,
            },
            "warnings": list(self._warnings),
            "notes": list(self._notes),
            "seconds": {
                **{name: round(seconds, 3) for name, seconds in self._stages.items()},
                "total": round(time.perf_counter() - self._started, 3),
            },
            "peak_memory_mb": _peak_memory(self.device),
            "versions": _versions(),
            "research_use_only": True,
        }
        if self.details:
            report["details"] = self.details
        return {name: plain(value) for name, value in report.items()}


def write_report(path: str | os.PathLike[str], report: Mapping[str, Any]) -> None:
    """Write the report as indented JSON, whole or not at all, without what could identify a patient."""
    write_text(path, json.dumps(plain(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Return the value in JSON types, without keys that identify a patient.

    numpy and torch scalars and small arrays become numbers and lists; a path becomes its last part, since
    folder names carry names of people and machines; NaN and infinities become None, since JSON has none.
    """
    if isinstance(value, str):
        # A file name in another encoding holds what UTF-8 cannot write.
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, (bool, int)):
        # A subclass (enum, numpy-like) is reduced to its plain value by json itself.
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return Path(value).name
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if not _identifies(str(key))}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars, torch tensors
        return plain(value.tolist())
    return str(value)


def _identifies(key: str) -> bool:
    squeezed = "".join(letter for letter in key.lower() if letter.isalnum())
    return _IDENTIFYING.search(squeezed) is not None


def _threads(engine: Engine | None) -> int | None:
    """Return how many threads compute: sums are rounded in another order with another number."""
    if engine is not None:
        return engine.threads
    # Where torch is not loaded it has computed nothing.
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def _peak_memory(device: torch.device | None) -> dict[str, int | None]:
    """Return the peak since the process began (main memory) or since the report began (graphics memory)."""
    peak: dict[str, int | None] = {"main": _peak_main_memory() >> 20}
    if device is not None and device.type == "cuda":
        import torch

        peak["device"] = torch.cuda.max_memory_allocated(device) >> 20
    return peak


def _peak_main_memory() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
