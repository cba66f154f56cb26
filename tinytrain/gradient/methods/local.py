# SPDX-License-Identifier: Apache-2.0
"""local: each block of the network learns from a loss of its own, which a small head makes of what the block gives.

    x → block 1 → block 2 → loss             forward pass and loss; the last block learns from that
    x → block 1 → head 1 → loss 1            again, to learn from its own loss: no gradient crosses into another block
               (→ block 2 reads the same)

A block's maps are made when they are wanted and gone when it has learned, so that only those of one block are in memory at once. The first
pass, which keeps nothing, is what lets a step be left out by its loss, or change nothing where that is not finite.
The loss that a device reports, and what it infers, are the model's; heads are only for learning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.blocks import Cut, cuts, even
from tinytrain.gradient.method import Goal, Method, Step
from tinytrain.gradient.partial import Target
from tinytrain.ir.types import F32, Array, Value
from tinytrain.ops.dense import Dense
from tinytrain.ops.elementwise import Add
from tinytrain.ops.pool import GlobalAveragePool
from tinytrain.ops.quantize import dequantised
from tinytrain.ops.shape import Reshape

MOST_BLOCKS = 4                                           # where nobody says how many


@dataclass(frozen=True)
class Local(Method):
    """`blocks` 0: as many as the network can be cut in, four at most."""

    blocks: int = 0

    key = "local"

    @classmethod
    def of(cls, argument: str) -> Local:
        if not argument:
            return cls()
        if not (argument.isascii() and argument.isdigit() and 2 <= int(argument) <= 1000):
            raise TinytrainError(f"--method local:{argument}: expected a number of blocks, 2 or more.", hint="Try --method local.")
        return cls(int(argument))

    def goals(self, step: Step) -> Iterator[Goal]:
        chosen = self._cuts(step)
        position = {v: p for p, node in enumerate(step.forward.nodes) for v in node.inputs}
        ends = [-1, *(cut.position for cut in chosen), len(step.forward.nodes)]
        parts = [[t for t in step.targets if a < position[t.read] <= b] for a, b in pairwise(ends)]
        yield Goal(step.loss, parts[-1])
        again = {v: v for v in step.forward.inputs}
        for cut, begin, mine in zip(chosen, ends, parts, strict=False):
            given = self._again(step, begin + 1, cut, again)
            loss, head = _head(step, given, cut)
            yield Goal(loss, [*mine, *head])

    def _cuts(self, step: Step) -> tuple[Cut, ...]:
        name = step.forward.name
        if len(step.aims) > 1:
            raise ModelError(f"{name}: --method {self.key} gives each block the loss of the one output; {len(step.aims)} have a loss here.",
                             hint="Give a --loss for one output alone, or leave --method out.")
        places = cuts(step.forward, step.targets)
        most = len(places) + 1
        if most < max(self.blocks, 2):
            what = f"in {most} blocks" if places else "nowhere"
            raise ModelError(
                f"{name}: --method {self.key}{f':{self.blocks}' if self.blocks else ''} cuts the network in blocks, of which each trains "
                f"something and hands on one map; what this scheme trains can be cut {what}.",
                hint=f"Try --method {self.key}:{most}." if places else "Train more layers, or leave --method out.",
            )
        return even(step.forward, places, self.blocks or min(most, MOST_BLOCKS))

    def _again(self, step: Step, begin: int, cut: Cut, again: dict[Value, Value]) -> Value:
        """Emit the nodes of a block once more; `again` has what stands for a value of the first pass."""
        g, needed = step.g, step.forward.needed([cut.value])
        for node in step.forward.nodes[begin : cut.position + 1]:
            if node in needed:
                g.origin = node.origin
                made = g.emit_all(node.op, *(again.get(v, v) for v in node.inputs), name=node.outputs[0].name)
                again.update(zip(node.outputs, made, strict=True))
        return again[cut.value]


def _head(step: Step, x: Value, cut: Cut) -> tuple[Value, list[Target]]:
    """The loss of a block, and the parameters of its head: mean over space, one dense layer to what the model's loss reads."""
    g, aim = step.g, step.aims[0]
    g.origin = f"{cut.value.name}_head"
    output = step.forward.outputs[aim.output]
    row = _row(step, x)
    shape = (output.type.numel, row.type.numel)
    weight = step.auxiliary.take(g, f"{g.origin}_weight", _drawn(shape, cut.position))
    bias = step.auxiliary.take(g, f"{g.origin}_bias", np.zeros(shape[0], np.float32))
    scores = g.emit(Add(), g.emit(Dense(), row, weight.param), bias.param, name="scores")
    if scores.shape != output.shape:
        scores = g.emit(Reshape(output.shape), scores)
    return aim.loss.emit(g, scores, g.inputs[-1]), [weight, bias]


def _row(step: Step, x: Value) -> Value:
    """What a head reads of a map: its mean over space, as reals."""
    g = step.g
    if len(x.shape) > 1:
        x = g.emit(GlobalAveragePool(x.type.quant.zero_point if x.type.quant else None), x)
    return x if x.type.dtype is F32 else dequantised(g, x)


def _drawn(shape: tuple[int, ...], seed: int) -> Array:
    """Weights from N(0, 1 / fan-in)."""
    return np.random.default_rng(seed).normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape)
