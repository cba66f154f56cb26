# SPDX-License-Identifier: Apache-2.0
"""What is drawn beside a label, in step t:

other_label:  t' = (label + 1 + u mod (N − 1)) mod N, u uniform: one of the other classes
noised_label: z[i] = a·[i = label] + σ·ε[i], ε of mean 0 and variance 1: the sum of the four bytes of a random word, as good as normal

Words are f(seed, t·n + i) as everywhere (`ops/draws.py`); nothing here has a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Cost, Elementwise, Example, Kernel, Op
from tinytrain.ir.types import F32, S32, Array, TensorType
from tinytrain.ir.words import Words
from tinytrain.ops.draws import drawn, word_text

_LABEL = TensorType((1,), S32)
MIDDLE = 4 * 255 // 2                                     # of the sum of four bytes
SPREAD = math.sqrt(4 * (256**2 - 1) / 12)                 # its standard deviation


def _check(types: Sequence[TensorType], classes: int) -> None:
    if any(kind != _LABEL for kind in types) or classes < 2:
        raise ValueError(f"label and counter {', '.join(map(str, types))} of {classes} classes: s32[1] each, and two classes or more")


@dataclass(frozen=True)
class OtherLabel(Elementwise):
    """label, counter s32[1] -> another label s32[1]; a label lies in [0, classes)."""

    classes: int = 2
    seed: int = 0

    name = "other_label"
    args = ("label", "counter")
    results = ("other",)
    kernels = (Kernel("elementwise", dtypes=(S32, S32), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _check(types, self.classes)
        return types[:1]

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        label, counter = arrays
        away = 1 + drawn(self.seed, counter, (1,)) % np.uint32(self.classes - 1)
        return (((label + away) % self.classes).astype(np.int32),)

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return word_text(w, self.seed, pointer, i, whole) if operand else None

    def expr(self, *operands: str) -> tuple[str, ...]:
        label, word = operands
        return (f"(int32_t)(((uint32_t){label} + 1u + {word} % {self.classes - 1}u) % {self.classes}u)",)


@dataclass(frozen=True)
class NoisedLabel(Op):
    """label, counter s32[1] -> z f32[classes]."""

    classes: int = 2
    size: float = 1.0
    noise: float = 0.0
    seed: int = 0

    name = "noised_label"
    args = ("label", "counter")
    results = ("z",)
    kernels = (Kernel("labels", (S32, S32)),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _check(types, self.classes)
        return (TensorType((self.classes,), F32),)

    @property
    def step(self) -> float:
        """What one of the sum of bytes counts."""
        return self.noise / SPREAD

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        label, counter = arrays
        total = drawn(self.seed, counter, (self.classes,)).view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int32) - MIDDLE
        hit = np.where(np.arange(self.classes) == label[0], np.float32(self.size), np.float32(0))
        return (hit + total.astype(np.float32) * np.float32(self.step),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=self.classes)


OtherLabel.examples = tuple(
    Example(OtherLabel(classes, seed), (_LABEL, _LABEL), ((0, classes), (0, 1000)))
    for classes, seed in ((2, 1), (3, 2), (10, 4_000_000_000))
)
NoisedLabel.examples = tuple(
    Example(NoisedLabel(classes, size, noise, 9), (_LABEL, _LABEL), ((0, classes), (0, 1000)))
    for classes, size, noise in ((2, 1.0, 0.0), (10, 0.5, 0.875), (37, 0.0, 1.0))
)
