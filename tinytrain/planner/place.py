# SPDX-License-Identifier: Apache-2.0
"""Offsets for buffers, so that no two that are in use at once overlap: greedy first fit in several sequences, then small repairs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tinytrain.planner.plan import Buffer, in_use

# work of the repairs, in buffer pairs looked at: some tenths of a second
_REPAIR_PAIRS = 400_000


@dataclass(frozen=True)
class Placement:
    """Byte offset of each buffer, by id, and the bytes needed in all."""

    offsets: tuple[int, ...]
    height: int
    proven_optimal: bool


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Most bytes in use at one position (sizes rounded up to the alignment), or the end of the last fixed buffer."""
    return max(max(in_use(buffers)), max((b.fixed + b.padded for b in buffers if b.fixed is not None), default=0))


def overlaps(buffers: Sequence[Buffer]) -> list[list[int]]:
    """For each buffer the ids of those in use at the same time."""
    found: list[list[int]] = [[] for _ in buffers]
    active: list[Buffer] = []
    for b in sorted(buffers, key=lambda b: (b.start, b.id)):
        active = [a for a in active if a.end > b.start]
        for a in active:
            found[a.id].append(b.id)
            found[b.id].append(a.id)
        active.append(b)
    return found


def place(buffers: Sequence[Buffer]) -> Placement:
    """The best of the greedy placements. Ids are positions in `buffers`; all alignments are equal.

    Sequences: by size, by area (size by time), by start, by length of life, each also with what may lie over another buffer
    right before that one; then the buffer on top is moved forward in the best sequence as long as that helps. Reaching the
    lower bound proves the placement optimal.
    """
    assert len({b.align for b in buffers}) <= 1, f"buffers of different alignment: {sorted({b.align for b in buffers})}"
    bound = lower_bound(buffers)
    free = [b for b in buffers if b.fixed is None]
    near = overlaps(buffers)
    best: Placement | None = None
    sequence: list[int] = []
    for key in (
        lambda b: (-b.padded, b.start, b.id),
        lambda b: (-b.padded * (b.end - b.start), b.start, b.id),
        lambda b: (b.start, -b.padded, b.id),
        lambda b: (b.start - b.end, -b.padded, b.id),
    ):
        apart = [b.id for b in sorted(free, key=key)]
        for ids in dict.fromkeys((tuple(apart), tuple(_joined(buffers, apart)))):
            found = _first_fit(buffers, ids, near, bound)
            if best is None or found.height < best.height:
                best, sequence = found, list(ids)
            if best.proven_optimal:
                return best
    assert best is not None
    return _repair(buffers, sequence, near, bound, best)


def _joined(buffers: Sequence[Buffer], sequence: Sequence[int]) -> list[int]:
    """The sequence with what may lie over a buffer right before it, and what it may lie over right behind it, if their turn is not past."""
    upper = {b.over[0]: b.id for b in buffers if b.over is not None}
    joined: dict[int, None] = {}
    for i in sequence:
        over = buffers[i].over
        lower = over[0] if over is not None and buffers[over[0]].fixed is None else i
        joined.update(dict.fromkeys((upper.get(i, i), i, lower) if i not in joined else ()))
    return list(joined)


def _first_fit(buffers: Sequence[Buffer], sequence: Sequence[int], near: list[list[int]], bound: int) -> Placement:
    """Each buffer at the lowest offset where it meets none of those placed before, but for one that it may lie over."""
    offsets = [-1 if b.fixed is None else b.fixed for b in buffers]
    height = bound
    for i in sequence:
        size, at = buffers[i].padded, 0
        for low, high in sorted((offsets[j], offsets[j] + buffers[j].padded) for j in near[i] if offsets[j] >= 0):
            if low - at >= size:
                break
            at = max(at, high)
        at = min([at, *(joint for joint in _joints(buffers, i, near[i], offsets) if _is_free(buffers, i, joint, near[i], offsets))])
        offsets[i] = at
        height = max(height, at + size)
    return Placement(tuple(offsets), height, height == bound)


def _joints(buffers: Sequence[Buffer], i: int, near: list[int], offsets: list[int]) -> list[int]:
    """Offsets at which a buffer lies over one that is placed, or under it."""
    if buffers[i].over is None and all(buffers[j].over is None for j in near):
        return []
    found = []
    for j in near:
        for upper, lower, sign in ((i, j, -1), (j, i, 1)):
            over = buffers[upper].over
            if over is not None and over[0] == lower and offsets[j] >= 0:
                found.append(offsets[j] + sign * over[1])
    return [at for at in found if at >= 0]


def _is_free(buffers: Sequence[Buffer], i: int, at: int, near: list[int], offsets: list[int]) -> bool:
    one = buffers[i]
    placed = ((buffers[j], offsets[j]) for j in near if offsets[j] >= 0)
    return all(
        start + other.padded <= at or at + one.padded <= start or one.lies_over(at, other, start) or other.lies_over(start, one, at)
        for other, start in placed
    )


def _repair(buffers: Sequence[Buffer], sequence: list[int], near: list[list[int]], bound: int, best: Placement) -> Placement:
    """Move what ends on top to an earlier turn, and keep the sequence when it is not worse."""
    chance = random.Random(len(buffers))
    pairs = len(buffers) + sum(map(len, near))
    current = best
    for _ in range(min(400, _REPAIR_PAIRS // pairs)):
        on_top = [i for i in sequence if current.offsets[i] + buffers[i].padded == current.height]
        i = chance.choice(on_top)
        turn = sequence.index(i)
        trial = list(sequence)
        trial.insert(chance.randrange(turn + 1), trial.pop(turn))
        found = _first_fit(buffers, trial, near, bound)
        if found.height <= current.height:
            current, sequence = found, trial
        if current.proven_optimal:
            break
    return current
