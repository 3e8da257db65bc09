"""Where viewers' processes begin. The server names these functions without loading what they need."""

from __future__ import annotations

from multiprocessing.connection import Connection


def serve_pair(connection: Connection, opened: str) -> None:
    """Run a viewer of what was opened (`Opened.to_json`, as text)."""
    import json

    from ctenhance.view.worker import PairDesk, serve_desk

    serve_desk(connection, lambda: PairDesk(json.loads(opened)))


def serve_reader(connection: Connection, argument: str) -> None:
    """Run the reading of one reader: `argument` is JSON with the study's `folder` and the `reader`."""
    import json
    from pathlib import Path

    from ctenhance.view.reading import ReaderDesk
    from ctenhance.view.worker import serve_desk

    given = json.loads(argument)
    serve_desk(connection, lambda: ReaderDesk(Path(given["folder"]), given["reader"]))
