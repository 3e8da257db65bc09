"""1,000 images by 8 associations at once into `ctenhance serve-dicom`, which is killed all the while.

    python benchmarks/dicom_node.py --images 1000 --associations 8 --kills 100 --out result.json

Each association sends an equal share of every series, in an order of its own, and sends again what was not
answered with success. The service is killed (signal 9) at random moments, in receiving, working and sending,
and started again. In the end: every image that was answered for is in the queue, once; each series has been
made one derived series, and each of its images is at the destination in one version. A further run without
kills gives the rate and the service's memory after each fifth of the images.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "Testing" / "library"), str(HERE.parent / "CTEnhance")]

from dicom_service import Running, archive, send  # noqa: E402
from synthetic_dicom import hounsfield, write_series  # noqa: E402


def write_images(folder: Path, images: int, series: int, side: int) -> list[Path]:
    files: list[Path] = []
    for number in range(series):
        count = images // series + (number < images % series)
        write_series(
            folder / str(number), depths=2.5 * np.arange(count), values=hounsfield(count, side, side, number),
            SeriesInstanceUID=f"1.2.826.0.1.{number}", SeriesNumber=number + 1,
        )  # fmt: skip
        files += sorted((folder / str(number)).iterdir())
    return files


def send_until_answered(
    service: Running, files: list[Path], answered: list[int], lock: threading.Lock
) -> None:
    left = files
    while left:
        try:
            found = send(service.port, left[:25])
        except (OSError, RuntimeError, ValueError):
            found = [-1]
        done = [path for path, status in zip(left, found, strict=False) if status == 0]
        with lock:
            answered[0] += len(done)
        left = [path for path in left if path not in set(done)]
        if len(done) < len(found):
            time.sleep(0.2)


def run(arguments: argparse.Namespace, kills: int) -> dict[str, Any]:
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place, archive() as (port, come):
        files = write_images(Path(place, "ct"), arguments.images, arguments.series, arguments.side)
        options = ["--strength", "0", "--samples", "1"]
        pipelines = [{"name": "p", "verb": "enhance", "options": options}]
        service = Running(Path(place, "run"), port, pipelines=pipelines, quiet_s=arguments.quiet).start()
        answered, lock, threads = [0], threading.Lock(), []
        start = time.monotonic()
        for number in range(arguments.associations):
            share = files[number :: arguments.associations]
            random.Random(number).shuffle(share)
            threads.append(
                threading.Thread(target=send_until_answered, args=(service, share, answered, lock))
            )
            threads[-1].start()
        done, memory = 0, []
        process = psutil.Process(service.process.pid) if service.process else None
        while done < kills:
            # Two thirds in receiving, the rest in work and sending, whenever that is.
            busy = any(thread.is_alive() for thread in threads)
            time.sleep(draw.uniform(0.0, 0.4) if busy else draw.uniform(0.0, 15.0))
            if busy and done >= 2 * kills // 3:
                time.sleep(0.5)
                continue
            service.kill()
            done += 1
            service.start()
        while any(thread.is_alive() for thread in threads):
            if process is not None and not kills and answered[0] >= (len(memory) + 1) * arguments.images // 5:
                memory.append(round(process.memory_info().rss / 1e6, 1))
            time.sleep(0.05)
        received = time.monotonic() - start
        if not kills and process is not None:
            memory.append(round(process.memory_info().rss / 1e6, 1))
        health = service.until(lambda now: now.get("now_jobs_sent", 0) >= arguments.series, 3600)
        kept = sorted(Path(place, "run", "queue", "received").glob("*/*.dcm"))
        service.kill(15)
        uids = [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in kept]
        given = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files}
        versions = {uid: {hashlib.sha256(one).hexdigest() for one in each} for uid, each in come.items()}
        derived = {pydicom.dcmread(io.BytesIO(each[0])).SeriesInstanceUID for each in come.values()}
        return {
            "images": len(files), "associations": arguments.associations, "series": arguments.series,
            "kills": done, "receiving_s": round(received, 1), "images_per_s": round(len(files) / received, 1),
            "memory_mb": memory, "lost": len(given - set(uids)),
            "in_the_queue_twice": len(uids) - len(set(uids)),
            "derived_series": len(derived), "derived_images": len(come),
            "derived_images_in_two_versions": sum(len(one) > 1 for one in versions.values()),
            "sent_again_since_the_answer_was_lost": sum(map(len, come.values())) - len(come),
            "failed_jobs": health.get("now_jobs_failed", 0),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--series", type=int, default=8)
    parser.add_argument("--associations", type=int, default=8)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds until a series counts as complete")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for kills in (0, arguments.kills):
        rows.append(run(arguments, kills))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")
    faults = ("lost", "in_the_queue_twice", "derived_images_in_two_versions", "failed_jobs")
    sys.exit(
        any(row[name] for row in rows for name in faults)
        or any(row["derived_images"] != row["images"] for row in rows)
    )


if __name__ == "__main__":
    main()
