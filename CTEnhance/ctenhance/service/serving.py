"""The service as a whole: it receives, works and sends at once, and tells an administrator how it is."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.progress import Cancellable
from ctenhance.service import pipeline as work
from ctenhance.service.network import Receiver, sender_of
from ctenhance.service.settings import Settings
from ctenhance.service.store import FEWEST_PARTS, LONGEST_WAIT_S, Job, Store, failure

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.5
_CLEAR_EVERY_S = 60.0
# What goes on failing is said again after so long.
_SAY_AGAIN_S = 300.0
_MB = 1e6

# What is neither worked on nor sent: slices without their neighbours would come out worse, each as a series.
_IN_PARTS = (
    "one image only, as of others of its study and number: each file has a SeriesInstanceUID of its own, as "
    'some anonymisers write it, and nothing is made of these; set "series_by": "SeriesNumber", and send them '
    "again"
)


class Service:
    """All threads of the service; `start` it, then `wait` or `stop`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.queue, settings.most_mb * _MB, settings.least_free_mb * _MB)
        self._stopped = threading.Event()
        self._receiver = Receiver(settings, self.store)
        self._pipelines = {one.name: one for one in settings.pipelines}
        self._connect = sender_of(settings)
        self._http: ThreadingHTTPServer | None = None
        self._threads: list[threading.Thread] = []
        self._cleared = 0.0
        # Of the series that cannot be closed: why, and when that was said.
        self._said: dict[str, tuple[str, float]] = {}
        self._parts_said = 0.0

    def start(self) -> dict[str, int]:
        """Begin, and return the ports that are listened at (`dicom`, `http`); raises InputError."""
        try:
            ports = {"dicom": self._receiver.start()}
            self._http = _administrators_page(self)
            ports["http"] = int(self._http.server_address[1])
        except BaseException:
            self.stop()
            raise
        work_and_send = (self._again_and_again(self._work), self._again_and_again(self._send))
        for target in (*work_and_send, self._http.serve_forever):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            self._threads.append(thread)
        return ports

    def wait(self, cancel: Cancellable) -> None:
        """Stay until `cancel`."""
        while not cancel.cancelled and not self._stopped.wait(_LOOK_EVERY_S):
            pass

    def stop(self) -> None:
        """End in order: what is running is stopped, and taken up by the next service."""
        self._stopped.set()
        self._receiver.stop()
        if self._http is not None and self._threads:
            self._http.shutdown()
            self._http.server_close()
        for thread in self._threads:
            thread.join(timeout=30)
        self.store.close()

    def health(self) -> dict[str, Any]:
        """Whether images are taken and worked on, and the counters."""
        try:
            taking, counters = self.store.room(), self.store.counters()
        except sqlite3.Error as error:
            return {"ok": False, "takes_images": False, "failed": [failure(error)]}
        said = [why for why, _ in [*self._said.values()]]
        failed, parts = counters.get("now_jobs_failed", 0), counters.get("now_scans_in_parts", 0)
        return {
            "ok": taking and not failed and not self._said and not parts,
            "takes_images": taking,
            "failed": [*self.store.failures(), *said, *([_IN_PARTS] if parts else [])],
            **counters,
        }

    def _again_and_again(self, one_round: Callable[[], bool]) -> Callable[[], None]:
        """What a thread does until the end: rounds, with a wait where one found nothing to do."""

        def run() -> None:
            said: tuple[str, float] | None = None
            while not self._stopped.is_set():
                busy = False
                try:
                    busy = one_round()
                    said = None
                except Exception as error:  # the next round may do better; a silent end of the thread never
                    said = self._interrupted(failure(error), said)
                if not busy:
                    self._stopped.wait(min(_LOOK_EVERY_S, self.settings.quiet_s))

        return run

    def _interrupted(self, why: str, said: tuple[str, float] | None) -> tuple[str, float]:
        """Say why a round failed, unless it was said a while ago; what was said last, and when."""
        now = time.monotonic()
        if said is not None and said[0] == why and now - said[1] < _SAY_AGAIN_S:
            return said
        if not self._stopped.is_set():
            _log.error("the work was interrupted (%s); it is taken up when that is over", why)
        return why, now

    def _work(self) -> bool:
        for series in self.store.complete(self.settings.quiet_s):
            try:
                self._close(series)
            except (CTEnhanceError, OSError) as error:  # others may do
                said = self._interrupted(failure(error), self._said.get(series))
                self._said[series] = said
            else:
                self._said.pop(series, None)
        job = self.store.next_job("waiting")
        if job is not None:
            self._do(job)
        elif time.monotonic() - self._cleared > _CLEAR_EVERY_S:
            self.store.clear(self.settings.keep_hours * 3600)
            self._cleared = time.monotonic()
        return job is not None

    def _send(self) -> bool:
        job = self.store.next_job("made")
        if job is not None:
            self._do(job)
        return job is not None

    def _close(self, series: str) -> None:
        files = self.store.files_of(series)
        if self.store.parts(series) >= FEWEST_PARTS:
            self.store.close_series(series, [])
            now = time.monotonic()
            if not self._parts_said or now - self._parts_said >= _SAY_AGAIN_S:
                self._parts_said = now
                _log.warning("series %.8s: %s", series, _IN_PARTS)
            return
        names = work.matching(self.settings.pipelines, files)
        if not self.store.close_series(series, names):
            _log.warning(
                "series %.8s: images came late, after others had been cleared; send all again", series
            )
        else:
            _log.info("series %.8s: %d images, for %s", series, len(files), ", ".join(names) or "no pipeline")

    def _do(self, job: Job) -> None:
        pipeline = self._pipelines.get(job.pipeline)
        if pipeline is None:
            self.store.put_job(job, "failed", "the settings have no such pipeline any more")
            return
        try:
            if job.state == "waiting":
                if self.store.derived(job).is_dir() or work.make(self.store, job, pipeline, self._stopped):
                    self.store.put_job(job, "made")
                elif not self._stopped.is_set():
                    self.store.put_job(job, "superseded", "more images of the series came")
            else:
                work.send(self.store, job, pipeline, self._connect)
                self.store.put_job(job, "sent")
                _log.info("series %.8s: sent to %s by %s", job.series, pipeline.to.ae_title, pipeline.name)
        except work.RefusedError as error:
            _log.warning("series %.8s: %s", job.series, error)
            self.store.put_job(job, "failed", str(error), attempts=job.attempts + 1)
        except sqlite3.Error:  # how the job stands cannot be kept now
            raise
        except Exception as error:
            if not self._stopped.is_set():
                self._again(job, failure(error))

    def _again(self, job: Job, why: str) -> None:
        """Try a job again later, twice as much later each time."""
        attempts = job.attempts + 1
        self.store.count("retries")
        _log.warning("series %.8s: %s (attempt %d)", job.series, why, attempts)
        if attempts >= self.settings.attempts:
            self.store.put_job(job, "failed", why, attempts=attempts)
        else:
            wait = min(self.settings.retry_s * 2 ** min(attempts - 1, 20), LONGEST_WAIT_S)
            self.store.put_job(job, job.state, why, due=self.store.now() + wait, attempts=attempts)


def serve(settings: Settings, tell: Callable[[dict[str, int]], None], cancel: Cancellable) -> None:
    """Run the service until `cancel`; `tell` gets the ports."""
    service = Service(settings)
    try:
        tell(service.start())
        service.wait(cancel)
    finally:
        service.stop()


def _administrators_page(service: Service) -> ThreadingHTTPServer:
    """What answers GET /health (JSON, 503 where something is wrong) and GET /metrics, on this machine."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30.0  # seconds: of one who asks nothing

        def do_GET(self) -> None:
            if self.path == "/health":
                health = service.health()
                self._answer(200 if health["ok"] else 503, "application/json", json.dumps(health, indent=2))
            elif self.path == "/metrics":
                try:
                    found = service.store.counters()
                except sqlite3.Error as error:
                    self._answer(503, "text/plain", f"{failure(error)}\n")
                    return
                lines = [f"ctenhance_dicom_{name} {value}" for name, value in sorted(found.items())]
                self._answer(200, "text/plain; version=0.0.4", "\n".join(lines) + "\n")
            else:
                self._answer(404, "text/plain", "There are /health and /metrics.\n")

        def _answer(self, status: int, kind: str, body: str) -> None:
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing of who asked."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", service.settings.http_port), Handler)
    except OSError as error:
        raise InputError(
            f"Cannot listen at port {service.settings.http_port} ({error}): choose another http_port."
        ) from error
