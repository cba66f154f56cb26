# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can cause. Each message says where, what was found, what was expected, and what to try.

The command line prints `str(error)` and leaves with the error's `exit_code`. Broken invariants of the compiler itself are asserts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import ClassVar

LONGEST_WORD = 250                                        # longer than any path or name that a person could tell from others


def printable(text: str) -> str:
    """Text on one line as a terminal may show it, whatever a file put into it: no control characters, no endless words."""
    clean = "".join(ch if ch.isprintable() else " " for ch in text)
    return re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:150]}…{word[0][-50:]}", clean)


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The names that `name` is nearest to, as a question; `otherwise` where none is near."""
    near = difflib.get_close_matches(name, list(known), 3, 0.5)
    return f"Did you mean {' or '.join(near)}?" if near else otherwise


class TinytrainError(Exception):
    """Base of every error a user can cause: one or more sentences, then what to try.

    `sentences` are joined by blanks on the first line; `details` and `hint` stand on lines of their own.
    """

    exit_code: ClassVar[int] = 2                          # as click has it for options that are none

    def __init__(self, *sentences: str, details: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(*sentences)
        self.sentences = tuple(map(printable, sentences))
        self.details = tuple(map(printable, details))
        self.hint = None if hint is None else "\n".join(map(printable, hint.split("\n")))

    def __str__(self) -> str:
        return "\n".join([" ".join(self.sentences), *self.details, *([self.hint] if self.hint else [])])


class ModelError(TinytrainError):
    """The model file cannot be used: unreadable, unsupported, or inconsistent."""


class SchemeError(TinytrainError):
    """An update scheme names something that the model does not have, or cannot be met."""


class BoardError(TinytrainError):
    """An unknown board, or a board folder that is not valid."""


class DataError(TinytrainError):
    """A data file of the wrong kind, shape or range."""


class DoesNotFit(TinytrainError):
    """The plan needs more memory than the board gives."""


class ToolError(TinytrainError):
    """A compiler, an emulator or an optional package is missing, or failed."""


class DeviceError(TinytrainError):
    """The firmware does not answer, or answers with an error."""


class Overflowed(DeviceError):
    """Step after step of a training in fp16 was left out, as loss or gradients were infinite."""


class OutputError(TinytrainError):
    """An output cannot be written where it was asked for."""


class LearningError(TinytrainError):
    """A training that ran, and nothing good came of it: it made things worse, or taught nothing that shows."""

    exit_code = 3
