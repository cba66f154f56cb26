# SPDX-License-Identifier: Apache-2.0
"""rnn: h_t = f(x_t + R·h_{t−1}), the simplest cell; and the test cases that all cells have in common."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tinytrain.ir.op import Example, f32
from tinytrain.ir.types import Array, TensorType
from tinytrain.ops.activation import Relu
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.recurrent import BOTH, FORWARD, REVERSE, Named, Recurrent, RecurrentGrad, RecurrentGradR


@dataclass(frozen=True)
class Rnn(Recurrent):
    """h_t = f(x_t + R·h_{t−1}). ONNX RNN."""

    name = "rnn"

    def step(self, x: Array, d: int, given: Named, state: Named) -> dict[str, Array]:
        (h,) = self.functions[0].reference(x + state["h"] @ given["r"][d].T)
        return {"h": h}

    def back(self, flow: dict[str, Array], d: int, given: Named, at: Named, before: Named) -> dict[str, Array]:
        (dx,) = self.functions[0].gradient().reference(flow["dh"], at["y"])
        flow["dh"] = dx @ given["r"][d]
        return {"dx": dx}


# T, B, D, H; odd, of one, and with units that fill vectors and some left over
SHAPES = ((1, 1, 1, 1), (5, 2, 1, 3), (3, 2, 2, 5), (4, 1, 1, 37))


def _operands(op: Recurrent, steps: int, sequences: int, directions: int, units: int) -> tuple[TensorType, ...]:
    rows = op.gates * units
    fits = {"r": (directions, rows, units), "p": (directions, 3 * units), "rb": (directions, rows)}
    fits["x"] = (steps, sequences, directions * rows)
    return f32(*(fits.get(name, (sequences, directions, units)) for name in op.args))


def _ways(op: Recurrent) -> tuple[tuple[Recurrent, tuple[TensorType, ...]], ...]:
    """The op with operands of all sizes, in each direction."""
    ways = (FORWARD, REVERSE, BOTH, FORWARD)
    return tuple((dataclasses.replace(op, direction=way), _operands(op, *shape)) for way, shape in zip(ways, SHAPES, strict=True))


def recurrent_examples(op: Recurrent) -> tuple[Example, ...]:
    """All results, and as few as inference of each kind of model needs."""
    ways = _ways(op)
    few = (ways[0], ("y",)), (ways[2], ("h", *op.states[1:]))
    return (
        *(Example(each, operands) for each, operands in ways),
        *(Example(dataclasses.replace(each, makes=makes), operands) for (each, operands), makes in few),
    )


def grad_examples(op: Recurrent) -> tuple[Example, ...]:
    """With a gradient of y, of the last states, or of all; whole and truncated, with all results and with what dR needs alone."""
    last = tuple(f"d{state}" for state in op.states)
    asked = (("dy",), 0, ()), (("dy", *last), 3, op.lefts), (("dy",), 2, (*op.lefts, "dh0")), (last[-1:], 0, op.lefts)
    made: list[Example] = []
    for (each, operands), (given, cut, makes) in zip(_ways(op), asked, strict=True):
        sizes = each.sizes(operands)
        grad = RecurrentGrad(dataclasses.replace(each, truncate=cut), given, makes)
        kinds = dict(zip(each.args, operands, strict=True)) | {"dy": sizes.type("y")}
        tame = (1.0 if sizes.H < 8 else 0.3, 0.0)         # many units whose gradients do not grow from step to step
        made.append(Example(grad, tuple(kinds.get(name, sizes.type(name)) for name in grad.args), reals=tame))
    return tuple(made)


def grad_r_examples(op: Recurrent) -> tuple[Example, ...]:
    """Alone, and with an update behind it."""
    made: list[Example] = []
    for number, (each, operands) in enumerate(_ways(op)):
        sizes, then = each.sizes(operands), (Sgd(),) if number % 2 else ()
        grad = RecurrentGradR(each, then=then)
        made.append(Example(grad, (*(sizes.type(name) for name in grad.args), *(f32((sizes.D, sizes.N, sizes.H), (1,)) if then else ()))))
    return tuple(made)


Rnn.examples = (*recurrent_examples(Rnn()), Example(Rnn(functions=(Relu(),)), _operands(Rnn(), 3, 1, 1, 4)))
RecurrentGrad.examples = grad_examples(Rnn())
RecurrentGrad.examples += tuple(Example(RecurrentGrad(Rnn(), ("dy",), ("dx",)), e.inputs, reals=e.reals) for e in grad_examples(Rnn())[:1])
RecurrentGradR.examples = grad_r_examples(Rnn())
