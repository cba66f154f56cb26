# SPDX-License-Identifier: Apache-2.0
"""lstm: i = f(a_i + p_i·c'), o = f(a_o + p_o·c), φ = f(a_φ + p_φ·c'), n = g(a_n); c = φ·c' + i·n, h = o·k(c), with c' = c_{t−1}

The peepholes p may be missing. Kept of a step are i, o, φ, n in the place of x, and c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import ALL_HALVES, Example, Kernel, Op
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ops.activation import Activation, Relu, Sigmoid, Tanh
from tinytrain.ops.recurrent import FORWARD, Named, Recurrent, RecurrentGrad, Sizes
from tinytrain.ops.rnn import grad_examples, recurrent_examples


@dataclass(frozen=True)
class Lstm(Recurrent):
    """As above; with `peepholes` those of i, o, φ, p (D, 3·H), are an operand. ONNX LSTM."""

    functions: tuple[Activation, ...] = (Sigmoid(), Tanh(), Tanh())
    peepholes: bool = False

    name = "lstm"
    gates = 4
    states = ("h", "c")
    every = ("y", "h", "c", "gates", "cells")
    kept = frozenset(("gates", "cells"))

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return (*super().args, "p") if self.peepholes else super().args

    def saved(self) -> tuple[str, ...]:
        return ("gates", "cells", "c0", "r", *(("p",) if self.peepholes else ()))

    def _peeps(self, d: int, given: Named) -> Array:
        """p_i, p_o, p_φ."""
        units = given["r"].shape[-1]
        return given["p"][d].reshape(3, units) if self.peepholes else np.zeros((3, units), given["r"].dtype)

    def step(self, x: Array, d: int, given: Named, state: Named) -> dict[str, Array]:
        (f, g, k), (pi, po, pf), before = self.functions, self._peeps(d, given), state["c"]
        i, o, forget, n = np.split(x + state["h"] @ given["r"][d].T, 4, axis=1)
        (i,), (forget,), (n,) = f.reference(i + pi * before), f.reference(forget + pf * before), g.reference(n)
        c = forget * before + i * n
        (o,), (out,) = f.reference(o + po * c), k.reference(c)
        return {"h": o * out, "c": c, "gates": np.concatenate([i, o, forget, n], axis=1), "cells": c}

    def back(self, flow: dict[str, Array], d: int, given: Named, at: Named, before: Named) -> dict[str, Array]:
        (f, g, k), (pi, po, pf) = (each.gradient() for each in self.functions), self._peeps(d, given)
        (i, o, forget, n), dh = np.split(at["gates"], 4, axis=1), flow["dh"]
        (out,) = self.functions[2].reference(at["cells"])
        (do,), (dout,) = f.reference(dh * out, o), k.reference(dh * o, out)
        dc = flow["dc"] + dout + po * do
        (di,), (df,), (dn,) = f.reference(dc * n, i), f.reference(dc * before["cells"], forget), g.reference(dc * i, n)
        dx = np.concatenate([di, do, df, dn], axis=1)
        flow["dc"] = dc * forget + pi * di + pf * df
        flow["dh"] = dx @ given["r"][d]
        return {"dx": dx}

    def gradient(self, g: Builder, name: str, value: Value, values: Mapping[str, Value]) -> Value:
        if name != "p":
            return super().gradient(g, name, value, values)
        return g.emit(PeepholeGrad(self.direction), values["dx"], values["cells"], values["c0"], name=f"d_{value.name}")


@dataclass(frozen=True)
class PeepholeGrad(Op):
    """dx (T, B, D·4·H), cells (T, B, D, H), c0 (B, D, H) -> dp (D, 3·H): Σ di·c', Σ do·c, Σ dφ·c'."""

    direction: str = FORWARD

    name = "peephole_grad"
    args = ("dx", "cells", "c0")
    results = ("dp",)
    kernels = (Kernel("recurrent_grad", half=ALL_HALVES),)

    def sizes(self, types: tuple[TensorType, ...]) -> Sizes:
        """Raises ValueError where the operands do not fit each other."""
        dx, cells, c0 = types
        steps, sequences, directions, units = cells.shape
        if dx.shape != (steps, sequences, directions * 4 * units) or c0.shape != cells.shape[1:]:
            raise ValueError(f"dx {dx.shape}, cells {cells.shape} and c0 {c0.shape}")
        return Sizes(steps, sequences, directions, 4 * units, units)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        sizes = self.sizes(types)
        return (TensorType((sizes.D, 3 * sizes.H)),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dx, cells, c0 = arrays
        di, do, df, _ = np.moveaxis(dx.reshape(*cells.shape[:3], 4, -1), 3, 0)
        before = np.empty_like(cells)
        for d in range(cells.shape[2]):
            back = Lstm(self.direction).backwards(d)
            along = [cells[1:, :, d], c0[None, :, d]] if back else [c0[None, :, d], cells[:-1, :, d]]
            before[:, :, d] = np.concatenate(along)
        return (np.concatenate([(di * before).sum((0, 1)), (do * cells).sum((0, 1)), (df * before).sum((0, 1))], axis=1),)


_PEEPHOLES = Lstm(peepholes=True)
Lstm.examples = (*recurrent_examples(Lstm()), *recurrent_examples(_PEEPHOLES)[1:3])
Lstm.examples += recurrent_examples(Lstm(functions=(Sigmoid(), Relu(), Tanh())))[1:2]
RecurrentGrad.examples += (*grad_examples(Lstm()), *grad_examples(_PEEPHOLES)[1:3])
PeepholeGrad.examples = tuple(
    Example(PeepholeGrad(e.op.direction), tuple(sizes.type(name) for name in ("dx", "cells", "c0")))
    for e in recurrent_examples(_PEEPHOLES)[:3] if isinstance(e.op, Lstm) for sizes in (e.op.sizes(e.inputs),)
)
