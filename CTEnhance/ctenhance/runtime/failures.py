"""Whatever stopped the work, as one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback

from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError, printable
from ctenhance.runtime.files import why_not_written
from ctenhance.runtime.memory import not_enough_memory, says_out_of_memory

EXIT_FAILURE = 1
EXIT_INPUT = 2
EXIT_CANCELLED = 130
DEBUG = "CTENHANCE_DEBUG"


def sentence_and_code(error: BaseException) -> tuple[str, int]:
    """Return the sentence for whatever stopped the work, and its exit code; print where, if asked to."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, Cancelled):
        return str(error), EXIT_CANCELLED
    if isinstance(error, CTEnhanceError):
        return printable(str(error)), EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILURE
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"The name '{error.filename}' is too long for a file; choose a shorter one.", EXIT_INPUT
    if why := why_not_written(error):
        return f"Something could not be written: {why}.", EXIT_FAILURE
    if says_out_of_memory(error):
        return not_enough_memory("what was to be computed does not fit"), EXIT_FAILURE
    what = (str(error).strip().splitlines() or ["no message"])[0]
    sentence = f"Something unexpected happened ({type(error).__name__}: {what})"
    return f"{sentence}; run with {DEBUG}=1 for details.", EXIT_FAILURE
