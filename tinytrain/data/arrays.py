# SPDX-License-Identifier: Apache-2.0
"""Arrays from .npy and .npz files, within limits: at most MOST_BYTES each, as stored and as fp32.

Nothing is unpickled. A size is believed only where the header of the array, the directory of the archive and what is really there agree:
an array is read in pieces, and memory is taken for what its header says once that is within the limit. Entries are stored or deflated, as
`numpy.savez` and `numpy.savez_compressed` write them.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import check_file, plain, reading

MOST_BYTES = 800_000_000                                  # of one array; 60,000 samples of 28x28 are 188,160,000 as fp32
MOST_FILE_BYTES = 4 * MOST_BYTES                          # an .npz may hold several splits
MOST_HEADER = 1_000                                       # bytes; arrays of numbers have about a hundred
HEAD = 2**16 + 12                                         # bytes that hold any header of version 1.0
PIECE = 2**20                                             # bytes
EXPECTED = "arrays of numbers as numpy.save or numpy.savez write them"
AGAIN = "Write it again by numpy.savez(path, x=x, y=y)."
SMALLER = "Give fewer samples, or store them as uint8 or float32."
NAMES_SHOWN = 8
ENCRYPTED = 1                                             # a flag of an entry of a zip archive


def read_npy(path: Path) -> Array:
    check_file(path, MOST_FILE_BYTES, EXPECTED, DataError)
    with reading(path, EXPECTED, DataError, AGAIN), path.open("rb") as file:
        return _array(path, file, path.stat().st_size)


class Npz:
    """The arrays of an .npz file by name; each is read when it is asked for, so that others in the file may be anything."""

    def __init__(self, path: Path) -> None:
        check_file(path, MOST_FILE_BYTES, EXPECTED, DataError)
        self.path = path
        self.entries: dict[str, zipfile.ZipInfo] = {}
        with reading(path, EXPECTED, DataError, AGAIN), zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name in self.entries:
                    raise DataError(f"{path} holds the array {plain(name)!r} twice; expected each once.", hint=AGAIN)
                self.entries[name] = entry

    def names(self) -> str:
        """For a sentence."""
        shown = ", ".join(plain(name) for name in list(self.entries)[:NAMES_SHOWN])
        return (shown or "none") + (f" and {len(self.entries) - NAMES_SHOWN} more" if len(self.entries) > NAMES_SHOWN else "")

    def read(self, name: str) -> Array:
        entry = self.entries[name]
        where = self.path / entry.filename
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{where}: is packed by method {entry.compress_type} of zip; expected stored or deflated.", hint=AGAIN)
        if entry.flag_bits & ENCRYPTED:
            raise DataError(f"{where}: is encrypted; expected {EXPECTED}.", hint=AGAIN)
        with reading(where, EXPECTED, DataError, AGAIN), zipfile.ZipFile(self.path) as archive, archive.open(entry) as file:
            return _array(where, file, entry.file_size)


def _array(where: Path, file: IO[bytes], size: int) -> Array:
    """The array that fills a file of `size` bytes, no more and no less."""
    head = io.BytesIO(file.read(HEAD))                    # of the file itself, a length inside would be believed
    shape, fortran, dtype = _header(where, head)
    begin = head.tell()
    count = math.prod(shape)
    stored = count * dtype.itemsize
    if dtype.kind in "OV":
        raise DataError(f"{where}: holds values of type {plain(str(dtype))}; expected numbers.", hint="Store them as float32 or uint8.")
    if max(stored, 4 * count) > MOST_BYTES:
        message = f"{where}: holds {count:,} values of type {dtype}; expected at most {MOST_BYTES:,} bytes, as they are and as fp32."
        raise DataError(message, hint=SMALLER)
    if begin + stored != size:
        message = f"{where}: holds {size - begin:,} bytes of values; expected {stored:,} for the shape {shape} that it names."
        raise DataError(message, hint="It is cut off or damaged: make or download it again.")
    data = bytearray(stored)
    done = head.readinto(data)
    while done < stored and (piece := file.read(min(PIECE, stored - done))):
        data[done : done + len(piece)] = piece
        done += len(piece)
    if done < stored:
        raise DataError(f"{where}: ends after {done:,} of {stored:,} bytes of values.", hint="Make or download it again.")
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")


def _header(where: Path, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """(shape, whether in Fortran's order, type) of what follows."""
    version = np.lib.format.read_magic(file)
    read: Callable[..., tuple[tuple[int, ...], bool, np.dtype[np.generic]]] | None = {
        (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise DataError(f"{where}: is of version {version[0]}.{version[1]} of the format; expected 1.0 or 2.0.", hint=AGAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                   # what Python says about a damaged header
        shape, fortran, dtype = read(file, max_header_size=MOST_HEADER)
    if any(size < 0 for size in shape):
        raise DataError(f"{where}: has the shape {shape}; expected sizes of 0 or more.", hint=AGAIN)
    return shape, fortran, dtype
