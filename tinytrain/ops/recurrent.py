# SPDX-License-Identifier: Apache-2.0
"""Recurrence over time: h_t = cell(a_t, h_{t−1}) with a_t = x_t + R·h_{t−1}; x_t is what the input weights have made of all steps before.

Backwards, from the last step to the first:     dx_t = da_t     dh_{t−1} = Rᵀ·da_t + …     dR = Σ_t da_t ⊗ h_{t−1}

T steps, B sequences, D directions, N = gates·H rows of R, H units. What a cell keeps of its gates takes the place of x in memory, and the
gradient takes that of what was kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import ALL_HALVES, Cost, Declined, Fusable, Kernel, Op, Wanted, no
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ops.activation import Activation, Tanh
from tinytrain.ops.simd import SIMD, Simd

FORWARD, REVERSE, BOTH = "forward", "reverse", "both"
Named = Mapping[str, Array]
_PARAMETERS = {"r": "recurrent", "h0": "initial_h", "c0": "initial_c", "p": "peephole", "rb": "bias"}


@dataclass(frozen=True)
class Sizes:
    """T steps of B sequences in D directions; R has N rows of H."""

    T: int
    B: int
    D: int
    N: int
    H: int

    def type(self, name: str) -> TensorType:
        """Of a result by its name."""
        if name in ("gates", "dx"):
            return TensorType((self.T, self.B, self.D * self.N))
        state = (self.B, self.D, self.H)
        return TensorType((self.T, *state) if name in ("y", "cells", "dq") else state)


@dataclass(frozen=True)
class Rows:
    """Gates first..end-1 of R: `left` is the gradient of what R makes there of `right`: of h_{t−1} where that is y."""

    first: int
    end: int
    left: str = "dx"
    right: str = "y"


def _ways(isa: str | None, apart: bool, op: Op, *types: TensorType) -> dict[str, int]:
    return {"dots": isa is not None, "apart": apart}


@dataclass(frozen=True)
class Recurrent(Op):
    """x (T, B, D·N), r (D, N, H), h0 (B, D, H) -> y (T, B, D, H), the last h (B, D, H), and what gradients read of each step.

    `functions` are those of the gates, in the order of ONNX; `makes` are the results that are made, () all. The gradient that flows from
    step t to step t − 1 is cut at every `truncate`-th step in the direction of time (0: nowhere).
    """

    direction: str = FORWARD
    functions: tuple[Activation, ...] = (Tanh(),)
    truncate: int = 0
    makes: tuple[str, ...] = ()

    kernels = (
        Kernel("recurrent", params=partial(_ways, None, True), scratch=lambda op, *types: 4 * op.step_floats(types), half=ALL_HALVES),
        *(
            Kernel("recurrent", isa=isa, params=partial(_ways, isa, False), scratch=lambda op, *types: 4 * op.scratch_floats(types))
            for isa in (None, *(simd.isa for simd in SIMD if simd.dots))
        ),
    )
    differentiable = True
    gates: ClassVar[int] = 1
    states: ClassVar[tuple[str, ...]] = ("h",)
    every: ClassVar[tuple[str, ...]] = ("y", "h")         # results
    kept: ClassVar[frozenset[str]] = frozenset()          # those that only gradients read

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("x", "r", *(f"{state}0" for state in self.states))

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return self.makes or self.every

    @property
    def parameters(self) -> dict[int, str]:               # type: ignore[override]
        return {i: _PARAMETERS[name] for i, name in enumerate(self.args) if name in _PARAMETERS}

    @property
    def byproducts(self) -> frozenset[int]:
        return frozenset(i for i, name in enumerate(self.results) if name in self.kept)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return tuple((0, o) for o, name in enumerate(self.results) if name == ("gates" if self.kept else "y"))

    def saved(self) -> tuple[str, ...]:
        """What the gradient reads, beside those of the results."""
        return ("y", "r")

    def rows(self) -> tuple[Rows, ...]:
        """How the gradient of R is put together."""
        return (Rows(0, self.gates),)

    @property
    def lefts(self) -> tuple[str, ...]:
        """Gradients of each step that all others are made of."""
        return tuple(dict.fromkeys(rows.left for rows in self.rows()))

    def sizes(self, types: Sequence[TensorType]) -> Sizes:
        """Raises ValueError where the operands do not fit each other."""
        named = dict(zip(self.args, types, strict=True))
        x, r = named["x"].shape, named["r"].shape
        if len(x) != 3 or len(r) != 3 or r[1] != self.gates * r[2] or x[2] != r[0] * r[1] or r[0] != 1 + (self.direction == BOTH):
            raise ValueError(f"x {x} against r {r}, {self.direction}: expected (T, B, D·{self.gates}·H) and (D, {self.gates}·H, H)")
        sizes = Sizes(*x[:2], *r)
        fits = {"x": x, "r": r, "p": (r[0], 3 * r[2]), "rb": r[:2]}
        for name, kind in named.items():
            if kind.shape != (want := fits.get(name, (sizes.B, sizes.D, sizes.H))):
                raise ValueError(f"{name} {kind.shape}: expected {want}")
        return sizes

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        sizes = self.sizes(types)
        for function in self.functions:
            function.infer(types[0])
        return tuple(sizes.type(name) for name in self.results)

    def scratch_floats(self, types: Sequence[TensorType]) -> int:
        """What the kernel needs of what is kept of a step, where it is not."""
        sizes = self.sizes(types)
        if not self.kept:
            return 0 if "y" in self.results else sizes.N
        return sizes.N * ("gates" not in self.results) + sizes.H * ("cells" not in self.results)

    def step_floats(self, types: Sequence[TensorType]) -> int:
        """All of a step, where it stands apart from the results."""
        sizes = self.sizes(types)
        return sizes.N + sizes.H * (1 + bool(self.kept))

    def backwards(self, d: int) -> bool:
        """Whether direction d walks from the last step to the first."""
        return self.direction == REVERSE or d == 1

    def time(self, steps: int, d: int) -> Sequence[int]:
        return range(steps)[:: -1 if self.backwards(d) else 1]

    def step(self, x: Array, d: int, given: Named, state: Named) -> dict[str, Array]:
        """One step of direction d: the new states, and what is kept, by name; x (B, N), states (B, H)."""
        raise NotImplementedError(self.name)

    def back(self, flow: dict[str, Array], d: int, given: Named, at: Named, before: Named) -> dict[str, Array]:
        """dx and dq of a step; `flow` has dh and dc of it, and has those of the step before it afterwards."""
        raise NotImplementedError(self.name)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        given = dict(zip(self.args, arrays, strict=True))
        sizes = self.sizes([TensorType(a.shape) for a in arrays])
        made = {name: np.zeros(sizes.type(name).shape, arrays[0].dtype) for name in self.every}
        x, gates = given["x"].reshape(sizes.T, sizes.B, sizes.D, sizes.N), made.get("gates", np.zeros(0))
        for d in range(sizes.D):
            state = {name: given[f"{name}0"][:, d] for name in self.states}
            for t in self.time(sizes.T, d):
                state = self.step(x[t, :, d], d, given, state)
                made["y"][t, :, d] = state["h"]
                if self.kept:
                    gates.reshape(x.shape)[t, :, d], made["cells"][t, :, d] = state["gates"], state["cells"]
            for name in self.states:
                made[name][:, d] = state[name]
        return tuple(made[name] for name in self.results)

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        makes = tuple(name for i, name in enumerate(self.results) if i not in outputs)
        if not {"y", "h"} & set(makes):
            return no("a step needs h of the one before it")
        return dataclasses.replace(self, makes=makes)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        whole = dataclasses.replace(self, makes=())
        given = {f"d{name}": grad for name, grad in zip(self.results, grads, strict=True) if grad is not None and name not in self.kept}
        outputs = outputs if self.results == self.every else g.emit_all(whole, *inputs)
        values = dict(zip((*self.every, *self.args), (*outputs, *inputs), strict=True))
        op = RecurrentGrad(whole, tuple(given))
        made = g.emit_all(op, *given.values(), *(values[name] for name in self.saved()), name=f"d_{inputs[0].name}")
        values.update(zip(op.results, made, strict=True))
        return tuple(
            self.gradient(g, name, value, values) if want else None for name, value, want in zip(self.args, inputs, wanted, strict=True)
        )

    def gradient(self, g: Builder, name: str, value: Value, values: Mapping[str, Value]) -> Value:
        """Of operand `name`, from all that there is by name."""
        if name != "r":
            return values[f"d{name}"]
        op = RecurrentGradR(self)
        return g.emit(op, *(values[each] for each in op.args), name=f"d_{value.name}")

    def cost(self, *types: TensorType) -> Cost:
        sizes = self.sizes(types)
        return Cost(macs=sizes.T * sizes.B * sizes.D * sizes.N * sizes.H)


def _one_by_one(sums: int, apart: bool) -> dict[str, Any]:
    """Units one after the other, `sums` of them at once; a step stands `apart` from the results, or in them."""
    return {"params": lambda op, *types: {"U": sums, "apart": apart}}


def _vectors(simd: Simd, sums: int, apart: bool) -> dict[str, Any]:
    """Units stand side by side, up to `sums` vectors of them at once."""
    def params(op: Op, *types: TensorType) -> dict[str, int]:
        return {**simd.tiles(op, *types), "U": sums, "apart": apart}

    def accepts(op: RecurrentGrad | RecurrentGradR, *types: TensorType) -> bool | Declined:
        return simd.filled_by(op.sizes(types).H)

    return {"isa": simd.isa, "params": params, "accepts": accepts}


_VECTORS = tuple(simd for simd in SIMD if simd.words)


@dataclass(frozen=True)
class RecurrentGrad(Op):
    """Gradients `given` of y, of the last h and c; what `of` has saved -> dx (T, B, D·N), what dR needs beside it, dh0, dc0 (B, D, H)."""

    of: Recurrent
    given: tuple[str, ...]
    makes: tuple[str, ...] = ()

    name = "recurrent_grad"
    kernels = (
        *(
            Kernel("recurrent_grad", scratch=lambda op, *types: 4 * op.step_floats(types), half=ALL_HALVES, **more)
            for more in (_one_by_one(8, True), *(_vectors(simd, 4, True) for simd in _VECTORS))
        ),
        *(
            Kernel("recurrent_grad", scratch=lambda op, *types: 4 * op.scratch_floats(types), **more)
            for more in (_one_by_one(8, False), *(_vectors(simd, 4, False) for simd in _VECTORS))
        ),
    )

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return (*self.given, *self.of.saved())

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return self.makes or (*self.of.lefts, *(f"d{state}0" for state in self.of.states))

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        over = {"dx": ("gates",) if self.of.kept else ("dy", "y"), "dq": ("cells",)}
        return tuple((i, o) for o, made in enumerate(self.results) for i, name in enumerate(self.args) if name in over.get(made, ()))

    def sizes(self, types: Sequence[TensorType]) -> Sizes:
        """Raises ValueError where the operands do not fit each other."""
        named = dict(zip(self.args, types, strict=True))
        (d, n, h), last = named["r"].shape, next(kind.shape for name, kind in named.items() if name in ("y", "cells"))
        sizes = Sizes(last[0], last[1], d, n, h)
        for name, kind in named.items():
            want = {"r": named["r"], "p": TensorType((d, 3 * h)), "dy": sizes.type("y")}.get(name, sizes.type(name))
            if kind.shape != want.shape:
                raise ValueError(f"{name} {kind.shape}: expected {want.shape}")
        return sizes

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        sizes = self.sizes(types)
        return tuple(sizes.type(name) for name in self.results)

    def scratch_floats(self, types: Sequence[TensorType]) -> int:
        """States' gradients on their way, where they are no results, and those of what R makes of anything but h_{t−1}."""
        flowing = sum(f"d{state}0" not in self.results for state in self.of.states)
        return self.sizes(types).H * (flowing + any(rows.right != "y" for rows in self.of.rows()))

    def step_floats(self, types: Sequence[TensorType]) -> int:
        """All of a step, where it stands apart from the results."""
        sizes = self.sizes(types)
        return sizes.N + sizes.H * (len(self.of.states) + len(self.of.lefts) - 1 + any(rows.right != "y" for rows in self.of.rows()))

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        makes = tuple(name for i, name in enumerate(self.results) if i not in outputs)
        return dataclasses.replace(self, makes=makes) if set(self.of.lefts) <= set(makes) else no("all else is made of these")

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        of, given = self.of, dict(zip(self.args, arrays, strict=True))
        sizes = self.sizes([TensorType(a.shape) for a in arrays])
        stepwise = (sizes.T, sizes.B, sizes.D, -1)
        made = {name: np.zeros(sizes.type(name).shape, given["r"].dtype) for name in dataclasses.replace(self, makes=()).results}
        kept = {name: array.reshape(stepwise) for name, array in given.items() if name in ("y", "gates", "cells")}
        for d in range(sizes.D):
            order = of.time(sizes.T, d)
            zero = np.zeros((sizes.B, sizes.H), given["r"].dtype)
            flow = {f"d{s}": given[f"d{s}"][:, d] if f"d{s}" in given else zero for s in of.states}
            for number in reversed(range(sizes.T)):
                t = order[number]
                if "dy" in given:
                    flow["dh"] = flow["dh"] + given["dy"][t, :, d]
                start = {"y": given.get("h0", made["dh0"])[:, d], "cells": given.get("c0", made["dh0"])[:, d]}
                before = {name: kept[name][order[number - 1], :, d] if number and name in kept else start[name] for name in start}
                for name, array in of.back(flow, d, given, {name: a[t, :, d] for name, a in kept.items()}, before).items():
                    made[name].reshape(stepwise)[t, :, d] = array
                if of.truncate and number and number % of.truncate == 0:
                    flow = dict.fromkeys(flow, zero)
            for state in of.states:
                made[f"d{state}0"][:, d] = flow[f"d{state}"]
        return tuple(made[name] for name in self.results)

    def cost(self, *types: TensorType) -> Cost:
        sizes = self.sizes(types)
        return Cost(macs=sizes.T * sizes.B * sizes.D * sizes.N * sizes.H)


@dataclass(frozen=True)
class RecurrentGradR(Fusable):
    """dx (T, B, D·N), y (T, B, D, H), h0 (B, D, H) and what else `of` says -> dr (D, N, H)."""

    of: Recurrent

    name = "recurrent_grad_r"
    results = ("dr",)
    kernels = tuple(
        Kernel("recurrent_grad", half=ALL_HALVES, **more)
        for more in (_one_by_one(4, False), *(_vectors(simd, 1, False) for simd in _VECTORS))
    )

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return tuple(dict.fromkeys(("dx", "y", "h0", *(name for rows in self.of.rows() for name in (rows.left, rows.right)))))

    def sizes(self, types: Sequence[TensorType]) -> Sizes:
        """Raises ValueError where the operands do not fit each other."""
        steps, sequences, directions, units = types[1].shape
        sizes = Sizes(steps, sequences, directions, self.of.gates * units, units)
        for name, kind in zip(self.args, types, strict=False):
            if kind.shape != sizes.type(name).shape:
                raise ValueError(f"{name} {kind.shape}: expected {sizes.type(name).shape}")
        return sizes

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        sizes = self.sizes(types)
        return (TensorType((sizes.D, sizes.N, sizes.H)),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        given = dict(zip(self.args, arrays, strict=True))
        sizes = self.sizes([TensorType(a.shape) for a in arrays])
        made = np.zeros((sizes.D, sizes.N, sizes.H), arrays[0].dtype)
        for d in range(sizes.D):
            late, early = (slice(None, -1), slice(1, None)) if self.of.backwards(d) else (slice(1, None), slice(None, -1))
            first = -1 if self.of.backwards(d) else 0
            for rows in self.of.rows():
                at = slice(rows.first * sizes.H, rows.end * sizes.H)
                left = given[rows.left].reshape(sizes.T, sizes.B, sizes.D, -1)[:, :, d, at if rows.left == "dx" else slice(None)]
                right = given[rows.right][:, :, d]
                if rows.right == "y":
                    made[d, at] = np.einsum("bn,bh->nh", left[first], given["h0"][:, d])
                    left, right = left[late], right[early]
                made[d, at] += np.einsum("tbn,tbh->nh", left, right)
        return (made,)

    def cost(self, *types: TensorType) -> Cost:
        sizes = self.sizes(types)
        return Cost(macs=sizes.T * sizes.B * sizes.D * sizes.N * sizes.H)
