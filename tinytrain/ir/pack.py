# SPDX-License-Identifier: Apache-2.0
"""Records in NumPy: arrays of four-byte elements one behind the other (`ops/record.py`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinytrain.ir.types import F32, S32, Array, DType


def record_type(kinds: Sequence[DType]) -> DType:
    """Element type of a record of these: theirs, or int32 where they differ."""
    return kinds[0] if len(set(kinds)) == 1 else S32


def packed(arrays: Sequence[Array], kinds: Sequence[DType]) -> Array:
    """One array, flat, of numbers that become elements of these types; a single one is only cast."""
    if len(arrays) == 1:
        return np.asarray(arrays[0]).astype(kinds[0].np)
    whole = record_type(kinds)
    return np.concatenate([np.asarray(a).astype(kind.np).reshape(-1).view(whole.np) for a, kind in zip(arrays, kinds, strict=True)])


def unpacked(record: Array, counts: Sequence[int], kinds: Sequence[DType]) -> list[Array]:
    """The arrays, flat, of a record."""
    ends = np.cumsum(counts)
    return [record.reshape(-1)[end - count : end].view(kind.np) for end, count, kind in zip(ends, counts, kinds, strict=True)]


def as_numbers(record: Array, counts: Sequence[int], kinds: Sequence[DType]) -> Array:
    """The numbers of a record as float32: integers by their value."""
    return np.concatenate([part.astype(F32.np) for part in unpacked(record, counts, kinds)])
