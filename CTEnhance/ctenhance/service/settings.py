"""The settings of `ctenhance serve-dicom`, from a JSON file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.json_object import read_object

#: The verbs of a pipeline: those that make a CT of a CT.
VERBS = ("enhance", "degrade")
_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
#: What the images of one series have in common.
SERIES_BY = ("SeriesInstanceUID", "SeriesNumber")
# What a pipeline's options may not decide, as the service does.
_OWN_OPTIONS = ("--report", "--progress", "--uncertainty")
T = TypeVar("T")


@dataclass(frozen=True)
class Tls:
    """Files in PEM: the own certificate with its key, and the authority that the other side's must be of."""

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True)
class Caller:
    """Who may send: a calling AE title, from one address only where that is given."""

    ae_title: str
    host: str = ""


@dataclass(frozen=True)
class Destination:
    """Where derived series go. `calling`: the AE title to call with, the service's own by default."""

    ae_title: str
    host: str
    port: int
    calling: str = ""
    tls: Tls | None = None


@dataclass(frozen=True)
class Pipeline:
    """What is done with each series whose images meet `where` (as --where of the command line has it).

    `verb` with its `options` as the command takes them; `to`: where the derived series goes."""

    name: str
    to: Destination
    verb: str = "enhance"
    options: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """All of the service's settings.

    `queue`: the folder of what has been received and is not yet done with. The images of a study with one
    `series_by` are a series: their SeriesInstanceUID, or, where an anonymiser gave each file another one,
    their SeriesNumber. It is complete when nothing has come for `quiet_s`, or when as many images are there
    as the attribute `expect` says (such as ImagesInAcquisition). No image is taken while the queue holds
    `most_mb` or its disk has less than `least_free_mb` left. What is done is kept for `keep_hours`. A send or
    a run that failed is tried again after `retry_s`, then after twice that, at most an hour later, and given
    up after `attempts`."""

    queue: Path
    callers: tuple[Caller, ...]
    pipelines: tuple[Pipeline, ...]
    ae_title: str = "CTENHANCE"
    host: str = "127.0.0.1"
    port: int = 11112
    http_port: int = 8112
    quiet_s: float = 60.0
    expect: str = ""
    series_by: str = SERIES_BY[0]
    most_mb: float = 100_000.0
    least_free_mb: float = 2_000.0
    keep_hours: float = 24.0
    retry_s: float = 30.0
    attempts: int = 20
    associations: int = 16
    tls: Tls | None = None


def read_settings(path: Path) -> Settings:
    """Read the settings; raises InputError, naming the setting, for a file with anything wrong in it."""
    said = read_object(path, "settings file")
    try:
        settings = _settings(said, path.parent)
    except _WrongError as error:
        raise InputError(f"In '{path}': {error}.") from error
    return settings


class _WrongError(ValueError):
    pass


def _settings(said: Any, beside: Path) -> Settings:
    given = _object(said, "the settings")
    callers = tuple(
        Caller(ae_title=one) if isinstance(one, str) else _object_of(Caller, one, "callers")
        for one in _list(given.get("callers"), "callers")
    )
    pipelines = tuple(_pipeline(one) for one in _list(given.get("pipelines"), "pipelines"))
    rest = {name: value for name, value in given.items() if name not in ("callers", "pipelines")}
    rest["queue"] = beside / str(given.get("queue") or _missing("queue"))
    if given.get("tls") is not None:
        rest["tls"] = _tls(given["tls"], "tls")
    settings = _object_of(Settings, {**rest, "callers": callers, "pipelines": pipelines}, "the settings")
    for title in (settings.ae_title, *(caller.ae_title for caller in callers)):
        _check_title(title)
    names = [pipeline.name for pipeline in pipelines]
    if len(set(names)) < len(names):
        raise _WrongError("two pipelines have the same name")
    for name in ("port", "http_port"):
        _check_port(getattr(settings, name), name, 0)
    for name in ("quiet_s", "most_mb", "retry_s"):
        if not getattr(settings, name) > 0:
            raise _WrongError(f"{name} must be above 0")
    for name in ("attempts", "associations"):
        if not getattr(settings, name) >= 1:
            raise _WrongError(f"{name} must be 1 or more")
    if settings.series_by not in SERIES_BY:
        raise _WrongError(f"series_by is {' or '.join(SERIES_BY)}, not '{settings.series_by}'")
    if settings.expect:
        from pydicom.datadict import tag_for_keyword

        if tag_for_keyword(settings.expect) is None:
            raise _WrongError(f"expect is no DICOM keyword: '{settings.expect}'")
    return settings


def _pipeline(said: Any) -> Pipeline:
    given = dict(_object(said, "a pipeline"))
    what = f"the pipeline '{given.get('name', '')}'"
    to = dict(_object(given.get("to"), f"'to' of {what}"))
    if to.get("tls") is not None:
        to["tls"] = _tls(to["tls"], f"'tls' of {what}")
    given["to"] = _object_of(Destination, to, f"'to' of {what}")
    _check_title(given["to"].ae_title)
    if given["to"].calling:
        _check_title(given["to"].calling)
    _check_port(given["to"].port, f"the port of {what}", 1)
    options = _list(given.get("options", []), f"'options' of {what}", empty=True)
    given["options"] = tuple(str(one) for one in options)
    given["where"] = {k: str(v) for k, v in _object(given.get("where", {}), f"'where' of {what}").items()}
    pipeline = _object_of(Pipeline, given, what)
    if pipeline.verb not in VERBS:
        raise _WrongError(f"{what} has the verb '{pipeline.verb}': choose {' or '.join(VERBS)}")
    own = next((one for one in pipeline.options if one.partition("=")[0] in _OWN_OPTIONS), None)
    if own:
        raise _WrongError(f"{what} has the option {own}, which the service sets itself")
    from ctenhance.files.dicom.choice import Conditions

    try:
        Conditions.of(pipeline.where)
    except InputError as error:
        raise _WrongError(f"'where' of {what}: {str(error).rstrip('.')}") from error
    return pipeline


def _tls(said: Any, what: str) -> Tls:
    tls = _object_of(Tls, said, what)
    for name, value in dataclasses.asdict(tls).items():
        if not Path(value).is_file():
            raise _WrongError(f"{name} of {what} is no file: '{value}'")
    return tls


_TYPES: dict[str, Any] = {"str": str, "int": int, "float": (int, float)}


def _object_of(kind: type[T], said: Any, what: str) -> T:
    given = _object(said, what)
    fields = {one.name: one for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(given) - set(fields))
    if unknown:
        raise _WrongError(f"{what}: there is no setting '{unknown[0]}', but {', '.join(fields)}")
    for name, one in fields.items():
        if name not in given and one.default is one.default_factory is dataclasses.MISSING:
            _missing(name, what)
        kind_of_value = _TYPES.get(str(one.type))
        if (
            name in given
            and kind_of_value
            and (not isinstance(given[name], kind_of_value) or given[name] is True)
        ):
            raise _WrongError(f"{what}: '{name}' must be {'text' if kind_of_value is str else 'a number'}")
    return kind(**given)


def _missing(name: str, what: str = "the settings") -> Any:
    raise _WrongError(f"{what}: '{name}' is missing")


def _object(said: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(said, Mapping):
        raise _WrongError(f"{what} must be an object in braces")
    return said


def _list(said: Any, what: str, empty: bool = False) -> list[Any]:
    if not isinstance(said, list) or not (said or empty):
        raise _WrongError(f"{what} must be a list" + ("" if empty else " with one entry or more"))
    return said


def _check_title(title: str) -> None:
    if not _AE_TITLE.fullmatch(title):
        raise _WrongError(
            f"an AE title has 1 to 16 printable characters, none of them a backslash: not '{title}'"
        )


def _check_port(port: int, what: str, least: int) -> None:
    if not least <= port <= 65535:
        raise _WrongError(f"{what} must be {least} to 65535")
