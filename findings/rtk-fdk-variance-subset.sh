#!/usr/bin/env bash
# RTK's variance reconstruction depends on how many projections are read into memory at a time.
#
# Version:   itk-rtk 2.7.0.post1 (ITK 5.4.7)
# Belief:    ProjectionSubsetSize is a matter of memory: FDKConeBeamReconstructionFilter gives the same image for
#            any, and so does FDKVarianceReconstructionFilter, its counterpart for the noise.
# Behaviour: the image is the same, the variance is not. Two subsets halve it, three give a third, and with some nine
#            subsets it is NaN everywhere. The default is 16 projections, so the number of views of a scan decides
#            what comes out (180 views: NaN). With all views in one subset it is more than twice the variance of
#            reconstructed white noise.
# Seen:      variance of 60 reconstructions of noise of variance 1: 0.0004
#            subset   image of ones   variance map of ones
#                90        0.005013               0.001060
#                45        0.005013               0.000531
#                30        0.005013               0.000355
#                16        0.005013               0.000307
#                12        0.005013               0.000213
#                10        0.005013                    nan
#                 5        0.005013                    nan
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check itk-rtk==2.7.0.post1 itk==5.4.7 numpy==2.4.6 || exit 2

"$venv/bin/python" -W ignore - <<'PY'
import itk
import numpy as np
from itk import RTK as rtk

Image = itk.Image[itk.F, 3]
VIEWS = 90
geometry = rtk.ThreeDCircularProjectionGeometry.New()
for view in range(VIEWS):
    geometry.AddProjection(500.0, 1000.0, view * 360.0 / VIEWS)


def image(array, spacing):
    """An ITK image of an array [z, y, x], centred about the origin."""
    made = itk.image_from_array(np.ascontiguousarray(array, np.float32))
    size = array.shape[::-1]
    made.SetSpacing(spacing)
    made.SetOrigin([-(n - 1) / 2 * step for n, step in zip(size, spacing)])
    return made


def middle(kind, projections, subset=16):
    """The middle voxel of what 'kind' reconstructs."""
    reconstruction = kind[Image].New()
    reconstruction.SetInput(0, image(np.zeros((16, 1, 16)), [1.0, 1.0, 1.0]))
    reconstruction.SetInput(1, image(projections, [4.0, 4.0, 1.0]))
    reconstruction.SetGeometry(geometry)
    reconstruction.SetProjectionSubsetSize(subset)
    reconstruction.Update()
    return float(itk.array_from_image(reconstruction.GetOutput())[8, 0, 8])


ones = np.ones((VIEWS, 8, 64))
rng = np.random.default_rng(0)
draws = [middle(rtk.FDKConeBeamReconstructionFilter, rng.standard_normal(ones.shape)) for _ in range(60)]
print(f"variance of {len(draws)} reconstructions of noise of variance 1: {np.var(draws):.4f}")
print("subset   image of ones   variance map of ones")
mean, variance = {}, {}
for subset in (90, 45, 30, 16, 12, 10, 5):
    mean[subset] = middle(rtk.FDKConeBeamReconstructionFilter, ones, subset)
    variance[subset] = middle(rtk.FDKVarianceReconstructionFilter, ones, subset)
    print(f"{subset:6}   {mean[subset]:13.6f}   {variance[subset]:20.6f}")
as_stated = np.ptp(list(mean.values())) < 1e-6 and variance[90] > 2 * variance[30] and np.isnan(variance[5])
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
