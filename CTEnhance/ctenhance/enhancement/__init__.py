"""SUMI's inverse: routine CT in, CT of photon-counting quality out."""

from __future__ import annotations

from ctenhance.enhancement.inference import enhance, load_model
from ctenhance.runtime.callable_module import make_callable

__all__ = ["enhance", "load_model"]

make_callable(__name__, "enhance")
