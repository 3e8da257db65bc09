#!/usr/bin/env bash
# SimpleITK reads an Enhanced CT with frames in an order of their own as a shuffled volume of 1 mm cubes.
#
# Version:   SimpleITK 2.5.7, pydicom 3.0.2; highdicom 0.28.2 for comparison
# Belief:    ReadImage puts each frame at its Plane Position, or says that it cannot.
# Behaviour: frames are stacked as they are stored, which the standard leaves free (every other slice first, say). If
#            that is not from one end to the other, the spacing is lost as well, and in all three directions, though
#            one Pixel Measures item holds for all frames. No error.
# Seen:      frames at z = [0, 2, 4, 6, 8, 10]
#              SimpleITK [0, 100, 200, 300, 400, 500] HU, spacing (0.7, 0.8, 2.0)
#              highdicom [0, 100, 200, 300, 400, 500] HU, spacing (0.7, 0.8, 2.0)
#            frames at z = [0, 4, 8, 2, 6, 10]
#              SimpleITK [0, 200, 400, 100, 300, 500] HU, spacing (1.0, 1.0, 1.0)
#              highdicom [0, 100, 200, 300, 400, 500] HU, spacing (0.7, 0.8, 2.0)
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  SimpleITK==2.5.7 highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6 || exit 2
cd "$venv"

"$venv/bin/python" -W ignore - <<'PY'
import highdicom
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid


def items(**attributes):
    """A sequence of one item."""
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return [item]


FRAME_TYPE = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
SIDE = {
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
}


def enhanced(path, order):
    """An Enhanced CT of slice k = 0...5 at z = 2 k mm, filled with 100 k HU, its frames stored in 'order'."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = generate_uid(), ""
    image.PatientName = image.PatientID = image.PatientBirthDate = image.PatientSex = ""
    image.StudyID = image.AccessionNumber = image.ReferringPhysicianName = ""
    image.StudyDate = image.ContentDate = "20260101"
    image.StudyTime = image.ContentTime = "000000"
    image.AcquisitionDateTime = "20260101000000"
    image.Modality, image.Manufacturer, image.SeriesNumber, image.InstanceNumber = "CT", "none", 1, 1
    image.ImageType = FRAME_TYPE
    for keyword, value in SIDE.items():
        setattr(image, keyword, value)
    image.Rows, image.Columns, image.NumberOfFrames = 4, 5, len(order)
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    image.PresentationLUTShape = "IDENTITY"
    organization = generate_uid()
    image.DimensionOrganizationSequence = items(DimensionOrganizationUID=organization)
    image.DimensionIndexSequence = items(
        DimensionOrganizationUID=organization, DimensionIndexPointer=0x00200032, FunctionalGroupPointer=0x00209113
    )
    (shared,) = items(
        PixelMeasuresSequence=items(PixelSpacing=[0.8, 0.7], SliceThickness=2),
        PlaneOrientationSequence=items(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelValueTransformationSequence=items(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU"),
        CTImageFrameTypeSequence=items(FrameType=FRAME_TYPE, **SIDE),
    )
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [
        items(
            PlanePositionSequence=items(ImagePositionPatient=[0, 0, 2 * k]),
            FrameContentSequence=items(
                FrameAcquisitionNumber=1,
                FrameReferenceDateTime="20260101000000",
                FrameAcquisitionDateTime="20260101000000",
                FrameAcquisitionDuration=1.0,
                StackID="1",
                InStackPositionNumber=k + 1,
                DimensionIndexValues=[k + 1],
            ),
        )[0]
        for k in order
    ]
    image.PixelData = np.repeat(100 * np.array(order), 20).astype("<i2").tobytes()
    image.save_as(path, enforce_file_format=True)


as_stated = True
for order in ([0, 1, 2, 3, 4, 5], [0, 2, 4, 1, 3, 5]):
    enhanced("ct.dcm", order)
    volume = SimpleITK.ReadImage("ct.dcm")
    values = SimpleITK.GetArrayFromImage(volume)[:, 0, 0]
    other = highdicom.imread("ct.dcm").get_volume()
    print("frames at z =", [2 * k for k in order])
    print("  SimpleITK", values.tolist(), "HU, spacing", volume.GetSpacing())
    print("  highdicom", other.array[::-1, 0, 0].astype(int).tolist(), "HU, spacing", other.spacing[::-1])
    sorted_ = order == sorted(order)
    spacing = (0.7, 0.8, 2) if sorted_ else (1, 1, 1)
    as_stated &= values.tolist() == [100 * k for k in order] and np.allclose(volume.GetSpacing(), spacing)
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
