# SPDX-License-Identifier: Apache-2.0
"""dropout: y[i] = x[i]/(1 − p) where u(seed, t·n + i) >= p, else 0; u uniform, t the number of the training step

dx is the same function of dy: the mask is drawn again from (seed, t), so that it needs no memory.
advance: t' = t + 1, once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Elementwise, Example, Kernel, Tie, Wanted, f32
from tinytrain.ir.types import F32, S32, Array, TensorType, Value
from tinytrain.ir.words import Words, literal
from tinytrain.ops.draws import drawn, word_text


@dataclass(frozen=True)
class Dropout(Elementwise):
    """x, counter s32[1] -> y like x. Each layer has a seed of its own. ONNX Dropout."""

    ratio: float = 0.5
    seed: int = 0

    name = "dropout"
    args = ("x", "counter")
    kernels = (Kernel("elementwise", dtypes=(F32, S32, F32), macro="elementwise"),)
    differentiable = True
    training_only = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, counter = types
        if not 0 < self.ratio < 1:
            raise ValueError(f"a ratio of {self.ratio}: between 0 and 1 is expected")
        if counter != TensorType((1,), S32):
            raise ValueError(f"counter {counter}: s32[1] is expected")
        return (x,)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return ()                                         # each element has random numbers of its own

    def _threshold(self) -> int:
        """Random words below it are dropped."""
        return min(max(round(self.ratio * 2**32), 1), 2**32 - 1)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, counter = arrays
        kept = drawn(self.seed, counter, x.shape).astype(np.int64) >= self._threshold()
        return (np.where(kept, x * x.dtype.type(1 / (1 - self.ratio)), np.zeros_like(x)),)

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return word_text(w, self.seed, pointer, i, whole) if self.args[operand] == "counter" else None

    def expr(self, *operands: str) -> tuple[str, ...]:
        x, word = operands
        return (f"{word} >= UINT32_C({self._threshold()}) ? {x} * {literal(1 / (1 - self.ratio))} : 0.0f",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (g.emit(self, dy, inputs[1], name=f"d_{inputs[0].name}"), None)


@dataclass(frozen=True)
class Advance(Elementwise):
    """counter s32 -> counter + 1, modulo 2³²."""

    name = "advance"
    args = ("counter",)
    results = ("next",)
    kernels = (Kernel("elementwise", dtypes=(S32,), macro="elementwise"),)
    training_only = True

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[0] + arrays[0].dtype.type(1),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        # unsigned: overflow is defined there, and the way back is a conversion that every target does alike
        return (f"(int32_t)((uint32_t){operands[0]} + 1u)",)


_COUNTER = TensorType((1,), S32)

Dropout.examples = tuple(
    Example(Dropout(ratio, seed), (*f32(shape), _COUNTER), (0, 1000))
    for ratio, seed in ((0.5, 1), (0.1, 4_000_000_000), (0.9, 3)) for shape in ((1,), (17,), (3, 5, 7))
)
Advance.examples = (Example(Advance(), (_COUNTER,), (-5, 5)),)
