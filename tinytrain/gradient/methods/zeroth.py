# SPDX-License-Identifier: Apache-2.0
"""zeroth: two forward passes with weights moved to either side tell how steep the loss is along random signs; there is no backward pass.

Of the forward pass nothing is kept, weights move where they stand and signs are drawn again, so that a step needs the RAM of inference, and
the sample. Any loss and any layer can be trained, also those without a gradient. The gradient of n parameters is known along one direction
only: with back-propagation's learning rate a step does 1/n of what its step does, at two thirds of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.method import Goal, Method, Step
from tinytrain.gradient.two_sided import two_sided
from tinytrain.ir.types import F32, S8, S32
from tinytrain.ops.dropout import Advance

MOST, LEAST = 1.0, 2.0**-20                               # of what a weight is moved by


@dataclass(frozen=True)
class Zeroth(Method):
    """`epsilon` is what each fp32 weight is moved by: a power of two, so that weights are moved back but for a rounding of the
    first move. Integers go by one, and back exactly."""

    epsilon: float = 2.0**-10

    key = "zeroth"
    backward = False

    @classmethod
    def of(cls, argument: str) -> Zeroth:
        if not argument:
            return cls()
        try:
            epsilon = float(argument)
        except ValueError:
            epsilon = math.nan
        if not LEAST <= epsilon <= MOST:
            message = f"--method zeroth:{argument}: expected what weights are moved by, from {LEAST:.1e} to {MOST:g}."
            raise TinytrainError(message, hint="Try --method zeroth.")
        return cls(2.0 ** round(math.log2(epsilon)))

    def goals(self, step: Step) -> Iterator[Goal]:
        read = {v for node in step.g.graph([step.loss]).needed([step.loss]) for v in node.inputs}
        targets = [target for target in step.targets if target.param in read]
        if not targets:
            return
        for target in targets:
            if target.param.type.dtype not in (F32, S8, S32):
                stored = target.param.type.dtype.tag
                message = f"{target.param.name} in {step.forward.name} is stored as {stored}; zeroth moves fp32 and int8."
                raise ModelError(message, hint="Compile the fp32 or int8 model, or leave --method out.")
        draws = step.states.take(step.g, "draws", np.zeros(1, np.int32))
        step.loss, grads = two_sided(step.g, step.loss, [target.param for target in targets], draws, self.epsilon)
        step.updates[draws] = step.g.emit(Advance(), draws)
        yield Goal(step.loss, targets, grads)
