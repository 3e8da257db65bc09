#!/usr/bin/env bash
# MONAI's PNDM scheduler, as it comes, leaves noise in the sample, and at 1000 steps all of it.
#
# Version:   monai 1.6.1, torch 2.13.0
# Belief:    with a perfect network PNDMScheduler draws from the data's distribution, the better the more steps.
# Behaviour: skip_prk_steps=False (the value it has if nothing is said) adds nine Runge-Kutta evaluations to the list
#            of timesteps, and set_timesteps then takes the length of that list for num_inference_steps. step()
#            divides by it, so that each step is shorter than the distance to the next timestep and too little
#            noise is taken out. At 1000 steps the step is 1000 // 1009 = 0: what comes out is the noise that
#            went in. skip_prk_steps=True is right.
# Seen:      data of SD 0.5, exact network; SD of the samples
#            steps   as it comes   skip_prk_steps=True
#               20         0.636                 0.501
#               50         0.578                 0.501
#              200         0.576                 0.501
#              500         0.709                 0.501
#             1000         1.001                 0.501
#            1000 steps, as it comes: largest change of the noise that went in 5.2e-06
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 monai==1.6.1 numpy==2.4.6 || exit 2

"$venv/bin/python" -W ignore - <<'PY'
import torch
from monai.networks.schedulers import PNDMScheduler

DATA_SD = 0.5


def noise_in(sample, signal):
    """The expected noise in a noisy sample of Gaussian data: what a perfectly trained network answers."""
    return (1 - signal) ** 0.5 / (signal * DATA_SD**2 + 1 - signal) * sample


def sample(steps, **settings):
    scheduler = PNDMScheduler(num_train_timesteps=1000, **settings)
    scheduler.set_timesteps(steps)
    noise = drawn = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    for timestep in scheduler.timesteps:
        prediction = noise_in(drawn, scheduler.alphas_cumprod[int(timestep)])
        drawn = scheduler.step(prediction, int(timestep), drawn)[0]
    return drawn.std().item(), (drawn - noise).abs().max().item()


print(f"data of SD {DATA_SD}, exact network; SD of the samples")
print("steps   as it comes   skip_prk_steps=True")
seen = {}
for steps in (20, 50, 200, 500, 1000):
    seen[steps] = sample(steps)[0], sample(steps, skip_prk_steps=True)[0]
    print(f"{steps:5}   {seen[steps][0]:11.3f}   {seen[steps][1]:19.3f}")
change = sample(1000)[1]
print(f"1000 steps, as it comes: largest change of the noise that went in {change:.1e}")
as_stated = change < 1e-3 and all(off > 0.55 and abs(right - DATA_SD) < 0.01 for off, right in seen.values())
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
