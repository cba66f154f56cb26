# SPDX-License-Identifier: Apache-2.0
"""From an overflow to what is left out: the scale that gradients have on their way, and the factor that updates depend on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import LOSS_SCALE
from tinytrain.ir.types import S32, Role, TensorType, Value
from tinytrain.ops.guarded import Kept, Unscale
from tinytrain.ops.loss_scale import LARGEST, LEAST, LossScaleFactor, NextLossScale, Overflow, UpdateFactor

OnOverflow = Literal["rest", "step"]


@dataclass(frozen=True)
class LossScale:
    """All gradients are `start`, a power of two, times what they are on their way; an update divides it out.

    An infinite gradient, or one that is not a number, halves that, and `steps` steps without one double it; with 0 steps it stays.
    `on_overflow`: `rest` leaves out the updates that lie behind it on the way back, and the first step at a scale, as the one behind an
    overflow, makes none at all; `step` leaves out all of them: gradients are kept until the last is known. Raises ValueError for a scale
    that is none.
    """

    start: float = 2.0**10
    steps: int = 200
    on_overflow: OnOverflow = "rest"

    def __post_init__(self) -> None:
        mantissa, exponent = math.frexp(self.start)
        if mantissa != 0.5 or not LEAST < exponent <= LARGEST + 1:
            raise ValueError(f"{self.start:g} is no power of two from {2.0**LEAST:g} to {2**LARGEST:,}")

    @property
    def record(self) -> Value:
        """The state, with what the device starts with."""
        data = np.array([math.frexp(self.start)[1] - 1, 0, 0, 0], np.int32)
        return Value(LOSS_SCALE, TensorType(data.shape, S32), Role.STATE, data)


class Scaler:
    """Emits what one sample does with the scale; behind the loss, and before its gradients. `updates` are those of the record."""

    def __init__(self, g: Builder, chosen: LossScale, record: Value, loss: Value, accumulate: int) -> None:
        self.g = g
        self.chosen = chosen
        self.record = record
        self.tries = chosen.on_overflow == "rest" and accumulate == 1
        self.scale = g.emit(LossScaleFactor(), record, name="scale")
        self.overflowed = g.emit(Overflow(), loss, g.const("no_overflow", np.zeros(1, np.int32)), name="overflowed")
        self.updates: dict[Value, Value] = {}

    def unscaled(self, named: Sequence[tuple[str, Value]]) -> tuple[Value, list[Value]]:
        """The factor that is 0 where an update is left out, and gradients, each given with its parameter's name, as they are, or 0."""
        g, at = self.g, self.g.origin
        for grad in dict.fromkeys(grad for _, grad in named) if self.chosen.on_overflow == "step" else ():
            self.overflowed = g.emit(Overflow(), grad, self.overflowed, name="overflowed")
        factor = g.emit(UpdateFactor(self.tries), self.record, self.overflowed, name="update_factor")
        self.updates[self.record] = g.emit(NextLossScale(self.chosen.steps), self.record, self.overflowed, name=f"{LOSS_SCALE}_new")
        grads = []
        for name, grad in named:
            g.origin = name
            grads.append(g.emit(Unscale(), grad, factor, name=grad.name))
        g.origin = at
        return factor, grads


def kept(g: Builder, updates: dict[Value, Value], factor: Value | None) -> dict[Value, Value]:
    """The same updates, left out where there is a factor and it is 0."""
    return updates if factor is None else {old: g.emit(Kept(), new, old, factor, name=f"{old.name}_kept") for old, new in updates.items()}
