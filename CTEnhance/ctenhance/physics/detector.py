"""Energy-resolving detectors: response, thresholds with smooth edges, expected counts, pile-up.

A response is a matrix `[incident energy, deposited energy]` on 1-keV bins: the mean number of pulses of that
height that one quantum makes in a pixel (summed over the pixels that share its charge, under uniform
irradiation), so that rows can add up to more than one. Bin b counts pulses between thresholds b and b + 1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.physics.materials import material
from ctenhance.runtime.errors import InputError

#: Width of the logistic edge of a threshold in keV: noise of the comparator.
EDGE_KEV = 0.4


@dataclass(frozen=True)
class Detector:
    """A response matrix on 1-keV bins of equal centres, and the edge width of its thresholds.

    `response` float64 `[incident, deposited]`; `energies_kev` centres of both axes `[energy]`.
    Raises InputError where they do not fit or are not a response.
    """

    response: torch.Tensor
    energies_kev: torch.Tensor
    edge_kev: float = EDGE_KEV
    name: str = "user"

    def __post_init__(self) -> None:
        n = len(self.energies_kev)
        if tuple(self.response.shape) != (n, n):
            raise InputError(
                f"The detector response is {tuple(self.response.shape)} but there are {n} energies: "
                "give a square matrix, rows incident and columns deposited energy."
            )
        if not bool(torch.isfinite(self.response).all()) or float(self.response.min()) < 0:
            raise InputError(
                "The detector response holds values that are negative or no numbers: correct it."
            )
        if float(self.response.sum()) <= 0:
            raise InputError("The detector response is zero everywhere: no quantum would be counted.")
        if not self.edge_kev > 0:
            raise InputError(f"The edge of a threshold must be wider than 0 keV, not {self.edge_kev}.")

    def with_efficiency(self, name: str, thickness_mm: float) -> Detector:
        """The same response times the chance to be absorbed in `thickness_mm` of a material."""
        absorbed = 1 - torch.exp(-material(name).linear_attenuation(self.energies_kev) * thickness_mm)
        return Detector(self.response * absorbed[:, None], self.energies_kev, self.edge_kev, self.name)

    def bin_response(self, thresholds_kev: torch.Tensor) -> torch.Tensor:
        """Counts a quantum in each bin, `[..., bin, incident energy]`, from thresholds `[..., bin + 1]`.

        Differentiable in the thresholds, which may be more than one set (per channel)."""
        windows = threshold_windows(thresholds_kev, self.energies_kev, self.edge_kev)
        return windows @ self.response.T

    def effective_spectra(self, spectrum: torch.Tensor, thresholds_kev: torch.Tensor) -> torch.Tensor:
        """Expected quanta per keV and bin, `[..., bin, energy]`, of a spectrum `[energy]` or `[..., 1,
        energy]`."""
        return self.bin_response(thresholds_kev) * spectrum


def threshold_windows(
    thresholds_kev: torch.Tensor, energies_kev: torch.Tensor, edge_kev: float = EDGE_KEV
) -> torch.Tensor:
    """The part `[..., bin, energy]` of each 1-keV bin that lies between thresholds `[..., bin + 1]`.

    A threshold is a logistic step of width `edge_kev`, integrated over each energy bin in closed form, so
    that the counts' derivative with respect to a threshold exists and has no ripple of the energy grid.
    """
    thresholds_kev = torch.as_tensor(thresholds_kev, dtype=energies_kev.dtype, device=energies_kev.device)
    half = (energies_kev[1] - energies_kev[0]) / 2
    distance = energies_kev - thresholds_kev[..., None]
    above = (
        F.softplus((distance + half) / edge_kev, threshold=40)
        - F.softplus((distance - half) / edge_kev, threshold=40)
    ) * (edge_kev / (2 * half))
    # far from an edge the difference is zero but for rounding, which must not make it negative
    return (above[..., :-1, :] - above[..., 1:, :]).clamp(min=0)


def check_thresholds(
    thresholds_kev: Sequence[float] | torch.Tensor, kvp: float | None = None
) -> torch.Tensor:
    """The thresholds as float64 `[bin + 1]`.

    Raises InputError where there are fewer than two, they do not rise, or a bin lies above the tube voltage.
    """
    thresholds = torch.as_tensor(thresholds_kev, dtype=torch.float64).flatten()
    listed = ", ".join(f"{t:g}" for t in thresholds.tolist())
    if len(thresholds) < 2:
        raise InputError(f"Energy bins need at least two thresholds in keV, not '{listed}'.")
    if not bool(torch.isfinite(thresholds).all()) or bool((thresholds <= 0).any()):
        raise InputError(f"The thresholds {listed} keV must be above zero.")
    if bool((thresholds.diff() <= 0).any()):
        raise InputError(f"The thresholds {listed} keV are out of order: each must be above the one before.")
    if kvp is not None and float(thresholds[-2]) >= kvp:
        raise InputError(
            f"The highest bin begins at {thresholds[-2]:g} keV but the tube gives quanta up to {kvp:g} keV "
            "only: lower the thresholds or raise the tube voltage."
        )
    return thresholds


def ideal_detector(energies_kev: torch.Tensor) -> Detector:
    """Every quantum is counted once, at its own energy."""
    return Detector(torch.eye(len(energies_kev), dtype=torch.float64), energies_kev, name="ideal")


def read_detector(
    path: str | os.PathLike[str], energies_kev: torch.Tensor | None = None, edge_kev: float = EDGE_KEV
) -> Detector:
    """A measured or simulated response: MATLAB (.mat, as XCIST's), NumPy (.npy) or text (.csv, .txt).

    One square matrix, rows incident, columns deposited energy in 1-keV bins from 0 keV. `energies_kev` asks
    for a shorter grid. Raises InputError where there is no such matrix, and for energies that are not those
    of its bins.
    """
    suffix = Path(path).suffix.lower()
    if not Path(path).is_file():
        raise InputError(f"There is no detector response at '{path}'; check the path.")
    try:
        if suffix == ".mat":
            from scipy.io import loadmat

            # the arrays' names and shapes decide; objects in the file are never run
            arrays = [v for k, v in loadmat(os.fspath(path)).items() if not k.startswith("__")]
            squares = [a for a in arrays if getattr(a, "ndim", 0) == 2 and a.shape[0] == a.shape[1] > 1]
            matrix = squares[0] if len(squares) == 1 else None
        elif suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
        else:
            matrix = np.loadtxt(path, delimiter="," if suffix == ".csv" else None)
    except Exception as error:  # the readers raise errors of many kinds for files of another format
        raise InputError(
            f"Cannot read the detector response '{path}': give .mat (up to version 7), .npy, .csv or .txt."
        ) from error
    if matrix is None or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(
            f"'{Path(path).name}' must hold exactly one square matrix: incident x deposited keV."
        )
    n = len(matrix) if energies_kev is None else len(energies_kev)
    if n > len(matrix):
        raise InputError(
            f"The response '{Path(path).name}' ends at {len(matrix)} keV but the spectrum at {n} keV: take "
            "a lower tube voltage, or a response that goes on."
        )
    response = torch.from_numpy(np.asarray(matrix[:n, :n], dtype=np.float64))
    energies = torch.arange(n, dtype=torch.float64) + 0.5
    if energies_kev is not None and not torch.allclose(energies_kev.to(energies), energies, atol=0.01):
        raise InputError(
            f"The response '{Path(path).name}' is of bins at 0.5, 1.5, … keV, but the energies are "
            f"{energies_kev[0]:g}, {energies_kev[1]:g}, … keV: bring the spectra to the bins."
        )
    return Detector(response, energies, edge_kev, Path(path).stem)


@dataclass(frozen=True)
class PileUp:
    """Count loss of a paralysable counter: observed = true · exp(−true · dead time / view time), where `true`
    is the sum over a pixel's bins (Taguchi & Iwanczyk, Med Phys 40:100901, 2013, eq. 2).

    All bins lose the same part; the distortion of the spectrum is not modelled.
    """

    dead_time_s: float
    view_time_s: float

    def __post_init__(self) -> None:
        if not (self.dead_time_s >= 0 and self.view_time_s > 0):
            raise InputError("Pile-up needs a dead time of 0 s or more and a view time above 0 s.")

    def observed(self, counts: torch.Tensor) -> torch.Tensor:
        """Counts `[..., bin]` that are registered of the true ones. Differentiable."""
        rate = counts.sum(-1, keepdim=True) * (self.dead_time_s / self.view_time_s)
        return counts * torch.exp(-rate)

    def corrected(self, counts: torch.Tensor) -> torch.Tensor:
        """True counts `[..., bin]` of the registered ones. Differentiable.

        Raises InputError for counts above the most that can be registered (e times fewer than the dead time
        would allow)."""
        load = counts.sum(-1, keepdim=True) * (self.dead_time_s / self.view_time_s)
        most = math.exp(-1)
        if bool((load > most).any()):
            raise InputError(
                f"{int((load > most).sum())} readings count more than a detector of "
                f"{1e9 * self.dead_time_s:g} ns dead time can register: they are saturated, or the dead "
                "time is wrong."
            )
        # x = load exp(x) on the branch x < 1: concave, so that Newton from below approaches without crossing
        value = load.detach().double()
        x = value.clone()
        for _ in range(50):
            grown = value * torch.exp(x)
            x = (x - (x - grown) / (1 - grown).clamp(min=1e-9)).clamp(max=1.0)
        # one step that autograd sees: the implicit derivative of x(load)
        x = x.to(counts.dtype)
        tracked = x - (x - load * torch.exp(x)) / (1 - x).clamp(min=1e-6)
        return counts * torch.exp(tracked)
