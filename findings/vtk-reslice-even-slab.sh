#!/usr/bin/env bash
# A slab of an even number of slices lies half a slice off, or does not, as vtkImageReslice finds it quick to work.
#
# Version:   vtk 9.6.0 (PyPI)
# Belief:    SetOptimization chooses between a quick and a plain way to the same image: a slab of four slices about
#            z = 20 is the mean of what lies at 18.5, 19.5, 20.5 and 21.5, so that a ramp keeps its value there.
# Behaviour: With the optimization on (as it is at first) and the slab's samples one voxel apart along an axis of the
#            volume, the samples are moved to whole slices: 18, 19, 20 and 21. The whole slab is half a slice low. Odd
#            numbers of slices, samples half a voxel apart, and the plain way are right, so that the image jumps by half
#            a slice as the slab's thickness or sampling is changed.
# Seen:      2 slices, 1 voxel apart: mean 19.50 quickly, 20.00 plainly
#            4 slices, 1 voxel apart: mean 19.50 quickly, 20.00 plainly
#            5 slices, 1 voxel apart: mean 20.00 quickly, 20.00 plainly
#            4 slices, 0.5 voxel apart: mean 20.00 quickly, 20.00 plainly
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check vtk==9.6.0 numpy==2.4.6 || exit 2
cd "$venv"

"$venv/bin/python" -W ignore - <<'PY'
import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

# Each voxel holds the number of its slice.
ramp = vtk.vtkImageData()
ramp.SetDimensions(8, 8, 41)
ramp.GetPointData().SetScalars(numpy_to_vtk(np.repeat(np.arange(41, dtype=np.float32), 64), deep=True))


def mean_about_20(slices, distance, optimization):
    """What the mean over a slab of so many slices, so many voxels apart, shows about z = 20."""
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(ramp)
    reslice.SetInterpolationModeToLinear()
    reslice.SetOptimization(optimization)
    reslice.SetResliceAxesOrigin(0, 0, 20)
    reslice.SetOutputDimensionality(2)
    reslice.SetOutputExtent(0, 7, 0, 7, 0, 0)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetSlabModeToMean()
    reslice.SetSlabNumberOfSlices(slices)
    reslice.SetSlabSliceSpacingFraction(distance)
    reslice.Update()
    return float(vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars()).mean())


as_stated = True
for slices, distance, seen in ((2, 1, 19.5), (4, 1, 19.5), (5, 1, 20.0), (4, 0.5, 20.0)):
    quickly, plainly = (mean_about_20(slices, distance, on) for on in (1, 0))
    print(f"{slices} slices, {distance:g} voxel apart: mean {quickly:.2f} quickly, {plainly:.2f} plainly")
    as_stated &= abs(quickly - seen) < 1e-4 and abs(plainly - 20) < 1e-4
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
