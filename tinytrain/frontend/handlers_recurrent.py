# SPDX-License-Identifier: Apache-2.0
"""Handlers of recurrent layers: LSTM, GRU, RNN. What the input weights make of all steps is one product; what is recurrent is one op."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor
from tinytrain.ir.types import Value
from tinytrain.ops.activation import Activation, LeakyRelu, Relu, Sigmoid, Tanh
from tinytrain.ops.dense import Dense
from tinytrain.ops.elementwise import Add, SumTo
from tinytrain.ops.gru import Gru
from tinytrain.ops.lstm import Lstm
from tinytrain.ops.recurrent import BOTH, FORWARD, REVERSE, Recurrent
from tinytrain.ops.rnn import Rnn
from tinytrain.ops.shape import Reshape, Slice

DIRECTIONS = {"forward": FORWARD, "reverse": REVERSE, "bidirectional": BOTH}
FUNCTIONS: dict[str, Callable[[float], Activation]] = {
    "sigmoid": lambda alpha: Sigmoid(), "tanh": lambda alpha: Tanh(), "relu": lambda alpha: Relu(), "leakyrelu": LeakyRelu,
}
X, W, R, B, LENGTHS, H0, C0, P = range(8)                 # operands


@handles("RNN")
def rnn(call: Call) -> tuple[Tensor | None, ...]:
    return _Layer(call, Rnn()).results()


@handles("GRU")
def gru(call: Call) -> tuple[Tensor | None, ...]:
    return _Layer(call, Gru(reset_after=bool(call.integer("linear_before_reset")))).results()


@handles("LSTM")
def lstm(call: Call) -> tuple[Tensor | None, ...]:
    if call.integer("input_forget"):
        raise call.fail("it couples its input and forget gates (input_forget), expected gates of their own", "Train it without that.")
    return _Layer(call, Lstm(peepholes=call.has(P))).results()


class _Layer:
    """Operands of a node as the IR has them: steps, sequences, and directions before units."""

    def __init__(self, call: Call, op: Recurrent) -> None:
        self.call = call
        direction = call.text("direction", "forward")
        if direction not in DIRECTIONS:
            raise call.fail(f"its direction is {direction}, expected {', '.join(DIRECTIONS)}", "Export the model again.")
        if "clip" in call.attributes:
            raise call.fail("it clips what its functions are given (clip), expected no bounds", "Train it without them.")
        self.early = call.integer("layout") == 1              # the batch comes first
        x = call.operand_shape(X)
        if len(x) != 3:
            raise call.fail(f"its input has the shape {x}, expected steps, batch and features", "Reshape it before.")
        self.steps, self.sequences = (x[1], x[0]) if self.early else (x[0], x[1])
        self.ways, self.units = 1 + (direction == "bidirectional"), call.integer("hidden_size")
        self.op = dataclasses.replace(
            op, direction=DIRECTIONS[direction], functions=self._functions(op), truncate=call.model.truncate
        )
        self._check(x[2])

    def _check(self, features: int) -> None:
        call, rows = self.call, self.op.gates * self.units
        state = (self.sequences, self.ways, self.units) if self.early else (self.ways, self.sequences, self.units)
        want = {
            W: (self.ways, rows, features), R: (self.ways, rows, self.units), B: (self.ways, 2 * rows), H0: state, C0: state,
            P: (self.ways, 3 * self.units),
        }
        for index, shape in want.items():
            if call.has(index) and (found := call.operand_shape(index)) != shape:
                what = f"its operand {call.node.input[index]} has the shape {found}, expected {shape}"
                raise call.fail(what, "Export the model again, for one sample at a time.")
        if call.has(LENGTHS):
            lengths = call.array(LENGTHS, "sequence lengths").reshape(-1)
            if (lengths != self.steps).any():
                shown = ", ".join(map(str, lengths[:4]))
                raise call.fail(f"its sequence_lens are {shown}, expected all {self.steps} steps", "Pad or cut samples to one length.")

    def _functions(self, op: Recurrent) -> tuple[Activation, ...]:
        names = [n.decode(errors="replace") for n in self.call.attributes.get("activations", ())]
        if not names:
            return op.functions
        alphas = iter(self.call.attributes.get("activation_alpha", ()))
        if len(names) != self.ways * len(op.functions):
            raise self._strange(f"{len(names)} activations", f"{self.ways * len(op.functions)}")
        for name in names:
            if name.lower() not in FUNCTIONS:
                raise self._strange(name, "Sigmoid, Tanh, Relu or LeakyRelu")
        made = [FUNCTIONS[name.lower()](float(next(alphas, 0.01)) if name.lower() == "leakyrelu" else 0.0) for name in names]
        first = tuple(made[: len(op.functions)])
        if tuple(made[len(op.functions) :]) not in ((), first):
            raise self._strange("other activations backwards than forwards", "the same")
        return first

    def _strange(self, found: str, expected: str) -> ModelError:
        return self.call.fail(f"it has {found}, expected {expected}", "Take the default functions, where it has any others.")

    def results(self) -> tuple[Tensor | None, ...]:
        """Y, Y_h and, of an LSTM, Y_c; None of those that nobody reads."""
        call, op = self.call, self.op
        states = [self._state(index, name) for index, name in zip((H0, C0), op.states, strict=False)]
        x, more = self._given()
        r = call.const(R, "recurrent weight")
        made = dict(zip(op.results, call.emit_all(op, x, r, *states, *more), strict=True))
        every, last = ((1, 0, 2, 3), (0, 1, 2)) if self.early else ((0, 2, 1, 3), (1, 0, 2))
        return tuple(
            Tensor(made[name], call.output_shape(i), last if i else every) if call.wants(i) else None
            for i, name in enumerate(("y", *op.states))
        )

    def _given(self) -> tuple[Value, list[Value]]:
        """What the input weights make of all steps, with the biases; and the op's own operands behind the states."""
        call, rows = self.call, self.ways * self.op.gates * self.units
        given, order = call.tensor(X), (1, 0, 2) if self.early else (0, 1, 2)
        w = call.const(W, "input weight", shape=(rows, given.shape[2]))
        x = call.emit(Dense(), call.view(given, order, (self.steps, self.sequences, given.shape[2])), w, part="in")
        more = [call.const(P, "peepholes")] if "p" in self.op.args else []
        if "rb" not in self.op.args:
            return (call.emit(Add(), x, call.emit(SumTo((rows,)), self._bias(rows), part="bias"), part="in") if call.has(B) else x), more
        if not call.has(B):
            return x, [call.model.graph.const(f"{call.result}_no_bias", np.zeros((self.ways, rows // self.ways), np.float32))]
        first, second = (call.emit(Slice(0, half, half + 1), self._bias(rows), part="bias") for half in (0, 1))
        x = call.emit(Add(), x, call.emit(Reshape((rows,)), first, part="bias"), part="in")
        return x, [call.emit(Reshape((self.ways, rows // self.ways)), second, part="bias")]

    def _bias(self, rows: int) -> Value:
        """Those beside W, then those beside R."""
        return self.call.const(B, "bias", shape=(self.ways, 2, rows // self.ways), perm=(1, 0, 2), ir=(2, rows))

    def _state(self, index: int, name: str) -> Value:
        """What it starts from: zeros, or an operand, which is no weight."""
        call, shape = self.call, (self.sequences, self.ways, self.units)
        order: Dims = (0, 1, 2) if self.early else (1, 0, 2)
        if not call.has(index):
            return call.model.graph.const(f"{call.result}_{name}0", np.zeros(shape, np.float32))
        if call.is_const(index):
            return call.const(index, f"initial {name}", perm=order, ir=shape, trained=False)
        return call.view(call.tensor(index), order, shape)
