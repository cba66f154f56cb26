# SPDX-License-Identifier: Apache-2.0
"""sgd: g' = g + λ·w;  without momentum w' = w − lr·g';  with momentum v' = μ·v + g', w' = w − lr·v', Nesterov w' = w − lr·(g' + μ·v').

Elementwise in the gradient, so that it can run in the epilogue of whatever makes the gradient: no gradient buffer then exists.
Momentum and Nesterov as in Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013), with the
learning rate outside the velocity, so that it may change from step to step.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.ir.op import Elementwise, Example, f32
from tinytrain.ir.types import Array, TensorType
from tinytrain.kernels import literal


@dataclass(frozen=True)
class Sgd(Elementwise):
    """g, w (same shape), lr (1) [, v like w] -> w' [, v']. `scale` multiplies the gradient first (1/N of N accumulated)."""

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    scale: float = 1.0

    name = "sgd"

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("g", "w", "lr", "v") if self.momentum else ("g", "w", "lr")

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("w_new", "v_new") if self.momentum else ("w_new",)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g, w = types[:2]
        if g.shape != w.shape or types[2].numel != 1:
            raise ValueError(f"gradient {g} for weight {w}, learning rate {types[2]}")
        return tuple(w for _ in self.results)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        g, w, lr = arrays[:3]
        g = g * g.dtype.type(self.scale) + g.dtype.type(self.weight_decay) * w
        if not self.momentum:
            return (w - lr * g,)
        v = g.dtype.type(self.momentum) * arrays[3] + g
        step = g + g.dtype.type(self.momentum) * v if self.nesterov else v
        return w - lr * step, v

    def expr(self, *operands: str) -> tuple[str, ...]:
        g, w, lr = operands[:3]
        if self.scale != 1.0:
            g = f"{g} * {literal(self.scale)}"
        if self.weight_decay:
            g = f"({g} + {literal(self.weight_decay)} * {w})"
        if not self.momentum:
            return (f"{w} - {lr} * {g}" if self.scale == 1.0 else f"{w} - {lr} * ({g})",)
        mu = literal(self.momentum)
        v = f"({mu} * {operands[3]} + {g})"
        step = f"({g} + {mu} * {v})" if self.nesterov else v
        return f"{w} - {lr} * {step}", v

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (1, 0), (3, 1)) if self.momentum else ((0, 0), (1, 0))


Sgd.examples = tuple(
    Example(op, f32((5, 3), (5, 3), (1,), *([(5, 3)] if op.momentum else [])))
    for op in (Sgd(), Sgd(weight_decay=0.01), Sgd(0.9), Sgd(0.9, True, 0.001), Sgd(scale=0.25), Sgd(0.5, scale=0.125))
)
