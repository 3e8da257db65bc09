"""Fits the few-step samplers of `enhancement/sampler.py`, and prints the table that stands there.

    python benchmarks/fit_sampler.py --steps 3 4 5 8

Data are Gaussian of one power a frequency, for which the best network is known: then a sampler multiplies the
noise by a number, and its square is the power that comes out. Angles and gains are those for which it is
nearest to the power that was asked for, over a factor of 200. DDIM of the same number of steps stands beside.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import minimize

POWERS = np.geomspace(0.02, 4, 61)
RESTARTS = 24


def power(values: np.ndarray, steps: int) -> np.ndarray:
    """The power that comes out for each of `POWERS`; `values`: angles, then gains."""
    angles, gains = values[:steps], values[steps:]
    z = np.ones_like(POWERS)
    for step, angle in enumerate(angles):
        cos, sin = np.cos(angle), np.sin(angle)
        clean = POWERS * cos / (POWERS * cos**2 + sin**2) * z
        noise = (z - cos * clean) / sin
        if step < len(gains):
            z = np.cos(angles[step + 1]) * clean + np.sin(angles[step + 1]) * gains[step] * noise
    return clean**2


def cost(values: np.ndarray, steps: int) -> float:
    """How far it is off, in the logarithm; large where the angles do not fall."""
    angles = values[:steps]
    if np.any(np.diff(angles) > -0.02) or angles[0] > 1.56 or angles[-1] < 0.02:
        return 1e3
    return float(np.mean(np.abs(np.log(power(values, steps) / POWERS)) ** 6) ** (1 / 6))


def fit(steps: int) -> np.ndarray:
    """Angles and gains for `steps` evaluations."""
    rng = np.random.default_rng(1)
    options = {"maxiter": 8000, "maxfev": 8000, "xatol": 1e-6, "fatol": 1e-7, "adaptive": True}
    found = []
    for _ in range(RESTARTS):
        start = np.concatenate(
            [np.sort(rng.uniform(0.08, 1.5, steps))[::-1], rng.uniform(0.9, 1.3, steps - 1)]
        )
        found.append(minimize(cost, start, args=(steps,), method="Nelder-Mead", options=options))
    return min(found, key=lambda result: float(result.fun)).x


def main() -> None:
    """Print each sampler as it is found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[3, 4, 5, 8])
    for steps in parser.parse_args().steps:
        values = np.round(fit(steps), 4)
        plain = np.concatenate([(np.pi / 2) * (1 - (np.arange(steps) + 0.5) / steps), np.ones(steps - 1)])
        own, ddim = (power(v, steps) / POWERS for v in (values, plain))
        print(f"{steps}: ({tuple(values[:steps].tolist())}, {tuple(values[steps:].tolist())}),")
        print(f"  # keeps {own.min():.3f} to {own.max():.3f}; DDIM {ddim.min():.3f} to {ddim.max():.3f}")


if __name__ == "__main__":
    main()
