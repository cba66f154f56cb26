# SPDX-License-Identifier: Apache-2.0
"""From a scheme to what is trained of each stored value: checks names and channels, and puts the chosen channels next to each other.

    weight = 0.25 of w (K, R, S, 32)  →  the 8 input channels with the largest Σ w² come first, in w and in all that counts the same
    channels; the slice [0, 8) of w is trained
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tinytrain.errors import SchemeError
from tinytrain.ir.graph import Graph
from tinytrain.ir.op import Want
from tinytrain.ir.types import Array, Value
from tinytrain.reading import plain
from tinytrain.schemes.permute_channels import Group, channel_axis, channel_groups, permute_channels, reader_of_another_layout
from tinytrain.schemes.scheme import Scheme, Select, layers


@dataclass(frozen=True)
class Trained:
    """What is updated of a value, and what its learning rate is multiplied by."""

    want: Want
    rate: float = 1.0


@dataclass(frozen=True)
class _Part:
    """A weight that is trained in part: which of the channels that its axis counts."""

    layer: str
    value: Value
    axis: int
    group: Group
    select: Select
    importance: Array

    @property
    def count(self) -> int:
        """Channels that are trained: at least one."""
        return len(self.select.channels) or max(1, round(self.select.fraction * self.value.shape[self.axis]))


def choose(scheme: Scheme, graph: Graph) -> tuple[Graph, dict[Value, Trained]]:
    """(the forward graph, channels in another order where that is needed; what is trained, in the order of the layers).

    Channels of one group that several layers train in part must be nested lists, or fractions, which share one order by the sum of
    their importance. Where the order of a group cannot change, a fraction is the best run of neighbours. Raises SchemeError where the
    scheme does not fit the graph.
    """
    moved, (found,) = choose_all([scheme], graph)
    return moved, found


def choose_all(schemes: Sequence[Scheme], graph: Graph) -> tuple[Graph, list[dict[Value, Trained]]]:
    """The same for schemes that share one model: one order of channels for all, and what each of them trains."""
    named = [_named(scheme, graph) for scheme in schemes]
    partial = {
        (value, select): layer for names in named for (layer, _), (value, select) in names.items() if not select.whole
    }
    parts = _parts(graph, partial)
    orders = _orders(parts)
    changed = {group: order for group, order in orders.items() if list(order) != sorted(order)}
    moved, stored = permute_channels(graph, changed) if changed else (graph, {})
    wants = {
        (part.value, part.select): Want(_run(part, part.group in orders), part.axis if part.axis == 0 else -1) for part in parts
    }
    return moved, [
        {
            stored.get(value, value): Trained(wants.get((value, select), Want()), scheme.rates.get(layer, 1.0))
            for (layer, _), (value, select) in names.items()
        }
        for scheme, names in zip(schemes, named, strict=True)
    ]


def _named(scheme: Scheme, graph: Graph) -> dict[tuple[str, str], tuple[Value, Select]]:
    """(layer, kind) → the value and what is trained of it."""
    known = {layer.name: layer for layer in layers(graph)}
    found: dict[tuple[str, str], tuple[Value, Select]] = {}
    for name, kinds in scheme.layers.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or list(known)[-3:]
            message = f"The scheme updates layer {plain(name)!r}, which {graph.name} does not have."
            raise SchemeError(message, hint=f"Nearest names: {', '.join(near)}.")
        for kind, select in kinds.items():
            if kind not in known[name].parameters:
                has = ", ".join(known[name].parameters)
                message = f"The scheme updates {plain(kind)!r} of layer {name!r}, which has {has}."
                raise SchemeError(message, hint="Take it out of the scheme.")
            if not select.whole and kind != "weight":
                raise SchemeError(f"The scheme updates a part of {kind!r} of layer {name!r}; only a weight has parts.", hint="Give true.")
            found[name, kind] = known[name].parameters[kind], select
    return found


def _parts(graph: Graph, partial: Mapping[tuple[Value, Select], str]) -> list[_Part]:
    if not partial:
        return []
    groups = channel_groups(graph)
    found = []
    axes: dict[Value, int] = {}
    for (value, select), layer in partial.items():
        axis = _axis(graph, value, layer, select)
        if select.channels and select.channels[-1] >= value.shape[axis]:
            which = f"{select.side}put channel {select.channels[-1]} of layer {layer!r}"
            raise SchemeError(f"The scheme updates {which}, which has {value.shape[axis]}.", hint="Channels count from 0.")
        if axes.setdefault(value, axis) != axis:
            message = f"One scheme trains some input channels of the weight of layer {layer!r}, another one some output channels."
            raise SchemeError(message, hint="Schemes of one model cut a weight on the same side.")
        found.append(_Part(layer, value, axis, groups[value, axis], select, _importance(value, axis, select.smallest)))
    return found


def _axis(graph: Graph, value: Value, layer: str, select: Select) -> int:
    axis = channel_axis(graph, value, select.side)
    if moved := reader_of_another_layout(graph, value):
        message = f"The scheme updates a part of the weight of layer {layer!r}, which {moved.origin} reads in another layout."
        raise SchemeError(message, hint="Update all of it: weight = true.")
    if axis is None:
        op = next(n for n in graph.nodes if value in n.inputs).op
        message = f"The scheme updates a part of the weight of layer {layer!r} ({op.name}), whose channels cannot be told apart."
        raise SchemeError(message, hint="Update all of it: weight = true.")
    return axis


def _importance(value: Value, axis: int, smallest: bool) -> Array:
    """Σ w² over all of each index of the axis, of real weights; or how far that is below the largest."""
    assert value.data is not None
    real = value.data.astype(np.float64)
    if value.type.quant is not None:
        quant = value.type.quant
        shape = [1] * real.ndim
        shape[quant.axis or 0] = len(quant.scale)
        real = real * np.array(quant.scale).reshape(shape)
    found = np.asarray(np.square(real).sum(axis=tuple(a for a in range(real.ndim) if a != axis)))
    return found.max() - found if smallest else found


def _orders(parts: Sequence[_Part]) -> dict[Group, tuple[int, ...]]:
    """The order of the channels of each group that must change: those in most lists first, then the most important."""
    orders = {}
    for group in dict.fromkeys(part.group for part in parts):
        of_group = [part for part in parts if part.group is group]
        if group.pinned or any(part.value.shape[part.axis] != group.size for part in of_group):
            continue
        lists = sorted((part for part in of_group if part.select.channels), key=lambda part: part.count)
        fractions = [part for part in of_group if not part.select.channels]
        apart = next(((a, b) for a, b in pairwise(lists) if not set(a.select.channels) <= set(b.select.channels)), None)
        if apart:
            if all(_neighbours(part.select.channels) for part in lists):
                continue
            raise _not_nested(*apart)
        listed = [sum(channel in part.select.channels for part in lists) for channel in range(group.size)]
        weight = np.zeros(group.size) + sum(part.importance / max(part.importance.sum(), 1e-300) for part in fractions)
        orders[group] = tuple(sorted(range(group.size), key=lambda channel: (-listed[channel], -weight[channel], channel)))
    return orders


def _run(part: _Part, in_order: bool) -> tuple[int, int]:
    """The slice [first, end) of the axis, its channels in their final order. Raises SchemeError where they are no neighbours."""
    if in_order:
        return 0, part.count
    channels = part.select.channels
    if not channels:
        sums = np.convolve(part.importance, np.ones(part.count), "valid")
        first = int(sums.argmax())
        return first, first + part.count
    if not _neighbours(channels):
        why = part.group.pinned or "a flattened map counts them again and again"
        message = f"{part.select.side}put channels {plain(str(list(channels)))} of layer {part.layer!r} cannot be put side by side: {why}."
        raise SchemeError(message, hint='Choose neighbours, as "0:12".')
    return channels[0], channels[-1] + 1


def _neighbours(channels: Sequence[int]) -> bool:
    return channels[-1] - channels[0] + 1 == len(channels)


def _not_nested(a: _Part, b: _Part) -> SchemeError:
    two = f"Layers {a.layer!r} and {b.layer!r} count the same channels"
    who = f"Two schemes train channels of layer {a.layer!r}" if a.layer == b.layer else two
    message = f"{who}, but neither of the two lists of them holds the other."
    return SchemeError(message, hint='Let one list hold the other, or give ranges, as "0:12".')
