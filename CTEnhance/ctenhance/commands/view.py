"""`ctenhance view` and `ctenhance study serve`: what is looked at in a browser."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.options import Choice
from ctenhance.commands.study import StudyFolder, study_app
from ctenhance.commands.support import NEITHER, Run, command
from ctenhance.runtime.errors import InputError

PortOption = Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")]
HostOption = Annotated[
    str, typer.Option(help="Who can reach it: 127.0.0.1 only this machine; else a token is needed.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="What a reverse proxy in front is reached by: https://reads.example.org."
    ),
]


@command(app, "ctenhance view before.nii.gz after.nii.gz --port 8080", without=NEITHER)
def view(
    run: Run,
    choice: Choice,
    before: Annotated[
        Path | None, typer.Argument(metavar="BEFORE", help="A volume, or the folder of a decomposition.")
    ] = None,
    after: Annotated[
        Path | None, typer.Argument(metavar="AFTER", help="Another one on the same grid.")
    ] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(metavar="MAP", help="A map of uncertainty to lay over AFTER.")
    ] = None,
    basis: Annotated[
        str | None, typer.Option(help="Materials of a decomposition whose report is not in its folder.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="What the page may open and work on is in this folder.")
    ] = None,
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    address: AddressOption = None,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on this machine, too.")] = False,
    job_minutes: Annotated[
        float, typer.Option(min=0.01, help="Stop what the page runs after so long; others wait for it.")
    ] = 60.0,
) -> None:
    """Look at a volume, or two side by side, in a browser. Ctrl-C ends it."""
    if before is None and folder is None:
        raise InputError("Give a volume to look at, or a --folder to choose from.")
    if before is None and (choice or uncertainty is not None or basis is not None):
        raise InputError("Series, map and materials belong to a volume that is shown: name it, too.")
    require_view()
    from ctenhance.view.processes import warm_up

    warm_up()
    from ctenhance.view.opening import subject_of
    from ctenhance.view.serving import serve_view

    run.plan([])
    materials = [] if basis is None else [name.strip() for name in basis.split(",")]
    given = [path for path in (before, after, uncertainty) if path is not None]
    chosen = choice.each(given)[0] if given else choice
    what = subject_of(before, after, uncertainty, materials, **chosen.arguments())
    serve_view(
        what,
        folder,
        host,
        port,
        address,
        token,
        tell=lambda link: run.announce(f"Open in a browser: {link}", address=link),
        cancel=run.cancel,
        job_minutes=job_minutes,
    )


@command(
    study_app,
    "ctenhance study serve my-study --host 0.0.0.0 --address https://reads.example.org",
    without=NEITHER,
)
def serve(
    run: Run,
    folder: StudyFolder,
    reader: Annotated[
        list[str] | None,
        typer.Option(help="Only this reader; may be given again. All of the study otherwise."),
    ] = None,
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    address: AddressOption = None,
    idle_minutes: Annotated[
        float, typer.Option(min=0.1, help="Sign out a reader who does nothing for so long.")
    ] = 30.0,
    hours: Annotated[
        float, typer.Option(min=0.01, help="How long a link that was used lets its reader in.")
    ] = 12.0,
) -> None:
    """Let readers read a study in their browsers. Each has a link that is good once; Ctrl-C ends it."""
    require_view()
    from ctenhance.view.serving import serve_study

    run.plan([])

    def tell(name: str, link: str) -> None:
        run.announce(f"{name}: {link}", reader=name, address=link)

    again = _asked_again(run)
    serve_study(
        folder,
        reader or [],
        host,
        port,
        address,
        tell,
        run.cancel,
        idle_minutes=idle_minutes,
        hours=hours,
        again=again,
    )


def _asked_again(run: Run) -> Callable[[], bool]:
    """Return what says whether Return was pressed since it was last asked: new links are wanted then."""
    if not sys.stdin.isatty():
        return lambda: False
    run.log("Every link is good once. Press Return here for new ones; readers who are in stay in.", "note")
    pressed: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            pressed.put(line)

    threading.Thread(target=listen, daemon=True).start()

    def asked() -> bool:
        any_pressed = not pressed.empty()
        while not pressed.empty():
            pressed.get()
        return any_pressed

    return asked


def require_view() -> None:
    """Raise InputError where the packages of the page are missing."""
    from importlib.util import find_spec

    missing = [name for name in ("aiohttp", "trame_slicer", "slicer_core") if find_spec(name) is None]
    if missing:
        raise InputError(
            "Looking at images in a browser needs further packages: pip install 'ctenhance[view]' (from a "
            "clone: pip install -e '.[view]')."
        )
