"""Write the list of the files that Slicer installs into CTEnhance/CMakeLists.txt, between its markers.

python3 Testing/tools/list_cmake_files.py          writes it
python3 Testing/tools/list_cmake_files.py --check  only says whether it is up to date (exit code 1 if not)

Everything under CTEnhance/ counts: Python files as scripts, all other files as resources. Hidden files,
caches and package metadata do not. Standard library only, so that it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "CTEnhance"
_NOT_INSTALLED = ("__pycache__", ".egg-info", ".pyc", "CMakeLists.txt")


def installed_files(folder: Path = FOLDER) -> tuple[list[str], list[str]]:
    """Return the scripts and the resources under `folder`, relative to it, sorted, with forward slashes."""
    scripts, resources = [], []
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") or part.endswith(_NOT_INSTALLED) for part in inside.parts)
        if hidden or not path.is_file():
            continue
        (scripts if path.suffix == ".py" else resources).append(inside.as_posix())
    return sorted(scripts), sorted(resources)


def with_lists(text: str, scripts: list[str], resources: list[str]) -> str:
    """Return the CMake text with both lists replaced. Raises ValueError when a pair of markers is missing."""
    for marker, files in (("scripts", scripts), ("resources", resources)):
        block = re.compile(rf"(  # <{marker}>\n).*?(  # </{marker}>\n)", re.DOTALL)
        if not block.search(text):
            raise ValueError(f"CTEnhance/CMakeLists.txt has lost its markers # <{marker}> and # </{marker}>")
        lines = "".join(f"  {name}\n" for name in files)
        text = block.sub(lambda match, lines=lines: match[1] + lines + match[2], text)
    return text


def main(arguments: list[str]) -> int:
    """Write or check the list; return the exit code."""
    cmake = FOLDER / "CMakeLists.txt"
    old = cmake.read_text(encoding="utf-8")
    new = with_lists(old, *installed_files())
    if old == new:
        return 0
    if "--check" in arguments:
        print("The list in CTEnhance/CMakeLists.txt is stale: run 'make cmake-list'.", file=sys.stderr)
        return 1
    cmake.write_text(new, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
