# SPDX-License-Identifier: Apache-2.0
"""forward + loss + backward + optimiser → one Program whose entry points share their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.autodiff import slice_gradients
from tinytrain.gradient.overflow import check_sums
from tinytrain.gradient.partial import Target, with_targets
from tinytrain.gradient.update import Optimiser, States, Updater
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Program, apply_of
from tinytrain.ir.op import Loss, registry
from tinytrain.ir.types import Role, TensorType, Value
from tinytrain.ops.elementwise import Add
from tinytrain.ops.quantize import Dequantise, dequantised
from tinytrain.schemes.choose import Trained, choose_all
from tinytrain.schemes.scheme import Scheme


def losses() -> dict[str, type[Loss]]:
    """Losses by the key that the command line takes."""
    return {op.key: op for op in registry().values() if issubclass(op, Loss) and op.key}


def loss_of(loss: str | Loss) -> Loss:
    """A loss by its key, or as it is."""
    return losses()[loss]() if isinstance(loss, str) else loss


def inference(graph: Graph) -> Graph:
    """The forward graph without what only training has (Dropout)."""
    identity = {n.outputs[0]: n.inputs[0] for n in graph.nodes if n.op.training_only}
    return graph.substitute(identity, [n for n in graph.nodes if not n.op.training_only]).replace(updates={})


def build_program(
    forward: Graph, loss: str | Loss | None, scheme: Scheme, optimiser: Optimiser, further_schemes: Sequence[Scheme] = ()
) -> Program:
    """Entry points of a model; with further schemes it can switch among all of them. Without a loss it only infers.

    Raises SchemeError where the scheme does not fit, ModelError where a gradient does not exist or nothing reaches the loss.
    """
    if loss is None:
        return Program(forward.name, {"infer": inference(forward).replace(name="infer")})
    return program_of(*choose_all([scheme, *further_schemes], forward), loss, optimiser)


def program_of(forward: Graph, trained: Sequence[Mapping[Value, Trained]], loss: str | Loss, optimiser: Optimiser) -> Program:
    """Entry points of a model of which each scheme trains these values. Raises as `build_program` does."""
    forward, schemes = with_targets(forward, trained)
    check_sums(forward)
    loss_op = loss_of(loss)
    plain = inference(forward)
    entries = {"infer": plain.replace(name="infer"), "evaluate": with_loss(plain, loss_op)[0].replace(name="evaluate")}
    states = States(optimiser.learning_rate)
    for number, targets in enumerate(schemes):
        train = f"train_{number}" if number else "train"
        entries[train], totals = _train(train, forward, loss_op, targets, optimiser, states)
        if totals:
            entries[apply_of(train)] = _apply(entries[train], totals, optimiser, states)
    return Program(forward.name, entries, optimiser.accumulate)


def with_loss(forward: Graph, loss_op: Loss) -> tuple[Graph, Builder, Value]:
    """Append the loss to the forward graph; a final activation that the loss contains is not read by it."""
    g = Builder(forward.name, forward.values(), forward.nodes)
    output = forward.outputs[0]
    logits = _logits(g, forward, loss_op)
    try:
        kind = loss_op.target_type(logits.type)
        g.inputs = [*forward.inputs, target := g.value("target", kind, Role.INPUT)]
        g.origin = "loss"
        loss = loss_op.emit(g, logits, target)
    except ValueError as error:
        message = f"{forward.name}: loss {loss_op.key} does not fit the output of shape {output.shape}: {error}."
        others = " or ".join(key for key, kind in losses().items() if _takes(kind(), output.type))
        raise ModelError(message, hint=f"Try --loss {others}, or end the model in one row of class scores.") from error
    return g.graph([loss, output]), g, loss


def _takes(loss_op: Loss, output: TensorType) -> bool:
    try:
        loss_op.target_type(output)
    except ValueError:
        return False
    return True


def _logits(g: Builder, forward: Graph, loss_op: Loss) -> Value:
    """What the loss reads: the output, or what a final activation that the loss contains is made of, as the reals that it stands for."""
    output, made = forward.outputs[0], forward.producers()
    last = made.get(output)
    stored = made.get(last.inputs[0]) if last is not None and isinstance(last.op, Dequantise) else None
    if stored is not None and isinstance(stored.op, loss_op.absorbs):
        g.origin = stored.origin
        return dequantised(g, stored.inputs[0], name=f"{stored.inputs[0].name}_real")
    return last.inputs[0] if last is not None and isinstance(last.op, loss_op.absorbs) else output


def _train(
    name: str, forward: Graph, loss_op: Loss, targets: Sequence[Target], optimiser: Optimiser, states: States
) -> tuple[Graph, list[tuple[Target, Value]]]:
    """Forward, loss, the gradients of the targets and their updates; each update stands right after its gradient if nothing hinders.

    With accumulation the graph only sums; then also each target with the STATE that its gradients are summed in.
    """
    _, g, loss = with_loss(forward, loss_op)
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
