"""CTEnhance: routine CT to photon-counting look, and the comparison of before and after.

    import ctenhance

    volume = ctenhance.CTVolume.read("chest.nii.gz")
    result = ctenhance.enhance(volume, seed=1)
    result.volumes["enhanced"].write("chest_enhanced.nii.gz")

The sub-packages and `CTVolume` are imported when they are first used, so that `import ctenhance`
(and with it every command's `--help`) costs nothing. For research use only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # The packages that are verbs are called like functions (runtime/callable_module.py); typed as such here.
    from ctenhance.core.report import Result
    from ctenhance.core.volume import CTVolume
    from ctenhance.decomposition import decompose as decompose
    from ctenhance.degradation import degrade as degrade
    from ctenhance.enhancement import enhance as enhance
    from ctenhance.reconstruction import reconstruct as reconstruct

__version__ = "0.1.0"

_SUBPACKAGES = (
    "decompose",
    "degrade",
    "enhance",
    "io",
    "physics",
    "quality",
    "reconstruct",
    "runtime",
    "study",
    "volume",
)
_NAMES = {"CTVolume": "ctenhance.core.volume", "Result": "ctenhance.core.report"}

__all__ = ["CTVolume", "Result", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_SUBPACKAGES})
