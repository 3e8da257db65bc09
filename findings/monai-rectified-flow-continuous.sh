#!/usr/bin/env bash
# MONAI's rectified flow with continuous timesteps runs past the data, the further the more steps.
#
# Version:   monai 1.6.1, torch 2.13.0
# Belief:    RFlowScheduler(use_discrete_timesteps=False), stepped to its own next timestep as MONAI's
#            DiffusionInferer does, goes from t = 1 to t = 0: along a straight path it arrives exactly.
# Behaviour: step() cuts next_timestep down to a whole number but leaves the current one as it is, so that each step
#            is too long by the fraction. The steps do not add up to 1 unless the list happens to hold whole numbers.
#            More steps make it worse.
# Seen:      steps   sum of the steps, continuous   discrete
#                4                         1.0000     1.0000
#                7                         1.0031     1.0000
#               30                         1.0102     1.0000
#              100                         1.0000     1.0000
#              150                         1.0503     1.0000
#              300                         1.1002     1.0000
#              600                         1.2003     1.0000
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 monai==1.6.1 numpy==2.4.6 || exit 2

"$venv/bin/python" -W ignore - <<'PY'
import torch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import RFlowScheduler


class StraightOn(torch.nn.Module):
    """The velocity of a path from 0 (at t = 1) to 1 (at t = 0)."""

    def forward(self, x, timesteps, context=None):
        return torch.ones_like(x)


def arrives_at(steps, discrete):
    scheduler = RFlowScheduler(num_train_timesteps=1000, use_discrete_timesteps=discrete)
    scheduler.set_timesteps(steps)
    inferer = DiffusionInferer(scheduler)
    start = torch.zeros(1, 1, 2, 2)
    return inferer.sample(start, StraightOn(), scheduler, verbose=False).mean().item()


print("steps   sum of the steps, continuous   discrete")
seen = {}
for steps in (4, 7, 30, 100, 150, 300, 600):
    seen[steps] = arrives_at(steps, discrete=False), arrives_at(steps, discrete=True)
    print(f"{steps:5}   {seen[steps][0]:28.4f}   {seen[steps][1]:8.4f}")
as_stated = seen[300][0] > 1.05 and all(abs(discrete - 1) < 1e-4 for _, discrete in seen.values())
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
