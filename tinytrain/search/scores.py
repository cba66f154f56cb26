# SPDX-License-Identifier: Apache-2.0
"""Cheap scores: what training a parameter would matter, from the gradients of some samples alone.

    fisher        ½ E (Σ p·dp)², the sum over each channel: removing it would change the loss by about so much (TinyTrain, arXiv
                  2307.09988, which sums a·da over the activations of a channel: of a linear layer that is the same number)
    gradient      E Σ dp²: the squared norm of the gradient
    first-order   −Σ g·Δp with g = E dp and Δp the optimiser's step: how much one step lowers the loss (GreenTrainer, arXiv 2309.13192)

p are real numbers, dp = d loss / dp of one sample, E the mean over the samples. All by the NumPy reference of the float gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.errors import ModelError
from tinytrain.gradient.autodiff import gradients
from tinytrain.gradient.objective import Aimed, aims_of, with_loss
from tinytrain.gradient.train_step import inference
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Graph
from tinytrain.ir.op import Want
from tinytrain.ir.types import Array, Value
from tinytrain.schemes.permute_channels import channel_axis
from tinytrain.schemes.scheme import layers
from tinytrain.verify.reference import run

Name = tuple[str, str]                                    # layer, kind of parameter


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The score of a parameter: float64 (C), the share of each index of its last axis (input channels)."""

    shares: Array

    def of(self, channels: Sequence[int]) -> float:
        """Score of these input channels together; of all where none is given."""
        return float(self.shares[list(channels)].sum() if channels else self.shares.sum())


@dataclass(eq=False)
class _Sums:
    """Of one parameter over samples: dp, dp², and the squared Σ p·dp of each index of the last axis, and of the output's."""

    value: Value
    output_axis: int

    def __post_init__(self) -> None:
        assert self.value.data is not None
        scale = _scale(self.value)
        zero = self.value.type.quant.zero_point if self.value.type.quant else 0
        self.scale = scale
        self.real = (self.value.data.astype(np.float64) - zero) * scale
        self.count = 0
        self.grad, self.square = np.zeros(self.real.shape), np.zeros(self.real.shape)
        self.inputs, self.outputs = np.zeros(self.real.shape[-1:]), np.zeros(self.real.shape[self.output_axis])

    def add(self, stored_grad: Array) -> None:
        """One more sample: d loss / d stored, of the stored number p / scale."""
        grad = stored_grad / self.scale
        self.count += 1
        self.grad += grad
        self.square += np.square(grad)
        self.inputs += np.square(_along(self.real * grad, -1))
        self.outputs += np.square(_along(self.real * grad, self.output_axis))


def _scale(value: Value) -> Array:
    """What one step of the stored number is worth, in a shape that goes with the value's."""
    if (quant := value.type.quant) is None:
        return np.ones(1)
    shape = [1] * len(value.shape)
    shape[quant.axis or 0] = len(quant.scale)
    return np.array(quant.scale).reshape(shape)


def _along(array: Array, axis: int) -> Array:
    """Sum over all axes but one."""
    return np.asarray(np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).sum(axis=1))


def _fisher(sums: _Sums, optimiser: Optimiser) -> Sensitivity:
    """The paper's channels are those of the output; a part of the input channels counts by its share of the same sum over these."""
    total = sums.inputs.sum()
    return Sensitivity(sums.inputs / total * sums.outputs.sum() / (2 * sums.count) if total else sums.inputs)


def _gradient(sums: _Sums, optimiser: Optimiser) -> Sensitivity:
    return Sensitivity(_along(sums.square, -1) / sums.count)


def _first_order(sums: _Sums, optimiser: Optimiser) -> Sensitivity:
    """Momentum steps as it does when gradients stay the same; Adam and its like divide by the root of the mean square."""
    grad = sums.grad / sums.count
    followed = grad if optimiser.kind == "sgd" else grad / (np.sqrt(sums.square / sums.count) + 1e-8)
    direction = followed / (1 - optimiser.momentum)
    rate = optimiser.learning_rate * (optimiser.bias_factor if grad.ndim == 1 else 1.0)
    return Sensitivity(_along(grad * rate * (direction + optimiser.weight_decay * sums.real), -1))


SCORES: Mapping[str, Callable[[_Sums, Optimiser], Sensitivity]] = {"fisher": _fisher, "gradient": _gradient, "first-order": _first_order}


def sensitivities(forward: Graph, loss: Aimed, samples: Dataset, score: str, optimiser: Optimiser) -> dict[Name, Sensitivity]:
    """(layer, kind) → its score over the samples, for every parameter that has a gradient. `score` is one of SCORES.

    Raises ModelError where the loss does not fit, or no parameter has a gradient.
    """
    sums = _summed(forward, loss, samples)
    return {name: SCORES[score](of, optimiser) for name, of in sums.items()}


def mean_gradients(forward: Graph, loss: Aimed, samples: Dataset) -> dict[Name, Array]:
    """(layer, kind) → E dp over the samples, with the axis of the output first. Raises ModelError as `sensitivities` does."""
    sums = _summed(forward, loss, samples)
    return {name: np.moveaxis(of.grad / of.count, of.output_axis, 0) for name, of in sums.items()}


def _summed(forward: Graph, loss: Aimed, samples: Dataset) -> dict[Name, _Sums]:
    values = {(layer.name, kind): value for layer in layers(forward) for kind, value in layer.parameters.items()}
    sums = {name: _Sums(value, _output_axis(forward, value)) for name, value in values.items()}
    for found in _gradients(forward, loss, samples, values):
        for name, grad in found.items():
            sums[name].add(grad)
    return {name: of for name, of in sums.items() if of.count}


def _output_axis(forward: Graph, value: Value) -> int:
    axis = channel_axis(forward, value, "out")
    return 0 if axis is None else axis


def _gradients(forward: Graph, loss: Aimed, samples: Dataset, values: Mapping[Name, Value]) -> Iterator[dict[Name, Array]]:
    """d loss / d stored value of each sample."""
    assert samples.y is not None
    backward, names = _backward(forward, loss, values)
    for x, y in zip(samples.x, samples.y, strict=True):
        shaped = [np.reshape(array, v.shape) for v, array in zip(backward.inputs, (x, y), strict=True)]
        yield dict(zip(names, run(backward, shaped).outputs, strict=True))


def _backward(forward: Graph, loss: Aimed, values: Mapping[Name, Value]) -> tuple[Graph, list[Name]]:
    """The graph of the gradients, and whose they are. Values before an op without gradient are left out, as they come first."""
    plain = inference(forward)
    _, g, at = with_loss(plain, aims_of(loss, plain))
    try:
        found = gradients(g, list(g.nodes), at, dict.fromkeys(values.values(), Want()))
    except ModelError:
        layer = next(iter(values))[0]
        later = {name: value for name, value in values.items() if name[0] != layer}
        if not later:
            raise
        return _backward(forward, loss, later)
    names = [name for name, value in values.items() if value in found]
    return g.graph([found[values[name]] for name in names]), names
