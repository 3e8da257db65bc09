"""The images of a reader study: read in short steps, checked against the study, the next ones ahead.

They never become files or nodes of Slicer on their way, so that no name and no storage node tells of them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.study.copy_header import CopyHeader, read_header
from CTEnhanceLib.process.steps import TimedSteps
from CTEnhanceLib.process.transfer import LoadedVolume
from CTEnhanceLib.scene import volumes

_PAUSE_MILLISECONDS = 1


def readImage(path: Path, sha256: str) -> Generator[float, None, LoadedVolume]:
    """Read an image of a study (.mha, int16); yield the fraction done, return the volume.

    Raises InputError when it cannot be read or is not the file that the study names by its hash,
    CTEnhanceError when there is no room for it.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            header = read_header(stream, digest)
            if path.stat().st_size != header.end:
                raise ValueError("not the size of the file")
            image, values = volumes.newImage(header.shape, np.int16)
            for slab in volumes.slabs(values):
                part = values[slab]
                if stream.readinto(memoryview(part).cast("B")) != part.nbytes:
                    raise ValueError("too short")
                digest.update(part)
                if sys.byteorder == "big":
                    part.byteswap(inplace=True)
                yield slab.stop / len(values)
            if digest.hexdigest() != sha256:
                raise ValueError("another content")
    except MemoryError as error:
        raise CTEnhanceError(
            _("There is not enough memory for the images of this case; close other programs and try again.")
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            _("The image '{name}' of the study is damaged; copy the whole study folder again.").format(
                name=path.name
            )
        ) from error
    return LoadedVolume(image, _matrix(header))


def _matrix(header: CopyHeader) -> np.ndarray:
    """Return IJK to RAS (4 x 4, mm)."""
    matrix = np.eye(4)
    matrix[:3, :3] = volumes.RAS_TO_LPS @ header.direction * header.spacing
    matrix[:3, 3] = volumes.RAS_TO_LPS @ header.origin
    return matrix


class ImageShelf:
    """Holds the images of the case that is read and of those beside it; loads what is missing, in order.

    `digest(path)` returns the SHA-256 that the study names; `onChanged()` is called when an image of the
    case that is read has come or could not be read.
    """

    def __init__(self, digest: Callable[[Path], str], onChanged: Callable[[], None]) -> None:
        self._digest, self._onChanged = digest, onChanged
        self._requested: tuple[Path, ...] = ()
        self._awaited: tuple[Path, ...] = ()
        self._loaded: dict[Path, LoadedVolume] = {}
        self._failed: dict[Path, Exception] = {}
        self._steps: TimedSteps | None = None
        self._loading: Path | None = None

    @property
    def busy(self) -> bool:
        """Whether images are being read."""
        return self._steps is not None

    def request(self, paths: Sequence[Path], ahead: Sequence[Path] = ()) -> None:
        """Have these images, then those that come next, in this order, and let go of all others."""
        self._awaited = tuple(paths)
        self._requested = tuple(dict.fromkeys((*paths, *ahead)))
        self._loaded = {path: image for path, image in self._loaded.items() if path in self._requested}
        self._failed = {}
        if self._loading != self._missing():
            self._stop()
        self._go()

    def get(self, paths: Sequence[Path]) -> tuple[LoadedVolume, ...] | None:
        """Return these images, or None as long as one of them is on its way.

        Raises the CTEnhanceError of one that cannot be read.
        """
        for path in paths:
            if path in self._failed:
                raise self._failed[path]
        found = tuple(self._loaded[path] for path in paths if path in self._loaded)
        return found if len(found) == len(paths) else None

    def clear(self) -> None:
        """Stop, and let go of all images."""
        self._requested, self._awaited, self._loaded, self._failed = (), (), {}, {}
        self._stop()

    def _missing(self) -> Path | None:
        gone = (*self._loaded, *self._failed)
        return next((path for path in self._requested if path not in gone), None)

    def _go(self) -> None:
        path = self._missing()
        if self._steps is None and path is not None:
            self._loading = path
            # With a pause, or two would fall into one turn while views are laid out and drawn.
            self._steps = TimedSteps(
                self._read(path), self._onDone, self._onFailed, milliseconds=_PAUSE_MILLISECONDS
            )

    def _stop(self) -> None:
        if self._steps is not None:
            self._steps.cancel()
        self._steps = self._loading = None

    def _read(self, path: Path) -> Generator[float, None, None]:
        self._loaded[path] = yield from readImage(path, self._digest(path))

    def _onDone(self) -> None:
        path, self._steps, self._loading = self._loading, None, None
        self._go()
        if path in self._awaited:
            self._onChanged()

    def _onFailed(self, error: Exception) -> None:
        if self._loading is not None:
            self._failed[self._loading] = error
        self._onDone()
