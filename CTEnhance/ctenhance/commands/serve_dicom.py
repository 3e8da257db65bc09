"""`ctenhance serve-dicom`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.support import NEITHER, Run, command
from ctenhance.runtime.errors import InputError


@command(app, "ctenhance serve-dicom service.json", name="serve-dicom", without=NEITHER)
def serve_dicom(
    run: Run,
    settings: Annotated[
        Path,
        typer.Argument(metavar="SETTINGS", help="A JSON file; docs/dicom-service.md says what is in it."),
    ],
    check: Annotated[bool, typer.Option("--check", help="Only check the settings.")] = False,
) -> None:
    """Receive DICOM series, work on each, and send results on. Ctrl-C ends it."""
    from importlib.util import find_spec

    if find_spec("pynetdicom") is None:
        raise InputError(
            'The package pynetdicom is missing: install it with pip install "ctenhance[dicom-service]".'
        )
    run.plan([settings])
    from ctenhance.service.pipeline import require_options
    from ctenhance.service.serving import serve
    from ctenhance.service.settings import read_settings

    found = read_settings(settings)
    require_options(found.pipelines)
    if check:
        run.finish({}, text=f"'{settings}' is right: {len(found.pipelines)} pipeline(s).")
        return
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("ctenhance.service").setLevel(logging.INFO)

    def tell(ports: dict[str, int]) -> None:
        run.announce(
            f"{found.ae_title} listens at {found.host}, port {ports['dicom']}; "
            f"http://127.0.0.1:{ports['http']}/health says how it is.",
            dicom=str(ports["dicom"]),
            http=str(ports["http"]),
        )

    serve(found, tell, run.cancel)
