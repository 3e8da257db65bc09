"""What Slicer writes into the corners of slice views: names, DICOM values, the kind of slab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import slicer


def theirs() -> Any:
    """Return Slicer's object that writes them, or None.

    Only its `sliceViewAnnotationsEnabled` may be set: the method that it has for that forgets the views,
    which then stay without annotations.
    """
    probe = getattr(slicer.modules, "DataProbeInstance", None)
    return getattr(getattr(probe, "infoWidget", None), "sliceAnnotations", None)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Leave them as they are meanwhile: they are written three times for each change of a view, and in the
    panels' views, which have texts of their own, nobody sees them."""
    found = theirs()
    enabled = getattr(found, "sliceViewAnnotationsEnabled", None)
    if found is not None:
        found.sliceViewAnnotationsEnabled = False
    try:
        yield
    finally:
        if found is not None:
            found.sliceViewAnnotationsEnabled = enabled
