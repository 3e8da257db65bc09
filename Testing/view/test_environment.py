"""The page needs the extra [view] and nothing else, in the versions that go together."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ctenhance.core.volume import CTVolume

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")

# Runs a viewer where only these distributions can be imported; argv: FOLDER, then their names.
VIEWER = """
import importlib.abc, json, sys
from importlib import metadata
from pathlib import Path

folder, allowed = Path(sys.argv[1]), set(sys.argv[2:])
owners = {name: {one.lower().replace("_", "-") for one in dists}
          for name, dists in metadata.packages_distributions().items()}

class Others(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top in owners and not owners[top] & allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"not in the extra: {name}", name=name)

sys.meta_path.insert(0, Others())
from ctenhance.view import server, serving, worker
from ctenhance.view.opening import main
from ctenhance.view.pictures import LOSSLESS, encoded

choice = json.dumps({"series": None, "where": {}})
told = next(main(str(folder / "ct.nii.gz"), str(folder / "ct.raw"), choice))
desk = worker.PairDesk({"volumes": {"before": told["volume"]}, "table": None, "names": {}})
desk.viewer.apply({"op": "sizes", "cells": {"axial/before": [60, 50]}})
picture = desk.viewer.picture("axial/before")
(folder / "picture.png").write_bytes(encoded(picture, LOSSLESS))
try:
    import pytest
except ModuleNotFoundError:
    print("alone")
"""


def declared(extra: str) -> list[Requirement]:
    """What an extra of pyproject.toml asks for; '' is what all need."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(one) for one in listed]


def with_theirs(requirements: list[Requirement]) -> set[str]:
    """The distributions that these need, and those that they need."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        extras = one.extras or {""}
        if name in found and not one.extras:
            continue
        found.add(name)
        try:
            theirs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for text in theirs:
            more = Requirement(text)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(more)
    return found


@pytest.mark.parametrize("extra", ["view", "panel"])
def test_what_is_installed_is_what_was_pinned(extra: str) -> None:
    pinned = [one for one in declared(extra) if "==" in str(one.specifier)]
    assert pinned
    for one in pinned:
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{one.name} is not installed")
        assert one.specifier.contains(version), f"{one} is pinned, {version} is installed"


def test_pages_and_panels_take_the_same_libraries_of_slicer() -> None:
    pins = {extra: {one.name: str(one.specifier) for one in declared(extra)} for extra in ("view", "panel")}
    assert pins["view"]["slicer-core"] == pins["panel"]["slicer-core"]


def test_pins_go_together() -> None:
    """No distribution that the page needs asks for another version of one of them than is there."""
    for name in with_theirs(declared("view")):
        try:
            theirs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for text in theirs:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                version = metadata.version(one.name)
                assert one.specifier.contains(version, prereleases=True), f"{name} wants {one}, not {version}"


def test_the_page_needs_nothing_beyond_its_extra(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(40, 50, (3, 50, 60)).astype(np.float32)
    CTVolume(values).write(tmp_path / "ct.nii.gz")
    allowed = with_theirs([*declared(""), *declared("view")]) | {"ctenhance"}
    assert not allowed & {"pytest", "pyside6-essentials", "playwright", "scikit-image"}
    done = subprocess.run(
        [sys.executable, "-c", VIEWER, str(tmp_path), *sorted(allowed)],
        capture_output=True, text=True, timeout=600, cwd=REPOSITORY / "CTEnhance",
    )  # fmt: skip
    assert done.stdout.strip() == "alone", done.stderr
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert re.search(r"not in the extra", done.stderr) is None
