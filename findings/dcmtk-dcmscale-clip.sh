#!/usr/bin/env bash
# dcmscale changes the pixel spacing of a CT slice that it only clips.
#
# Version:   DCMTK 3.6.7 (Debian's dcmtk); pydicom 3.0.2 makes the input.
# Belief:    '+C left top width height' cuts a region out. Nothing is scaled, so Pixel Spacing stays as it is and
#            Image Position (Patient) moves to the first pixel that is left.
# Behaviour: the pixels are cut out exactly, but Pixel Spacing is multiplied by old size / new size, rows and columns
#            apart, and the position stays that of a pixel which is gone. What lies in the clipped region measures
#            too large, square pixels become oblong, and the slice stands elsewhere. Exit code 0, no warning.
# Seen:      input     128 x 128, spacing [0.5, 0.5], position [-32.0, -32.0, 0.0]
#            clipped    64 x 32, spacing [1.000000, 2.000000], position [-32.0, -32.0, 0.0]
#            the HU are the region's, unscaled: True
#            right were spacing [0.5, 0.5], position [-16, -12, 0]
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

command -v dcmscale > /dev/null || { echo "dcmscale is missing; install DCMTK (Debian: dcmtk)." >&2; exit 2; }
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6 || exit 2
cd "$venv"
dcmscale --version | sed -n 1p

"$venv/bin/python" - <<'PY'
import subprocess

import numpy as np
import pydicom

ct = pydicom.examples.ct  # a small CT slice that comes with pydicom; geometry and pixels are made here
ct.PixelSpacing, ct.ImagePositionPatient = [0.5, 0.5], [-32, -32, 0]
ct.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
ct.PixelData = np.add.outer(10 * np.arange(128), np.arange(128)).astype("<i2").tobytes()
ct.save_as("input.dcm")
left, top, width, height = 32, 40, 32, 64
region = f"{left} {top} {width} {height}".split()
subprocess.run(["dcmscale", "+C", *region, "input.dcm", "clipped.dcm"], check=True)


def hounsfield(image):
    return image.pixel_array * image.RescaleSlope + image.RescaleIntercept


def show(name, image):
    size = f"{image.Rows:4} x {image.Columns}"
    print(f"{name:9}{size}, spacing {image.PixelSpacing}, position {image.ImagePositionPatient}")


clipped = pydicom.dcmread("clipped.dcm")
same = np.array_equal(hounsfield(clipped), hounsfield(ct)[top : top + height, left : left + width])
show("input", ct)
show("clipped", clipped)
print("the HU are the region's, unscaled:", same)
print("right were spacing [0.5, 0.5], position [-16, -12, 0]")
as_stated = same and clipped.PixelSpacing == [1, 2] and clipped.ImagePositionPatient == [-32, -32, 0]
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
