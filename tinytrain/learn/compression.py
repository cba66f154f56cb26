# SPDX-License-Identifier: Apache-2.0
"""A delta in few bytes: the difference to the compiled weights, lossless or in the form of FedZip (arXiv 2102.01593).

Lossless: the bits of each weight, taken as integers, less those that were compiled in. Otherwise the differences: the largest of each
tensor (`topk`), as numbers of a code book that k-means made of them (`kmeans`), or both; then a bit for each weight says whether it
changed. The body of such a delta (`device.delta`) is a zlib stream, which begins with the form.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinytrain.device.delta import damaged
from tinytrain.errors import TinytrainError
from tinytrain.ir.types import Array

MOST_CODES = 256                                          # a code is a byte
_ROUNDS = 30                                              # of k-means; on a line it has settled long before
_LOSSLESS, _NUMBERS, _CODES = range(3)
_COUNT = struct.Struct("<H")                              # entries of a code book


@dataclass(frozen=True)
class Compression:
    """`part` of each tensor's differences that is kept, the largest ones, at least one; `codes` different values of them, 0 for all.

    `exact`: all of them, to the last bit.
    """

    part: float = 1.0
    codes: int = 0
    exact: bool = False

    @classmethod
    def of(cls, text: str) -> Compression:
        """`exact`, `topk:0.1`, `kmeans:16`, or the latter two with a comma between. Raises TinytrainError."""
        if text == "exact":
            return cls(exact=True)
        found: dict[str, float] = {}
        for word in text.split(","):
            match = re.fullmatch(r"(topk|kmeans):(\d+(?:\.\d+)?|\.\d+)", word)
            if match is None or match[1] in found:
                raise _bad(text)
            found[match[1]] = float(match[2])
        part, codes = found.get("topk", 1.0), found.get("kmeans", 0.0)
        fits = "kmeans" not in found or (1 <= codes <= MOST_CODES and codes.is_integer())
        if not 0 < part <= 1 or not fits:
            raise _bad(text)
        return cls(part, int(codes))


def _bad(text: str) -> TinytrainError:
    message = f"--compress {text}: expected exact, topk:PART (0 to 1), kmeans:CODES (1 to {MOST_CODES}), or topk:PART,kmeans:CODES."
    return TinytrainError(message, hint="Try kmeans:16, then topk:0.3,kmeans:16; docs/training.md says what they cost.")


def packed(learned: Mapping[str, Array], compiled: Mapping[str, Array], compression: Compression) -> bytes:
    """The body of a delta: `learned` and `compiled` are the same tensors by name."""
    form = _LOSSLESS if compression.exact else _CODES if compression.codes else _NUMBERS
    body = bytearray([form])
    for name, array in learned.items():
        new, old = _wide(array), _wide(compiled[name])
        if compression.exact:
            body += _planes(_folded(new.view(np.uint32) - old.view(np.uint32)))
        else:
            body += _lossy(new.astype(np.float64) - old, compression)
    return zlib.compress(bytes(body), 9)


def unpacked(data: bytes, compiled: Mapping[str, Array], where: object) -> dict[str, Array]:
    """The tensors that `packed` was given, or what is left of them, in their types. `where` is for messages. Raises DataError."""
    most = 1 + sum(6 * array.size + _COUNT.size + 4 * MOST_CODES for array in compiled.values())
    stream = zlib.decompressobj()
    try:
        body = _Body(stream.decompress(data, most + 1), where)
    except zlib.error:
        raise damaged(where) from None
    form = body.take(1)[0]
    if not stream.eof or form not in (_LOSSLESS, _NUMBERS, _CODES):
        raise damaged(where)
    found: dict[str, Array] = {}
    for name, array in compiled.items():
        old = _wide(array)
        if form == _LOSSLESS:
            new = (old.view(np.uint32) + _unfolded(_from_planes(body.take(4 * old.size)))).view(old.dtype)
        else:
            new = _moved(old, body.difference(old.size, form), array.dtype)
        with np.errstate(over="ignore"):
            found[name] = new.astype(array.dtype).reshape(array.shape)
    if body.left():
        raise damaged(where)
    return found


def _wide(array: Array) -> Array:
    """Flat, as the type of four bytes that holds it."""
    return np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else np.int32).reshape(-1)


def _folded(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """0, -1, 1, -2, … as 0, 1, 2, 3, …: small differences of either sign have their upper bytes zero."""
    return (words << np.uint32(1)) ^ (np.uint32(0) - (words >> np.uint32(31)))


def _unfolded(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (words >> np.uint32(1)) ^ (np.uint32(0) - (words & np.uint32(1)))


def _planes(words: NDArray[np.uint32]) -> bytes:
    """First all lowest bytes, then the next: what hardly changes lies together."""
    return np.ascontiguousarray(words.astype("<u4").view(np.uint8).reshape(-1, 4).T).tobytes()


def _from_planes(data: bytes) -> NDArray[np.uint32]:
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(4, -1).T).view("<u4").reshape(-1).astype(np.uint32)


def _lossy(difference: NDArray[np.float64], compression: Compression) -> bytes:
    """A bit for each element, then what the ones have: numbers, or a code book and a byte each."""
    keep = math.ceil(compression.part * difference.size)
    order = np.argsort(-np.abs(difference), kind="stable")[:keep]
    kept = np.zeros(difference.size, bool)
    kept[order] = difference[order] != 0
    values = difference[kept].astype(np.float32)
    mask = np.packbits(kept, bitorder="little").tobytes()
    if not compression.codes:
        return mask + _planes(values.view(np.uint32))
    book = code_book(values, compression.codes)
    codes = np.abs(values[:, None] - book[None, :]).argmin(axis=1).astype(np.uint8) if len(book) else np.zeros(0, np.uint8)
    return mask + _COUNT.pack(len(book)) + book.astype("<f4").tobytes() + codes.tobytes()


def code_book(values: NDArray[np.float32], codes: int) -> NDArray[np.float32]:
    """At most `codes` numbers that stand for `values`, ascending: Lloyd's k-means on a line, from quantiles on, the same in each run."""
    if not len(values):
        return np.zeros(0, np.float32)
    line = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(line)])
    book = np.unique(line[((np.arange(codes) + 0.5) / codes * len(line)).astype(int)])
    for _ in range(_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(line, (book[1:] + book[:-1]) / 2), [len(line)]])
        counts = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(counts, 1)
        moved = np.where(counts > 0, means, book)
        if np.array_equal(moved, book):
            break
        book = np.sort(moved)
    return book.astype(np.float32)


def _moved(old: Array, difference: NDArray[np.float32], dtype: np.dtype[np.generic]) -> Array:
    if dtype.kind == "f":
        return (old.astype(np.float64) + difference).astype(np.float32)
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    moved: Array = np.clip(old + np.rint(difference), int(limits.min), int(limits.max)).astype(np.int32)
    return moved


class _Body:
    """What is left of an unpacked file."""

    def __init__(self, data: bytes, where: object) -> None:
        self.data, self.at, self.where = data, 0, where

    def take(self, count: int) -> bytes:
        self.at += count
        if self.at > len(self.data):
            raise damaged(self.where)
        return self.data[self.at - count : self.at]

    def left(self) -> int:
        return len(self.data) - self.at

    def difference(self, size: int, form: int) -> NDArray[np.float32]:
        """Of one tensor of `size` elements."""
        kept = np.unpackbits(np.frombuffer(self.take((size + 7) // 8), np.uint8), count=size, bitorder="little").astype(bool)
        count = int(kept.sum())
        if form == _NUMBERS:
            values = _from_planes(self.take(4 * count)).view(np.float32)
        else:
            book = np.frombuffer(self.take(4 * _COUNT.unpack(self.take(_COUNT.size))[0]), "<f4")
            codes = np.frombuffer(self.take(count), np.uint8)
            if codes.max(initial=0) >= max(len(book), 1) or (count and not len(book)):
                raise damaged(self.where)
            values = book[codes] if count else np.zeros(0, np.float32)
        found = np.zeros(size, np.float32)
        if not np.isfinite(values).all():
            raise damaged(self.where)
        found[kept] = values
        return found
