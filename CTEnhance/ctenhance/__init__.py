"""CTEnhance: routine CT to photon-counting look, and the comparison of before and after.

    import ctenhance

    volume = ctenhance.read("chest.nii.gz")
    result = ctenhance.enhance(volume, seed=1)
    ctenhance.write(result.volumes["enhanced"], "chest_enhanced.nii.gz")

Everything is imported when it is first used, so that `import ctenhance` (and with it every command's
`--help`) costs nothing and needs the standard library only; `__init__.pyi` says the same to type checkers.
For research use only.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

#: Where the public names are.
_NAMES = {
    "CTVolume": "core.volume",
    "DecomposeOptions": "options",
    "DegradeOptions": "options",
    "EnhanceOptions": "options",
    "Projections": "scan.projections",
    "ReconstructOptions": "options",
    "Result": "core.report",
    "decompose": "decomposition",
    "decompose_images": "decomposition.from_images",
    "degrade": "degradation",
    "enhance": "enhancement",
    "read": "files.ct",
    "read_projections": "files.projections",
    "reconstruct": "reconstruction",
    "write": "files.ct",
    "write_projections": "files.projections",
}
_PACKAGES = (
    "choices",
    "core",
    "decomposition",
    "degradation",
    "enhancement",
    "files",
    "options",
    "physics",
    "quality",
    "reconstruction",
    "runtime",
    "scan",
    "study",
    "training",
)

__all__ = [
    "CTVolume",
    "DecomposeOptions",
    "DegradeOptions",
    "EnhanceOptions",
    "Projections",
    "ReconstructOptions",
    "Result",
    "__version__",
    "decompose",
    "decompose_images",
    "degrade",
    "enhance",
    "read",
    "read_projections",
    "reconstruct",
    "write",
    "write_projections",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_PACKAGES})
