"""The projection file (`.ctproj.h5`): HDF5 with the names of DESIGN ('Projection file')."""

from __future__ import annotations

import json
import math
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ctenhance.choices import TAKES_IMAGES
from ctenhance.core.arrays import blocks, scratch
from ctenhance.core.report import plain
from ctenhance.core.volume import READABLE_SUFFIXES
from ctenhance.files.heaps import require_open
from ctenhance.runtime.errors import InputError, quoted
from ctenhance.runtime.files import cannot_write, check_output, replace_when_done, require_space, suffix_of
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.scan.projections import SUFFIXES, Projections

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT, VERSION = "ctproj", 1
_READINGS = ("counts", "line_integrals")
_VECTORS = (
    "air_counts", "view_angles", "view_z_mm", "effective_spectra", "energies_keV", "thresholds_keV",
)  # fmt: skip
_NUMBERS = (
    "source_to_isocenter_mm", "source_to_detector_mm", "column_pitch_mm", "column_pitch_rad",
    "central_column", "row_pitch_mm", "electronic_noise_variance", "water_mu_per_mm", "image_pixel_mm",
)  # fmt: skip
_ARRAYS = ("image_size", "isocenter_mm", "direction")
# Vectors are small: what claims to be larger is damaged.
_LARGEST_VECTOR = 20_000_000
_LONGEST_META = 1_000_000

# What h5py and numpy raise on damaged files.
_DAMAGE = (
    OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError,
    MemoryError, UnicodeError, struct.error, NotImplementedError, ArithmeticError,
)  # fmt: skip


def read_file(path: Path, progress: Progress | None, cancel: Cancellable | None) -> Projections:
    """See `Projections.read`."""
    if not path.exists():
        raise InputError(f"There is no file '{path}'; check the path.")
    if path.is_dir():
        raise InputError(f"Cannot read '{path}': it is a folder; give the .ctproj.h5 file.")
    try:
        projections = _read(path, cancel)
        projections.check_values(progress, cancel)
    except InputError as error:
        reason = str(error)
        raise InputError(f"Cannot read '{path}': {reason[0].lower()}{reason[1:]}") from error
    except _DAMAGE as error:
        raise InputError(
            f"Cannot read '{path}': the file is damaged or cut off; copy it again from its source."
        ) from error
    return projections


def _read(path: Path, cancel: Cancellable | None) -> Projections:
    require_open(path)
    if suffix_of(path) in READABLE_SUFFIXES:
        raise InputError(f"it is an image and no projections; {TAKES_IMAGES}.")
    try:
        stored = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            "it is no HDF5 file, or it is cut off; give a projection file (.ctproj.h5) or a folder of "
            "DICOM-CT-PD files."
        ) from error
    with stored:
        _check_format(stored.attrs)
        fields: dict[str, Any] = {name: _dataset(stored, name) for name in _READINGS}
        fields |= {name: _vector(stored, name) for name in _VECTORS}
        for name in (*_NUMBERS, *_ARRAYS):
            value = stored.attrs.get(name)
            if value is not None:
                fields[name] = _numeric(value, name)
        if "geometry" not in stored.attrs:
            raise InputError("the attribute 'geometry' is missing: parallel, fan_equiangular or fan_flat.")
        fields["geometry"] = _text(stored.attrs["geometry"])
        fields["meta"] = _meta(stored.attrs.get("meta"))
        _require(fields)
        # Only when the shapes are known to be right are the readings looked at.
        described = Projections(**fields)
        if described.counts is not None:
            return replace(described, counts=_readings(fields["counts"], path, cancel))
        return replace(described, line_integrals=_readings(fields["line_integrals"], path, cancel))


def _require(fields: dict[str, Any]) -> None:
    """Raise InputError for what must not be left out although `Projections` could do without."""
    if fields["view_angles"] is None:
        raise InputError("'/view_angles' is missing.")
    readings = next((fields[name] for name in _READINGS if fields[name] is not None), None)
    if "central_column" not in fields:
        columns = readings.shape[2] if readings is not None and readings.ndim > 2 else 0
        hint = f", {(columns - 1) / 2:g} for a centred detector" if columns else ""
        raise InputError(
            "the attribute 'central_column' is missing: the 0-based column that the isocentre projects "
            f"to{hint}."
        )
    if "water_mu_per_mm" not in fields and readings is not None and readings.ndim == 3:
        raise InputError("the attribute 'water_mu_per_mm' is missing, without which there are no HU.")


def _check_format(attributes: Mapping[str, Any]) -> None:
    if "format" not in attributes or _text(attributes["format"]) != FORMAT:
        raise InputError(
            f"its attribute 'format' is not '{FORMAT}', so it is no projection file; see docs/projections.md."
        )
    version = np.asarray(attributes.get("version", 0)).reshape(-1)
    if version.size != 1 or version.dtype.kind not in "iuf" or version[0] != VERSION:
        raise InputError(
            f"its attribute 'version' is {_shown(attributes.get('version'))}, but this program reads version "
            f"{VERSION}."
        )


def _dataset(stored: h5py.File, name: str) -> h5py.Dataset | None:
    link = stored.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"'/{name}' is a link to elsewhere; put the values into this file.")
    found = stored[name]
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise InputError(f"'/{name}' is empty or a group, not an array of numbers.")
    if found.external or found.is_virtual:
        raise InputError(f"'/{name}' keeps its values in other files; put them into this one.")
    if found.dtype.kind not in "iuf":
        raise InputError(f"'/{name}' must hold real numbers, but it holds the type {found.dtype}.")
    return found


def _readings(found: h5py.Dataset, path: Path, cancel: Cancellable | None) -> np.ndarray:
    """The readings as float32: mapped from the file where they lie in it as such, else copied."""
    if not found.id.get_storage_size():
        raise InputError(f"'{found.name}' was declared with the shape {found.shape} but never written.")
    offset = found.id.get_offset()
    if offset is not None and found.dtype == np.dtype("<f4") and sys.byteorder == "little":
        return np.memmap(path, dtype="<f4", mode="r", offset=offset, shape=found.shape)
    copy = scratch(found.shape)
    for part in blocks(found.shape):
        check(cancel)
        with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused as such
            copy[part] = found[part]
    return copy


def _vector(stored: h5py.File, name: str) -> np.ndarray | None:
    found = _dataset(stored, name)
    if found is None:
        return None
    if found.size > _LARGEST_VECTOR:
        raise InputError(f"'/{name}' has {found.size} values, far more than a scan has.")
    return np.asarray(found[()])


def _numeric(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise InputError(f"the attribute '{name}' must be a number, but it is {_shown(value)}.")
    return array


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _shown(value: Any) -> str:
    return "missing" if value is None else quoted(_text(value))


def _meta(value: Any) -> dict[str, Any]:
    """What is known of the scan's making; nothing depends on it, so that a damaged one is left out."""
    text = "" if value is None else _text(value)
    try:
        meta = json.loads(text) if 0 < len(text) < _LONGEST_META else {}
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def write_file(
    projections: Projections, path: Path, progress: Progress | None, cancel: Cancellable | None
) -> None:
    """See `Projections.write`."""
    p = projections
    target = check_output(path, None)
    if not target.name.lower().endswith(SUFFIXES):
        raise InputError(f"Cannot write '{target}': the name must end in {', '.join(SUFFIXES)}.")
    p.check_values(None, cancel)
    name = "line_integrals" if p.counts is None else "counts"
    require_space(target, 4 * math.prod(p.shape))
    with replace_when_done(target) as temporary:
        try:
            with h5py.File(temporary, "w") as stored:
                stored.attrs["format"], stored.attrs["version"] = FORMAT, VERSION
                stored.attrs["geometry"] = p.geometry
                for key in (*_NUMBERS, *_ARRAYS):
                    value = getattr(p, key)
                    if value is not None:
                        stored.attrs[key] = value
                stored.attrs["meta"] = json.dumps(plain(p.meta))
                for key in _VECTORS:
                    value = getattr(p, key)
                    if value is not None:
                        stored[key] = value
                written = stored.create_dataset(name, p.shape, dtype="<f4")
                for part in blocks(p.shape):
                    check(cancel)
                    if progress is not None:
                        progress("write", part.start, p.n_views)
                    written[part] = np.asarray(p.readings[part], dtype=np.float32)
        except (OSError, RuntimeError, ValueError) as error:
            raise cannot_write(target, error, f"{error}; choose another folder") from error
    if progress is not None:
        progress("write", p.n_views, p.n_views)
