"""Who may come in: tokens that are good once, sessions that end, requests from elsewhere, and too many."""

from __future__ import annotations

import pytest

from ctenhance.view.guard import Doors, Limit, Places, headers, is_foreign, is_loopback


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_good_once() -> None:
    doors = Doors()
    token = doors.token("ann")
    secret = doors.enter(token)
    assert secret is not None and secret != token
    assert doors.who(secret) == "ann"
    assert doors.enter(token) is None
    assert doors.enter("") is None and doors.enter(token[:-1]) is None
    assert doors.who(token) is None and doors.who(None) is None and doors.who("") is None


def test_a_new_token_voids_the_one_before_and_a_new_entrance_the_session() -> None:
    doors = Doors()
    first, second = doors.token("ann"), doors.token("ann")
    other = doors.enter(doors.token("bob"))
    assert doors.enter(first) is None
    before = doors.enter(second)
    after = doors.enter(doors.token("ann"))
    assert doors.who(before) is None and doors.who(after) == "ann"
    assert doors.who(other) == "bob"


def test_a_session_ends_after_its_hours() -> None:
    clock = Clock()
    doors = Doors(hours=2, clock=clock)
    secret = doors.enter(doors.token("ann"))
    clock.now += 2 * 3600 - 1
    assert doors.who(secret) == "ann"
    clock.now += 1
    assert doors.who(secret) is None


def test_any_number_of_guests_takes_nobody_s_session() -> None:
    doors = Doors()
    reader, first = doors.enter(doors.token("ann")), doors.guest()
    guests = {doors.guest() for _ in range(3000)}
    assert len(guests) == 3000 and doors.who(reader) == "ann"
    assert (doors.who(first) or "").startswith("guest ") and doors.who(first) not in map(doors.who, guests)
    name, _dot, seal = first.partition(".")
    forged = (
        f"{name}x.{seal}",
        f"{name}.{'0' * 64}",
        f"{name}.",
        ".",
        f"{name}.{seal}é",
        "ann.",
        f"ann.{seal}",
    )
    assert [doors.who(one) for one in forged] == [None] * len(forged)
    assert Doors().who(first) is None  # of another server


@pytest.mark.parametrize(
    ("site", "mode", "path", "foreign"),
    [
        ("same-origin", "cors", "/enter", False),
        ("none", "navigate", "/", False),
        ("cross-site", "navigate", "/", False),  # a link in a mail
        (None, None, "/socket", False),  # no browser
        ("cross-site", "no-cors", "/", True),  # a picture in somebody's page
        ("cross-site", "navigate", "/download/a/b", True),
        ("same-site", "websocket", "/socket", True),  # another port of this machine
    ],
)
def test_what_browsers_say_of_a_request_counts(
    site: str | None, mode: str | None, path: str, foreign: bool
) -> None:
    assert is_foreign(site, mode, path) is foreign


def test_a_proxy_s_usual_port_may_be_written_out() -> None:
    places = Places("127.0.0.1", 8080, "https://Reads.Example.org:443")
    assert places.is_for_us("reads.example.org") and places.is_from_us("https://reads.example.org")


def test_tokens_are_long_and_only_their_hashes_are_kept() -> None:
    doors = Doors()
    tokens = {doors.token(f"reader {number}") for number in range(50)}
    assert len(tokens) == 50 and min(len(token) for token in tokens) >= 32
    assert not any(token in repr(vars(doors)) for token in tokens)


def test_a_limit_lets_a_burst_through_and_then_a_rate() -> None:
    clock = Clock()
    limit = Limit(10, 5, clock)
    assert [limit.take() for _ in range(6)] == [True] * 5 + [False]
    clock.now += 0.15
    assert limit.take() and not limit.take()
    clock.now += 100
    assert sum(limit.take() for _ in range(20)) == 5


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("LOCALHOST:8080", True),
        ("evil.example:8080", False),  # a name that somebody lets point to this machine
        ("127.0.0.1:8081", False),
        ("127.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_only_our_own_names_are_answered(host: str | None, ours: bool) -> None:
    places = Places("127.0.0.1", 8080)
    assert places.is_for_us(host) is ours
    assert places.is_from_us(None if host is None else f"http://{host}") is ours


def test_other_origins_are_refused() -> None:
    places = Places("127.0.0.1", 8080)
    assert not places.is_from_us("null")
    assert not places.is_from_us("https://127.0.0.1:8080")
    assert not places.is_from_us("http://127.0.0.1:8080.evil.example")


def test_a_reverse_proxy_has_its_name_and_secure_cookies() -> None:
    places = Places("127.0.0.1", 8080, "https://reads.example.org/")
    assert places.secure
    assert places.is_for_us("reads.example.org") and places.is_from_us("https://reads.example.org")
    assert not places.is_from_us("http://reads.example.org")
    assert "Strict-Transport-Security" in dict(headers(True))


def test_the_page_takes_nothing_from_elsewhere() -> None:
    told = dict(headers(False))
    assert "default-src 'none'" in told["Content-Security-Policy"]
    assert "unsafe" not in told["Content-Security-Policy"]
    assert told["Cache-Control"] == "no-store" and told["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "example.org", "127.0.0.1.example.org"])
def test_what_others_reach_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
