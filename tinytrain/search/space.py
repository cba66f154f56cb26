# SPDX-License-Identifier: Apache-2.0
"""What a search chooses from: for each layer how much of its weight, and the biases of how many of the last layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tinytrain.errors import DataError
from tinytrain.schemes.scheme import Layer, Scheme, Select, is_shift
from tinytrain.search.contribution import Contribution

Selection = tuple[int, ...]                               # for each group the choice taken, 0 is nothing


@dataclass(frozen=True)
class Choice:
    """`size`: of the weight's channels which ratio, or of the last layers how many. `gain` is what it contributes."""

    size: float
    gain: float


@dataclass(frozen=True)
class Group:
    """Choices of which at most one is taken, ascending in size and in gain; `layer` is "" for the biases of the last layers."""

    layer: str
    kind: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Space:
    """All groups of a model with these layers. A selection is at most another one where no choice of it is larger."""

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]

    @property
    def nothing(self) -> Selection:
        return (0,) * len(self.groups)

    @property
    def all(self) -> Selection:
        return tuple(len(group.choices) for group in self.groups)

    def gain(self, selection: Selection) -> float:
        """Sum of the contributions."""
        return sum(group.choices[level - 1].gain for group, level in zip(self.groups, selection, strict=True) if level)

    def scheme(self, selection: Selection) -> Scheme:
        taken = {
            (group.layer, group.kind): group.choices[level - 1].size
            for group, level in zip(self.groups, selection, strict=True) if level
        }
        depth = int(taken.pop(("", "bias"), 0))
        biased = {layer.name for layer in self.layers[len(self.layers) - depth:]}
        chosen: dict[str, dict[str, Select]] = {}
        for layer in self.layers:
            kinds = {kind: Select(taken[layer.name, kind]) for kind in layer.parameters if (layer.name, kind) in taken}
            kinds |= {kind: Select() for kind in layer.parameters if is_shift(kind) and layer.name in biased}
            if kinds:
                chosen[layer.name] = kinds
        return Scheme(chosen)

    def within(self, scheme: Scheme) -> Selection:
        """The largest selection that trains nothing but what a scheme trains."""
        biased = 0
        for layer in reversed(self.layers):
            shifts = {kind for kind in layer.parameters if is_shift(kind)}
            if not shifts <= set(scheme.layers.get(layer.name, {})):
                break
            biased += 1
        sizes = [
            scheme.layers.get(group.layer, {}).get(group.kind, Select(0.0)).fraction if group.layer else biased for group in self.groups
        ]
        return tuple(sum(choice.size <= size for choice in group.choices) for group, size in zip(self.groups, sizes, strict=True))

    def groups_of(self, layer: str, kind: str) -> list[tuple[int, int]]:
        """(group, choice) from which on a parameter is trained."""
        if not is_shift(kind):
            return [(i, 1) for i, group in enumerate(self.groups) if (group.layer, group.kind) == (layer, kind)]
        from_end = len(self.layers) - [one.name for one in self.layers].index(layer)
        return [
            (i, next(level for level, choice in enumerate(group.choices, 1) if choice.size >= from_end))
            for i, group in enumerate(self.groups) if not group.layer and group.choices[-1].size >= from_end
        ]


def space(layers: Sequence[Layer], found: Collection[Contribution]) -> Space:
    """The choices that contributions were found for; those that give nothing, or no more than a smaller one, are left out.

    Raises DataError where a contribution is of a layer that the model does not have, or none is worth anything.
    """
    known = {layer.name: layer for layer in layers}
    sorted_out: dict[tuple[str, str], list[Choice]] = {}
    for one in found:
        candidate = one.candidate
        if candidate.layer not in known or (candidate.depth == 0 and candidate.kind not in known[candidate.layer].parameters):
            message = f"The contributions are of {candidate.kind} of layer {candidate.layer!r}, which this model does not have."
            raise DataError(message, hint="Analyse this model: `tinytrain contribution MODEL --data train.npz -o contribution.json`.")
        key = ("", "bias") if candidate.depth else (candidate.layer, candidate.kind)
        sorted_out.setdefault(key, []).append(Choice(float(candidate.depth or candidate.ratio), one.gain))
    groups = (Group(*key, _useful(choices)) for key, choices in sorted_out.items())
    useful = tuple(group for group in groups if group.choices)
    if not useful:
        hint = "Train longer in the analysis, or on more data."
        raise DataError("No candidate of the analysis gains anything: there is nothing to choose.", hint=hint)
    return Space(tuple(layers), useful)


def _useful(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.size, -c.gain)):
        if choice.gain > (kept[-1].gain if kept else 0.0):
            kept.append(choice)
    return tuple(kept)


@dataclass(frozen=True)
class Spent:
    """What a selection takes. `instructions` is None where they cannot be estimated."""

    ram_bytes: int
    flash_bytes: int
    instructions: int | None = None


@dataclass(frozen=True)
class Budget:
    """Limits; None is no limit."""

    ram_bytes: int | None = None
    flash_bytes: int | None = None
    instructions: int | None = None

    def allows(self, spent: Spent) -> bool:
        return all(limit is None or value is None or value <= limit for _, value, limit in self.compare(spent))

    def compare(self, spent: Spent) -> list[tuple[str, int | None, int | None]]:
        """(name, value, limit) of each resource."""
        names = [field.name for field in dataclasses.fields(self)]
        return [(name, getattr(spent, name), getattr(self, name)) for name in names]


Oracle = Callable[[Selection], Spent]                     # the planner; asked for one selection twice, it must answer the same


def at_most(a: Selection, b: Selection) -> bool:
    """Whether b trains all that a trains."""
    return all(x <= y for x, y in zip(a, b, strict=True))
