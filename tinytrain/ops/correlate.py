# SPDX-License-Identifier: Apache-2.0
"""Convolutions as sums that run along one map: each result, and each input gradient, is a sum over the taps of a strip of the weight.

Results with the same live taps are taken together, so that no tile ever reads padding: along an axis they are `Run`s, and two runs make a
rectangle of pixels. The gradient of x is the same sum with the window turned round: positions ascend, so taps descend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain, pairwise, product

from tinytrain.ops.geometry import Axis, Geometry


@dataclass(frozen=True)
class Run:
    """Results first, first + spacing, … (`count` of them) that sum over the same `taps` taps, from place `tap` of the packed order on.

    The first of them reads the other map from element `at`, each next one `move` further; two taps are `Window.hop` elements apart.
    """

    first: int
    spacing: int
    count: int
    at: int
    move: int
    tap: int
    taps: int

    def between(self, first: int, end: int) -> Run:
        """Those of its results that lie there."""
        before, behind = (min(max(0, -(-(at - self.first) // self.spacing)), self.count) for at in (first, end))
        return dataclasses.replace(self, first=self.first + before * self.spacing, count=behind - before, at=self.at + before * self.move)


@dataclass(frozen=True)
class Stretch:
    """Neighbouring results [first, end) that all sum over the tap at `place`: result n reads element move·n + at there."""

    place: int
    first: int
    end: int
    move: int
    at: int


@dataclass(frozen=True)
class Window:
    """One axis of a correlation: its runs, the order in which taps are packed, and how far one tap is from the next.

    That is `hop` elements in the map that is read, and `pace` taps in a weight that is not packed.
    """

    runs: tuple[Run, ...]
    order: tuple[int, ...]
    hop: int
    pace: int

    @property
    def lines(self) -> list[tuple[int, int, int]]:
        """Of each element of the result in turn: where it reads the other map first, its tap there, and how many it sums over."""
        each = ((r.first + n * r.spacing, (r.at + n * r.move, r.tap, r.taps)) for r in self.runs for n in range(r.count))
        return [line for _, line in sorted(each)]

    @property
    def held(self) -> int:
        """Neighbours in the other map from the first that a result reads to the last that it or one before it has read, at most."""
        lines = self.lines
        ends = accumulate((at + (taps - 1) * self.hop + 1 if taps else 0 for at, _, taps in lines), max)
        return max((end - at for (at, _, taps), end in zip(lines, ends, strict=True) if taps), default=1)

    @property
    def reads(self) -> list[dict[int, int]]:
        """place of the tap → element, of all that each result sums over, in order."""
        return [{tap + t: at + t * self.hop for t in range(taps)} for at, tap, taps in self.lines]

    @property
    def uses(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """(element, (result, place of the tap) of all sums that it is a part of), in order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for result, taps in enumerate(self.reads):
            for place, element in taps.items():
                found.setdefault(element, []).append((result, place))
        return sorted(found.items())

    @property
    def slide(self) -> int | None:
        """Where result n reads element n + place + slide of all places; None where it is not so, or where a result reads nothing."""
        reads = self.reads
        found = {element - n - place for n, taps in enumerate(reads) for place, element in taps.items()}
        return found.pop() if len(found) == 1 and all(reads) else None

    @property
    def span(self) -> tuple[int, int]:
        """The first element that is read, and the one behind the last."""
        elements = [element for taps in self.reads for element in taps.values()]
        return min(elements), max(elements) + 1

    @property
    def stretches(self) -> list[Stretch] | None:
        """For each tap that is live somewhere, in order; None where results lie apart that read the same tap."""
        found, reads = [], self.reads
        for place in range(len(self.order)):
            elements = {n: taps[place] for n, taps in enumerate(reads) if place in taps}
            if not elements:
                continue
            first, end = min(elements), max(elements) + 1
            move = elements[first + 1] - elements[first] if first + 1 in elements else 0
            if elements != {n: elements[first] + move * (n - first) for n in range(first, end)}:
                return None
            found.append(Stretch(place, first, end, move, elements[first] - move * first))
        return found


def forward(axis: Axis) -> Window:
    """Positions of the window, which read elements."""
    def live(position: int) -> tuple[int, ...]:
        return tuple(t for t in range(axis.taps) if 0 <= axis.element(position, t) < axis.size)

    runs = [
        Run(first, 1, count, axis.element(first, taps[0]) if taps else 0, axis.stride, taps[0] if taps else 0, len(taps))
        for first, count, taps in _alike((p, live(p)) for p in range(axis.positions))
    ]
    return Window(tuple(runs), tuple(range(axis.taps)), axis.dilation, 1)


def backward(axis: Axis) -> Window:
    """Elements, which are reached from positions: of each residue of taps the last comes first, from the lowest position."""
    apart, hop = axis.step
    order = [t for residue in range(min(apart, axis.taps)) for t in reversed(range(residue, axis.taps, apart))]
    runs = []
    for phase in range(min(axis.stride, axis.size)):
        for first, count, taps in _alike((j, axis.reached_by(j)) for j in range(phase, axis.size, axis.stride)):
            last = taps[-1] if taps else 0
            at = (first + axis.before - last * axis.dilation) // axis.stride if taps else 0
            runs.append(Run(first, axis.stride, count, at, 1, order.index(last), len(taps)))
    return Window(tuple(runs), tuple(order), hop, -apart)


def apart(axis: Axis) -> tuple[Window, int, int]:
    """As `backward`, of positions with zeros around them: all elements of a residue have all its taps. How many before, and in all."""
    gap, hop = axis.step
    order = backward(axis).order
    runs = []
    for phase in range(min(axis.stride, axis.size)):
        taps = [t for t in order if (phase + axis.before - t * axis.dilation) % axis.stride == 0]
        at = (phase + axis.before - taps[0] * axis.dilation) // axis.stride if taps else 0
        count = -(-(axis.size - phase) // axis.stride)
        runs.append(Run(phase, axis.stride, count, at, 1, order.index(taps[0]) if taps else 0, len(taps)))
    before = max(0, *(-run.at for run in runs))
    end = max(axis.positions, *(run.at + run.count + (run.taps - 1) * hop for run in runs if run.taps))
    runs = [dataclasses.replace(run, at=run.at + before) for run in runs]
    return Window(tuple(runs), order, hop, -gap), before, before + end


def _alike(each: Iterable[tuple[int, tuple[int, ...]]]) -> list[tuple[int, int, tuple[int, ...]]]:
    """(index, live taps) in order → (first index, how many, live taps) of those in a row that have the same."""
    found: list[tuple[int, int, tuple[int, ...]]] = []
    for index, taps in each:
        if found and found[-1][2] == taps:
            found[-1] = (found[-1][0], found[-1][1] + 1, taps)
        else:
            found.append((index, 1, taps))
    return found


@dataclass(frozen=True)
class Rectangle:
    """Pixels with the same live taps, in lines of tiles: `tiles` a line, of `size` pixels, the first `larger` of them of one more.

    `out` and `a` are the first pixels of the result and of the map that is read; `_next` leads along a line, `_line` to the next one.
    """

    lines: int
    tiles: int
    size: int
    larger: int
    out: int
    out_next: int
    out_line: int
    a: int
    a_next: int
    a_line: int
    tap: int
    rows: int
    cols: int


@dataclass(frozen=True)
class Correlation:
    """out[pixel, n] = Σ over live taps and c of map[pixel of the tap, c] · strip[tap, c, n].

    `width` is that of the map that is read, `inner` its channels in one group, `outer` those of the result in one group.
    """

    rows: Window
    cols: Window
    width: int
    out_width: int
    inner: int
    outer: int
    group: int

    @property
    def taps(self) -> tuple[int, int]:
        return len(self.rows.order), len(self.cols.order)

    @property
    def channelwise(self) -> Correlation:
        """Of a depthwise convolution: each group is one channel, and all of them are done side by side."""
        return dataclasses.replace(self, inner=1, outer=self.group, group=1)

    @property
    def pixels(self) -> int:
        return sum(run.count for run in self.rows.runs) * sum(run.count for run in self.cols.runs)

    @property
    def joined(self) -> bool:
        """Whether the taps of a row are one run of the map."""
        return self.cols.hop == 1 and self.group == 1

    @property
    def order(self) -> tuple[int, ...]:
        """Flat tap of the weight, at each place of the packed order."""
        return tuple(r * self.taps[1] + s for r in self.rows.order for s in self.cols.order)

    def strip(self, lanes: int) -> int:
        """Elements of a strip of the weight."""
        return self.taps[0] * self.taps[1] * self.inner * lanes

    def rectangles(self, most: int) -> tuple[Rectangle, ...]:
        """All pixels of the result, in tiles of up to `most`: along the rows or along the columns, whatever makes fewer of them."""
        found = []
        for rows, cols in product(self.rows.runs, self.cols.runs):
            down = cols.count * -(-rows.count // most) < rows.count * -(-cols.count // most)
            line, lines = (rows, cols) if down else (cols, rows)
            out_pitch, a_pitch = (self.out_width, self.width) if down else (1, 1)
            out_lines, a_lines = (1, 1) if down else (self.out_width, self.width)
            tiles = -(-line.count // most)
            empty = rows.taps == 0 or cols.taps == 0
            found.append(Rectangle(
                lines.count, tiles, line.count // tiles, line.count % tiles,
                rows.first * self.out_width + cols.first, line.spacing * out_pitch, lines.spacing * out_lines,
                rows.at * self.width + cols.at, line.move * a_pitch, lines.move * a_lines,
                rows.tap * self.taps[1] + cols.tap, 0 if empty else rows.taps, cols.taps,
            ))
        return tuple(found)

    def work(self, lanes: int, most: int, packed: bool) -> dict[str, float]:
        """How often what is done in sweeps over all pixels, with vectors of `lanes` results, in tiles of up to `most`."""
        strips = self.group * -(-self.outer // lanes)
        found = dict.fromkeys(("line", "tile", "run", "step", "pixel", "mac"), 0)
        for r in self.rectangles(most):
            tiles, pixels = r.lines * r.tiles, r.lines * (r.tiles * r.size + r.larger)
            runs = r.rows if packed and self.joined else r.rows * r.cols
            steps = r.rows * r.cols * self.inner
            each = {"line": r.lines, "tile": tiles, "run": tiles * runs, "step": tiles * steps, "pixel": pixels, "mac": pixels * steps}
            found = {name: times + strips * each[name] for name, times in found.items()}
        taps = self.taps[0] * self.taps[1]
        return {"strip": strips, "packed": strips * taps * self.inner * packed, **found}

    def narrow(self, rectangles: Sequence[Rectangle]) -> str:
        """The C type that holds every number of the rectangles."""
        numbers = [*self.order, *(n for r in rectangles for n in dataclasses.astuple(r))]
        return "int16_t" if max(map(abs, numbers)) < 2**15 else "int32_t"

    def sizes(self, found: Sequence[Rectangle]) -> list[int]:
        """Sizes of tiles that occur."""
        return sorted({r.size for r in found if r.larger < r.tiles} | {r.size + 1 for r in found if r.larger})


@dataclass(frozen=True)
class Banded(Correlation):
    """The same in up to `parts` bands of rows. What a band reads of the map is a map of its own, which rectangles count from."""

    parts: int

    @classmethod
    def of(cls, whole: Correlation, parts: int) -> Banded:
        return cls(**vars(whole), parts=parts)

    @property
    def bands(self) -> list[tuple[int, int, Window]]:
        """The first row of the map that each reads, how many it reads, and its rows."""
        last = max(run.first + (run.count - 1) * run.spacing for run in self.rows.runs)
        ends = sorted({(last + 1) * part // self.parts for part in range(self.parts + 1)})
        return [self._band(first, end) for first, end in pairwise(ends)]

    def _band(self, first: int, end: int) -> tuple[int, int, Window]:
        runs = [cut for run in self.rows.runs if (cut := run.between(first, end)).count > 0]
        read = [(run.at, run.at + (run.count - 1) * run.move + (run.taps - 1) * self.rows.hop + 1) for run in runs if run.taps]
        start, behind = min((at for at, _ in read), default=0), max((behind for _, behind in read), default=0)
        moved = tuple(dataclasses.replace(run, at=run.at - start if run.taps else 0) for run in runs)
        return start, behind - start, dataclasses.replace(self.rows, runs=moved)

    @property
    def held(self) -> int:
        """Elements of the largest map of a band."""
        return max(rows for _, rows, _ in self.bands) * self.width * self.inner * self.group

    def by_bands(self, most: int) -> list[tuple[Rectangle, ...]]:
        """The rectangles of each band."""
        alone = {f.name: getattr(self, f.name) for f in dataclasses.fields(Correlation)}
        return [Correlation(**{**alone, "rows": rows}).rectangles(most) for _, _, rows in self.bands]

    def rectangles(self, most: int) -> tuple[Rectangle, ...]:
        return tuple(chain.from_iterable(self.by_bands(most)))

    def table(self, most: int) -> list[tuple[int, int, int, int]]:
        """Of each band its first rectangle, the one behind its last, and the first row of the map and how many."""
        counts = list(accumulate((len(each) for each in self.by_bands(most)), initial=0))
        return [(a, b, at, rows) for (a, b), (at, rows, _) in zip(pairwise(counts), self.bands, strict=True)]


@cache
def results_of(g: Geometry) -> Correlation:
    """y from x."""
    rows, cols = forward(g.rows), forward(g.cols)
    return Correlation(rows, cols, g.cols.size, g.cols.positions, g.C // g.group, g.K // g.group, g.group)


@cache
def input_gradients_of(g: Geometry) -> Correlation:
    """dx from dy."""
    rows, cols = backward(g.rows), backward(g.cols)
    return Correlation(rows, cols, g.cols.positions, g.cols.size, g.K // g.group, g.C // g.group, g.group)
