# SPDX-License-Identifier: Apache-2.0
"""From a gradient to the update of a parameter: the optimiser, and what it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import LEARNING_RATE
from tinytrain.ir.types import F32, Array, Role, TensorType, Value
from tinytrain.ops.adam import Adam
from tinytrain.ops.dropout import Advance
from tinytrain.ops.momentum_q import FIRST_EXPONENT, MomentumExponent, MomentumQ
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.optimiser_int import Rounding, SgdInt


@dataclass(frozen=True)
class Optimiser:
    """Stochastic gradient descent or Adam; `learning_rate` is only where the device starts, it can be set at run time.

    `accumulate` sums the gradients of that many samples before one update by their mean. With `adam`, momentum is Adam's own.
    `int8_momentum` keeps the momentum in int8; weight decay then acts beside it, not through it.
    `rounding` says how integer weights are updated; `bias_factor` multiplies the learning rate of biases,
    and of γ and β: of whatever has one dimension. `loss_scale`, a power of two, multiplies all gradients on their way and is divided
    out of the update: where they are stored as fp16, small ones do not underflow.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    accumulate: int = 1
    adam: bool = False
    rounding: Rounding = "stochastic"
    bias_factor: float = 1.0
    int8_momentum: bool = False
    loss_scale: float = 1.0


def factor_shape(value: Value) -> tuple[int, ...]:
    """Shape of an operand with one element for each scale of a quantised value: per channel, per row, or one."""
    quant = value.type.quant
    if quant is None or quant.axis is None or len(quant.scale) == 1:
        return (1,)
    last = len(value.shape) - 1
    if quant.axis == last:
        return (value.shape[last],)
    assert quant.axis == 0, f"{value!r}: scales along axis {quant.axis}"
    return (value.shape[0], *(1 for _ in value.shape[1:]))


class States:
    """What is kept between updates, by name: all entry points of a program, and all its schemes, share it."""

    def __init__(self, learning_rate: float) -> None:
        with np.errstate(over="ignore"):                  # found by check_numbers
            rate = np.array([learning_rate], np.float32)
        self._values = {LEARNING_RATE: Value(LEARNING_RATE, TensorType((1,)), Role.STATE, rate)}

    def take(self, g: Builder, name: str, data: Array) -> Value:
        """The state of that name for the graph that `g` builds; made, and then starting from `data`, where there is none yet."""
        if name in self._values:
            g.unique(self._values[name].name)             # no other value of this graph is called so
        else:
            self._values[name] = g.const(name, data, Role.STATE)
        assert self._values[name].shape == data.shape, f"{self._values[name]!r} is wanted with shape {data.shape}"
        return self._values[name]


class Updater:
    """Emits the updates of one entry point; `updates` collects what replaces what."""

    def __init__(self, g: Builder, optimiser: Optimiser, states: States) -> None:
        self.g = g
        self.optimiser = optimiser
        self.states = states
        self.lr = states.take(g, LEARNING_RATE, np.zeros(1, np.float32))
        self.updates: dict[Value, Value] = {}

    @cached_property
    def step(self) -> Value:
        """The number of this update, from 1 on."""
        count = self._state("update_count", np.zeros(1, np.int32))
        self.updates[count] = self.g.emit(Advance(), count)
        return self.updates[count]

    def add(self, old: Value, grad: Value, rate: float) -> None:
        """Update a parameter; `rate` multiplies its learning rate. A summed gradient (a STATE) starts from zero again."""
        self.g.origin = name = old.name
        chosen = self.optimiser
        mean, summed = 1.0 / (chosen.accumulate * chosen.loss_scale), grad.role is Role.STATE
        directed = chosen.adam or chosen.int8_momentum
        factor = None if old.type.dtype is F32 else self.g.const(f"factor_{name}", np.ones(factor_shape(old), np.float32))
        if directed:
            grad, mean, summed = self._direction(grad, name, mean, summed, factor), 1.0, False
        share = rate * (chosen.bias_factor if len(old.shape) == 1 else 1.0)
        sgd = Sgd(
            momentum=0.0 if directed else chosen.momentum, nesterov=chosen.nesterov and not directed,
            weight_decay=chosen.weight_decay * share, scale=mean * share, clear=summed,
        )
        rule = self._integer(sgd, old) if factor else sgd
        self.updates[old] = self._emit(rule, grad, old, name, factor)

    def _direction(self, grad: Value, name: str, mean: float, summed: bool, factor: Value | None) -> Value:
        """What plain SGD then follows: that of Adam, which takes the factor of a stored integer too, or that of a momentum in int8."""
        chosen = self.optimiser
        if chosen.adam:
            replaced = [self._like(f"{kind}_{name}", grad) for kind in ("moment", "square")]
            states = [*replaced, self.step, *([factor] if factor else [])]
            op: Adam | MomentumQ = Adam(scale=mean, clear=summed, factored=factor is not None)
        else:
            q = self._state(f"velocity_{name}", np.zeros(grad.shape, np.int8))
            e = self._state(f"exponent_{name}", np.full(1, FIRST_EXPONENT, np.int32))
            self.updates[e] = self.g.emit(MomentumExponent(), q, e, name=f"exponent_{name}_new")
            op = MomentumQ(chosen.momentum, chosen.nesterov, seed=len(self.updates), scale=mean, clear=summed)
            replaced, states = [q], [q, e, self.updates[e], self.step]
        direction, *new = self.g.emit_all(op, grad, *states, name=f"direction_{name}")
        self.updates.update(zip([*replaced, *([grad] if summed else [])], new, strict=True))
        return direction

    def _integer(self, sgd: Sgd, old: Value) -> SgdInt:
        """The same rule for stored integers; each weight draws its own random numbers."""
        bits = 8 * old.type.dtype.np.itemsize
        return SgdInt(
            self.optimiser.rounding, bits, seed=len(self.updates), momentum=sgd.momentum, nesterov=sgd.nesterov,
            weight_decay=sgd.weight_decay, scale=sgd.scale, clear=sgd.clear, within=old.source.within if old.source else (),
        )

    def _emit(self, rule: Sgd | SgdInt, grad: Value, old: Value, name: str, factor: Value | None) -> Value:
        """Emit the rule with what its arguments ask for; every further output replaces the state of its name."""
        states: dict[str, Value] = {"g_new": grad}
        given: dict[str, Value] = {"g": grad, "w": old, "lr": self.lr, **({"factor": factor} if factor else {})}
        for arg in rule.args:
            if arg == "counter":
                given[arg] = self.step
            elif arg == "v":
                given[arg] = states["v_new"] = self._like(f"velocity_{name}", grad)
            elif arg == "m":
                given[arg] = states["m_new"] = self._like(f"left_{name}", grad)
            elif arg == "r":
                given[arg] = states["r_new"] = self._state(f"residue_{name}", np.zeros(grad.shape, np.int8))
        new, *others = self.g.emit_all(rule, *(given[arg] for arg in rule.args), name=f"{name}_new")
        self.updates.update(zip((states[result] for result in rule.results[1:]), others, strict=True))
        return new

    def _like(self, name: str, grad: Value) -> Value:
        return self._state(name, np.zeros(grad.shape, np.float32))

    def _state(self, name: str, data: Array) -> Value:
        return self.states.take(self.g, name, data)
