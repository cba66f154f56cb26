# SPDX-License-Identifier: Apache-2.0
"""sgd: g' = g + λ·w;  without momentum w' = w − lr·g';  with momentum v' = μ·v + g', w' = w − lr·v', Nesterov w' = w − lr·(g' + μ·v').

Elementwise in the gradient, so that it can run in the epilogue of whatever makes the gradient: no gradient buffer then exists.
Momentum and Nesterov as in Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013), with the
learning rate outside the velocity, so that it may change from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Elementwise, Example, f32
from tinytrain.ir.types import Array, TensorType
from tinytrain.ir.words import Words
from tinytrain.ops.simd import elementwise


def in_place(args: Sequence[str], results: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(input, output) of each result `x_new` that may stand where the argument `x` does."""
    return tuple((args.index(old), o) for o, new in enumerate(results) if (old := new.removesuffix("_new")) in args)


@dataclass(frozen=True)
class Sgd(Elementwise):
    """g, w (same shape), lr (1) [, v like w] -> w' [, v'] [, 0].

    `scale` multiplies the gradient first (1/N of N accumulated ones); `clear` also gives the zero that the sum starts from again.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    scale: float = 1.0
    clear: bool = False

    name = "sgd"
    kernels = elementwise()

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("g", "w", "lr", "v") if self.momentum else ("g", "w", "lr")

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("w_new", *(("v_new",) if self.momentum else ()), *(("g_new",) if self.clear else ()))

    @property
    def still(self) -> bool:                              # type: ignore[override]
        return not self.momentum and not self.weight_decay

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g, w = types[:2]
        if g.shape != w.shape or types[2].numel != 1:
            raise ValueError(f"gradient {g} for weight {w}, learning rate {types[2]}")
        return tuple(w for _ in self.results)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        grad, w, lr = arrays[:3]
        cleared = (np.zeros_like(grad),) if self.clear else ()
        g = grad * grad.dtype.type(self.scale) + grad.dtype.type(self.weight_decay) * w
        if not self.momentum:
            return w - lr * g, *cleared
        mu = grad.dtype.type(self.momentum)
        v = mu * arrays[3] + g
        return w - lr * (g + mu * v if self.nesterov else v), v, *cleared

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...] | None:
        g, weight, lr = operands[:3]
        cleared = (w.number(0.0),) if self.clear else ()
        if self.scale != 1.0:
            g = w.mul(g, w.number(self.scale))
        if self.weight_decay:
            g = w.madd(g, w.number(self.weight_decay), weight)
        down = w.mul(lr, w.number(-1.0))
        if not self.momentum:
            return w.madd(weight, down, g), *cleared
        mu = w.number(self.momentum)
        v = w.madd(g, mu, operands[3])
        return w.madd(weight, down, w.madd(g, mu, v) if self.nesterov else v), v, *cleared

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return *in_place(self.args, self.results), *(() if self.clear else ((0, 0),))


Sgd.examples = tuple(
    Example(op, f32((5, 7), (5, 7), (1,), *([(5, 7)] if op.momentum else [])))
    for op in (
        Sgd(), Sgd(weight_decay=0.01), Sgd(0.9), Sgd(0.9, True, 0.001), Sgd(scale=0.25), Sgd(0.5, scale=0.125, clear=True), Sgd(clear=True),
    )
)
