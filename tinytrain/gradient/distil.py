# SPDX-License-Identifier: Apache-2.0
"""distil: what the model said when it started is a further target of each sample, so that it goes on saying it.

    L  →  L + w·T²·cross entropy of softmax(z/T) and softmax(z0/T)      z scores, z0 those by the first weights
    L  →  L + w·L(y, y0)                                                where outputs are no class scores

("Learning without Forgetting", Li and Hoiem, arXiv 1606.09282, with the temperature of Hinton, Vinyals and Dean, arXiv 1503.02531.) It
costs a second pass forward through what is trained, and its scores; what a step reports stays L.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.autodiff import terms_of
from tinytrain.gradient.objective import Aim, scores
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Value
from tinytrain.ops.activation import Sigmoid
from tinytrain.ops.elementwise import Scale
from tinytrain.ops.loss import SoftenedCrossEntropy
from tinytrain.ops.objective import Total
from tinytrain.ops.softmax import Softmax

TEMPERATURE = 2.0


@dataclass(frozen=True)
class Distil:
    """What the start says counts `weight` times as much as the targets; `temperature` softens class scores, None: by TEMPERATURE."""

    weight: float = 1.0
    temperature: float | None = None

    @classmethod
    def of(cls, text: str) -> Distil:
        """`1`, or with a temperature `1:2`. Raises TinytrainError."""
        try:
            numbers = [float(part) for part in text.split(":")]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 2 or not (0 < numbers[0] <= 1e3) or not all(0.01 <= number <= 100 for number in numbers[1:]):
            message = f"--distil {text}: expected a weight above 0, up to 1,000, and behind a colon maybe a temperature of 0.01 to 100."
            raise TinytrainError(message, hint="Try --distil 1 or --distil 1:2.")
        return cls(*numbers)


def taught(g: Builder, forward: Graph, start: Graph, aims: Sequence[Aim], loss: Value, distil: Distil) -> Value:
    """Emit the loss that is to fall. Raises ModelError where a temperature softens nothing."""
    if distil.temperature is not None and not any(Softmax in aim.loss.absorbs for aim in aims):
        message = f"{forward.name}: the temperature of --distil softens class scores; found loss {aims[0].loss.key}, which has none."
        raise ModelError(message, hint=f"Leave it out: --distil {distil.weight:g}.")
    terms = terms_of(g.nodes, loss)
    g.origin = "distil"
    for aim in aims:
        said, now = scores(g, start, aim), scores(g, forward, aim)
        terms[_term(g, aim, said, now, distil.temperature or TEMPERATURE)] = distil.weight * aim.weight
    assert all(math.isfinite(weight) for weight in terms.values())
    return g.emit(Total(tuple(terms.values())), *terms, name="taught_loss")


def _term(g: Builder, aim: Aim, said: Value, now: Value, temperature: float) -> Value:
    """How far an output is from that of the start."""
    if Softmax in aim.loss.absorbs:
        soft = g.emit(Softmax(), g.emit(Scale(1 / temperature), said), name="said")
        return SoftenedCrossEntropy(temperature=temperature).emit(g, now, soft)
    return aim.loss.emit(g, now, g.emit(Sigmoid(), said, name="said") if Sigmoid in aim.loss.absorbs else said)
