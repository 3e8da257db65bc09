"""SUMI's inverse: routine CT in, CT of photon-counting quality out."""

from __future__ import annotations

from ctenhance.enhancement.inference import enhance
from ctenhance.enhancement.models import load_model

__all__ = ["enhance", "load_model"]
