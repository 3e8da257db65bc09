"""Two readers grade at once in two windows of Chromium for some minutes: no answer lost or mixed, memory
flat.

python benchmarks/view_readers.py [--minutes 30 --cases 1500 --out readers.json]

Every answer is drawn at random and pressed as a key; at the end the records of each reader are verified and
compared with what was pressed. Memory is that of the server and all its processes, shared pages by their
share.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / part) for part in ("CTEnhance", "Testing/view", "Testing/panels")]
SAVED = "JSON.parse(document.body.dataset.saved || '[]')"
PLACE = "document.getElementById('place').textContent"


def records_of(study: Path, reader: str) -> tuple[dict[int, int], list[str]]:
    """Return the last preference of each trial in a reader's records, and what is wrong with them."""
    from ctenhance.study.records import verify
    from ctenhance.study.study_file import Study

    found = Study.read(study)
    rows, problems = verify(found.record_path(reader), found.sha256, reader)
    answers = {row.data["trial"]: row.data["value"] for row in rows if row.kind == "answer"}
    return answers, problems


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--cases", type=int, default=1500)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    import psutil
    from conftest import Page, Served
    from playwright.sync_api import sync_playwright
    from study_maker import make

    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(found for name in names if (found := shutil.which(name)))
    root = hasattr(os, "getuid") and os.getuid() == 0
    draw = random.Random(0)
    pressed: dict[str, dict[int, int]] = {"ann": {}, "bob": {}}
    memory: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        make(Path(place), preset="preference", cases=given.cases, readers=tuple(pressed))
        study = Path(place) / "study"
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"] if root else [])
        served = Served("study", "serve", study, count=2)
        pages: dict[str, Any] = {}
        for link in served.told:
            pages[link["reader"]] = Page(browser.new_context())
            pages[link["reader"]].page.goto(link["address"])
        begun, case = time.monotonic(), 0
        while time.monotonic() - begun < 60 * given.minutes and case < given.cases:
            case += 1
            for reader, page in pages.items():
                page.until(
                    f"{PLACE}.startsWith('Case {case} of') && !document.getElementById('questions').inert"
                )
                key = draw.randint(1, 5)
                page.press(str(key))
                page.until(f"{SAVED}.some(([id, , value]) => id === 'preference' && value === {key - 3})")
                pressed[reader][case] = key - 3
            if case % 10 == 0:
                family = psutil.Process(served.process.pid)
                total = sum(p.memory_full_info().pss for p in [family, *family.children(recursive=True)])
                memory.append(((time.monotonic() - begun) / 60, total / 1e6))
            for page in pages.values():
                page.press("PageDown")
        minutes = (time.monotonic() - begun) / 60
        code = served.stop()
        results = {
            "minutes": minutes,
            "cases": case,
            "exit_code": code,
            "memory_MB": memory[:: max(1, len(memory) // 20)],
        }
        for reader, answers in pressed.items():
            found, problems = records_of(study, reader)
            wrong = sum(found.get(trial) != value for trial, value in answers.items())
            results[reader] = {"pressed": len(answers), "wrong_or_lost": wrong, "problems": problems}
        browser.close()
    text = json.dumps(results, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
