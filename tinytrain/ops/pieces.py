# SPDX-License-Identifier: Apache-2.0
"""Weights that are read in pieces: y = f(x, concat(w0, w1, …))  is  y = f(pieces=concat)(x, w0, w1, …), with no copy made.

Of a weight that is trained in part, the part lies in RAM and the rest stays in flash. Sums run over the pieces in the order of the whole
weight, so that each bit of a result is the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar, Protocol

from tinytrain.ir.builder import Builder
from tinytrain.ir.growth import Bounded, Growth, times
from tinytrain.ir.op import Declined, Example, Fusable, Op, Want, no
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ops.shape import Concat, Slice, channels_of


@dataclass(frozen=True)
class Piece:
    """One array of a weight: its outputs [k, k + K), in each `length` elements, of inputs [c, c + C). `name` is that of the C
    parameter, `operand` its position."""

    name: str
    k: int
    K: int
    c: int
    C: int
    length: int
    operand: int = 1

    @property
    def whole(self) -> int:
        """Words of four int8 that the elements of one output fill."""
        return self.length // 4

    def runs(self, most: int) -> list[tuple[int, int]]:
        """(first, count) of runs of up to that many of these elements."""
        return [(first, min(most, self.length - first)) for first in range(0, self.length, most)]

    @property
    def rest(self) -> int:
        """Elements of one output behind those."""
        return self.length % 4


@dataclass(frozen=True)
class ReadsPieces(Fusable, Bounded):
    """An op of some input and a weight: (outputs, …, inputs), or (…, channels) where each output has one input.

    `pieces` says how its weight is joined from what stands in its place; None: it is one array. `given` is the name of the other operand.
    """

    pieces: Concat | None = field(default=None, kw_only=True)

    given: ClassVar[str] = "x"

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return (self.given, *(f"w{n}" for n in range(self.pieces.count))) if self.pieces else (self.given, "w")

    def piece_axes(self) -> tuple[int, ...]:
        """Axes of the weight along which its pieces may lie."""
        raise NotImplementedError(self.name)

    def growth(self, *types: TensorType) -> Growth | None:
        weight = self.whole(types)[1]
        shares = math.prod(weight.shape[-3:-1]) if len(weight.shape) > 2 else 1   # windows that an element lies in
        return Growth(tuple((0, piece) for piece in range(1, self.arity)), times(shares) + 2 * times(self.arity - 1))

    def reads_pieces(self, operand: int, pieces: Op) -> Op | Declined:
        if operand != 1 or self.pieces or not isinstance(pieces, Concat):
            return super().reads_pieces(operand, pieces)
        if pieces.axis not in self.piece_axes():
            return no(f"{self.name} reads pieces along axis {' or '.join(map(str, self.piece_axes()))} of its weight, not {pieces.axis}")
        return dataclasses.replace(self, pieces=pieces)

    def whole(self, types: Sequence[TensorType]) -> tuple[TensorType, TensorType]:
        """Types of the other operand and of the weight as one array; ValueError where its pieces do not fit together."""
        given, *pieces = types[: self.arity]
        (weight,) = self.pieces.infer(*pieces) if self.pieces else pieces
        return given, weight

    def joined(self, arrays: Sequence[Array]) -> tuple[Array, Array]:
        """The other operand and the weight as one array."""
        given, *pieces = arrays[: self.arity]
        (weight,) = self.pieces.reference(*pieces) if self.pieces else pieces
        return given, weight

    def rows(self, types: Sequence[TensorType]) -> tuple[tuple[Piece, ...], ...]:
        """The pieces of the weight, those of the same outputs in one row."""
        shapes = [kind.shape for kind in types[1 : self.arity]]
        down = self.pieces is not None and self.pieces.axis == 0
        starts = [0, *accumulate(shape[0 if down else -1] for shape in shapes)]
        found = [
            Piece(name, start if down else 0, shape[0], 0 if down else start, shape[-1], kind.numel // shape[0], operand)
            for operand, (name, start, shape, kind) in enumerate(zip(self.args[1:], starts, shapes, types[1:], strict=False), start=1)
        ]
        return tuple((piece,) for piece in found) if down else (tuple(found),)

    def columns(self, types: Sequence[TensorType]) -> tuple[tuple[Piece, ...], ...]:
        """The pieces of the weight, those of the same inputs in one column."""
        return tuple(zip(*self.rows(types), strict=True))

    def row_words(self, types: Sequence[TensorType]) -> int:
        """Words of four int8 that hold what one output takes of the other operand, each piece filled up to whole ones."""
        return sum(piece.whole + (piece.rest > 0) for piece in self.rows(types)[0])


class HasPieces(Protocol):
    @property
    def pieces(self) -> Concat | None: ...


def undivided(op: HasPieces, *types: TensorType) -> bool | Declined:
    """Whether the weight is one array."""
    return op.pieces is None or no("its weight is in pieces")


def sides(g: Builder, dy: Value, x: Value, want: Want) -> tuple[Value, Value]:
    """What the gradient of a weight multiplies: of the wanted slice, some channels of dy (outputs) or of x (inputs)."""
    return (channels_of(g, dy, want), x) if want.axis == 0 else (dy, channels_of(g, x, want))


Cut = tuple[int, int, tuple[int, ...]]                     # number of an example, axis, sizes of all pieces but the last


def in_pieces(example: Example, axis: int, sizes: Sequence[int]) -> Example:
    """An example with its weight in pieces of these sizes along an axis; what they leave of it is the last piece."""
    given, weight, *others = example.inputs
    ends = [*accumulate(sizes), weight.shape[axis]]
    cuts = [Slice(axis, start, end).infer(weight)[0] for start, end in zip([0, *ends], ends, strict=False)]
    op = example.op.reads_pieces(1, Concat(axis, len(cuts)))
    assert isinstance(op, ReadsPieces), op
    first, second, *more = [example.bounds(i) for i in range(len(example.inputs))]
    return Example(op, (given, *cuts, *others), (first, *[second] * len(cuts), *more))
