"""Projections from a file of any format, and out."""

from __future__ import annotations

import os
from pathlib import Path

from ctenhance.files.ctpd.reading import read_ctpd
from ctenhance.files.ctproj import read_file, write_file
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress
from ctenhance.scan.projections import Projections
from ctenhance.scan.rebin import rebin_helix, rebin_projections


def read_projections(
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
    *,
    rebin: bool = True,
) -> Projections:
    """Read a projection file, or a folder of DICOM-CT-PD files; helical scans become fan slices.

    With `rebin=False` a projection file's helix stays one. Raises InputError with one sentence, naming the
    field, for whatever is missing, contradictory or damaged, and for values that cannot be what the file says
    they are; Cancelled when asked to stop.
    """
    source = Path(path)
    if rebin and not source.exists():
        raise InputError(f"There is no file or folder '{source}'; check the path.")
    if rebin and source.is_dir():
        return rebin_helix(read_ctpd(source, progress=progress, cancel=cancel), None, progress, cancel)
    projections = read_file(source, progress, cancel)
    if rebin and projections.helical:
        return rebin_projections(projections, None, progress, cancel)
    return projections


def write_projections(
    projections: Projections,
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> None:
    """Write a projection file (`.ctproj.h5`), whole or not at all; refuses what `Projections.write` says."""
    write_file(projections, Path(path), progress, cancel)
