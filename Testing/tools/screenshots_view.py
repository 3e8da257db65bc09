"""Write the pictures of the page into docs/pictures: a pair, its difference, its planes, and a study.

python Testing/tools/screenshots_view.py [--demo FOLDER]

Of the phantom of `make demo`, whose results are taken from FOLDER (`demo`); needs the extras [view] and
[test], and Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "CTEnhance"), str(REPOSITORY / "Testing" / "view")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo"))
    demo = parser.parse_args().demo
    from conftest import Page, Served
    from playwright.sync_api import sync_playwright

    from ctenhance.study import design_from_folders
    from ctenhance.study.creation import create

    pictures = REPOSITORY / "docs" / "pictures"
    program = next(
        found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))
    )
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        served = Served("view", demo / "degraded.nii.gz", demo / "enhanced.nii.gz")
        page = Page(browser.new_context())
        page.page.goto(served.address)
        page.at_rest()
        page.press("d", "2")
        page.until("document.querySelectorAll('.cell').length === 3")
        page.at_rest()
        page.page.click("#measure")
        box = page.page.query_selector(".cell canvas").bounding_box()
        places = [(box["x"] + share * box["width"], box["y"] + box["height"] / 2) for share in (0.53, 0.62)]
        page.page.mouse.move(places[0][0], places[0][1] - 42)
        page.page.mouse.down()
        page.page.mouse.move(places[1][0], places[1][1] - 14, steps=3)
        page.page.mouse.up()
        page.until("document.querySelector('#statistics table')")
        page.at_rest()
        page.page.screenshot(path=pictures / "view-difference.png")
        page.press("Delete", "b", "t")
        page.until("document.querySelectorAll('.cell').length === 6")
        page.at_rest()
        page.page.screenshot(path=pictures / "view-planes.png")
        served.stop()
        root = Path(place)
        for arm, name in (("before", "degraded"), ("after", "enhanced")):
            (root / arm).mkdir()
            shutil.copy(demo / f"{name}.nii.gz", root / arm / "chest.nii.gz")
        design, _matched = design_from_folders(root / "before", root / "after", ("ann",), "image quality")
        create(design, root / "study")
        served = Served("study", "serve", root / "study")
        page = Page(browser.new_context())
        page.page.goto(served.address)
        page.at_rest()
        page.press("4", "2")
        page.until("JSON.parse(document.body.dataset.saved || '[]').length === 2")
        page.at_rest()
        page.page.screenshot(path=pictures / "view-study.png")
        served.stop()
        browser.close()


if __name__ == "__main__":
    main()
