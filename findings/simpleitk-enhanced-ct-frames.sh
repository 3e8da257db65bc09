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
import copy

import highdicom
import numpy as np
import pydicom
import SimpleITK
from pydicom.uid import generate_uid

slices = []  # slice k at z = 2 k mm, filled with 100 k HU
for k in range(6):
    ct = copy.deepcopy(pydicom.examples.ct)
    ct.SOPInstanceUID = ct.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ct.InstanceNumber, ct.SliceThickness, ct.PixelSpacing = k + 1, 2, [0.8, 0.7]
    ct.ImagePositionPatient, ct.ImageOrientationPatient = [0, 0, 2 * k], [1, 0, 0, 0, 1, 0]
    ct.RescaleSlope, ct.RescaleIntercept = 1, 0
    ct.PixelData = np.full((128, 128), 100 * k, "<i2").tobytes()
    slices.append(ct)


def enhanced(path, heights):
    """The slices as one (legacy converted) Enhanced CT whose frames are stored in the order of 'heights'."""
    image = highdicom.legacy.LegacyConvertedEnhancedCTImage(slices, generate_uid(), 2, generate_uid(), 1)
    pixels = np.frombuffer(image.PixelData, "<i2").reshape(6, 128, 128)
    stored = [frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in image.PerFrameFunctionalGroupsSequence]
    order = [stored.index(height) for height in heights]
    image.PixelData = pixels[order].tobytes()
    image.PerFrameFunctionalGroupsSequence = [image.PerFrameFunctionalGroupsSequence[frame] for frame in order]
    image.save_as(path)


as_stated = True
for heights in ([0, 2, 4, 6, 8, 10], [0, 4, 8, 2, 6, 10]):
    enhanced("ct.dcm", heights)
    volume = SimpleITK.ReadImage("ct.dcm")
    values = SimpleITK.GetArrayFromImage(volume)[:, 0, 0].tolist()
    other = highdicom.imread("ct.dcm").get_volume()
    print("frames at z =", heights)
    print("  SimpleITK", values, "HU, spacing", volume.GetSpacing())
    print("  highdicom", other.array[::-1, 0, 0].astype(int).tolist(), "HU, spacing", other.spacing[::-1])
    spacing = (0.7, 0.8, 2) if heights == sorted(heights) else (1, 1, 1)
    as_stated &= values == [50 * z for z in heights] and np.allclose(volume.GetSpacing(), spacing)
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
