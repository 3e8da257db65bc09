"""NEED: low-dose projections in, a diagnostic image out, at doses that no network was trained on."""

from __future__ import annotations

from ctenhance.reconstruction.inference import reconstruct

__all__ = ["reconstruct"]
