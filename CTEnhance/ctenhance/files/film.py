"""Pictures, one after the other, as a film: an animated GIF, which slides and browsers show without more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import check_output, replace_when_done
from ctenhance.runtime.progress import Cancellable, Progress, check, silent

MOST_PICTURES = 1000


def write_film(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    seconds: float,
    progress: Progress = silent,
    cancel: Cancellable | None = None,
) -> int:
    """Write the .png files of a folder, in the order of their names, as a GIF; return how many there are.

    Each is shown for so many `seconds` (to a hundredth), and the film begins anew at its end. Nothing but
    pixels is taken over. Raises InputError for a folder without pictures and for sizes that differ.
    """
    from PIL import Image

    path = check_output(target, (".gif",))
    folder = Path(source)
    files = sorted(folder.glob("*.png")) if folder.is_dir() else []
    if not 1 <= len(files) <= MOST_PICTURES:
        raise InputError(
            f"'{folder}' holds {len(files) or 'no'} pictures (.png); give a folder with 1 to {MOST_PICTURES}."
        )
    sizes: set[tuple[int, int]] = set()

    def pictures() -> Iterator[Image.Image]:
        for number, file in enumerate(files):
            check(cancel)
            progress("write", number, len(files))
            try:
                with Image.open(file) as opened:
                    picture = opened.convert("RGB")
            except (OSError, SyntaxError, ValueError) as error:  # Pillow's own words for damage
                raise InputError(f"The picture '{file.name}' cannot be read ({error}).") from error
            sizes.add(picture.size)
            if len(sizes) > 1:
                raise InputError(
                    f"'{file.name}' has another size than those before: give pictures of one size."
                )
            # Greys of the image and colours of the titles; without dithering, which would be new noise.
            yield picture.quantize(256, dither=Image.Dither.NONE)

    with replace_when_done(path) as temporary:
        each = pictures()
        next(each).save(
            temporary, format="GIF", save_all=True, append_images=each, loop=0, optimize=False,
            duration=max(20, round(100 * seconds) * 10),
        )  # fmt: skip
    progress("write", len(files), len(files))
    return len(files)
