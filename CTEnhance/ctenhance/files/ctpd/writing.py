"""Writing DICOM-CT-PD files of simulated scans, to try the reader and other programs with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from ctenhance.files.ctpd.elements import CREATOR, ELEMENTS, PRIVATE_GROUPS
from ctenhance.physics.units import MU_WATER_PER_MM
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import folder_when_done
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.scan.helix import Helix

_RAW_DATA_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66")
# Line integrals that the 16 bits span.
_LEAST, _MOST = -0.5, 12.0
_SLOPE = (_MOST - _LEAST) / 65535


def write_ctpd(
    folder: Path,
    helix: Helix,
    column_fastest: bool = False,
    explicit: bool = False,
    patient_position: str | None = "HFS",
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> None:
    """Write a scan as DICOM-CT-PD, one file a view; the folder is made and must hold no files.

    `column_fastest`: neighbouring pixels are neighbouring columns of the detector; the public collection has
    neighbouring rows.  `explicit`: explicit value representations.  `patient_position`: "HFS" or "FFS" (on
    the back, head or feet first), or None to leave the attribute out (coordinates as for "HFS").  Line
    integrals are kept to 2e-4 between -0.5 and 12.

    Raises InputError for another position or a folder that cannot be used, Cancelled when asked to stop.
    """
    if patient_position not in ("HFS", "FFS", None):
        raise InputError(f"Only the patient positions HFS and FFS can be written, not '{patient_position}'.")
    study, series = generate_uid(), generate_uid()
    with folder_when_done(folder) as target:
        for view in range(helix.n_views):
            if view % 16 == 0:
                check(cancel)
                if progress is not None:
                    progress("write", view, helix.n_views)
            dataset = _dataset(helix, view, patient_position == "FFS", column_fastest, explicit)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            if patient_position:
                dataset.PatientPosition = patient_position
            dataset.save_as(target / f"view{view + 1:06d}.dcm", enforce_file_format=True)
    if progress is not None:
        progress("write", helix.n_views, helix.n_views)


def _dataset(helix: Helix, view: int, feet_first: bool, column_fastest: bool, explicit: bool) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = _RAW_DATA_STORAGE, generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Modality, dataset.Manufacturer, dataset.InstanceNumber = "CT", "ctenhance", view + 1
    dataset.PatientName = dataset.PatientID = "SIMULATED"
    side = -1.0 if feet_first else 1.0
    data = helix.load(view)[:, :: int(side)]
    # The format's row 1 has the greatest z.
    if helix.row_pitch_mm * side > 0:
        data, central_row = data[::-1], helix.n_rows - helix.central_row
    else:
        central_row = helix.central_row + 1
    central = float(helix.central_column[view])
    values = {
        "DetectorElementTransverseSpacing": _spacing(helix, view),
        "DetectorElementAxialSpacing": abs(helix.row_pitch_mm),
        "DetectorShape": "FLAT" if helix.flat else "CYLINDRICAL",
        "NumberofDetectorRows": helix.n_rows,
        "NumberofDetectorColumns": helix.n_columns,
        "DetectorFocalCenterAngularPosition": -side * float(helix.focal_angle[view]) % (2 * math.pi),
        "DetectorFocalCenterAxialPosition": side * float(helix.focal_z[view]),
        "DetectorFocalCenterRadialDistance": float(helix.focal_radius[view]),
        "ConstantRadialDistance": float(helix.detector_distance[view]),
        "DetectorCentralElement": [helix.n_columns - central if feet_first else central + 1, central_row],
        "SourceAngularPositionShift": -side * float(helix.angle_shift[view]),
        "SourceAxialPositionShift": side * float(helix.z_shift[view]),
        "SourceRadialDistanceShift": float(helix.radius_shift[view]),
        "FlyingFocalSpotMode": _flying(helix),
        "NumberofSpectra": 1,
        "TypeofProjectionData": "HELICAL" if np.ptp(helix.focal_z) > 0 else "AXIAL",
        "TypeofProjectionGeometry": "FANBEAM",
        "LogFlag": "YES",
        "WaterAttenuationCoefficient": f"{helix.water_mu_per_mm or MU_WATER_PER_MM:.6f}",
    }
    if helix.photons is not None:
        values["PhotonStatistics"] = helix.photons[:: int(side)].tolist()
    for group in PRIVATE_GROUPS:
        block = dataset.private_block(group, CREATOR, create=True)
        for name, value in values.items():
            of_group, element, representation = ELEMENTS[name]
            if of_group == group:
                block.add_new(element & 0xFF, representation, value)
    stored = np.rint((np.clip(data, _LEAST, _MOST) - _LEAST) / _SLOPE).astype("<u2")
    stored = stored if column_fastest else stored.T
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = f"{_SLOPE:.10e}", str(_LEAST)
    dataset.PixelData = stored.tobytes()
    return dataset


def _spacing(helix: Helix, view: int) -> float:
    if helix.flat:
        return helix.column_pitch
    return 2 * float(helix.detector_distance[view]) * math.tan(helix.column_pitch / 2)


def _flying(helix: Helix) -> str:
    in_plane = bool(np.any(helix.angle_shift) or np.any(helix.radius_shift))
    along = bool(np.any(helix.z_shift))
    return "FFS" + ("XY" if in_plane else "") + ("Z" if along else "") if in_plane or along else "FFSNONE"
