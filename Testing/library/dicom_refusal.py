"""What is the same of every refusal to read DICOM: one sentence with the source, and no patient in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError


def refusal(path: Path | Sequence[Path], series: int | str | None = None) -> str:
    """Return the sentence with which it is refused to read the path, having looked at its form."""
    with pytest.raises(InputError) as caught:
        CTVolume.read(path, series=series)
    sentence = str(caught.value)
    assert sentence.startswith("Cannot read ")
    assert sentence.endswith(".") and "\n" not in sentence
    assert not re.search(r"\. [A-Z]", sentence), "one sentence"
    assert not any(said in sentence for said in ("Nobody", "SECRET", "1.2.")), "who the patient is"
    if isinstance(path, Path):
        assert f"'{path}'" in sentence
    return sentence
