# SPDX-License-Identifier: Apache-2.0
"""Handlers of powers (`ops/power.py`), circular and hyperbolic functions (`ops/trig.py`), and functions in pieces (`ops/steps.py`)."""

from __future__ import annotations

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_elementwise import operands, unary
from tinytrain.frontend.layout import Tensor
from tinytrain.ir.op import Op
from tinytrain.ops.curve import Reciprocal, Sqrt
from tinytrain.ops.elementwise import Broadcast
from tinytrain.ops.power import Pow, Power
from tinytrain.ops.steps import Ceil, Floor, PRelu, Round, Shrink, Sign, Swish, ThresholdedRelu
from tinytrain.ops.trig import Acos, Acosh, Asin, Asinh, Atan, Atanh, Cos, Cosh, Sin, Sinh, Tan

_PLAIN: dict[str, Op] = {
    "Acos": Acos(), "Acosh": Acosh(), "Asin": Asin(), "Asinh": Asinh(), "Atan": Atan(), "Atanh": Atanh(), "Ceil": Ceil(), "Cos": Cos(),
    "Cosh": Cosh(), "Floor": Floor(), "Round": Round(), "Sign": Sign(), "Sin": Sin(), "Sinh": Sinh(), "Tan": Tan(),
}
_POWERS: dict[float, Op] = {0.5: Sqrt(), -1.0: Reciprocal()}


@handles(*_PLAIN)
def plain(call: Call) -> Tensor:
    return unary(call, _PLAIN[call.op])


@handles("ThresholdedRelu")
def thresholded_relu(call: Call) -> Tensor:
    return unary(call, ThresholdedRelu(call.number("alpha", 1.0)))


@handles("Shrink")
def shrink(call: Call) -> Tensor:
    limit = call.number("lambd", 0.5)
    if limit < 0:
        raise call.fail(f"its lambd is {limit:g}, expected 0 or more", "Check its attributes.")
    return unary(call, Shrink(limit, call.number("bias", 0.0)))


@handles("Swish")
def swish(call: Call) -> Tensor:
    return unary(call, Swish(call.number("alpha", 1.0)))


@handles("Pow")
def power(call: Call) -> Tensor:
    """By an exponent of one element, which is no weight, as a product or root where it is one."""
    if call.is_const(1) and call.array(1, "exponent").size == 1 and len(call.operand_shape(1)) <= len(call.operand_shape(0)):
        exponent = call.scalar(1, "exponent", 1.0)
        return call.tensor() if exponent == 1 else unary(call, _POWERS.get(exponent) or Power(exponent))
    a, b, order = operands(call)
    if a.type.numel < b.type.numel:
        a = call.emit(Broadcast(b.shape), a, part="spread")
    return Tensor(call.emit(Pow(), a, b), call.shape, order)


@handles("PRelu")
def prelu(call: Call) -> Tensor:
    x, slope, order = operands(call)
    return Tensor(call.emit(PRelu(), x, slope), call.shape, order)
