# SPDX-License-Identifier: Apache-2.0
"""Presets that fill a budget: as much of a model as there is room for, chosen without samples and always in the same way.

    last:auto     as many of the last layers as fit, and of the one before them as much as fits
    spread:auto   the last layer, and small slices of as many layers before it as fit; then the slices grow, first all alike

They are what a search has to beat, and where it starts.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

from tinytrain.compiler import Options, chosen_scheme
from tinytrain.errors import ModelError, SchemeError
from tinytrain.gradient.methods import method
from tinytrain.ir.graph import Graph
from tinytrain.schemes.choose import choose
from tinytrain.schemes.scheme import LAST_AUTO, Layer, Scheme, Select, is_auto, is_shift, preset
from tinytrain.search.cost import Costs, SchemeCost

PARTS = tuple(eighths / 8 for eighths in range(9))        # of the input channels of a weight; 0: what is added to its result alone
_SLICE = 1                                                # of PARTS: where spread:auto begins

Levels = tuple[int, ...]                                  # of each layer how many of its parts are taken, 0: it is frozen
Fits = Callable[[Scheme], bool | None]                    # None: the method takes no such scheme


def filled(model: Path, options: Options, budget_bytes: int | None) -> Options:
    """The same options with what a preset that fills a budget comes to, on their board.

    Raises SchemeError where nothing of the model fits, no bounds are given, or other schemes stand beside it.
    """
    schemes = (options.scheme, *options.further_schemes)
    auto = next((scheme for scheme in schemes if is_auto(scheme)), None)
    if auto is None:
        return options
    if method(options.method).by_layer:
        message = f"--method {options.method} puts adapters beside the layers that a scheme names, and --scheme {auto} names none yet."
        raise SchemeError(message, hint="Give --scheme last:6, or full; --method lowrank:auto fills a budget beside them.")
    if len(schemes) > 1:
        message = f"--scheme {auto} fills the budget by itself; expected no other --scheme beside it."
        raise SchemeError(message, hint="Write it to a file by `tinytrain scheme show -o`, and give that.")
    return dataclasses.replace(options, scheme=resolved(Costs(model, options), auto, budget_bytes))


def resolved(costs: Costs, scheme: str | Scheme, budget_bytes: int | None) -> Scheme:
    """A scheme, or what a preset that fills a budget comes to: so many bytes of RAM, or else all memory of the board.

    Raises SchemeError, and ModelError where the method does not fit the model.
    """
    if not is_auto(scheme):
        return chosen_scheme(scheme, costs.forward, costs.frozen, costs.options)
    check_bounds(scheme, costs, budget_bytes)
    fits = within(costs, budget_bytes)
    found = fill(str(scheme), costs, fits)
    if not fits(found):
        bounds = f"{budget_bytes:,} bytes of RAM" if budget_bytes else f"the memory of {costs.board.name}"
        if fits(found) is None:
            costs.cost(preset("full", costs.forward), 0.0)  # the method may say why it never takes this model
            message = f"{scheme}: of {costs.forward.name}, --method {costs.options.method} takes nothing that can be trained in {bounds}."
            raise SchemeError(message, hint="Give a larger budget, or leave --method out.")
        layer, kinds = next(iter(found.layers.items()), ("", {}))
        least = f"even {' and '.join(kinds)} of layer {layer!r} alone take {costs.cost(found, 0.0).ram_bytes:,} bytes of RAM"
        message = f"{scheme}: the last of {costs.forward.name} cannot be trained in {bounds}: {least}."
        raise SchemeError(message, hint="Give a larger budget, or use a smaller model.")
    return chosen_scheme(found, costs.forward, costs.frozen, costs.options)


def check_bounds(scheme: str | Scheme, costs: Costs, budget_bytes: int | None) -> None:
    """Raise SchemeError where there is nothing that a preset could fill."""
    if budget_bytes is None and costs.board.is_host:
        message = f"--scheme {scheme} fills a budget; found neither --budget nor a board that has bounds."
        raise SchemeError(message, hint="Give --budget 100K, or --board.")


def within(costs: Costs, budget_bytes: int | None) -> Fits:
    """Whether a scheme takes no more RAM than that, and fits the board."""
    return bounded(costs, lambda cost: budget_bytes is None or cost.ram_bytes <= budget_bytes)


def bounded(costs: Costs, allows: Callable[[SchemeCost], bool]) -> Fits:
    """Whether what a scheme costs is allowed, and it fits the board."""
    def fits(scheme: Scheme) -> bool | None:
        try:
            cost = costs.cost(scheme, 0.0)
        except ModelError:                                # such as too little for a method that trains in blocks
            return None
        return (cost.room is None or cost.room.fits) and allows(cost)

    return fits


def fill(name: str, costs: Costs, fits: Fits) -> Scheme:
    """The scheme of a preset of `AUTO` by what fits; where nothing does, the least that can be trained of the last layer."""
    filler = Filler(costs.forward, costs.layers, fits)
    levels = filler.last() if name == LAST_AUTO else filler.spread()
    found = filler.scheme(levels if any(levels) else (*levels[:-1], *(1 for _ in levels[-1:])))
    return dataclasses.replace(found, preset=name)


def drawn(costs: Costs, fits: Fits, seed: int) -> Scheme:
    """A scheme by chance: the last layer, and of others, in a random order, a random part of each, as many as fit."""
    filler, chance = Filler(costs.forward, costs.layers, fits), random.Random(seed)
    order = chance.sample(range(len(filler.most)), len(filler.most))
    return filler.scheme(filler.along([i for i in order for _ in range(chance.randint(1, filler.most[i]))]))


class Filler:
    """Layers from the first to the last, and how much of each can be taken."""

    def __init__(self, forward: Graph, layers: Sequence[Layer], fits: Fits) -> None:
        self.layers = layers
        self.fits = fits
        self.parts = [_parts(forward, layer) for layer in layers]
        self.most = tuple(map(len, self.parts))

    def scheme(self, levels: Levels) -> Scheme:
        taken = zip(self.layers, self.parts, levels, strict=True)
        return Scheme({layer.name: _taken(layer, parts[level - 1]) for layer, parts, level in taken if level})

    def levels(self, scheme: Scheme) -> Levels:
        """As many parts of each layer as a scheme takes at most."""
        def level(layer: Layer, parts: Sequence[float]) -> int:
            kinds = scheme.layers.get(layer.name, {})
            part = 1.0 if len(kinds) == len(layer.parameters) and all(s.whole for s in kinds.values()) else 0.0
            part = kinds["weight"].fraction if "weight" in kinds and not part else part
            return sum(one <= part for one in parts) if kinds else 0

        return tuple(level(layer, parts) for layer, parts in zip(self.layers, self.parts, strict=True))

    def last(self) -> Levels:
        count = len(self.layers)

        def deepest(depth: int) -> Levels:
            return (*(0,) * (count - depth), *self.most[count - depth :])

        depth = self._largest(count, deepest)
        return self._grown(deepest(depth), count - depth - 1) if depth < count else deepest(depth)

    def spread(self) -> Levels:
        count = len(self.layers)
        if not any(self.head):
            return self.last()                            # there is no room to spread
        depth = self._largest(count - 1, partial(self._slices, _SLICE + 1))
        level = 1 + self._largest(len(PARTS) - 1, lambda more: self._slices(1 + more, depth))
        levels = self._slices(level, depth)
        for at in reversed(range(count)):
            levels = self._grown(levels, at)
        return levels

    def biases(self) -> Levels:
        """The last layer, and what is added to the results of as many layers before it as fit; nothing where it does not fit itself."""
        return self._slices(1, self._largest(len(self.layers) - 1, partial(self._slices, 1))) if any(self.head) else self.head

    def _slices(self, level: int, depth: int) -> Levels:
        """The last layer whole, and so many parts of the `depth` layers before it."""
        first = len(self.layers) - 1 - depth
        return (*(0,) * first, *(min(level, most) for most in self.most[first:-1]), self.most[-1])

    def along(self, raises: Sequence[int]) -> Levels:
        """The last layer, if there is room for all of it, then one more part of each of these layers in turn, as far as that fits."""
        def first(steps: int) -> Levels:
            taken = Counter(raises[:steps])
            return tuple(min(least + taken[i], most) for i, (least, most) in enumerate(zip(self.head, self.most, strict=True)))

        return first(self._largest(len(raises), first))

    @cached_property
    def head(self) -> Levels:
        """All of the last layer, or nothing where that does not fit."""
        nothing = (0,) * len(self.most)
        whole = (*nothing[:-1], *self.most[-1:])
        return whole if self.fits(self.scheme(whole)) else nothing

    def _grown(self, levels: Levels, at: int) -> Levels:
        """With as much of one layer as fits."""
        def more(steps: int) -> Levels:
            return (*levels[:at], levels[at] + steps, *levels[at + 1 :])

        return more(self._largest(self.most[at] - levels[at], more))

    def _largest(self, most: int, made: Callable[[int], Levels]) -> int:
        """The largest number up to `most` for which what is made of it fits, where more takes more; 0 if none does.

        What is too little for the method is passed over.
        """
        def asked(count: int) -> bool | None:
            return self.fits(self.scheme(made(count)))

        low = next((count for count in range(1, most + 1) if asked(count) is not None), 0)
        if not (low and asked(low)):
            return 0
        high, step = most + 1, 2                          # low fits, high does not
        while high - low > 1:
            middle = min(low + step, (low + high) // 2)
            fits = asked(middle)
            low, high = (middle, high) if fits else (low, middle)
            step = 2 * step if fits else most             # what is left is halved from the first that is too much on
        return low


def _parts(forward: Graph, layer: Layer) -> tuple[float, ...]:
    """Those of PARTS that train different things of a layer."""
    shifts = PARTS[:1] if _taken(layer, 0.0) else ()
    try:
        for part in PARTS[1:-1]:
            choose(Scheme({layer.name: _taken(layer, part)}), forward)
    except SchemeError:                                   # its channels cannot be told apart
        return (*shifts, PARTS[-1])
    return (*shifts, *(PARTS[1:-1] if "weight" in layer.parameters else ()), PARTS[-1])


def _taken(layer: Layer, part: float) -> dict[str, Select]:
    """What is trained of a layer: what is added, and from the first part on its weight and other factors."""
    if part == 1.0:
        return {kind: Select() for kind in layer.parameters}
    vectors = {kind: Select() for kind, v in layer.parameters.items() if is_shift(kind) or (part and len(v.shape) == 1)}
    return {**vectors, **({"weight": Select(part)} if part and "weight" in layer.parameters else {})}
