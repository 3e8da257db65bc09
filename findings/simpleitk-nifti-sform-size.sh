#!/usr/bin/env bash
# SimpleITK mixes two voxel sizes of a NIfTI file with an sform only, axes of the sform and spacing of pixdim.
#
# Version:   SimpleITK 2.5.7, nibabel 5.4.2
# Belief:    Where only the sform is set (qform_code 0), the image lies where the sform puts it: by the NIfTI-1 standard
#            (method 3) pixdim has no say then.
# Behaviour: SimpleITK takes directions and origin from the sform and the spacing from pixdim. A sform of
#            1 x 1 x 2 mm beside pixdim 0.7 x 0.7 x 1.5 mm, as resampling by hand leaves it, gives an image 30 % too small;
#            the only trace is a warning on standard error ("unexpected scales in sform"). nibabel's affine is
#            the sform's; its header.get_zooms(), which many take for the voxel size, is pixdim's.
# Seen:      sform in the file            [1.0, 1.0, 2.0]
#            nibabel affine               [1.0, 1.0, 2.0]
#            nibabel header.get_zooms()   [0.7, 0.7, 1.5]
#            SimpleITK GetSpacing()       [0.7, 0.7, 1.5]
#            distance of the outer voxels along x, mm: sform 9.0, SimpleITK 6.3
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  simpleitk==2.5.7 nibabel==5.4.2 numpy==2.4.6 || exit 2
cd "$venv"

"$venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import struct

import nibabel
import numpy as np
import SimpleITK as sitk

sform, pixdim = [1.0, 1.0, 2.0], [0.7, 0.7, 1.5]
image = nibabel.Nifti1Image(np.zeros((10, 10, 4), np.int16), np.diag([*sform, 1]))
image.to_filename("image.nii")
content = bytearray(open("image.nii", "rb").read())
struct.pack_into("<3f", content, 80, *pixdim)
struct.pack_into("<2h", content, 252, 0, 2)  # qform_code, sform_code
open("image.nii", "wb").write(content)

by_nibabel, by_itk = nibabel.load("image.nii"), sitk.ReadImage("image.nii")
ends = [np.array(by_itk.TransformIndexToPhysicalPoint((index, 0, 0))) for index in (0, 9)]
long = float(np.linalg.norm(ends[1] - ends[0]))
seen = {
    "nibabel affine": nibabel.affines.voxel_sizes(by_nibabel.affine),
    "nibabel header.get_zooms()": by_nibabel.header.get_zooms(),
    "SimpleITK GetSpacing()": by_itk.GetSpacing(),
}
print(f"{'sform in the file':28} {sform}")
for name, size in seen.items():
    print(f"{name:28} {np.round(np.array(size, float), 3).tolist()}")
print(f"distance of the outer voxels along x, mm: sform {9 * sform[0]:.1f}, SimpleITK {long:.1f}")
expected = [sform, pixdim, pixdim]
as_stated = all(np.allclose(size, other) for size, other in zip(seen.values(), expected))
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
