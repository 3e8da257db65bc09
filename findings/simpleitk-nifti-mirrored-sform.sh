#!/usr/bin/env bash
# SimpleITK reads the sform of a NIfTI file in place of its qform where one is the other's mirror image.
#
# Version:   SimpleITK 2.5.7, nibabel 5.4.2
# Belief:    Of two transforms that differ, qform with code 1 (scanner) and sform with code 2 (aligned), SimpleITK reads
#            the qform, as it does beside a sform that is turned or moved.
# Behaviour: With an axis mirrored and the offset kept, as a script makes it that turns the sign of a column of the
#            affine, SimpleITK takes the sform: it compares the two by offset and by what a singular value decomposition
#            leaves on the left, where both are the same. With another offset, as where the image is flipped in place, it
#            takes the qform. Left and right change with the offset.
# Seen:      turned by 10 degrees        qform
#            moved by 5 mm               qform
#            x mirrored, offset kept     sform
#            x mirrored, other offset    qform
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  simpleitk==2.5.7 nibabel==5.4.2 numpy==2.4.6 || exit 2
cd "$venv"

"$venv/bin/python" -W ignore - <<'PY'
import nibabel
import numpy as np
import SimpleITK as sitk

qform = np.diag([-0.8, -0.8, 3.0, 1.0])
qform[:3, 3] = 5.0, 6.0, 7.0
cosine, sine = np.cos(np.radians(10)), np.sin(np.radians(10))


def changed(by: np.ndarray, offset: tuple[float, float, float]) -> np.ndarray:
    other = qform.copy()
    other[:3, :3] = by @ qform[:3, :3]
    other[:3, 3] = offset
    return other


mirror = np.diag([-1.0, 1.0, 1.0])
turned = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
sforms = {
    "turned by 10 degrees": (changed(turned, (5, 6, 7)), "qform"),
    "moved by 5 mm": (changed(np.eye(3), (10, 6, 7)), "qform"),
    "x mirrored, offset kept": (changed(mirror, (5, 6, 7)), "sform"),
    "x mirrored, other offset": (changed(mirror, (-7, 6, 7)), "qform"),
}
as_stated = True
to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
for what, (sform, expected) in sforms.items():
    image = nibabel.Nifti1Image(np.zeros((16, 16, 8), np.int16), None)
    image.set_qform(qform, 1)
    image.set_sform(sform, 2)
    nibabel.save(image, "image.nii")
    read = sitk.ReadImage("image.nii")
    corner = np.array([15, 0, 0, 1.0])
    place = np.array(read.TransformIndexToPhysicalPoint((15, 0, 0)))
    off = {name: np.abs((to_lps @ one @ corner)[:3] - place).max() for name, one in
           (("qform", qform), ("sform", sform))}
    taken = min(off, key=off.get)
    as_stated &= taken == expected and off[taken] < 1e-3
    print(f"{what:27} {taken}")
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
