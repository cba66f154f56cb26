# SPDX-License-Identifier: Apache-2.0
"""forward + loss + backward + optimiser → one Program whose entry points share their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.autodiff import slice_gradients
from tinytrain.gradient.objective import Aim, Aimed, aims_of, with_loss
from tinytrain.gradient.overflow import check_sums
from tinytrain.gradient.partial import Target, with_targets
from tinytrain.gradient.update import Optimiser, States, Updater
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Program, apply_of
from tinytrain.ir.types import Value
from tinytrain.ops.elementwise import Add
from tinytrain.schemes.choose import Trained, choose_all
from tinytrain.schemes.scheme import Scheme


def inference(graph: Graph) -> Graph:
    """The forward graph without what only training has (Dropout)."""
    identity = {n.outputs[0]: n.inputs[0] for n in graph.nodes if n.op.training_only}
    return graph.substitute(identity, [n for n in graph.nodes if not n.op.training_only]).replace(updates={})


def build_program(
    forward: Graph, loss: Aimed | None, scheme: Scheme, optimiser: Optimiser, further_schemes: Sequence[Scheme] = ()
) -> Program:
    """Entry points of a model; with further schemes it can switch among all of them. Without a loss it only infers.

    Raises SchemeError where the scheme does not fit, ModelError where a gradient does not exist or nothing reaches the loss.
    """
    if loss is None:
        return Program(forward.name, {"infer": inference(forward).replace(name="infer")})
    return program_of(*choose_all([scheme, *further_schemes], forward), loss, optimiser)


def program_of(forward: Graph, trained: Sequence[Mapping[Value, Trained]], loss: Aimed, optimiser: Optimiser) -> Program:
    """Entry points of a model of which each scheme trains these values. Raises as `build_program` does."""
    forward, schemes = with_targets(forward, trained)
    check_sums(forward)
    aims = aims_of(loss, forward)
    plain = inference(forward)
    entries = {"infer": plain.replace(name="infer"), "evaluate": with_loss(plain, aims)[0].replace(name="evaluate")}
    states = States(optimiser.learning_rate)
    for number, targets in enumerate(schemes):
        train = f"train_{number}" if number else "train"
        entries[train], totals = _train(train, forward, aims, targets, optimiser, states)
        if totals:
            entries[apply_of(train)] = _apply(entries[train], totals, optimiser, states)
    return Program(forward.name, entries, optimiser.accumulate)


def _train(
    name: str, forward: Graph, aims: Sequence[Aim], targets: Sequence[Target], optimiser: Optimiser, states: States
) -> tuple[Graph, list[tuple[Target, Value]]]:
    """Forward, loss, the gradients of the targets and their updates; each update stands right after its gradient if nothing hinders.

    With accumulation the graph only sums; then also each target with the STATE that its gradients are summed in.
    """
    _, g, loss = with_loss(forward, aims)
    g.name = name
    updater = Updater(g, optimiser, states)
    try:
        found = slice_gradients(g, list(g.nodes), loss, [(target.read, target.want) for target in targets], optimiser.loss_scale)
    except ValueError as error:
        raise ModelError(f"{forward.name}: the gradients of this scheme cannot be built: {error}.", hint="Update whole weights.") from error
    if missing := [target.param.name for target in targets if (target.read, target.want) not in found]:
        raise ModelError(f"{forward.name}: the loss does not depend on {', '.join(missing)}.", hint="Take it out of the scheme.")
    totals = []
    if optimiser.accumulate > 1:
        for target in targets:
            grad, g.origin = found[target.read, target.want], target.param.name
            total = states.take(g, f"sum_{target.param.name}", np.zeros(grad.shape, np.float32))
            updater.updates[total] = g.emit(Add(), grad, total, name=f"sum_{target.param.name}_new")
            totals.append((target, total))
    else:
        updater.add_all([(target.param, found[target.read, target.want], target.rate) for target in targets])
    return g.graph([loss], {**forward.updates, **updater.updates}), totals


def _apply(train: Graph, totals: Sequence[tuple[Target, Value]], optimiser: Optimiser, states: States) -> Graph:
    """The entry that updates each parameter by the sum of its gradients and clears the sum."""
    g = Builder(apply_of(train.name), train.values())
    updater = Updater(g, optimiser, states)
    updater.add_all([(target.param, total, target.rate) for target, total in totals])
    return g.graph([], updater.updates)
