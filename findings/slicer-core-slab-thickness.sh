#!/usr/bin/env bash
# A slice node's thick slab of so many mm looks farther, or less far, than these mm.
#
# Version:   slicer-core 5.12.4.0 (5.11.0.6 does the same; 3D Slicer's MRML libraries from PyPI)
# Belief:    SetSlabReconstructionThickness(25) shows what lies within 25 mm: 12.5 mm to either side of the slice.
# Behaviour: The number of samples is right for the thickness, but their distance is the slice spacing times
#            (slice spacing / oversampling factor): too far apart by as much as the spacing is above the factor, too close
#            where it is below it. So a MIP of 25 mm over slices of 5 mm reaches 25 mm to either side, twice as far, and
#            one of 5 mm over slices of 1 mm only 1 mm. With the factor of 2 that is set at first, slabs are right for
#            slices of 2 mm alone.
# Seen:      slices of 5 mm, slab of 25 mm: the farthest that is shown lies 25 mm off (10 expected)
#            slices of 2 mm, slab of 10 mm: the farthest that is shown lies 4 mm off (4 expected)
#            slices of 1 mm, slab of 5 mm: the farthest that is shown lies 1 mm off (2 expected)
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check slicer-core==5.12.4.0 numpy==2.4.6 || exit 2
cd "$venv"

"$venv/bin/python" -W ignore - <<'PY'
import numpy as np
import vtk
from slicer import vtkMRMLApplicationLogic, vtkMRMLScalarVolumeNode, vtkMRMLScene, vtkMRMLSliceLogic
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy


def farthest(spacing, thickness):
    """How far from slice 0 the maximum over a slab comes, in mm: each voxel of the volume holds its own z."""
    half = 40
    heights = (np.arange(2 * half + 1) - half) * spacing
    image = vtk.vtkImageData()
    image.SetDimensions(32, 32, len(heights))
    image.GetPointData().SetScalars(numpy_to_vtk(np.repeat(heights, 32 * 32).astype(np.float32), deep=True))
    scene, application, volume = vtkMRMLScene(), vtkMRMLApplicationLogic(), vtkMRMLScalarVolumeNode()
    application.SetMRMLScene(scene)
    volume.SetSpacing(1.0, 1.0, spacing)
    volume.SetOrigin(-16.0, -16.0, -half * spacing)
    scene.AddNode(volume)
    volume.SetAndObserveImageData(image)
    logic = vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode("Red")
    node.SetOrientation("Axial")
    node.SetDimensions(32, 32, 1)
    node.SetFieldOfView(32.0, 32.0, spacing)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    node.SetSliceOffset(0.0)
    node.SetSlabReconstructionEnabled(True)
    node.SetSlabReconstructionType(vtk.VTK_IMAGE_SLAB_MAX)
    node.SetSlabReconstructionThickness(thickness)
    logic.UpdatePipeline()
    reslice = logic.GetBackgroundLayer().GetReslice()
    reslice.Update()
    return float(vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars()).max())


as_stated = True
for spacing, thickness, seen, expected in ((5.0, 25.0, 25.0, 10.0), (2.0, 10.0, 4.0, 4.0), (1.0, 5.0, 1.0, 2.0)):
    reach = farthest(spacing, thickness)
    print(
        f"slices of {spacing:g} mm, slab of {thickness:g} mm: the farthest that is shown lies {reach:g} mm off "
        f"({expected:g} expected)"
    )
    as_stated &= abs(reach - seen) < 0.01
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
