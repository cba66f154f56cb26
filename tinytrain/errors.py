# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can cause. Each message says where, what was found, what was expected, and what to try.

The command line prints `str(error)` and leaves with exit code 2. Broken invariants of the compiler itself are asserts.
"""

from __future__ import annotations


class TinytrainError(Exception):
    """Base of every error a user can cause: one or more sentences, then what to try.

    `sentences` are joined by blanks on the first line; `hint` stands on a line of its own.
    """

    def __init__(self, *sentences: str, hint: str | None = None) -> None:
        self.sentences = sentences
        self.hint = hint
        text = " ".join(sentences)
        super().__init__(f"{text}\n{hint}" if hint else text)


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


class OutputError(TinytrainError):
    """An output cannot be written where it was asked for."""
