# SPDX-License-Identifier: Apache-2.0
"""What a project is made from: files by their hashes, and the versions of what read them. The same of all gives the same bytes."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from tinytrain import __version__

# Libraries that decide what is written: they read, fold, place and print.
_LIBRARIES = ("numpy", "onnx", "onnx-ir", "onnxscript", "jinja2", "ortools")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Origin:
    """A file, or a folder of files: what it was read as, its name without the folder that it lies in, its SHA-256 in hex."""

    kind: str
    name: str
    sha256: str


def origin(kind: str, path: Path) -> Origin:
    """Of a folder the hash is that of the names and hashes of all files in it. Raises OSError."""
    if not path.is_dir():
        return Origin(kind, path.name, _file_hash(path))
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {_file_hash(file)}\n" for file in files]
    return Origin(kind, path.name, hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest())


def _file_hash(path: Path) -> str:
    made = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            made.update(chunk)
    return made.hexdigest()


@cache
def versions() -> dict[str, str | None]:
    """Of this program and its libraries; None of one that is not installed and can be done without."""
    return {"tinytrain": __version__, "python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
