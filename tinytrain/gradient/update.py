# SPDX-License-Identifier: Apache-2.0
"""From a gradient to the update of a parameter: the optimiser, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Literal

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.elastic import Elastic
from tinytrain.gradient.loss_scale import LossScale, kept
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import LEARNING_RATE, LOSS_SCALE
from tinytrain.ir.op import Elementwise
from tinytrain.ir.types import F16, Array, Role, TensorType, Value
from tinytrain.ops.adam import Adam
from tinytrain.ops.adaptive import Adagrad, RmsProp
from tinytrain.ops.average import MovingAverage
from tinytrain.ops.binary import Div, Max
from tinytrain.ops.clipping import ClipGradient, NormFactor, SquareSum
from tinytrain.ops.direction import Direction
from tinytrain.ops.dropout import Advance
from tinytrain.ops.guarded import Guarded
from tinytrain.ops.momentum_q import FIRST_EXPONENT, MomentumExponent, MomentumQ
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.optimiser_half import SgdHalf
from tinytrain.ops.optimiser_int import Rounding, SgdInt
from tinytrain.ops.pull import Pull
from tinytrain.ops.schedule import Schedule

Kind = Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"]
LEAST_RATE = 1e-30                                        # by which is divided
DIRECTIONS: Mapping[Kind, type[Direction]] = {"adam": Adam, "adamw": Adam, "adagrad": Adagrad, "rmsprop": RmsProp}


@dataclass(frozen=True)
class Optimiser:
    """Stochastic gradient descent along the gradient, or along what `kind` makes of it; `learning_rate` is only where the device starts,
    it can be set at run time, and `schedule` makes of it that of each update.

    `accumulate` sums the gradients of that many samples before one update by their mean. `momentum` is that of the descent: Adam has its
    own. Weight decay goes through momentum and whatever `kind` keeps, with "adamw" it acts beside them; so it does where `int8_momentum`
    keeps the momentum in int8. `clip_value` bounds each element of a mean gradient, `clip_norm` the norm of all of them together; 0 is
    no bound. `rounding` says how integer weights are updated; `bias_factor` multiplies the learning rate of biases, and of γ and β: of
    whatever has one dimension. With a `loss_scale` gradients that are stored as fp16 do not underflow on their way, and overflow leaves
    updates out. `master`: what fp16 leaves out of a weight is kept beside it, else such weights are rounded at random.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    accumulate: int = 1
    kind: Kind = "sgd"
    rounding: Rounding = "stochastic"
    bias_factor: float = 1.0
    int8_momentum: bool = False
    loss_scale: LossScale | None = None
    master: bool = True
    clip_value: float = 0.0
    clip_norm: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def mean(self) -> float:
        """What makes the mean gradient of what is summed."""
        return 1.0 / self.accumulate


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
    """What is kept between updates, by name, and where weights started: all entry points of a program, and all its schemes, share it."""

    def __init__(self, optimiser: Optimiser, starts: Mapping[Value, Value] | None = None, elastic: Elastic | None = None) -> None:
        self.starts, self.elastic = starts or {}, elastic
        with np.errstate(over="ignore"):                  # found by check_numbers
            rate = np.array([optimiser.learning_rate], np.float32)
        self._values = {LEARNING_RATE: Value(LEARNING_RATE, TensorType((1,)), Role.STATE, rate)}
        if optimiser.loss_scale:
            self._values[LOSS_SCALE] = optimiser.loss_scale.record

    def known(self, g: Builder, name: str) -> Value:
        """The state of that name, which there is, for the graph that `g` builds."""
        g.unique(self._values[name].name)                 # no other value of this graph is called so
        return self._values[name]

    def take(self, g: Builder, name: str, data: Array) -> Value:
        """The same; made, and then starting from `data`, where there is none yet."""
        if name in self._values:
            self.known(g, name)
        else:
            self._values[name] = g.const(name, data, Role.STATE)
        assert self._values[name].shape == data.shape, f"{self._values[name]!r} is wanted with shape {data.shape}"
        return self._values[name]


class Updater:
    """Emits the updates of one entry point; `updates` collects what replaces what. All are left out where `factor` (f32[1]) is 0."""

    def __init__(self, g: Builder, optimiser: Optimiser, states: States) -> None:
        self.g = g
        self.optimiser = optimiser
        self.states = states
        self.factor: Value | None = None
        self.updates: dict[Value, Value] = {}
        self._lr = states.known(g, LEARNING_RATE)
        self._factors: dict[Value, Value] = {}

    @cached_property
    def step(self) -> Value:
        """The number of this update, from 1 on."""
        count = self._state("update_count", np.zeros(1, np.int32))
        step = self.g.emit(Advance(), count)
        self.updates |= kept(self.g, {count: step}, self.factor)
        return step

    @cached_property
    def rate(self) -> Value:
        """The learning rate of this update."""
        schedule = self.optimiser.schedule
        return self.g.emit(schedule, self._lr, self.step, name="rate") if schedule.changes else self._lr

    @cached_property
    def _divisor(self) -> Value:
        """The same, not zero."""
        return self.g.emit(Max(), self.rate, self.g.const("least_rate", np.full(1, LEAST_RATE, np.float32)), name="divisor")

    def add_all(self, given: Sequence[tuple[Value, Value, float]]) -> None:
        """Update each parameter by its gradient and rate; with a bound for the norm of all of them, none before the last is known."""
        norm = None
        if self.optimiser.clip_norm and given:
            norm = self.g.const("no_squares", np.zeros(1, np.float32))
            for old, grad, _ in given:
                factors = self._factor(old)
                norm = self.g.emit(SquareSum(factored=bool(factors)), grad, norm, *factors, name="squares")
            norm = self.g.emit(NormFactor(self.optimiser.clip_norm, self.optimiser.mean), norm, name="norm_factor")
        for old, grad, rate in given:
            self._add(old, grad, rate, norm)

    def follow_all(self, averages: Mapping[Value, Value]) -> None:
        """Move each average towards what its parameter has become."""
        for average, of in averages.items():
            self.g.origin = average.name
            self.updates[average], = self._emit_rule(MovingAverage(), self.updates[of], average, name=f"{average.name}_new")

    def _add(self, old: Value, grad: Value, rate: float, norm: Value | None) -> None:
        """Update a parameter; `rate` multiplies its learning rate. A summed gradient (a STATE) starts from zero again."""
        self.g.origin = name = old.name
        chosen = self.optimiser
        mean, summed, factors = chosen.mean, grad.role is Role.STATE, self._factor(old)
        share = rate * (chosen.bias_factor if len(old.shape) == 1 else 1.0)
        # whatever comes first takes mean and factor: behind it the gradient is that of the real weight
        for op, more in (*self._pull(old, share), *((op, {}) for op in self._directions(old, norm is not None))):
            op = replace(op, scale=mean, clear=summed, factored=bool(factors))
            given = {arg: self._like(f"{kind}_{name}", grad) for arg, kind in op.keeps.items()} | more
            given |= {"w": old, **dict(zip(["factor"], factors, strict=False)), **({"k": norm} if norm else {})}
            given |= {"t": self.step} if "t" in op.args else {}
            grad, mean, summed, factors = self._along(op, grad, [given[arg] for arg in op.args[1:]]), 1.0, False, []
        if chosen.int8_momentum:
            grad, mean, summed = self._momentum(grad, name, mean, summed), 1.0, False
        momentum = 0.0 if chosen.int8_momentum else chosen.momentum
        through = chosen.kind in DIRECTIONS and chosen.kind != "adamw"
        sgd = Sgd(
            momentum=momentum, nesterov=chosen.nesterov and momentum > 0, weight_decay=0.0 if through else chosen.weight_decay * share,
            scale=mean * share, clear=summed,
        )
        self.updates[old] = self._emit(self._stored_rule(sgd, old), grad, old, name)

    def _pull(self, old: Value, share: float) -> Iterator[tuple[Direction, dict[str, Value]]]:
        """What pulls a weight, which steps by that part of the rate, to where it started, and its further operands."""
        elastic = self.states.elastic
        scale = np.array(old.type.quant.scale).reshape(factor_shape(old)) if old.type.quant else np.ones(1)
        if elastic and share and (found := elastic.pull(old, scale, self.optimiser.learning_rate * share)):
            root, strength = found
            operands = {"root": self.g.const(f"pull_{old.name}", root), "start": self.states.starts[old], "most": self._home(old, share)}
            yield Pull(strength=strength, integer=not old.type.dtype.is_float), operands

    def _home(self, old: Value, share: float) -> Value:
        """The pull that takes a weight home in one step of this update."""
        factors = self._factor(old)                       # the step that follows multiplies by it too
        shape = factors[0].shape if factors else (1,)
        most = self.g.const(f"home_{old.name}", np.full(shape, 1 / share, np.float32))
        for divisor in (*factors, self._divisor):
            most = self.g.emit(Div(), most, divisor, name=f"home_{old.name}")
        return most

    def _directions(self, old: Value, normed: bool) -> list[Direction]:
        """What makes of a gradient what is followed, in order."""
        chosen = self.optimiser
        made: list[Direction] = [ClipGradient(chosen.clip_value, normed)] if chosen.clip_value or normed else []
        if kind := DIRECTIONS.get(chosen.kind):
            decay = 0.0 if chosen.kind == "adamw" else chosen.weight_decay
            if decay and not old.type.dtype.is_float:
                message = f"{old.name} is stored as integers: weight decay cannot go through what --optimiser {chosen.kind} keeps of it."
                raise ModelError(message, hint="Use --optimiser adamw, whose weight decay acts beside it, or leave --weight-decay out.")
            made.append(kind(decay=decay))
        return made

    def _along(self, op: Direction | MomentumQ, grad: Value, given: Sequence[Value]) -> Value:
        """The direction that an op makes of a gradient and its further operands, of which it replaces the first ones."""
        direction, *new = self._emit_rule(op, grad, *given, name=f"direction_{self.g.origin}")
        kept = given[: len(new) - op.clear]
        self.updates.update(zip([*kept, *([grad] if op.clear else [])], new, strict=True))
        return direction

    def _momentum(self, grad: Value, name: str, mean: float, summed: bool) -> Value:
        """The direction of a momentum that is kept in int8."""
        q = self._state(f"velocity_{name}", np.zeros(grad.shape, np.int8))
        e = self._state(f"exponent_{name}", np.full(1, FIRST_EXPONENT, np.int32))
        next_e = self.g.emit(MomentumExponent(), q, e, name=f"exponent_{name}_new")
        self.updates |= kept(self.g, {e: next_e}, self.factor)
        op = MomentumQ(self.optimiser.momentum, self.optimiser.nesterov, seed=len(self.updates), scale=mean, clear=summed)
        return self._along(op, grad, [q, e, next_e, self.step])

    def _factor(self, old: Value) -> list[Value]:
        """What takes the gradient of a stored integer to that of the real weight, where there is one."""
        if old.type.dtype.is_float:
            return []
        if old not in self._factors:
            self._factors[old] = self.g.const(f"factor_{old.name}", np.ones(factor_shape(old), np.float32))
        return [self._factors[old]]

    def _stored_rule(self, sgd: Sgd, old: Value) -> Sgd | SgdInt:
        """The same rule for stored halves or integers; each weight draws its own random numbers."""
        if old.type.dtype is F16:
            rule = {f.name: getattr(sgd, f.name) for f in fields(Sgd)}
            return SgdHalf(**rule, master=self.optimiser.master, seed=0 if self.optimiser.master else len(self.updates))
        if old.type.dtype.is_float:
            return sgd
        bits = 8 * old.type.dtype.np.itemsize
        return SgdInt(
            self.optimiser.rounding, bits, seed=len(self.updates), momentum=sgd.momentum, nesterov=sgd.nesterov,
            weight_decay=sgd.weight_decay, scale=sgd.scale, clear=sgd.clear, within=old.source.within if old.source else (),
        )

    def _emit(self, rule: Sgd | SgdInt, grad: Value, old: Value, name: str) -> Value:
        """Emit the rule with what its arguments ask for; every further output replaces the state of its name."""
        states: dict[str, Value] = {"g_new": grad}
        given: dict[str, Value] = {"g": grad, "w": old, "lr": self.rate, **dict(zip(["factor"], self._factor(old), strict=False))}
        for arg in rule.args:
            if arg == "counter":
                given[arg] = self.step
            elif arg == "v":
                given[arg] = states["v_new"] = self._like(f"velocity_{name}", grad)
            elif arg == "m":
                given[arg] = states["m_new"] = self._like(f"left_{name}", grad)
            elif arg == "r":
                kind = np.int16 if isinstance(rule, SgdHalf) else np.int8
                given[arg] = states["r_new"] = self._state(f"residue_{name}", np.zeros(grad.shape, kind))
        new, *others = self._emit_rule(rule, *(given[arg] for arg in rule.args), name=f"{name}_new", like=old)
        self.updates.update(zip((states[result] for result in rule.results[1:]), others, strict=True))
        return new

    def _emit_rule(self, rule: Elementwise, *operands: Value, name: str, like: Value | None = None) -> tuple[Value, ...]:
        """The rule, guarded where it would not rest by itself; its first result is stored as `like` is."""
        if self.factor is None or rule.still:
            return self.g.emit_all(rule, *operands, name=name, like=like)
        return self.g.emit_all(Guarded(rule), *operands, self.factor, name=name, like=like)

    def _like(self, name: str, grad: Value) -> Value:
        return self._state(name, np.zeros(grad.shape, np.float32))

    def _state(self, name: str, data: Array) -> Value:
        return self.states.take(self.g, name, data)
