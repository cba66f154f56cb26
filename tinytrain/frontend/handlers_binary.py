# SPDX-License-Identifier: Apache-2.0
"""Handlers of quotients and of the larger or smaller of several."""

from __future__ import annotations

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_elementwise import flowing_first, operands
from tinytrain.frontend.layout import Tensor
from tinytrain.ops.binary import Div, Max, Min
from tinytrain.ops.curve import Reciprocal
from tinytrain.ops.elementwise import Mul


@handles("Div")
def div(call: Call) -> Tensor:
    """a/b; where only b has the full shape it is 1/b·a."""
    a, b, order = operands(call)
    if a.type.numel < b.type.numel:
        return Tensor(call.emit(Mul(), call.emit(Reciprocal(), b, part="inverse"), a), call.shape, order)
    return Tensor(call.emit(Div(), a, b), call.shape, order)


@handles("Max", "Min")
def extreme(call: Call) -> Tensor:
    a, b, order = operands(call)
    return Tensor(call.emit(Max() if call.op == "Max" else Min(), *flowing_first(call, a, b)), call.shape, order)
