# SPDX-License-Identifier: Apache-2.0
"""gru: z = f(x_z + R_z·h'), r = f(x_r + R_r·h'), n = g(…), h = (1 − z)·n + z·h', with h' = h_{t−1}

n = g(x_n + R_n·(r·h')), or, where the reset comes after R as cuDNN and PyTorch have it, g(x_n + r·q) with q = R_n·h' + b_n.

Kept of a step are z, r, n in the place of x, and q or r·h'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.types import Array, Value
from tinytrain.ops.activation import Activation, LeakyRelu, Sigmoid, Tanh
from tinytrain.ops.elementwise import SumTo
from tinytrain.ops.recurrent import Named, Recurrent, RecurrentGrad, RecurrentGradR, Rows
from tinytrain.ops.rnn import grad_examples, grad_r_examples, recurrent_examples
from tinytrain.ops.shape import Concat, Reshape, Slice


@dataclass(frozen=True)
class Gru(Recurrent):
    """As above; with `reset_after` its biases beside R, rb (D, 3·H), are an operand. ONNX GRU."""

    functions: tuple[Activation, ...] = (Sigmoid(), Tanh())
    reset_after: bool = False                             # linear_before_reset

    name = "gru"
    gates = 3
    every = ("y", "h", "gates", "cells")
    kept = frozenset(("gates", "cells"))

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return (*super().args, "rb") if self.reset_after else super().args

    def saved(self) -> tuple[str, ...]:
        return ("gates", *(("cells",) if self.reset_after else ()), "y", "h0", "r")

    def rows(self) -> tuple[Rows, ...]:
        return (Rows(0, 2), Rows(2, 3, left="dq") if self.reset_after else Rows(2, 3, right="cells"))

    def step(self, x: Array, d: int, given: Named, state: Named) -> dict[str, Array]:
        before, r, (f, g) = state["h"], given["r"][d], self.functions
        units = before.shape[1]
        bias = given["rb"][d] if self.reset_after else np.zeros(3 * units, x.dtype)
        (gates,) = f.reference(x[:, : 2 * units] + bias[: 2 * units] + before @ r[: 2 * units].T)
        z, reset = np.split(gates, 2, axis=1)
        if self.reset_after:
            cells = bias[2 * units :] + before @ r[2 * units :].T
            (n,) = g.reference(x[:, 2 * units :] + reset * cells)
        else:
            cells = reset * before
            (n,) = g.reference(x[:, 2 * units :] + cells @ r[2 * units :].T)
        return {"h": (1 - z) * n + z * before, "gates": np.concatenate([gates, n], axis=1), "cells": cells}

    def back(self, flow: dict[str, Array], d: int, given: Named, at: Named, before: Named) -> dict[str, Array]:
        (z, reset, n), r, (f, g) = np.split(at["gates"], 3, axis=1), given["r"][d], self.functions
        units, dh, previous = z.shape[1], flow["dh"], before["y"]
        (dn,) = g.gradient().reference(dh * (1 - z), n)
        (dz,) = f.gradient().reference(dh * (previous - n), z)
        made: dict[str, Array] = {}
        flow["dh"] = dh * z
        if self.reset_after:
            (dr,) = f.gradient().reference(dn * at["cells"], reset)
            made["dq"] = dn * reset
            flow["dh"] = flow["dh"] + made["dq"] @ r[2 * units :]
        else:
            dreset = dn @ r[2 * units :]
            (dr,) = f.gradient().reference(dreset * previous, reset)
            flow["dh"] = flow["dh"] + dreset * reset
        made["dx"] = np.concatenate([dz, dr, dn], axis=1)
        flow["dh"] = flow["dh"] + made["dx"][:, : 2 * units] @ r[: 2 * units]
        return made

    def gradient(self, g: Builder, name: str, value: Value, values: Mapping[str, Value]) -> Value:
        if name != "rb":
            return super().gradient(g, name, value, values)
        (directions, rows), (*_, units) = value.shape, values["dq"].shape
        total = g.emit(SumTo((directions * rows,)), values["dx"], name=f"d_{value.name}")
        both = g.emit(Slice(1, 0, 2 * units), g.emit(Reshape(value.shape), total, name=total.name), name=total.name)
        new = g.emit(SumTo((directions, units)), values["dq"], name=total.name)
        return g.emit(Concat(1, 2), both, new, name=total.name)


_AFTER = Gru(reset_after=True)
Gru.examples = (*recurrent_examples(Gru()), *recurrent_examples(_AFTER)[1:5])
Gru.examples += recurrent_examples(Gru(functions=(Tanh(), LeakyRelu(0.3))))[1:2]
RecurrentGrad.examples += (*grad_examples(Gru()), *grad_examples(_AFTER))
RecurrentGradR.examples += (*grad_r_examples(Gru())[2:], *grad_r_examples(_AFTER)[1:3])
