# SPDX-License-Identifier: Apache-2.0
"""Samples from which a training step is settled, and what the NumPy reference makes of them.

ReLU, Clip and maxima have no derivative where they bend. Among the 950,000 activations of MCUNet there often is one that lies so near such
a place that the order of a sum decides on which side, and with that which of two gradients is passed on: both are right, a 400th of an
update apart. Such a sample tells nothing of whether a device is right. A sample is settled where the weights and the sample itself may all
move by some roundings, to either side, and the updates stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinytrain.emit.golden import first_sample
from tinytrain.emit.project import link_keys
from tinytrain.ir.graph import Program
from tinytrain.ir.types import Array, Role
from tinytrain.verify.reference import ReferenceModel

SHAKEN = 2.0**-21                                         # of each number: a few roundings of fp32
DIRECTIONS = 2                                            # to shake in, each forth and back
SETTLED = 5e-5                                            # of an update
MOST_TRIED = 100                                          # samples
FAINT = 0.01                                              # of the largest update: a smaller one may be nothing but rounding


@dataclass(frozen=True)
class Trained:
    """What a device or the reference made: output of the first sample before any step, loss of each step, parameters after the last."""

    output: Array
    losses: Array
    parameters: Mapping[str, Array]

    def same_bits(self, other: Trained) -> bool:
        mine, others = ([made.output, made.losses, *(made.parameters[name] for name in self.parameters)] for made in (self, other))
        return all(np.array_equal(a, b) for a, b in zip(mine, others, strict=True))


@dataclass(frozen=True)
class Steps:
    """Samples and targets, the parameters before, and what the reference makes of them."""

    x: list[Array]
    target: list[Array]
    before: Mapping[str, Array]
    reference: Trained

    def apart(self, made: Trained) -> float:
        """The largest difference of a device: of outputs, losses and updates, as a part of the largest of them.

        That a parameter is rounded anew in each step does not count.
        """
        want, rounding = self.reference, len(self.x) * 2.0**-23
        pairs = [(made.output, want.output.reshape(-1)), (made.losses, want.losses)]
        updates = {}
        for name, before in self.before.items():
            after, wanted = made.parameters[name].reshape(before.shape), want.parameters[name]
            updates[name] = (np.where(abs(after - wanted) <= rounding * abs(wanted), wanted, after) - before, wanted - before)
        return float(np.max([_apart(updates), *(abs(found - wanted).max() / abs(wanted).max() for found, wanted in pairs)]))


def settled(program: Program, steps: int) -> Steps:
    """That many steps in a row, each from the next seeded sample from which it is settled."""
    model = ReferenceModel(program)
    before, kept, losses, output = _parameters(model), [], [], None
    for seed in range(MOST_TRIED):
        x, target = first_sample(program, seed)
        if _is_settled(model, x, target):
            output = model.infer(x) if output is None else output
            losses.append(model.train_step(x, target))
            kept.append((x, target))
            if len(kept) == steps:
                made = Trained(output, np.array(losses, np.float32), _parameters(model))
                return Steps([x for x, _ in kept], [target for _, target in kept], before, made)
    raise AssertionError(f"{program.name}: {len(kept)} of {MOST_TRIED} samples are settled, expected {steps}")


def _is_settled(model: ReferenceModel, x: Array, target: Array) -> bool:
    rng = np.random.default_rng(0)
    for _ in range(DIRECTIONS):
        moves = {v: rng.uniform(-SHAKEN, SHAKEN, v.shape) for v in model.state if v.role is Role.PARAM}
        move = rng.uniform(-SHAKEN, SHAKEN, x.shape)
        forth, back = (_updates(model, {v: 1 + sign * m for v, m in moves.items()}, x * (1 + sign * move), target) for sign in (1, -1))
        if _apart({name: (update, back[name]) for name, update in forth.items()}) > SETTLED:
            return False
    return True


def _updates(model: ReferenceModel, factors: Mapping[object, Array], x: Array, target: Array) -> dict[str, Array]:
    """Of one step of the reference in float64, from parameters times these factors."""
    shaken = ReferenceModel(model.program, np.float64)
    shaken.state = {v: array.astype(np.float64) * factors.get(v, 1.0) for v, array in model.state.items()}
    before = _parameters(shaken)
    shaken.train_step(x, target)
    return {name: array - before[name] for name, array in _parameters(shaken).items()}


def _parameters(model: ReferenceModel) -> dict[str, Array]:
    return {key: model.state[v] for v, key in link_keys(model.program).items() if v.role is Role.PARAM}


def _apart(updates: Mapping[str, tuple[Array, Array]]) -> float:
    """The largest difference, as a part of the largest update of its tensor; NaN where there is one."""
    differences = np.array([abs(found - wanted).max() for found, wanted in updates.values()])
    largest = np.array([abs(wanted).max() for _, wanted in updates.values()])
    return float(np.max(differences / np.maximum(largest, FAINT * largest.max())))
