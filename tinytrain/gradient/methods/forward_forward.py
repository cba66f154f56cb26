# SPDX-License-Identifier: Apache-2.0
"""forward-forward: a layer learns to be moved more by a sample with its own label than by the same sample with another one (Hinton,
arXiv 2212.13345).

    h → h + |h|·z(label) → layer → g⁺          goodness g: the mean of squares of what the layer gives, over that of h
    h → h + |h|·z(other) → layer → g⁻          loss: log(1 + exp(−SLOPE·(g⁺ − g⁻)))

z are random signs, the same for one label, that are drawn again wherever they are needed: a pattern over a whole row, or one of TILE pixels
that is repeated over a map, since convolutions see no more at once. h is what the layer reads of the sample without a label, as it does
when it infers: so infer stays one pass, and the last layer learns from the model's loss of what the others give. Goodness is relative to h,
so that no layer is good by what the one before has made large. That the loss is of the difference of both, without a threshold, is due to
Lee and Song (arXiv 2303.08418).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.blocks import Cut
from tinytrain.gradient.method import Step
from tinytrain.gradient.methods.local import Teacher, again
from tinytrain.gradient.methods.mono import Mono
from tinytrain.gradient.partial import Target
from tinytrain.ir.builder import Builder
from tinytrain.ir.types import F32, S32, Value
from tinytrain.ops.dropout import Advance
from tinytrain.ops.elementwise import Add, Mul, Scale, Sub, SumTo
from tinytrain.ops.labels import OtherLabel
from tinytrain.ops.loss_mean import SigmoidBce
from tinytrain.ops.perturb import RandomDirection
from tinytrain.ops.power import Power
from tinytrain.ops.take import Take

TILE = 4                                                  # rows and columns
SLOPE = 4.0
LEAST = 1e-6                                              # of a mean of squares


@dataclass(frozen=True)
class ForwardForward(Mono):
    key = "forward-forward"

    def teacher(self, step: Step, cuts: Sequence[Cut]) -> Teacher:
        g, label, start = step.g, step.g.inputs[-1], step.forward.inputs[0]
        classes = step.output.type.numel
        if label.type.dtype is not S32:
            message = f"{step.forward.name}: --method {self.key} tells samples with their label from others; this loss takes no label."
            raise ModelError(message, hint="Give --loss ce, or leave --method out.")
        read = [start, *(cut.value for cut in cuts)]
        if stored := next((v for v in read if v.type.dtype is not F32), None):
            message = f"{step.forward.name}: --method {self.key} adds to what layers read; {stored.name} is {stored.type.dtype.tag}."
            raise ModelError(message, hint="Compile the fp32 model; an int8 one learns by --method local.")
        draws = step.states.take(g, "draws", np.zeros(1, np.int32))
        step.updates[draws] = g.emit(Advance(), draws)
        other = g.emit(OtherLabel(classes, 1), label, draws)

        def teach(number: int) -> tuple[Value, Sequence[Target]]:
            block = cuts[number].value
            g.origin = f"{block.name}_goodness"
            h = again(step, read[number])
            size = g.emit(Add(), _mean_square(g, h), g.const("least", np.array([LEAST], np.float32)))
            found = []
            for which in (label, other):
                g.origin = f"{block.name}_goodness"
                mark = _pattern(g, h, g.emit(Power(0.5), size), which, number)
                found.append(_mean_square(g, again(step, block, {read[number]: g.emit(Add(), h, mark)})))
            g.origin = f"{block.name}_goodness"
            apart = g.emit(Mul(), g.emit(Sub(), *found), g.emit(Power(-1.0), size))
            return g.emit(SigmoidBce(), g.emit(Scale(SLOPE), apart), g.const("ours", np.ones(1, np.float32)), name="loss"), ()

        return teach


def _mean_square(g: Builder, x: Value) -> Value:
    return g.emit(Scale(1 / x.type.numel), g.emit(SumTo((1,)), g.emit(Power(2.0), x)), name="mean_square")


def _pattern(g: Builder, like: Value, size: Value, label: Value, seed: int) -> Value:
    """The signs of a label, `size` times, in the shape of a map or a row."""
    shape = (*(min(n, TILE) for n in like.shape[:-1]), like.shape[-1])
    found = g.emit(RandomDirection(shape, seed), size, label, name="pattern")
    for axis, (whole, part) in enumerate(zip(like.shape, shape, strict=True)):
        if whole > part:
            found = g.emit(Take(axis), found, g.const("repeated", (np.arange(whole, dtype=np.int16) % part)[:, None]), name="pattern")
    return found
