"""Who may come in: one-time tokens and the sessions that they open, where a request came from, and how
often."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_TOKEN_BYTES = 24
_GUEST = "guest "  # no reader's name has a space
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Limit:
    """So many events a second in the long run, and `burst` at once."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = per_second, float(burst), clock
        self._left, self._last = float(burst), clock()

    def take(self) -> bool:
        """Count an event; return whether it is allowed."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._last) * self._rate)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class Ticket:
    """What a session's cookie stands for: who it is (`who`), and until when (by the clock)."""

    who: str
    until: float


class Doors:
    """Tokens, each good for one entrance, and the sessions of those who are in.

    Of secrets only hashes are kept. A session ends `hours` after it began; somebody who comes in again with a
    new token ends the session that this person had.
    """

    def __init__(self, hours: float = 12.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = hours * 3600, clock
        self._tokens: dict[str, str] = {}
        self._tickets: dict[str, Ticket] = {}
        self._seal = secrets.token_bytes(_TOKEN_BYTES)

    def token(self, who: str) -> str:
        """Return a new token for somebody; the one before is void then."""
        self._tokens = {digest: other for digest, other in self._tokens.items() if other != who}
        secret = secrets.token_urlsafe(_TOKEN_BYTES)
        self._tokens[_digest(secret)] = who
        return secret

    def enter(self, token: str) -> str | None:
        """Return the secret of a new session for a token, which is void then; None for a wrong one."""
        digest = _digest(token)
        found = next((one for one in self._tokens if hmac.compare_digest(one, digest)), None)
        return None if found is None else self.open(self._tokens.pop(found))

    def open(self, who: str) -> str:
        """Return the secret of a new session."""
        now = self._clock()
        self._tickets = {
            digest: one for digest, one in self._tickets.items() if one.who != who and one.until > now
        }
        secret = secrets.token_urlsafe(_TOKEN_BYTES)
        self._tickets[_digest(secret)] = Ticket(who, now + self._seconds)
        return secret

    def guest(self) -> str:
        """Return the secret of a new session of somebody whom nobody knows.

        Nothing is kept of it, so that any number of them takes no room and no session from others.
        """
        name = secrets.token_urlsafe(_TOKEN_BYTES)
        return f"{name}.{self._sealed(name)}"

    def is_guest(self, who: str) -> bool:
        """Whether this is somebody who came in without a token."""
        return who.startswith(_GUEST)

    def _sealed(self, name: str) -> str:
        return hmac.new(self._seal, name.encode(), hashlib.sha256).hexdigest()

    def who(self, secret: str | None) -> str | None:
        """Return whose session this is; None when there is none, or none any more."""
        name, dot, seal = (secret or "").partition(".")
        if dot and hmac.compare_digest(self._sealed(name).encode(), seal.encode()):
            return f"{_GUEST}{name}"
        ticket = self._tickets.get(_digest(secret or ""))
        if ticket is None:
            return None
        if self._clock() >= ticket.until:
            del self._tickets[_digest(secret or "")]
            return None
        return ticket.who


class Places:
    """The addresses that this server is known by; a request for, or from, any other is not for us.

    A page of somebody else's in the same browser may send requests here, also by a name of its own that it
    lets point to this machine: its `Origin` or its `Host` tells.
    """

    def __init__(self, host: str, port: int, address: str | None = None) -> None:
        names = {bracketed(host)} | (set(LOOPBACK) if is_loopback(host) else set())
        self.port = port
        self.hosts = {f"{name}:{port}" for name in names}
        self.origins = {f"http://{one}" for one in self.hosts}
        self.secure = False
        self.proxied = address is not None
        if address is not None:  # what a reverse proxy is reached by
            scheme, _slashes, name = address.rstrip("/").lower().partition("://")
            name = name.removesuffix(
                {"https": ":443", "http": ":80"}.get(scheme, ":")
            )  # browsers leave it out
            self.hosts.add(name)
            self.origins.add(f"{scheme}://{name}")
            self.secure = scheme == "https"

    def is_for_us(self, host: str | None) -> bool:
        """Whether the request's `Host` is one of ours."""
        return host is not None and host.lower() in self.hosts

    def is_from_us(self, origin: str | None) -> bool:
        """Whether the `Origin` is a page of ours; browsers always send it where it matters."""
        return origin is not None and origin.lower() in self.origins


def is_foreign(site: str | None, mode: str | None, path: str) -> bool:
    """Whether a browser says (`Sec-Fetch-Site`, `-Mode`) that a page of others asks; it may link to ours."""
    return site in ("cross-site", "same-site") and not (mode == "navigate" and path == "/")


def bracketed(host: str) -> str:
    """Return a host as it stands in addresses."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    return host in ("127.0.0.1", "localhost", "::1", "[::1]")


def headers(secure: bool) -> Iterable[tuple[str, str]]:
    """Return the headers of every answer: nothing from elsewhere, nothing kept, nothing told on."""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    yield "Content-Security-Policy", policy
    yield "X-Content-Type-Options", "nosniff"
    yield "Referrer-Policy", "no-referrer"
    yield "Cross-Origin-Opener-Policy", "same-origin"
    yield "Cross-Origin-Resource-Policy", "same-origin"
    yield "Cache-Control", "no-store"
    if secure:
        yield "Strict-Transport-Security", "max-age=31536000"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
