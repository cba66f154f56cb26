# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization: with frozen statistics, with running ones that follow the samples, or with those of its own input."""

from __future__ import annotations

import numpy as np

from tinytrain.frontend.call import Call, Made, handles
from tinytrain.frontend.handlers_normalise import affine, normalised
from tinytrain.frontend.layout import Tensor, ir_shape
from tinytrain.ir.types import Array, Role, Source, Value
from tinytrain.ops.elementwise import Add, Scale
from tinytrain.ops.norm import BatchNorm
from tinytrain.ops.power import Power
from tinytrain.ops.running import Drift, Follow, InverseDeviation
from tinytrain.ops.shape import Reshape


@handles("BatchNormalization")
def batch_normalization(call: Call) -> Made:
    """γ·(x − μ)/√(σ² + ε) + β; what could be folded was folded before."""
    if call.integer("training_mode"):
        return _of_its_input(call)
    x = call.tensor()
    order = (*(a for a in x.order if a != 1), 1)
    epsilon = call.number("epsilon", 1e-5)
    var = call.array(4, "variance").astype(np.float64) + epsilon
    if not (var > 0).all():
        raise call.fail("its variance plus epsilon is not positive", "The stored statistics are damaged: use another checkpoint.")
    value = call.view(x, order, ir_shape(x.shape, order))
    gamma, beta = call.const(1, "scale"), call.const(2, "offset")
    if _follows(call, epsilon):
        mean, inv_std = _running(call, value, epsilon)
    else:
        mean = call.const(3, "mean", trained=False)
        inv_std = call.model.graph.const(f"{call.node.input[4]}_inv_std", (1 / np.sqrt(var)).astype(np.float32))
    return Tensor(call.emit(BatchNorm(), value, gamma, beta, mean, inv_std), call.shape, order)


def _follows(call: Call, epsilon: float) -> bool:
    """Whether its statistics follow the samples: they are asked to, and no other node reads them."""
    if not call.model.running:
        return False
    if all(len(call.model.readers[name]) == 1 for name in call.node.input[3:]) and epsilon > 0:
        return True
    why = "shares its statistics with another node" if epsilon > 0 else "has no epsilon"
    call.model.notes.append(f"{call.node.name} (BatchNormalization) {why}: they stay as they are")
    return False


def _running(call: Call, x: Value, epsilon: float) -> tuple[Value, Value]:
    """The running mean, and what divides by the running deviation; the update of both."""
    mean, var = (_kept(call, index, what) for index, what in ((3, "running mean"), (4, "running variance")))
    drift = call.emit_all(Drift(), x, mean, part="drift")
    new = call.emit_all(Follow(call.number("momentum", 0.9)), mean, var, *drift, part="running")
    call.model.updates.update(zip((mean, var), new, strict=True))
    return mean, call.emit(InverseDeviation(epsilon), var, part="inv_std")


def _kept(call: Call, index: int, what: str) -> Value:
    """A statistic in RAM, from where it goes back to its initializer."""
    array: Array = call.array(index, what).astype(np.float32)
    name = call.node.input[index]
    return call.model.graph.const(name, array, Role.PARAM, Source(name, array.shape, array.shape, (0,)))


def _of_its_input(call: Call) -> Made:
    """Training as ONNX defines it, where somebody reads the new statistics: one pass over all that comes at once.

    σ² = r⁻² − ε, and the new one m·σ²_old + (1 − m)·σ².
    """
    x, momentum, epsilon = call.tensor(), call.number("momentum", 0.9), call.number("epsilon", 1e-5)
    channels = x.shape[1]
    y, (mean, r) = normalised(call, x, {a for a in range(len(x.shape)) if a != 1}, epsilon)
    before = [momentum * call.array(index, what).astype(np.float64) for index, what in ((3, "mean"), (4, "variance"))]

    def moved(found: Value, kept: Array, part: str) -> Tensor:
        share = call.emit(Scale(1 - momentum), call.emit(Reshape((channels,)), found, part=part), part=part)
        old = call.model.graph.const(f"{call.node.name}_{part}", kept.astype(np.float32))
        return Tensor(call.emit(Add(), share, old, part=part), (channels,), (0,))

    y = affine(call, y, tuple(n if a == 1 else 1 for a, n in enumerate(x.shape)))
    var = call.emit(Power(-2.0), r, part="variance")
    return y, moved(mean, before[0], "mean"), moved(var, before[1] - (1 - momentum) * epsilon, "variance")
