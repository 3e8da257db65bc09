"""Write the pictures of the page into docs/pictures: a pair with its difference, and a case of a study.

python Testing/tools/screenshots_view.py [--demo FOLDER]

Of the phantom of `make demo`, whose results are taken from FOLDER (`demo`); needs the extras [view] and
[test],
and Chromium.
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
        page.press("d", "2", "m")
        page.until("document.querySelector('#statistics table')")
        page.until("document.querySelectorAll('.cell').length === 3")
        page.at_rest()
        page.page.screenshot(path=pictures / "view-difference.png")
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
