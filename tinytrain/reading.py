# SPDX-License-Identifier: Apache-2.0
"""Files from anywhere: read within limits, and whatever a library raises about them becomes one sentence that names the file."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinytrain.errors import TinytrainError, printable

SHOWN_CHARACTERS = 200                                    # of what a library says


@contextmanager
def reading(path: Path, expected: str, error: type[TinytrainError], hint: str = "Make or download it again.") -> Iterator[None]:
    """What goes wrong in the block is the fault of the file at `path`: raised as `error`, in one sentence.

    `expected` ends the sentence: "expected …". A TinytrainError, which says more, passes through.
    """
    try:
        yield
    except TinytrainError:
        raise
    except OSError as why:
        raise error(f"{path}: cannot be read ({why.strerror or first_line(why)}); expected {expected}.", hint=hint) from why
    except (MemoryError, OverflowError) as why:
        raise error(f"{path}: is too large to be read; expected {expected}.", hint=hint) from why
    except RecursionError as why:
        raise error(f"{path}: is nested too deeply; expected {expected}.", hint=hint) from why
    except Exception as why:
        raise error(f"{path}: is damaged or of another kind ({first_line(why)}); expected {expected}.", hint=hint) from why


def check_file(
    path: Path, most_bytes: int, expected: str, error: type[TinytrainError], hint: str = "Check the path."
) -> None:
    """Raises `error` where there is no regular file at `path`, or one that is larger than `most_bytes`."""
    with reading(path, expected, error, hint):
        found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path}: is no file; expected {expected}.", hint="Check the path.")
    if found.st_size > most_bytes:
        message = f"{path}: has {found.st_size:,} bytes; expected {expected} of at most {most_bytes:,} bytes."
        raise error(message, hint="Is it the right file?")


def read_limited(
    path: Path, most_bytes: int, expected: str, error: type[TinytrainError], hint: str = "Check the path."
) -> bytes:
    """The content of a regular file that is not larger than `most_bytes`."""
    check_file(path, most_bytes, expected, error, hint)
    with reading(path, expected, error, hint):
        return path.read_bytes()


def first_line(error: BaseException) -> str:
    """What an exception says, on one line without control characters; its kind where it says nothing."""
    text = next((line for raw in str(error).splitlines() if (line := raw.strip())), "")
    return plain(text.rstrip(".")) or type(error).__name__


def plain(text: str) -> str:
    """What a file says, as a sentence can hold it: without control characters, and cut where it is long."""
    clean = printable(text[: SHOWN_CHARACTERS + 1]).strip()
    return clean if len(text) <= SHOWN_CHARACTERS else f"{clean[:SHOWN_CHARACTERS]} …"
