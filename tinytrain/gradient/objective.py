# SPDX-License-Identifier: Apache-2.0
"""What a model is trained for: a loss for each output that has one, and its weight.

    ce                      the same for each output
    label=ce, box=mse:0.5   by the names of the outputs; those that are not named are not trained for
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tinytrain.errors import ModelError
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.loss import Loss
from tinytrain.ir.op import registry
from tinytrain.ir.types import TensorType, Value
from tinytrain.ops.objective import Total
from tinytrain.ops.quantize import Dequantise, dequantised
from tinytrain.ops.record import record


@dataclass(frozen=True)
class Aim:
    """Output number `output` has this loss, `weight` times."""

    output: int
    loss: Loss
    weight: float = 1.0


def losses() -> dict[str, type[Loss]]:
    """Losses by the key that the command line takes."""
    return {op.key: op for op in registry().values() if issubclass(op, Loss) and op.key}


@dataclass(frozen=True)
class Objective:
    """A text of this form, and options of its losses by their names: each loss takes those that it has."""

    text: str
    options: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)

    @property
    def for_all(self) -> bool:
        """Whether all outputs have the same."""
        return "=" not in self.text

    @property
    def items(self) -> list[tuple[str, str, str]]:
        """(name of an output, "" for all; key of its loss; text of its weight)."""
        if self.for_all:
            return [("", self.text, "")]
        parts = [item.strip().rpartition("=") for item in self.text.split(",")]
        return [(name, *_cut(rest)) for name, _, rest in parts]


def _cut(text: str) -> tuple[str, str]:
    key, _, weight = text.partition(":")
    return key, weight


Aimed = str | Objective | Loss                            # what a loss may be given as; a Loss is for all outputs


def aims_of(aimed: Aimed, forward: Graph) -> tuple[Aim, ...]:
    """What is meant for the outputs of a model. Raises ModelError."""
    objective = Objective(aimed) if isinstance(aimed, str) else aimed
    if isinstance(objective, Objective) and objective.for_all:
        objective = _loss(objective.text, forward.name, objective.options)
    if isinstance(objective, Loss):
        _check_labelled(objective, forward)
        return tuple(Aim(i, objective) for i in range(len(forward.outputs)))
    names = forward.output_names
    found: dict[int, Aim] = {}
    for name, key, factor in objective.items:
        loss = _loss(key, forward.name, objective.options)
        _check_labelled(loss, forward)
        if name not in names:
            message = f"{forward.name} has no output {name!r} for a loss; its outputs are {', '.join(names)}."
            raise ModelError(message, hint="Correct --loss.")
        if names.index(name) in found:
            raise ModelError(f"--loss gives output {name} two losses; expected one.", hint="Add them up by weights in one.")
        found[names.index(name)] = Aim(names.index(name), loss, _weight(factor, name))
    return tuple(found[i] for i in sorted(found))


def losses_of(objective: Objective, model: str, outputs: Sequence[str]) -> list[tuple[Loss, float]]:
    """Of outputs by their names, which have one each: the loss, and its weight. Raises ModelError; KeyError for one that has none."""
    items = {name: (key, factor) for name, key, factor in objective.items}
    chosen = [(name, *items["" if objective.for_all else name]) for name in outputs]
    return [(_loss(key, model, objective.options), _weight(factor, name)) for name, key, factor in chosen]


def aimed(objective: Objective | None, forward: Graph) -> list[str]:
    """Of a model with several outputs: names of those that have a loss, in order."""
    if objective is None or len(forward.outputs) == 1:
        return []
    return [forward.output_names[aim.output] for aim in aims_of(objective, forward)]


def reached(objective: Objective | None, forward: Graph) -> Graph:
    """What of the forward graph leads to an output that has a loss."""
    if objective is None or len(forward.outputs) == 1:
        return forward
    outputs = tuple(forward.outputs[aim.output] for aim in aims_of(objective, forward))
    needed, nodes = set(outputs), []
    for node in reversed(forward.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            nodes.append(node)
    return forward.replace(nodes=tuple(reversed(nodes)), outputs=outputs)


def _loss(key: str, model: str, options: Mapping[str, float | tuple[float, ...]]) -> Loss:
    if key not in losses():
        raise ModelError(f"{model} cannot be trained by the loss {key!r}; expected one of {', '.join(losses())}.", hint="Correct --loss.")
    kind = losses()[key]
    return kind.of(**{name: value for name, value in options.items() if name in kind.options})


def _check_labelled(loss: Loss, forward: Graph) -> None:
    """Without labels there is one loss, by whose size a device chooses what to learn from."""
    if not loss.labelled and len(forward.outputs) > 1:
        message = f"{forward.name} has {len(forward.outputs)} outputs; --loss {loss.key}, which reads no labels, is for a model with one."
        raise ModelError(message, hint="Give losses that read labels, as --loss label=ce, or a model with one output.")


def _weight(text: str, name: str) -> float:
    try:
        weight = float(text or 1)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise ModelError(f"The weight of the loss of output {name} is {text!r}; expected a number above 0.", hint="Write NAME=ce:0.5.")
    return weight


def with_loss(forward: Graph, aims: Sequence[Aim] | Loss) -> tuple[Graph, Builder, Value]:
    """Append the losses to the forward graph; a final activation that a loss contains is not read by it. A single one is for all outputs.

    The graph gives the weighted sum of the losses, then the outputs; the targets are its second input, a record where they are several.
    """
    aims = aims_of(aims, forward) if isinstance(aims, Loss) else aims
    g = Builder(forward.name, forward.values(), forward.nodes)
    names = forward.output_names
    logits = [scores(g, forward, aim) for aim in aims]
    kinds = [_target_type(forward, aim, value.type, names[aim.output]) for aim, value in zip(aims, logits, strict=True)]
    g.origin = "loss"
    called = [names[aim.output] for aim in aims] if len(aims) > 1 else ["target"]
    whole, targets = record(g, "target", list(zip(called, kinds, strict=True)))
    g.inputs = [*forward.inputs, whole]
    found = [aim.loss.emit(g, value, target) for aim, value, target in zip(aims, logits, targets, strict=True)]
    weights = tuple(aim.weight for aim in aims)
    loss = found[0] if weights == (1.0,) else g.emit(Total(weights), *found, name="total_loss")
    return g.graph([loss, *forward.outputs]), g, loss


def _target_type(forward: Graph, aim: Aim, logits: TensorType, name: str) -> TensorType:
    try:
        return aim.loss.target_type(logits)
    except ValueError as error:
        output = forward.outputs[aim.output]
        called = "the output" if len(forward.outputs) == 1 else f"output {name}"
        message = f"{forward.name}: loss {aim.loss.key} does not fit {called} of shape {output.shape}: {error}."
        flag = "--loss " if len(forward.outputs) == 1 else f"--loss {name}="
        others = " or ".join(key for key, kind in losses().items() if _takes(kind(), output.type))
        raise ModelError(message, hint=f"Try {flag}{others}, or end the model in one row of class scores.") from error


def _takes(loss_op: Loss, output: TensorType) -> bool:
    try:
        loss_op.target_type(output)
    except ValueError:
        return False
    return True


def scores(g: Builder, forward: Graph, aim: Aim) -> Value:
    """What the loss reads: the output, or what a final activation that the loss contains is made of, as the reals that it stands for."""
    output, made = forward.outputs[aim.output], forward.producers()
    last = made.get(output)
    stored = made.get(last.inputs[0]) if last is not None and isinstance(last.op, Dequantise) else None
    if stored is not None and isinstance(stored.op, aim.loss.absorbs):
        g.origin = stored.origin
        return dequantised(g, stored.inputs[0], name=f"{stored.inputs[0].name}_real")
    return last.inputs[0] if last is not None and isinstance(last.op, aim.loss.absorbs) else output
