# SPDX-License-Identifier: Apache-2.0
"""What classes are called, in the order of their labels."""

from __future__ import annotations

from pathlib import Path

from tinytrain.data.images import class_folders
from tinytrain.errors import DataError
from tinytrain.reading import read_limited, reading

MOST_BYTES = 1 << 20
_EXPECTED = "names of classes, one a line"


def class_names(given: str) -> tuple[str, ...]:
    """`a,b,c`; or of a folder of images those of its subfolders, or the lines of a text file in UTF-8. Raises DataError."""
    path = Path(given)
    if "," in given or not path.exists():
        return tuple(given.split(","))
    if path.is_dir():
        names = tuple(folder.name.encode(errors="replace").decode() for folder in class_folders(path))
    else:
        with reading(path, _EXPECTED, DataError):
            lines = read_limited(path, MOST_BYTES, _EXPECTED, DataError).decode("utf-8-sig").splitlines()
        names = tuple(filter(None, map(str.strip, lines)))
    if not names:
        raise DataError(f"{path} names no classes; expected one subfolder, or one line, for each.", hint="Give --classes a,b,c.")
    return names
