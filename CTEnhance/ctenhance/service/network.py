"""The DICOM side of the service, by pynetdicom: taking images, and sending some on."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import sqlite3
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pydicom
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from ctenhance.files.dicom.header import DAMAGE, number, text
from ctenhance.files.dicom.kinds import CT_STORAGE
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.service.settings import Destination, Settings, Tls
from ctenhance.service.store import Store, failure, key_of

_log = logging.getLogger(__name__)
_SUCCESS, _OUT_OF_RESOURCES, _NOT_AUTHORISED = 0x0000, 0xA700, 0x0124
_MISMATCH, _CANNOT_UNDERSTAND = 0xA900, 0xC000
_WARNINGS = (0xB000, 0xB006, 0xB007)  # stored all the same
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_NUMBER, _FRAMES = "SeriesNumber", "NumberOfFrames"
_SECONDS = 30.0
_HANDSHAKE_S = 5.0  # of a caller's side: the next caller waits meanwhile


def _printable(title: Any) -> str:
    """An AE title as a stranger gave it, as it can stand in a log."""
    return "".join(one if one.isprintable() else "?" for one in str(title or ""))[:16].strip()


class Receiver:
    """The storage SCP: listens from `start` on, until `stop`."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._hosts = {caller.ae_title: caller.host for caller in settings.callers}
        self._ae = AE(settings.ae_title)
        self._ae.require_called_aet = True
        self._ae.require_calling_aet = list(self._hosts)
        self._ae.maximum_associations = settings.associations
        self._ae.network_timeout = self._ae.dimse_timeout = self._ae.acse_timeout = _SECONDS
        self._ae.add_supported_context(Verification)
        for kind in CT_STORAGE:
            self._ae.add_supported_context(kind, ALL_TRANSFER_SYNTAXES)
        self._server: Any = None

    def start(self) -> int:
        """Listen, and return the port; raises InputError where that cannot be done."""
        settings = self._settings
        context = None if settings.tls is None else _context(settings.tls, listens=True)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._keep), (evt.EVT_REJECTED, self._rejected)]
        try:
            self._server = self._ae.start_server(
                (settings.host, settings.port), block=False, evt_handlers=handlers, ssl_context=context
            )
        except OSError as error:
            raise InputError(
                f"Cannot listen at {settings.host}, port {settings.port} ({error}): is another program there?"
            ) from error
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """End the associations, and listen no longer."""
        if self._server is not None:
            self._server.shutdown()
        self._ae.shutdown()

    def _rejected(self, event: Any) -> None:
        self._store.count("associations_rejected")
        asked = event.assoc.requestor.primitive
        _log.warning(
            "an association from %s was rejected: it calls itself '%s' and this '%s', which are not the AE "
            "titles of the settings, or there were too many at once",
            event.assoc.requestor.address,
            _printable(asked.calling_ae_title),
            _printable(asked.called_ae_title),
        )

    def _keep(self, event: Any) -> int:
        """Answer a C-STORE: with success once the image is on the disk."""
        try:
            return self._kept(event)
        except (OSError, sqlite3.Error) as error:  # no room, or none any more: the sender may try again
            why, name, status = failure(error), "refused_out_of_resources", _OUT_OF_RESOURCES
        except Exception as error:
            why, name, status = type(error).__name__, "refused_unexpectedly", _CANNOT_UNDERSTAND
        _log.error("an image could not be kept (%s)", why)
        with contextlib.suppress(sqlite3.Error):  # what the disk does not take now is not counted either
            self._store.count(name)
        return status

    def _kept(self, event: Any) -> int:
        host = self._hosts.get(event.assoc.requestor.ae_title.strip(), None)
        if host is None or (host and event.assoc.requestor.address != host):
            self._store.count("refused_not_authorised")
            _log.warning(
                "an image from %s was refused: its AE title may send from another address only",
                event.assoc.requestor.address,
            )
            return _NOT_AUTHORISED
        if not self._store.room():
            self._store.count("refused_out_of_resources")
            return _OUT_OF_RESOURCES
        # With a file meta of our own, whatever the sender's syntax: the data set alone says none.
        content = event.encoded_dataset(include_meta=True)
        expect = [self._settings.expect] if self._settings.expect else []
        tags = [*_UIDS, _NUMBER, _FRAMES, *expect]
        try:
            header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=tags)
            study, series, uid = (text(header.get(name)).strip() for name in _UIDS)
            count = number(header.get(expect[0])) if expect else None
            scan = text(header.get(_NUMBER)).strip()
            alone = (number(header.get(_FRAMES)) or 1) == 1
        except DAMAGE:
            self._store.count("refused_damaged")
            return _CANNOT_UNDERSTAND
        if not (study and series and uid) or uid != str(event.request.AffectedSOPInstanceUID):
            self._store.count("refused_damaged")
            return _MISMATCH
        parts = key_of(study, _NUMBER, scan) if scan and alone else ""
        one = (self._settings.series_by == _NUMBER and parts) or key_of(study, series)
        self._store.add(one, uid, content, None if count is None else int(count), parts)
        return _SUCCESS


class Sender:
    """One association for sending, as a context."""

    def __init__(self, destination: Destination, calling: str, classes: Sequence[UID]) -> None:
        self._to = destination
        self._ae = AE(destination.calling or calling)
        self._ae.network_timeout = self._ae.dimse_timeout = self._ae.acse_timeout = _SECONDS
        self._ae.connection_timeout = _SECONDS
        for kind in classes:
            self._ae.add_requested_context(kind)
        self._association: Any = None

    def __enter__(self) -> Sender:
        """Raises CTEnhanceError where the destination does not take part."""
        tls = self._to.tls
        try:
            arguments = None if tls is None else (_context(tls, listens=False), self._to.host)
            self._association = self._ae.associate(
                self._to.host, self._to.port, ae_title=self._to.ae_title, tls_args=arguments
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CTEnhanceError(f"{self._to.ae_title} cannot be called ({type(error).__name__})") from error
        if not self._association.is_established:
            why = "rejects the association" if self._association.is_rejected else "does not answer"
            raise CTEnhanceError(f"{self._to.ae_title} {why}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._association.is_established:
            self._association.release()

    def send(self, path: Path) -> None:
        """Send a file; raises CTEnhanceError unless it has arrived."""
        try:
            answer = self._association.send_c_store(pydicom.dcmread(path))
        except (ValueError, RuntimeError) as error:
            raise CTEnhanceError(f"{self._to.ae_title} takes no such images ({error})") from error
        status = answer.get("Status") if "Status" in answer else None
        if status is None:
            raise CTEnhanceError(f"{self._to.ae_title} broke the association off")
        if status != _SUCCESS and status not in _WARNINGS:
            raise CTEnhanceError(f"{self._to.ae_title} refuses an image (status {status:#06x})")


def sender_of(settings: Settings) -> Callable[[Any, list[UID]], Sender]:
    """What connects to a pipeline's destination."""
    return lambda pipeline, classes: Sender(pipeline.to, settings.ae_title, classes)


class _Listening(ssl.SSLContext):
    """That of a server which a caller who connects and then says nothing does not hold up."""

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        sock.settimeout(_HANDSHAKE_S)
        try:
            wrapped = super().wrap_socket(sock, *arguments, **named)
        except OSError:
            sock.close()
            raise
        wrapped.settimeout(None)
        return wrapped


def _context(tls: Tls, *, listens: bool) -> ssl.SSLContext:
    context = _Listening(ssl.PROTOCOL_TLS_SERVER) if listens else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        context.load_verify_locations(tls.authority)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"The TLS files cannot be used ({error}).") from error
    # Both sides show a certificate of the authority; nodes are seldom named by it.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context
