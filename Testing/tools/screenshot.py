"""Write pictures of the panels from 3D Slicer itself, as a reader has them on a screen of 1280 x 800 pixels.

    Slicer --additional-module-paths CTEnhance --python-script Testing/tools/screenshot.py [--out FOLDER]

Go the way that the picture is about, such as one of docs/tutorial.md, and press F12: Slicer asks which of the
folder's pictures it is (or a new name), and writes what its window shows. Menus and boxes are not in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

SIZE, COLOURS, KEY = (1280, 800), 255, "F12"


def main() -> None:
    """Give the window its size and wait for the key."""
    import qt
    import slicer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    pictures = Path(__file__).resolve().parents[2] / "docs" / "pictures"
    parser.add_argument("--out", type=Path, default=pictures)
    folder = parser.parse_args().out
    window = slicer.util.mainWindow()
    window.showNormal()
    window.setGeometry(0, 0, *SIZE)
    shortcut = qt.QShortcut(qt.QKeySequence(KEY), window)
    shortcut.connect("activated()", lambda: ask(window, folder))


def ask(window: Any, folder: Path) -> None:
    """Ask for the picture's name and write it."""
    import qt
    import slicer

    image = window.windowHandle().screen().grabWindow(window.winId())  # before the box is over it
    names = sorted(
        path.stem for path in folder.glob("*.png") if path.stem.startswith(("panel-", "tutorial-"))
    )
    name = qt.QInputDialog.getItem(window, "Picture", "Which one, or a new name:", names, 0, True)
    if name:
        path = folder / f"{name}.png"
        image.save(str(path))
        smaller(path)
        slicer.util.showStatusMessage(f"Written: {path}")


def smaller(path: Path) -> None:
    """Write a picture again in few colours: a third of the size."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
