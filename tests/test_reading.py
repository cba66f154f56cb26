# SPDX-License-Identifier: Apache-2.0
"""Whatever a library raises about a file is one sentence that names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinytrain.errors import DataError, ModelError
from tinytrain.reading import first_line, read_limited, reading


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("first\nsecond"), "x.npz: is damaged or of another kind (first); expected samples."),
        (KeyError(), "x.npz: is damaged or of another kind (KeyError); expected samples."),
        (MemoryError(), "x.npz: is too large to be read; expected samples."),
        (RecursionError(), "x.npz: is nested too deeply; expected samples."),
        (PermissionError(13, "Permission denied"), "x.npz: cannot be read (Permission denied); expected samples."),
        (AssertionError("bell\x07"), "x.npz: is damaged or of another kind (bell); expected samples."),
    ],
)
def test_exceptions_become_sentences(raised: Exception, said: str) -> None:
    with pytest.raises(DataError) as error, reading(Path("x.npz"), "samples", DataError):
        raise raised
    assert error.value.sentences == (said,)


def test_our_own_errors_pass() -> None:
    with pytest.raises(ModelError, match="says more"), reading(Path("x"), "samples", DataError):
        raise ModelError("says more")


def test_interruptions_pass() -> None:
    with pytest.raises(KeyboardInterrupt), reading(Path("x"), "samples", DataError):
        raise KeyboardInterrupt


def test_limits(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert read_limited(path, 5, "text", DataError) == b"12345"
    with pytest.raises(DataError, match=r"f: has 5 bytes; expected text of at most 4 bytes\."):
        read_limited(path, 4, "text", DataError)
    with pytest.raises(DataError, match=r": is no file; expected text\."):
        read_limited(tmp_path, 4, "text", DataError)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe: is no file"):
        read_limited(tmp_path / "pipe", 4, "text", DataError)
    with pytest.raises(DataError, match=r"none: cannot be read \(No such file or directory\)"):
        read_limited(tmp_path / "none", 4, "text", DataError)


def test_long_texts_are_cut() -> None:
    assert len(first_line(ValueError("x" * 1000))) < 220
