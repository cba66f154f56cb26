# SPDX-License-Identifier: Apache-2.0
"""Seeded damage to valid files, as disks, transfers and editors do it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Mutation = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, rng: random.Random) -> bytes:
    """One to three bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def insert(data: bytes, rng: random.Random) -> bytes:
    """Bytes from nowhere, or a piece of the file once more."""
    at = rng.randrange(len(data) + 1)
    begin = rng.randrange(len(data))
    piece = rng.randbytes(rng.randint(1, 8)) if rng.random() < 0.5 else data[begin : begin + rng.randint(1, 64)]
    return data[:at] + piece + data[at:]


def drop(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 64) :]


def field(data: bytes, rng: random.Random) -> bytes:
    """One, two, four or eight bytes become an extreme number."""
    size = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(len(data) - size, 1))
    value = rng.choice((0, 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1, 2 ** (8 * size - 1) - 1, rng.randrange(2 ** (8 * size))))
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def swapped(tokens: Sequence[bytes]) -> Mutation:
    """A mutation that puts one of `tokens` in the place of another one that the file holds, or somewhere."""
    def mutate(data: bytes, rng: random.Random) -> bytes:
        present = [token for token in tokens if token and token in data]
        if not present or rng.random() < 0.2:
            at = rng.randrange(len(data) + 1)
            return data[:at] + rng.choice(tokens) + data[at:]
        old = rng.choice(present)
        at = rng.choice([i for i in range(len(data)) if data.startswith(old, i)])
        return data[:at] + rng.choice(tokens) + data[at + len(old) :]
    return mutate


BYTES: tuple[Mutation, ...] = (flip, cut, insert, drop, field)
