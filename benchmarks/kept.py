"""What a long run has already made, in a folder: a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctenhance.runtime.files import replace_when_done, write_text

Array = np.ndarray


def digest(*arrays: Array) -> str:
    """Of the voxels of some arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


class Store:
    """Values by what they depend on (`key`, JSON-able); without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def path(self, key: Mapping[str, Any]) -> Path | None:
        """Where a value lies, less its suffix."""
        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dict(key), sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:24]

    def facts(self, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """What `make` gives (JSON-able), made once."""
        path = self.path(key)
        if path is None:
            return make()
        path = path.with_suffix(".facts.json")
        if not path.exists():
            write_text(path, json.dumps(make()))
        return json.loads(path.read_text(encoding="utf-8"))

    def arrays(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
        """What `make` gives, arrays by name, made once."""
        path = self.path(key)
        if path is None:
            return dict(make())
        path = path.with_suffix(".arrays.npz")
        if not path.exists():
            found = make()
            with replace_when_done(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **found)  # type: ignore[arg-type]
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
