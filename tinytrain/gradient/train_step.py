# SPDX-License-Identifier: Apache-2.0
"""forward + loss + backward + optimiser → one Program whose entry points share their weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.autodiff import slice_gradients
from tinytrain.gradient.distil import Distil, taught
from tinytrain.gradient.elastic import Elastic
from tinytrain.gradient.loss_scale import Scaler, kept
from tinytrain.gradient.method import Auxiliary, Goal, Method, Step
from tinytrain.gradient.methods.backprop import Backprop
from tinytrain.gradient.objective import Aim, Aimed, aims_of, with_loss
from tinytrain.gradient.overflow import check_sums
from tinytrain.gradient.partial import Target, with_targets
from tinytrain.gradient.start import starts_of, with_start
from tinytrain.gradient.update import Optimiser, States, Updater
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import LOSS_SCALE, Graph, Node, Program, apply_of
from tinytrain.ir.types import Value
from tinytrain.ops.elementwise import Add
from tinytrain.ops.loss_scale import SumsFactor
from tinytrain.schemes.choose import Trained, choose_all
from tinytrain.schemes.scheme import Scheme

BACKPROP = Backprop()


def inference(graph: Graph) -> Graph:
    """The forward graph without what only training has (Dropout)."""
    identity = {n.outputs[0]: n.inputs[0] for n in graph.nodes if n.op.training_only}
    return graph.substitute(identity, [n for n in graph.nodes if not n.op.training_only]).replace(updates={})


def build_program(
    forward: Graph, loss: Aimed | None, scheme: Scheme, optimiser: Optimiser, further_schemes: Sequence[Scheme] = (),
    method: Method = BACKPROP, distil: Distil | None = None, elastic: Elastic | None = None,
) -> Program:
    """Entry points of a model; with further schemes it can switch among all of them. Without a loss it only infers.
    `distil` and `elastic` are bonds to where it started.

    Raises SchemeError where the scheme does not fit, ModelError where a gradient does not exist, nothing reaches the loss, or the method
    does not fit the model.
    """
    if loss is None:
        given = {"--distil": distil, "--elastic": elastic, f"--method {method.key}": None if method == BACKPROP else method}
        if unused := [name for name, what in given.items() if what]:
            message = f"{forward.name} trains nothing, so {' and '.join(unused)} would have no effect."
            raise ModelError(message, hint="Leave it out, or choose a --loss and a model with something to train.")
        return Program(forward.name, {"infer": inference(forward).replace(name="infer")})
    if (distil or elastic) and not isinstance(method, Backprop):
        message = f"{forward.name}: --method {method.key} has losses of its own; {'--distil' if distil else '--elastic'} goes with that of "
        raise ModelError(f"{message}the model.", hint="Leave out --method, or keep old samples: --replay 64.")
    return program_of(*choose_all([scheme, *further_schemes], forward), loss, optimiser, method, distil, elastic)


def program_of(
    forward: Graph, trained: Sequence[Mapping[Value, Trained]], loss: Aimed, optimiser: Optimiser, method: Method = BACKPROP,
    distil: Distil | None = None, elastic: Elastic | None = None,
) -> Program:
    """Entry points of a model of which each scheme trains these values. Raises as `build_program` does."""
    forward, schemes = with_targets(forward, trained)
    check_sums(forward)
    aims = aims_of(loss, forward)
    method.check_loss(aims, forward.name)
    plain = inference(forward)
    entries = {"infer": plain.replace(name="infer"), "evaluate": with_loss(plain, aims)[0].replace(name="evaluate")}
    starts = starts_of(forward)
    states, auxiliary = States(optimiser, starts, elastic), Auxiliary(forward)
    for number, targets in enumerate(schemes):
        train = f"train_{number}" if number else "train"
        entries[train], sums = _train(train, forward, aims, targets, optimiser, states, method, auxiliary, distil)
        if sums.totals or sums.followers:
            entries[apply_of(train)] = _apply(entries[train], sums, optimiser, states)
    bounds = aims[0].loss.bounds(forward.outputs[aims[0].output].type) if len(aims) == 1 else (0.0, math.inf)
    return method.finish(Program(forward.name, entries, optimiser.accumulate, bounds=bounds))


@dataclass
class _Sums:
    """What an update is made of, where it is one of several samples: STATE that a `train` adds to and `apply` clears.

    Each target with that of its gradients; nodes that run once an update, with operands that may be such; `Step.averages`.
    """

    totals: list[tuple[Target, Value]] = field(default_factory=list)
    followers: list[tuple[Node, list[Value]]] = field(default_factory=list)
    averages: dict[Value, Value] = field(default_factory=dict)


def _train(
    name: str, forward: Graph, aims: Sequence[Aim], targets: Sequence[Target], optimiser: Optimiser, states: States, method: Method,
    auxiliary: Auxiliary, distil: Distil | None,
) -> tuple[Graph, _Sums]:
    """Forward, loss, the gradients of the targets and their updates; each update stands right after its gradient if nothing hinders.

    With accumulation the graph only sums; then also what is summed where.
    """
    forward, later = _put_off(forward, optimiser.accumulate)
    if distil:
        forward, start = with_start(forward, inference(forward), states.starts)
    _, g, loss = with_loss(forward, aims)
    goal = taught(g, forward, start, aims, loss, distil) if distil else loss
    g.name = name
    updater, scaler = Updater(g, optimiser, states), None
    if chosen := optimiser.loss_scale:
        scaler = Scaler(g, chosen, states.known(g, LOSS_SCALE), goal, optimiser.accumulate)
    step = Step(g, forward, aims, goal, targets, dict(forward.updates), auxiliary, states)
    grads = _gradients(g, method.goals(step), targets, scaler.scale if scaler else None, forward.name)
    updates = step.updates
    if scaler:
        updater.factor, unscaled = scaler.unscaled([(target.param.name, grad) for target, grad in grads.items()])
        grads = dict(zip(grads, unscaled, strict=True))
        updates = {**kept(g, updates, updater.factor), **scaler.updates}

    def summed(value: Value, of: str) -> tuple[Value, Value]:
        g.origin = of
        total = states.take(g, f"sum_{of}", np.zeros(value.shape, np.float32))
        return total, g.emit(Add(), value, total, name=f"sum_{of}_new")

    def followed(value: Value) -> Value:
        total, new = summed(value, value.name)
        updater.updates |= kept(g, {total: new}, updater.factor)
        return total

    sums = _Sums()
    if optimiser.accumulate > 1:
        for target, grad in grads.items():
            total, updater.updates[total] = summed(grad, target.param.name)
            sums.totals.append((target, total))
        sums.followers = [(node, [v if v.data is not None else followed(v) for v in node.inputs]) for node in later]
        sums.averages = step.averages
    else:
        updater.add_all([(target.param, grad, target.rate) for target, grad in grads.items()])
        updater.follow_all(step.averages)
    return g.graph([loss if distil else step.loss], {**updates, **updater.updates}), sums


def _put_off(forward: Graph, accumulate: int) -> tuple[Graph, list[Node]]:
    """The graph without what runs once an update, where that is one of several samples; and those nodes."""
    later = [node for node in forward.nodes if node.op.per_update and accumulate > 1]
    made = {v for node in later for v in node.outputs}
    nodes = tuple(node for node in forward.nodes if node not in later)
    return forward.replace(nodes=nodes, updates={old: new for old, new in forward.updates.items() if new not in made}), later


def _gradients(
    g: Builder, goals: Iterable[Goal], targets: Sequence[Target], scale: Value | None, model: str
) -> dict[Target, Value]:
    """Of each target of a goal, times `scale` if there is one. Raises ModelError where one cannot be built, or where no loss depends on one
    that the scheme trains."""
    found: dict[Target, Value] = {}
    for goal in goals:
        if goal.grads is not None:
            found |= dict(zip(goal.targets, goal.grads, strict=True))
            continue
        try:
            made = slice_gradients(g, list(g.nodes), goal.loss, [(target.read, target.want) for target in goal.targets], scale)
        except ValueError as error:
            raise ModelError(f"{model}: the gradients of this scheme cannot be built: {error}.", hint="Update whole weights.") from error
        found |= {target: made[key] for target in goal.targets if (key := (target.read, target.want)) in made}
    if missing := [target.param.name for target in targets if target not in found]:
        raise ModelError(
            f"{model}: the loss does not depend on {', '.join(missing)}, or only through roundings, signs and comparisons.",
            hint="Nothing is learned there: take it out of the scheme, or change the model.",
        )
    return found


def _apply(train: Graph, sums: _Sums, optimiser: Optimiser, states: States) -> Graph:
    """The entry that updates each parameter by the sum of its gradients, and what follows the samples, and clears the sums."""
    g = Builder(apply_of(train.name), train.values())
    updater = Updater(g, optimiser, states)
    if optimiser.loss_scale:
        updater.factor = g.emit(SumsFactor(optimiser.accumulate), states.known(g, LOSS_SCALE), name="sums_factor")
    updater.add_all([(target.param, total, target.rate) for target, total in sums.totals])
    updater.follow_all(sums.averages)
    for node, operands in sums.followers:
        g.origin = node.origin
        once = node.with_op(scale=1 / optimiser.accumulate, clear=True)
        made = dict(zip(operands, g.emit_all(once.op, *operands), strict=True))
        stays = {v: new for v, new in made.items() if v in node.inputs}      # the others are sums, which start again
        updater.updates |= {**made, **kept(g, stays, updater.factor)}
    return g.graph([], updater.updates)
