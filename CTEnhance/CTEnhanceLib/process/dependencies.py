"""The packages that the worker needs, checked and installed when Apply is pressed, and only after consent.

PyTorch comes from Slicer's PyTorch extension, which picks the build for the graphics card; the others by pip,
bound so that none of what Slicer ships is replaced. CT Enhance works without PyTorch, by OpenVINO.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError

TORCH = "torch"
TORCH_VERSIONS = ">=2.4.1"
# Of wheels, with what they bring along, in 2026; of others less than one.
_MEGABYTES = {
    "openvino": 60, "monai": 2, "pydicom": 2, "pylibjpeg-openjpeg": 4, "xraydb": 8, "h5py": 5, "pillow": 5,
}  # fmt: skip
# Part of Slicer itself (or chosen for the graphics card): pip must leave them as they are.
_KEPT = ("numpy", "scipy", "SimpleITK", "vtk", "pydicom", "pillow", "torch", "torchvision")


def requirements(path: Path) -> list[Any]:
    """Return the requirements in a file: one a line, '#' begins a comment line."""
    from packaging.requirements import Requirement

    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def missing(path: Path) -> list[str]:
    """Return the requirements in the file, torch aside, that are not met."""
    return [str(each) for each in requirements(path) if not _met(each)]


def nameOf(requirement: str) -> str:
    """Return the package's name alone."""
    from packaging.requirements import Requirement

    return Requirement(requirement).name


def megabytes(names: Iterable[str]) -> int:
    """Return how much these requirements are to download, about, with what they bring along."""
    return sum(_MEGABYTES.get(nameOf(each), 1) for each in names)


def needsTorch(path: Path) -> bool:
    """Say whether what the file lists works with PyTorch only: MONAI is built on it."""
    return any(each.name == "monai" for each in requirements(path))


def torchInstalled() -> bool:
    """Say whether there is a torch; it is not imported, that would take seconds and hold its files."""
    return importlib.util.find_spec(TORCH) is not None


def requireNewTorch() -> None:
    """Raise CTEnhanceError when the installed torch is too old: no other package would then fit it."""
    from packaging.specifiers import SpecifierSet

    try:
        version = _version(TORCH)
    except importlib.metadata.PackageNotFoundError:
        return
    if not SpecifierSet(TORCH_VERSIONS).contains(version, prereleases=True):
        raise CTEnhanceError(
            _(
                "PyTorch {version} is too old for CT Enhance ({wanted}): uninstall it with the module "
                "PyTorch Utils, restart Slicer and press Apply again."
            ).format(version=version, wanted=TORCH_VERSIONS)
        )


def require(path: Path) -> None:
    """Raise CTEnhanceError, saying how to mend it, when torch or something in the file is missing."""
    if needsTorch(path) and not torchInstalled():
        raise CTEnhanceError(
            _("PyTorch is missing: install the extension 'PyTorch' with the Extensions Manager.")
        )
    requireNewTorch()
    lacking = missing(path)
    if lacking:
        raise CTEnhanceError(
            _("These Python packages are missing: {names}; CT Enhance installs them on Apply.").format(
                names=", ".join(lacking)
            )
        )


def ensure(path: Path, requester: str) -> bool:
    """Install what is missing, each step after the user's consent; return False when the user declined.

    Raises CTEnhanceError when an installation failed or cannot be done from here.
    """
    if needsTorch(path) and not torchInstalled() and not _installTorch():
        return False
    requireNewTorch()
    lacking = missing(path)
    if not needsTorch(path):
        requester = _(
            "{name} (OpenVINO, a download of 60 MB, runs its network on the processor; PyTorch, gigabytes, "
            "is for graphics cards)"
        ).format(name=requester)
    if lacking and not _install(lacking, requester):
        return False
    importlib.invalidate_caches()
    if lacking and not slicer.app.testingEnabled():  # nothing is installed there, whatever the user answers
        require(path)
    return True


def _met(requirement: Any) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(_version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _version(name: str) -> str:
    """Return a package's version from the head of its description: the library parses all of that, which
    for a dozen of packages takes a third of what a turn of the main thread may take."""
    found = importlib.metadata.distribution(name)
    line = re.search(r"^Version: *(\S+)", found.read_text("METADATA") or "", re.MULTILINE)
    return line[1] if line else found.version


def _installTorch() -> bool:
    try:
        extension = importlib.import_module("PyTorchUtils")
    except ImportError as error:
        raise CTEnhanceError(
            _(
                "PyTorch is missing: install the extension 'PyTorch' with the Extensions Manager, restart "
                "Slicer and press Apply again."
            )
        ) from error
    try:
        # It asks for consent itself and picks the build for the graphics card.
        installed = extension.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=TORCH_VERSIONS
        )
    except Exception as error:
        raise CTEnhanceError(
            _("PyTorch could not be installed ({error}); try it in the module PyTorch Utils.").format(
                error=error
            )
        ) from error
    return installed is not None


def _install(lacking: list[str], requester: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="ctenhance-") as folder:
        bounds = Path(folder) / "constraints.txt"
        bounds.write_text("".join(f"{line}\n" for line in _asInstalled(_KEPT)), encoding="utf-8")
        try:
            packaging = importlib.import_module("slicer.packaging")
        except ImportError:
            return _installBefore512(lacking, bounds, requester)
        try:
            packaging.pip_ensure(lacking, constraints=str(bounds), requester=requester)
        except subprocess.CalledProcessError as error:
            raise CTEnhanceError(_failed(lacking)) from error
        except RuntimeError:  # the user declined
            return False
        return True


def _installBefore512(lacking: list[str], bounds: Path, requester: str) -> bool:
    question = _(
        "{requester} needs these Python packages: {names}. They will be downloaded and installed into "
        "Slicer. Go on?"
    ).format(requester=requester, names=", ".join(lacking))
    if not slicer.util.confirmOkCancelDisplay(question, requester):
        return False
    try:
        slicer.util.pip_install(["--constraint", str(bounds), *lacking])
    except subprocess.CalledProcessError as error:
        raise CTEnhanceError(_failed(lacking)) from error
    return True


def _failed(lacking: Iterable[str]) -> str:
    return _(
        "The packages {names} could not be installed: check the connection to the internet, see the Python "
        "console."
    ).format(names=", ".join(lacking))


def _asInstalled(names: Iterable[str]) -> list[str]:
    """Return pip constraints that keep each package, where installed, at its version."""
    kept = []
    for name in names:
        try:
            # A local label such as +cu128 says which build it is, and no index may know it.
            kept.append(f"{name}=={importlib.metadata.version(name).split('+')[0]}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return kept
