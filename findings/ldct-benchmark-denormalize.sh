#!/usr/bin/env bash
# ldct-benchmark's denormalize is not the inverse of its normalize: its networks' images are 20.7 HU too high.
#
# Version:   ldct-benchmark 0.0.15, torch 2.14.1, torchvision 0.29.1 (some gigabytes to install)
# Belief:    denormalize(normalize(x)) gives x back.
# Behaviour: for 'meanstd', the way of all of its networks, ldctbench.evaluate.utils.denormalize adds the standard
#            deviation of the training data (502.19) where normalize took away their mean (481.45). 'minmax' is right.
#            It moves bias, RMSE and everything else that is measured in HU on a whole-image scale.
# Seen:      meanstd: denormalize(normalize(x)) - x = [20.7309 20.7309 20.7309]
#            minmax:  denormalize(normalize(x)) - x = [0. 0. 0.]
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  ldct-benchmark==0.0.15 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 || exit 2

"$venv/bin/python" -W ignore - <<'PY'
import numpy as np
from ldctbench.evaluate.utils import denormalize, normalize

x = np.array([0.0, 1024.0, 2048.0])  # HU + 1024, as the package wants it
seen = {}
for way in ("meanstd", "minmax"):
    seen[way] = denormalize(normalize(x, normalization=way), normalization=way) - x
    print(f"{way + ':':8} denormalize(normalize(x)) - x = {seen[way].round(4)}")
as_stated = np.allclose(seen["meanstd"], 20.7309, atol=1e-3) and np.allclose(seen["minmax"], 0, atol=1e-6)
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
