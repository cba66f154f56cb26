# SPDX-License-Identifier: Apache-2.0
"""forward + loss + backward + optimiser → one Program whose entry points share their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tinytrain.autodiff import gradients
from tinytrain.errors import ModelError
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Program
from tinytrain.ir.op import Loss, registry
from tinytrain.ir.types import Role, TensorType, Value
from tinytrain.ops.elementwise import Add
from tinytrain.ops.quantize import Dequantise, dequantised
from tinytrain.overflow import check_sums
from tinytrain.partial import Target, with_targets
from tinytrain.schemes.choose import Trained, choose
from tinytrain.schemes.scheme import Scheme
from tinytrain.update import LEARNING_RATE, Optimiser, Updater


def losses() -> dict[str, type[Loss]]:
    """Losses by the key that the command line takes."""
    return {op.key: op for op in registry().values() if issubclass(op, Loss) and op.key}


def inference(graph: Graph) -> Graph:
    """The forward graph without what only training has (Dropout)."""
    identity = {n.outputs[0]: n.inputs[0] for n in graph.nodes if n.op.training_only}
    return graph.substitute(identity, [n for n in graph.nodes if not n.op.training_only]).replace(updates={})


def build_program(forward: Graph, loss: str | None, scheme: Scheme, optimiser: Optimiser) -> Program:
    """Entry points of a model. Without a loss it only infers.

    Raises SchemeError where the scheme does not fit, ModelError where a gradient does not exist or nothing reaches the loss.
    """
    if loss is None:
        return Program(forward.name, {"infer": inference(forward).replace(name="infer")})
    return program_of(*choose(scheme, forward), loss, optimiser)


def program_of(forward: Graph, trained: Mapping[Value, Trained], loss: str, optimiser: Optimiser) -> Program:
    """Entry points of a model of which these values are trained. Raises as `build_program` does."""
    forward, targets = with_targets(forward, trained)
    check_sums(forward)
    loss_op = losses()[loss]()
    plain = inference(forward)
    entries = {"infer": plain.replace(name="infer"), "evaluate": with_loss(plain, loss_op)[0].replace(name="evaluate")}
    lr = Value(LEARNING_RATE, TensorType((1,)), Role.STATE, np.array([optimiser.learning_rate], np.float32))
    entries["train"], totals = _train(forward, loss_op, targets, optimiser, lr)
    if totals:
        entries["apply"] = _apply(entries["train"], totals, optimiser, lr)
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
        loss = g.emit(loss_op, logits, target, name="loss")
    except ValueError as error:
        message = f"{forward.name}: loss {loss_op.key} does not fit the output of shape {output.shape}: {error}."
        raise ModelError(message, hint="Choose another --loss (mse takes any shape), or end the model in a flat layer.") from error
    return g.graph([loss, output]), g, loss


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
    forward: Graph, loss_op: Loss, targets: Sequence[Target], optimiser: Optimiser, lr: Value
) -> tuple[Graph, list[tuple[Target, Value]]]:
    """Forward, loss, the gradients of the targets and their updates; each update stands right after its gradient if nothing hinders.

    With accumulation the graph only sums; then also each target with the STATE that its gradients are summed in.
    """
    _, g, loss = with_loss(forward, loss_op)
    g.name = "train"
    g.unique(lr.name)
    try:
        found = gradients(g, list(g.nodes), loss, {target.read: target.want for target in targets})
    except ValueError as error:
        raise ModelError(f"{forward.name}: the gradients of this scheme cannot be built: {error}.", hint="Update whole weights.") from error
    if missing := [target.param.name for target in targets if target.read not in found]:
        raise ModelError(f"{forward.name}: the loss does not depend on {', '.join(missing)}.", hint="Take it out of the scheme.")
    updater = Updater(g, optimiser, lr)
    totals = []
    for target in targets:
        param, grad = target.param, found[target.read]
        if optimiser.accumulate > 1:
            g.origin = param.name
            total = g.const(f"sum_{param.name}", np.zeros(grad.shape, np.float32), Role.STATE)
            updater.updates[total] = g.emit(Add(), grad, total, name=f"sum_{param.name}_new")
            totals.append((target, total))
        else:
            updater.add(param, grad, target.rate)
    return g.graph([loss], {**forward.updates, **updater.updates}), totals


def _apply(train: Graph, totals: Sequence[tuple[Target, Value]], optimiser: Optimiser, lr: Value) -> Graph:
    """The entry that updates each parameter by the sum of its gradients and clears the sum."""
    g = Builder("apply", [*train.values(), lr])
    updater = Updater(g, optimiser, lr)
    for target, total in totals:
        updater.add(target.param, total, target.rate)
    return g.graph([], updater.updates)
