# SPDX-License-Identifier: Apache-2.0
"""Work of several cores between two barriers: who takes which tiles, so that the slowest of them is soon done."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from itertools import product

from tinytrain.ops.correlate import Correlation, Rectangle

_MANY = 32                                                # tiles of a core: however they are dealt, they come out even
_NEARLY = 1.03


def tile_work(results: int, steps: int) -> int:
    """About what a tile takes: a step loads one vector and an operand of each result, and adds four products to it."""
    return 40 + results * 15 + steps * (4 + 5 * results)


def tile_size(count: int, most: int, times: int, cores: int) -> tuple[int, int]:
    """Of tiles that `count` things are cut into `times` times: the size, up to `most`, with which the slowest core has least to do, and
    about how much that is."""
    def slowest(size: int) -> int:
        tiles = -(-count // size)
        return -(-times * tiles // cores) * tile_work(-(-count // tiles), 32)

    return min(((size, slowest(size)) for size in range(most, 0, -1)), key=lambda made: made[1])


@cache
def strips_at_once(strips: int, taps: int, blocks: tuple[int, ...], most: int, cores: int) -> int:
    """How many strips to pack before cores share what is done with them, a divisor of `strips`: as few as are nearly best.

    With each strip every block of channels is done for each of `taps`, in tiles of up to `most`.
    """
    def slowest(at_once: int) -> int:
        return strips // at_once * sum(tile_size(block, most, at_once * taps, cores)[1] for block in blocks)

    found = [at_once for at_once in range(1, min(strips, cores) + 1) if strips % at_once == 0]
    return next(at_once for at_once in found if slowest(at_once) <= _NEARLY * min(map(slowest, found)))


@cache
def shares(c: Correlation, most: int, cores: int) -> tuple[tuple[Rectangle, ...], ...]:
    """The rectangles of each core: all pixels in tiles of up to `most`, or in smaller ones where these are dealt more evenly."""
    if cores == 1:
        return (c.rectangles(most),)
    sizes = range(most, 0, -1) if sum(r.lines * r.tiles for r in c.rectangles(most)) < _MANY * cores else (most,)
    inside = max(r.rows * r.cols for r in c.rectangles(most))
    found = (
        # those that sum over the most taps, and those at the edges
        _dealt(tuple((a if a.rows * a.cols == inside else b) for a, b in zip(*map(c.rectangles, pair), strict=True)), c.inner, cores)
        for pair in product(sizes, repeat=2)
    )
    return min(found, key=lambda made: made[0])[1]


def _dealt(rectangles: tuple[Rectangle, ...], inner: int, cores: int) -> tuple[int, tuple[tuple[Rectangle, ...], ...]]:
    """What the slowest core does, and the rectangles of each: the longest tiles first, each to the core that has least to do.

    Of each rectangle a core takes as many neighbouring tiles as it has been given.
    """
    works = [[_work(r, t, inner) for t in range(r.lines * r.tiles)] for r in rectangles]
    loads, counts = [0] * cores, [[0] * len(rectangles) for _ in range(cores)]
    for work, i in sorted(((work, i) for i, each in enumerate(works) for work in each), reverse=True):
        core = loads.index(min(loads))
        loads[core] += work
        counts[core][i] += 1
    loads, owned, done = [0] * cores, [list[Rectangle]() for _ in range(cores)], [0] * len(rectangles)
    for core, mine in enumerate(counts):
        for i, count in enumerate(mine):
            first, done[i] = done[i], done[i] + count
            loads[core] += sum(works[i][first : done[i]])
            owned[core] += _cut(rectangles[i], first, done[i])
    return max(loads), tuple(map(tuple, owned))


def _work(r: Rectangle, tile: int, inner: int) -> int:
    return tile_work(r.size + (tile % r.tiles < r.larger), r.rows * r.cols * -(-inner // 2))


def _cut(r: Rectangle, first: int, end: int) -> Iterator[Rectangle]:
    """Tiles first..end of a rectangle: what is of lines that are not whole, and whole lines."""
    while first < end:
        line, at = divmod(first, r.tiles)
        lines, tiles = (1, min(r.tiles - at, end - first)) if at or end - first < r.tiles else ((end - first) // r.tiles, r.tiles)
        before = at * r.size + min(at, r.larger)
        yield dataclasses.replace(
            r, lines=lines, tiles=tiles, larger=max(0, min(r.larger - at, tiles)),
            out=r.out + line * r.out_line + before * r.out_next, a=r.a + line * r.a_line + before * r.a_next,
        )
        first += lines * tiles
