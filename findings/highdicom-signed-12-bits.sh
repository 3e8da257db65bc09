#!/usr/bin/env bash
# Two ways of highdicom to read one CT file differ by 4096 HU where 12 signed bits are not filled up with their sign.
#
# Version:   highdicom 0.28.2, pydicom 3.0.2
# Belief:    imread(file).get_frame(1) and get_volume_from_series([dataset]) give the same HU.
# Behaviour: with 12 bits stored of 16, two's complement in the 12 bits and zeros above them (the bits above High Bit
#            carry nothing), the second is right, and so is Image.pixel_array. get_frame and get_volume of an image
#            fresh from imread take the whole 16-bit word: each negative HU is 4096 too high, air is denser than
#            bone. Once pixel_array has been looked at, get_frame of the same object is right, too. Files whose
#            upper bits repeat the sign are read alike by all.
# Seen:      HU in the file                  [-1000, -100, 40, 1500]
#            get_volume_from_series          [-1000.0, -100.0, 40.0, 1500.0]
#            imread().pixel_array            [-1000, -100, 40, 1500]
#            imread().get_frame(1)           [3096.0, 3996.0, 40.0, 1500.0]
#            imread().get_volume()           [3096.0, 3996.0, 40.0, 1500.0]
#            get_frame(1) after pixel_array  [-1000.0, -100.0, 40.0, 1500.0]
#            get_frame(1) of filled bits     [-1000.0, -100.0, 40.0, 1500.0]
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6 || exit 2
cd "$venv"

"$venv/bin/python" -W ignore - <<'PY'
import highdicom
import numpy as np
import pydicom

hounsfield = np.array([-1000, -100, 40, 1500])
ct = pydicom.examples.ct
ct.Rows, ct.Columns = 4, 4
ct.BitsStored, ct.HighBit, ct.PixelRepresentation = 12, 11, 1
ct.RescaleSlope, ct.RescaleIntercept = 1, 0


def write(path, stored):
    ct.PixelData = np.tile(stored, (4, 1)).astype("<i2").tobytes()
    ct.save_as(path)


write("zeros.dcm", hounsfield & 0x0FFF)
write("filled.dcm", hounsfield)
fresh = highdicom.imread
looked_at = fresh("zeros.dcm")
seen = {
    "get_volume_from_series": highdicom.get_volume_from_series([pydicom.dcmread("zeros.dcm")]).array[0, 0],
    "imread().pixel_array": looked_at.pixel_array[0],
    "imread().get_frame(1)": fresh("zeros.dcm").get_frame(1)[0],
    "imread().get_volume()": fresh("zeros.dcm").get_volume().array[0, 0],
    "get_frame(1) after pixel_array": looked_at.get_frame(1)[0],
    "get_frame(1) of filled bits": fresh("filled.dcm").get_frame(1)[0],
}
print(f"{'HU in the file':31} {hounsfield.tolist()}")
for name, values in seen.items():
    print(f"{name:31} {values.tolist()}")
wrong = np.where(hounsfield < 0, hounsfield + 4096, hounsfield)
as_stated = all(
    np.array_equal(values, wrong if name in ("imread().get_frame(1)", "imread().get_volume()") else hounsfield)
    for name, values in seen.items()
)
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
