# SPDX-License-Identifier: Apache-2.0
"""What makes a loss of a map inside a network: a small network of its own, which is trained beside and never infers.

    map (H, W, C) → means over a grid of 8x8 → conv 3x3 → relu → … → means over 4x4 → dense → scores → the model's loss

Without hidden layers a map is averaged to 4x4 at once. All of it runs on the coarse grid, so that a head costs little beside the layers
that it teaches. A row of values has dense layers in place of convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinytrain.gradient.method import Step
from tinytrain.gradient.partial import Target
from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Op
from tinytrain.ir.types import F32, Array, Value
from tinytrain.ops.activation import Relu, Sigmoid
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.dense import Dense
from tinytrain.ops.elementwise import Add
from tinytrain.ops.lookup import Lookup
from tinytrain.ops.pool import AveragePool
from tinytrain.ops.quantize import Dequantise, dequantised
from tinytrain.ops.shape import Reshape
from tinytrain.ops.softmax import LogSoftmax, Softmax
from tinytrain.ops.softmax_q import SoftmaxQ
from tinytrain.ops.windowed import Pad

GRID = 8                                                  # rows and columns that hidden layers see, at most
LAST_GRID = 4                                             # and the last one: with 2 ResNet-8 learns MNIST four points worse


def weights(shape: Sequence[int], widths: Sequence[int], scores: int) -> list[tuple[int, ...]]:
    """Shapes of the weights of a head, of a map of that shape: of its hidden layers, then of the last one."""
    shape = coarse_shape(shape, GRID if widths else LAST_GRID)
    hidden: list[tuple[int, ...]] = []
    for width in widths:
        hidden.append((width, 3, 3, shape[-1]) if len(shape) == 3 else (width, math.prod(shape)))
        shape = (*shape[:2], width) if len(shape) == 3 else (width,)
    return [*hidden, (scores, math.prod(coarse_shape(shape, LAST_GRID)))]


def coarse_shape(shape: Sequence[int], grid: int) -> Sequence[int]:
    """That of what `coarse` makes of a map."""
    return shape if len(shape) != 3 else (*(-(-size // -(-size // grid)) for size in shape[:2]), shape[2])


class Head:
    """Emits one head of a step; `name` is that of its parameters, `targets` collects them."""

    def __init__(self, step: Step, name: str, seed: int) -> None:
        self.step = step
        self.g = step.g
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.targets: list[Target] = []

    def loss(self, x: Value, widths: Sequence[int] = ()) -> Value:
        """The model's loss of the scores that the head makes of x; `widths` are output channels of its hidden layers."""
        self.g.origin = self.name
        *hidden, last = weights(x.shape, widths, self.step.output.type.numel)
        x = coarse(self.g, x, GRID if widths else LAST_GRID)
        x = x if x.type.dtype is F32 else dequantised(self.g, x)
        for number, shape in enumerate(hidden):
            x = self.g.emit(Relu(), self._layer(x, shape, 2.0, f"_{number}"))
        x = coarse(self.g, x, LAST_GRID)
        scores = self._layer(shaped(self.g, x, (x.type.numel,)), last, 1.0, "")
        return loss_of(self.step, scores)

    def _layer(self, x: Value, shape: tuple[int, ...], gain: float, suffix: str) -> Value:
        """A convolution of the same size, or a dense layer, with its bias."""
        op: Op = Conv2d((1, 1), Pad(1, 1, 1, 1)) if len(shape) == 4 else Dense()
        weight = self.parameter(f"weight{suffix}", self.rng.normal(0, math.sqrt(gain / math.prod(shape[1:])), shape))
        bias = self.parameter(f"bias{suffix}", np.zeros(shape[0]))
        return self.g.emit(Add(), self.g.emit(op, x, weight), bias, name=f"scores{suffix}")

    def parameter(self, name: str, data: Array) -> Value:
        """One that the loss of this head teaches, starting from `data`."""
        self.targets.append(self.step.auxiliary.take(self.g, f"{self.name}_{name}", data.astype(np.float32)))
        return self.targets[-1].param


def coarse(g: Builder, x: Value, grid: int) -> Value:
    """Means of a map over windows that leave grid x grid pixels or fewer; anything else as it is."""
    if len(x.shape) != 3 or max(x.shape[:2]) <= grid:
        return x
    rows, columns = (-(-size // grid) for size in x.shape[:2])
    pad = Pad(0, 0, -x.shape[0] % rows, -x.shape[1] % columns)
    zero = x.type.quant.zero_point if x.type.quant else None
    return g.emit(AveragePool((rows, columns), (rows, columns), pad, zero_point=zero), x)


def loss_of(step: Step, scores: Value) -> Value:
    """The model's loss of these scores, behind a softmax or sigmoid as the model ends in one, where the loss does not contain it."""
    aim = step.aims[0]
    scores, end = shaped(step.g, scores, step.output.shape), ending(step)[1]
    if end is not None and not isinstance(end, aim.loss.absorbs):
        scores = step.g.emit(end, scores)
    return aim.loss.emit(step.g, scores, step.g.inputs[-1])


def ending(step: Step) -> tuple[Value, Op | None]:
    """(the scores that the model ends in, the softmax or sigmoid that it makes of them, if any, in reals)."""
    output, made = step.output, step.forward.producers()
    last = made.get(output)
    if last is not None and isinstance(last.op, Dequantise):
        last = made.get(last.inputs[0])
    end = None if last is None else _in_reals(last.op)
    return (last.inputs[0], end) if last is not None and isinstance(end, (Softmax, LogSoftmax, Sigmoid)) else (output, None)


def _in_reals(op: Op) -> Op:
    """What an activation of int8 stands for, where that may end a model."""
    if isinstance(op, SoftmaxQ):
        return Softmax()
    return Sigmoid() if isinstance(op, Lookup) and op.of == Lookup().of else op


def shaped(g: Builder, x: Value, shape: tuple[int, ...]) -> Value:
    """x under that shape."""
    return x if x.shape == shape else g.emit(Reshape(shape), x)
