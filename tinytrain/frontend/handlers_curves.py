# SPDX-License-Identifier: Apache-2.0
"""Handlers of functions of one element (`ops/curve.py`, `ops/gate.py`)."""

from __future__ import annotations

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_elementwise import unary
from tinytrain.frontend.layout import Tensor
from tinytrain.ir.op import Op
from tinytrain.ops.curve import Abs, Erf, Exp, Log, Reciprocal, Softplus, Softsign, Sqrt
from tinytrain.ops.elementwise import Scale
from tinytrain.ops.gate import Elu, Gelu, HardSigmoid, HardSwish, Mish

_PLAIN: dict[str, Op] = {
    "Abs": Abs(), "Erf": Erf(), "Exp": Exp(), "HardSwish": HardSwish(), "Log": Log(), "Mish": Mish(), "Neg": Scale(-1.0),
    "Reciprocal": Reciprocal(), "Softplus": Softplus(), "Softsign": Softsign(), "Sqrt": Sqrt(),
}
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)   # alpha and gamma, as ONNX has them


@handles(*_PLAIN)
def plain(call: Call) -> Tensor:
    return unary(call, _PLAIN[call.op])


@handles("Elu", "Selu", "Celu")
def elu(call: Call) -> Tensor:
    """Celu is α·(e^(x/α) − 1) below 0: an Elu of x/α, times α."""
    alpha = call.number("alpha", _SELU[0] if call.op == "Selu" else 1.0)
    gamma = call.number("gamma", _SELU[1]) if call.op == "Selu" else 1.0
    if alpha < 0 or gamma <= 0 or (call.op == "Celu" and alpha == 0):
        raise call.fail(f"alpha is {alpha:g} and gamma {gamma:g}, expected above 0", "Check its attributes.")
    if call.op != "Celu" or alpha == 1:
        return unary(call, Elu(alpha, gamma))
    x = call.tensor()
    inner = call.emit(Elu(), call.emit(Scale(1 / alpha), x.value, part="scaled"), part="elu")
    return Tensor(call.emit(Scale(alpha), inner), x.shape, x.order)


@handles("HardSigmoid")
def hard_sigmoid(call: Call) -> Tensor:
    return unary(call, HardSigmoid(call.number("alpha", 0.2), call.number("beta", 0.5)))


@handles("Gelu")
def gelu(call: Call) -> Tensor:
    form = call.text("approximate", "none")
    if form not in ("none", "tanh"):
        raise call.fail(f"approximate is {form}, expected none or tanh", "Export it as one of these.")
    return unary(call, Gelu(form == "tanh"))
