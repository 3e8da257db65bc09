#!/usr/bin/env bash
# dcmqi reads a parametric map that highdicom wrote, and puts the feet where the head was.
#
# Version:   dcmqi 1.5.7, highdicom 0.28.2, pydicom 3.0.2, SimpleITK 2.5.7
# Belief:    paramap2itkimage places each frame by its own Plane Position, whatever the order in the file.
# Behaviour: the voxels are filled in the order of the file, while the origin is put at the lowest position with
#            the direction upwards. highdicom stores the frames from the highest position down, so the volume comes
#            out mirrored in z on a grid that looks right. Exit code 0, no warning.
#            (highdicom leaves out the Frame Anatomy macro, without which dcmqi stops; it is added here.)
# Seen:      z of the frames as stored    [30.0, 25.0, 20.0, 15.0, 10.0]
#            at z =  10 mm: 1 was written, 5 is read
#            at z =  15 mm: 2 was written, 4 is read
#            at z =  20 mm: 3 was written, 3 is read
#            at z =  25 mm: 4 was written, 2 is read
#            at z =  30 mm: 5 was written, 1 is read
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  dcmqi==1.5.7 highdicom==0.28.2 pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6 || exit 2
cd "$venv"

"$venv/bin/python" -W ignore - <<'PY'
import copy
import subprocess

import highdicom
import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

heights = [10.0, 15.0, 20.0, 25.0, 30.0]
source = []
for number, height in enumerate(heights, start=1):
    ct = copy.deepcopy(pydicom.examples.ct)
    ct.SOPInstanceUID, ct.InstanceNumber = generate_uid(), number
    ct.ImagePositionPatient, ct.ImageOrientationPatient = [0, 0, height], [1, 0, 0, 0, 1, 0]
    source.append(ct)
written = np.arange(1, 6, dtype=np.float32)  # slice k holds the number k
density = codes.UCUM.MilligramsPerCubicCentimeter
density_map = highdicom.pm.ParametricMap(
    source_images=source,
    pixel_array=np.broadcast_to(written[:, None, None], (5, 128, 128)).copy(),
    series_instance_uid=generate_uid(),
    series_number=2,
    sop_instance_uid=generate_uid(),
    instance_number=1,
    manufacturer="none",
    manufacturer_model_name="none",
    software_versions="1",
    device_serial_number="1",
    contains_recognizable_visual_features=False,
    real_world_value_mappings=[
        highdicom.pm.RealWorldValueMapping("map", "a map", density, (0.0, 10.0), slope=1.0, intercept=0.0)
    ],
    window_center=2,
    window_width=5,
)
region = Dataset()
region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
anatomy = Dataset()
anatomy.FrameLaterality, anatomy.AnatomicRegionSequence = "U", [region]
density_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
density_map.save_as("map.dcm")
frames = density_map.PerFrameFunctionalGroupsSequence
print("z of the frames as stored   ", [float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in frames])

command = ["bin/paramap2itkimage", "--inputDICOM", "map.dcm", "--outputDirectory", ".", "--outputType", "nrrd"]
subprocess.run(command, check=True, capture_output=True)
volume = SimpleITK.ReadImage("pmap.nrrd")
read = [volume[volume.TransformPhysicalPointToIndex((0.0, 0.0, height))] for height in heights]
for height, was, is_ in zip(heights, written, read):
    print(f"at z = {height:3.0f} mm: {was:.0f} was written, {is_:.0f} is read")
as_stated = read == written.tolist()[::-1]
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
