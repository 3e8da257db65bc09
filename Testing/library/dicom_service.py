"""A running `ctenhance serve-dicom`, and peers that send to it and take from it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset

PACKAGE = str(Path(__file__).resolve().parents[2] / "CTEnhance")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """The service as a process of its own, on ports that stay the same when it is started again."""

    def __init__(self, folder: Path, to_port: int, **changes: Any) -> None:
        self.port, self.http = free_port(), free_port()
        pipelines = changes.pop(
            "pipelines", [{"name": "p", "options": ["--strength", "0", "--samples", "1"], "where": {}}]
        )
        for pipeline in pipelines:
            pipeline.setdefault("to", {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": to_port})
        settings = {
            "queue": "queue", "port": self.port, "http_port": self.http, "callers": ["SCANNER"],
            "quiet_s": 1.0, "retry_s": 0.2, "least_free_mb": 1, "pipelines": pipelines, **changes,
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = folder / "service.json"
        self.settings.write_text(json.dumps(settings))
        self.log = folder / "service.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Running:
        command = [sys.executable, "-m", "ctenhance", "serve-dicom", str(self.settings), "--progress", "json"]
        environment = {**os.environ, "PYTHONPATH": PACKAGE}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert b"serving" in line, (line, self.log.read_text())
        return self

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None and self.process.stdout is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def __enter__(self) -> Running:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill(signal.SIGTERM)

    def ask(self, what: str = "health") -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/{what}", timeout=20) as answer:
                return answer.read().decode() if what == "metrics" else json.load(answer)
        except urllib.error.HTTPError as error:  # something is wrong, and is told
            return json.load(error)

    def until(self, true: Callable[[dict[str, Any]], bool], seconds: float = 180.0) -> dict[str, Any]:
        """Wait until the counters are so, and return them."""
        end = time.monotonic() + seconds
        while not true(health := self.ask()):
            assert time.monotonic() < end, (health, self.log.read_text())
            time.sleep(0.2)
        return health


def send(
    port: int, images: Sequence[Path | FileDataset], caller: str = "SCANNER", **more: Any
) -> list[int | None]:
    """Send by pynetdicom, and return the status of each (None: no answer; -1: no association)."""
    from pynetdicom import AE

    sender = AE(caller)
    sender.acse_timeout = sender.dimse_timeout = sender.network_timeout = 30
    loaded = [one if isinstance(one, FileDataset) else pydicom.dcmread(one) for one in images]
    for kind, syntax in sorted({(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in loaded}):
        sender.add_requested_context(kind, syntax)
    association = sender.associate("127.0.0.1", port, ae_title=more.pop("called", "CTENHANCE"), **more)
    if not association.is_established:
        return [-1] * len(loaded)
    found: list[int | None] = []
    for one in loaded:
        try:
            answer = association.send_c_store(one)
            found.append(answer.get("Status"))
        except (RuntimeError, ValueError):
            found.append(None)
    if association.is_established:
        association.release()
    return found


@contextlib.contextmanager
def archive(
    answer: Callable[[], int] = lambda: 0, port: int = 0, **more: Any
) -> Iterator[tuple[int, dict[str, list[bytes]]]]:
    """A destination: its port, and what has come, by SOP Instance UID (each version of it)."""
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, StoragePresentationContexts, evt

    come: dict[str, list[bytes]] = {}
    lock = threading.Lock()

    def store(event: Any) -> int:
        status = answer()
        if status == 0:
            with lock:
                content = event.encoded_dataset(include_meta=True)
                come.setdefault(str(event.request.AffectedSOPInstanceUID), []).append(content)
        return status

    node = AE("ARCHIVE")
    for context in StoragePresentationContexts:
        node.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    server = node.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)], **more
    )
    try:
        yield server.server_address[1], come
    finally:
        server.shutdown()
