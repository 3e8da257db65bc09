"""Reading DICOM-CT-PD: a folder with one DICOM file a view, the format of TCIA's LDCT-and-Projection-data.

Coordinates.  The format's x, y and z are those of someone who stands at the table and looks into the gantry:
x to the right, y up, z into the gantry (a left-handed system), phi = 0 at 12 o'clock and growing counter-
clockwise.  A patient who lies on the back with the head first has the left side at the right, the front up
and the head away, so that (x, -y, z) are the patient's LPS coordinates and beta = -phi; `_PLACEMENT` has the
other positions, and docs/projections.md the derivation.  The detector's column 1 is leftmost when it stands
at 6 o'clock, so columns grow along (cos beta, sin beta), and its row 1 is farthest from the table: row r lies
at z0 + (central row - r) * spacing.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ctenhance.choices import TAKES_IMAGES
from ctenhance.files.ctpd.elements import View
from ctenhance.files.dicom.header import DAMAGE
from ctenhance.physics.units import MU_WATER_PER_MM
from ctenhance.runtime.errors import InputError, quoted
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.runtime.words import counted
from ctenhance.scan.helix import Helix

DEFAULT_POSITION = "HFS"
# Patient position: whether the feet come first, and by how much prone or sideways lying turns the gantry.
_PLACEMENT = {
    "HFS": (False, 0.0), "HFP": (False, math.pi), "HFDR": (False, math.pi / 2), "HFDL": (False, -math.pi / 2),
    "FFS": (True, 0.0), "FFP": (True, math.pi), "FFDR": (True, math.pi / 2), "FFDL": (True, -math.pi / 2),
}  # fmt: skip
# Views on which the order of the pixels is decided, and by how much one order must be smoother.
_VIEWS_ASKED = 9
_CLEARLY_SMOOTHER = 0.98
_STATISTICS_EVERY = 16
_PIXEL_DATA = b"\xe0\x7f\x10\x00"


# What is read of every file, and what stands in for an absent one (None: the file is refused).
_PER_VIEW: dict[str, float | None] = {
    "NumberofDetectorRows": None,
    "NumberofDetectorColumns": None,
    "DetectorElementTransverseSpacing": None,
    "DetectorElementAxialSpacing": None,
    "DetectorFocalCenterAngularPosition": None,
    "DetectorFocalCenterAxialPosition": None,
    "DetectorFocalCenterRadialDistance": None,
    "ConstantRadialDistance": None,
    "SourceAngularPositionShift": 0.0,
    "SourceAxialPositionShift": 0.0,
    "SourceRadialDistanceShift": 0.0,
    "RescaleSlope": None,
    "RescaleIntercept": None,
}
_SAME = tuple(_PER_VIEW)[:4]


@dataclass(frozen=True)
class _View:
    """One file: its numbers in the order of `_PER_VIEW`, the central column and row, and its pixels.

    The pixels stand at `offset` in the file, or (None) behind a compression.  `photons`: the view's
    'PhotonStatistics', of some files only.  `current`: of the tube in mA, NaN where it is not stated.
    """

    path: Path
    number: float
    series: str
    values: np.ndarray
    central: np.ndarray
    offset: int | None
    photons: np.ndarray | None
    current: float

    def __getitem__(self, name: str) -> float:
        return float(self.values[tuple(_PER_VIEW).index(name)])


def read_ctpd(
    folder: Path,
    patient_position: str | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Helix:
    """Read a folder of DICOM-CT-PD files; pixels stay in them and are read view by view.

    `patient_position` ("HFS", "FFS", "HFP", ...) stands in for what the files do not say.  Raises InputError,
    naming file and attribute, for anything but a single scan in line integrals; Cancelled when asked to stop.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every small offence against the standard
            return _read(folder, patient_position, progress, cancel)
    except InputError as error:
        reason = str(error)
        raise InputError(f"Cannot read '{folder}': {reason[0].lower()}{reason[1:]}") from error


def is_ctpd(files: Sequence[Path]) -> bool:
    """Whether the first DICOM file among these has projections."""
    for path in files:
        with contextlib.suppress(OSError, InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as stream:
                if stream.read(132)[128:] != b"DICM":
                    continue
            return _header(path) is not None
    return False


def _read(
    folder: Path, patient_position: str | None, progress: Progress | None, cancel: Cancellable | None
) -> Helix:
    names = sorted(Path(where, name) for where, _, found in os.walk(folder) for name in found)
    views: list[_View] = []
    first: View | None = None
    for done, path in enumerate(names):
        if done % 64 == 0:
            check(cancel)
            if progress is not None:
                progress("read headers", done, len(names))
        header = _header(path)
        if header is None:
            continue
        first = first or header[0]
        views.append(_view(path, *header, with_photons=len(views) % _STATISTICS_EVERY == 0))
    if first is None:
        images = f"; {TAKES_IMAGES}" if any(map(_is_dicom, names)) else ""
        raise InputError(
            "it holds no DICOM-CT-PD file (DICOM with (7031,1001) DetectorFocalCenterAngularPosition); give "
            f"the folder with the projections of one scan{images}."
        )
    series = len({view.series for view in views})
    if series > 1:
        raise InputError(
            f"it holds {series} series of projections; give a folder with the files of only one."
        )
    if len(views) < 2:
        raise InputError("it holds a single view; give all files of the scan.")
    views.sort(key=lambda view: (view.number, view.path.name))
    if progress is not None:
        progress("read headers", len(names), len(names))
    return _helix(first, views, patient_position)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _header(path: Path) -> tuple[View, int | None] | None:
    """The header of a file and where its pixels begin; None if it is not a DICOM-CT-PD file."""
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
            stream.seek(0)
            dataset = pydicom.dcmread(stream, stop_before_pixels=True)
            if (0x7031, 0x1001) not in dataset:
                return None
            view, syntax = View(dataset), dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
            offset = None
            if syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
                offset = _pixel_offset(stream, syntax == ExplicitVRLittleEndian, 2 * _count(view))
            return view, offset
    except InputError as error:
        raise InputError(f"'{path.name}' cannot be used: {error}") from error
    except DAMAGE as error:
        raise InputError(f"'{path.name}' is damaged or cut off; copy it again from its source.") from error


def _view(path: Path, view: View, offset: int | None, with_photons: bool) -> _View:
    try:
        if view.number("BitsAllocated", 16) != 16 or view.number("PixelRepresentation", 0) != 0:
            raise InputError("its pixels are not unsigned numbers of 16 bits.")
        central = view.numbers("DetectorCentralElement")
        if central.size != 2 or not np.isfinite(central).all():
            raise InputError("its 'DetectorCentralElement' (7031,1033) is missing or not two numbers.")
        read = _View(
            path,
            view.number("InstanceNumber", math.inf),
            view.text("SeriesInstanceUID"),
            np.array([view.number(name, default) for name, default in _PER_VIEW.items()]),
            central,
            offset,
            view.numbers("PhotonStatistics").astype(np.float32) if with_photons else None,
            view.hint("XRayTubeCurrent") or math.nan,
        )
        for name in (*_SAME[2:], "RescaleSlope"):
            if not read[name] > 0:
                raise InputError(f"its '{name}' is {read[name]:g}, but it must be positive.")
        return read
    except InputError as error:
        raise InputError(f"'{path.name}' cannot be used: {error}") from error


def _count(view: View) -> int:
    rows, columns = int(view.number("NumberofDetectorRows")), int(view.number("NumberofDetectorColumns"))
    pixels = int(view.number("Rows")) * int(view.number("Columns"))
    if rows < 1 or columns < 2 or pixels != rows * columns:
        raise InputError(f"it has {pixels} pixels for a detector of {rows} rows and {columns} columns.")
    return pixels


def _pixel_offset(stream: BinaryIO, explicit: bool, size: int) -> int:
    """Where the pixel values begin, from a stream that stands before their element."""
    head = stream.read(12 if explicit else 8)
    at = stream.tell()
    length = int.from_bytes(head[-4:], "little")
    if head[:4] != _PIXEL_DATA or length < size:
        raise InputError("it has no pixel data, or fewer than its detector has elements.")
    if stream.seek(0, os.SEEK_END) < at + size:
        raise InputError("it is cut off; copy it again from its source.")
    return at


def _stored(view: _View, count: int) -> np.ndarray:
    """The stored values of a view, in the file's order."""
    try:
        if view.offset is not None:
            values = np.fromfile(view.path, dtype="<u2", count=count, offset=view.offset)
        else:
            values = pydicom.dcmread(view.path).pixel_array.reshape(-1).astype("<u2")
    except DAMAGE as error:
        raise InputError(f"'{view.path.name}' has pixels that cannot be read ({error}).") from error
    if values.size != count:
        raise InputError(f"'{view.path.name}' is cut off or has changed; copy it again from its source.")
    return values


def _helix(first: View, views: list[_View], patient_position: str | None) -> Helix:
    _check_kind(first)
    for view in views:
        if any(view[name] != views[0][name] for name in _SAME):
            raise InputError(f"'{view.path.name}' has another detector than the views before it.")
    rows, columns = int(views[0]["NumberofDetectorRows"]), int(views[0]["NumberofDetectorColumns"])
    flat = _shape(first) == "FLAT"
    position, notes = _position(first, patient_position)
    notes += _absent([view.number for view in views])
    central = _central(views, rows, columns, notes)
    feet_first, turn = _PLACEMENT[position]
    side = -1.0 if feet_first else 1.0

    def each(name: str) -> np.ndarray:
        return np.array([view[name] for view in views])

    angle = -side * each("DetectorFocalCenterAngularPosition") + turn
    shift = -side * each("SourceAngularPositionShift")
    distance = each("ConstantRadialDistance")
    radius = each("DetectorFocalCenterRadialDistance")
    if not 0 < radius.min() <= radius.max() < distance.min():
        raise InputError(
            f"the focal centre is {radius.max():g} mm from the isocentre and {distance.min():g} mm from the "
            "detector, which must stand behind the isocentre."
        )
    column_fastest = _column_fastest(views, rows, columns)

    def load(view: int) -> np.ndarray:
        values = _stored(views[view], rows * columns).astype(np.float32)
        values *= np.float32(views[view]["RescaleSlope"])
        values += np.float32(views[view]["RescaleIntercept"])
        data = values.reshape(rows, columns) if column_fastest else values.reshape(columns, rows).T
        return data[:, ::-1] if feet_first else data

    spacing = views[0]["DetectorElementTransverseSpacing"]
    return Helix(
        load=load,
        n_rows=rows,
        n_columns=columns,
        focal_angle=angle,
        focal_z=side * each("DetectorFocalCenterAxialPosition"),
        focal_radius=radius,
        angle_shift=shift,
        z_shift=side * each("SourceAxialPositionShift"),
        radius_shift=each("SourceRadialDistanceShift"),
        detector_distance=distance,
        central_column=columns - 1 - central[:, 0] if feet_first else central[:, 0],
        central_row=float(np.median(central[:, 1])),
        flat=flat,
        column_pitch=spacing if flat else 2 * math.atan(spacing / 2 / float(np.median(distance))),
        row_pitch_mm=-side * views[0]["DetectorElementAxialSpacing"],
        row_direction_sure=False,
        water_mu_per_mm=_water(first),
        image_pixel_mm=_pixel(first),
        photons=_photons(views, columns, feet_first),
        meta=_meta(first, np.array([view.current for view in views]), position, notes),
    )


def _absent(numbers: list[float]) -> list[str]:
    """A note where the instance numbers, in order, tell of views that are not there."""
    first, last = numbers[0], numbers[-1]
    if len(set(numbers)) < len(numbers) or not all(number % 1 == 0 for number in numbers):
        return []  # inf, too, where one has none
    missing = int(last - first) + 1 - len(numbers)
    if missing:
        found = (
            f"instance numbers between {first:.0f} and {last:.0f} are missing ({counted(missing, 'view')})"
        )
    elif first > 1:
        found = f"the first view has the instance number {first:.0f}, and none before it is there"
    else:
        return []
    return [f"{found}: copy the whole folder again, if they were not left out on purpose"]


def _central(views: list[_View], rows: int, columns: int, notes: list[str]) -> np.ndarray:
    """Column and row `[view, 2]`, 0-based, that face the focal centre; a note where they stood the other way
    round.  Raises InputError where that lies beyond the detector."""
    central = np.array([view.central for view in views]) - 1
    exchanged = central[:, ::-1]
    most = np.array([columns - 1, rows - 1]) + 0.5
    if ((central < -0.5) | (central > most)).any():
        if ((exchanged < -0.5) | (exchanged > most)).any():
            column, row = views[0].central
            raise InputError(
                f"its 'DetectorCentralElement' (column {column:g}, row {row:g}) is not on the detector of "
                f"{columns} columns and {rows} rows."
            )
        notes.append(
            "'DetectorCentralElement' was read as row, column: the other way it is off the detector."
        )
        return exchanged
    return central


def _check_kind(view: View) -> None:
    if view.text("LogFlag").upper() == "NO":
        raise InputError(
            "its readings are not line integrals ('LogFlag' is NO); only those after the log are."
        )
    if view.number("NumberofSpectra", 1) > 1:
        raise InputError(
            "it was taken with several spectra ('NumberofSpectra'); keep the files of only one of them."
        )
    kind = view.text("TypeofProjectionGeometry").upper()
    if kind not in ("", "FANBEAM", "CONEBEAM"):
        raise InputError(f"its 'TypeofProjectionGeometry' is {quoted(kind)}, but only FANBEAM can be read.")


def _shape(view: View) -> str:
    shape = view.text("DetectorShape").upper() or "CYLINDRICAL"
    if shape not in ("CYLINDRICAL", "SPHERICAL", "FLAT"):
        raise InputError(
            f"its 'DetectorShape' is {quoted(shape)}, but it must be CYLINDRICAL, SPHERICAL or FLAT."
        )
    return shape


def _position(view: View, given: str | None) -> tuple[str, list[str]]:
    stated = view.text("PatientPosition").upper()
    if stated in _PLACEMENT:
        return stated, []
    position = (given or DEFAULT_POSITION).upper()
    if position not in _PLACEMENT:
        raise InputError(f"there is no patient position '{given}': choose {', '.join(_PLACEMENT)}.")
    if given:
        return position, []
    return position, [
        "The files do not say how the patient lay: on the back, head first (HFS), was assumed; if not so, "
        "left and right and the order of the slices are exchanged."
    ]


def _water(view: View) -> float:
    for name in ("WaterAttenuationCoefficient", "HounsfieldFactor"):
        if 0.01 < (stated := view.hint(name) or 0.0) < 0.05:
            return stated
    return MU_WATER_PER_MM


def _pixel(view: View) -> float | None:
    from ctenhance.scan.projections import DEFAULT_IMAGE_SIZE

    diameter = view.hint("DataCollectionDiameter") or 0.0
    return diameter / DEFAULT_IMAGE_SIZE if 50 <= diameter <= 1000 else None


def _photons(views: list[_View], columns: int, feet_first: bool) -> np.ndarray | None:
    """Mean of the noise-equivalent quanta [column] that some of the views state, if they do."""
    stated = [one for view in views if (one := view.photons) is not None and one.size in (1, columns)]
    if not stated:
        return None
    mean = np.stack([np.broadcast_to(one, columns) for one in stated]).mean(axis=0, dtype=np.float64)
    if not (np.isfinite(mean).all() and mean.min() > 0):
        return None
    return mean[::-1].copy() if feet_first else mean


def _meta(first: View, current: np.ndarray, position: str, notes: list[str]) -> dict[str, object]:
    known: dict[str, object] = {
        "kvp": first.hint("KVP"),
        "tube_current_ma": float(np.nanmean(current)) if np.isfinite(current).any() else None,
        "manufacturer": first.text("Manufacturer") or None,
        "model": first.text("ManufacturerModelName") or None,
        "flying_focal_spot": first.text("FlyingFocalSpotMode") or None,
        "position_on_table": position,
        "notes": notes,
    }
    return {name: value for name, value in known.items() if value is not None}


def _column_fastest(views: list[_View], rows: int, columns: int) -> bool:
    """Whether neighbouring pixels in the file are neighbouring columns, not rows, of the detector.

    The collection's files have the detector's row fastest (DICOM 'Columns' are detector rows), while the
    format's manual is read the other way, too; a projection is smooth in the right order only.
    """
    roughness = np.zeros(2)
    for index in np.unique(np.linspace(0, len(views) - 1, _VIEWS_ASKED).astype(int)):
        values = _stored(views[index], rows * columns).astype(np.float32)
        roughness += [_roughness(values.reshape(columns, rows)), _roughness(values.reshape(rows, columns))]
    return bool(roughness[1] < _CLEARLY_SMOOTHER * roughness[0])


def _roughness(image: np.ndarray) -> float:
    """Mean step between neighbours along both axes."""
    return float(sum(np.abs(np.diff(image, axis=axis)).mean() for axis in (0, 1) if image.shape[axis] > 1))
