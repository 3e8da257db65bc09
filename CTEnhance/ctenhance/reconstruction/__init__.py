"""NEED: low-dose projections in, a diagnostic image out, at doses that no network was trained on."""

from __future__ import annotations

from ctenhance.reconstruction.inference import METHODS, reconstruct
from ctenhance.runtime.callable_module import make_callable

__all__ = ["METHODS", "reconstruct"]

make_callable(__name__, "reconstruct")
