#!/usr/bin/env bash
# plastimatch's radiographs see no attenuation at all below -800 HU.
#
# Version:   plastimatch 1.10.0 (the PyPI package; Debian's 1.9.4 does the same)
# Belief:    'plastimatch drr' turns HU into attenuation in proportion to 1 + HU / 1000, down to 0 at -1000 HU.
# Behaviour: so it does from -799 HU up; at -800 HU and below the attenuation is exactly 0, however the HU are
#            converted. Lung at -850 HU, 20 cm of which weigh as much as 3 cm of water, is as clear as air, and its
#            contrast to -750 HU is two and a half times too strong.
# Seen:      line integral through 205 mm of a uniform cube, over that of water (0 HU)
#            HU      preprocess  inline  1 + HU/1000
#            -1000        0.000   0.000        0.000
#             -900        0.000   0.000        0.100
#             -850        0.000   0.000        0.150
#             -800        0.000   0.000        0.200
#             -799        0.201   0.201        0.201
#             -700        0.300   0.300        0.300
#                0        1.000   1.000        1.000
#             1000        2.000   2.000        2.000
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  plastimatch==1.10.0 SimpleITK==2.5.7 numpy==2.4.6 || exit 2
cd "$venv"
bin/plastimatch --version

"$venv/bin/python" - <<'PY'
import subprocess
from pathlib import Path

import numpy as np
import SimpleITK


def central_ray(hounsfield, conversion):
    """The line integral through the middle of a cube of 205 mm, in plastimatch's unit."""
    cube = SimpleITK.GetImageFromArray(np.full((41, 41, 41), hounsfield, np.float32))
    cube.SetSpacing((5, 5, 5))
    cube.SetOrigin((-100, -100, -100))
    SimpleITK.WriteImage(cube, "cube.mha")
    options = {"-I": "cube.mha", "-O": "ray", "--nrm": "0 -1 0", "-r": "11 11", "-z": "11 11", "-t": "pfm"}
    options |= {"-i": "exact", "-P": conversion}
    command = ["bin/plastimatch", "drr", *(word for option in options.items() for word in option)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = Path().glob("ray*.pfm")
    kind, size, scale, pixels = path.read_bytes().split(b"\n", 3)
    return np.frombuffer(pixels, "<f4" if float(scale) < 0 else ">f4").reshape(11, 11)[5, 5]


print("line integral through 205 mm of a uniform cube, over that of water (0 HU)")
print("HU      preprocess  inline  1 + HU/1000")
water = {conversion: central_ray(0, conversion) for conversion in ("preprocess", "inline")}
as_stated = True
for hounsfield in (-1000, -900, -850, -800, -799, -700, 0, 1000):
    seen = [central_ray(hounsfield, conversion) / water[conversion] for conversion in water]
    right = 1 + hounsfield / 1000
    print(f"{hounsfield:5}   {seen[0]:10.3f}  {seen[1]:6.3f}  {right:11.3f}")
    as_stated &= np.allclose(seen, 0 if hounsfield <= -800 else right, rtol=1e-3, atol=0)
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
