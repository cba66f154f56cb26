# SPDX-License-Identifier: Apache-2.0
"""The scheme that learns best, by training whole schemes: what parts gain together is more, or less, than the sum of what each gains alone.

    presets that fill the budget, schemes by chance, what is known already   one training each at each rate
    children of the best: of each layer as much as one of two parents has    one training each at each rate
    the better half, each at its best rate                                   as many trainings again
    … until all seeds were used, or one is left

Successive halving (arXiv 1502.07943); trainings of one scheme differ in the order of samples and in what is held back. The less a scheme
trains, the higher the rate at which it learns best: at one rate for all, depth would be judged by that rate.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from tinytrain.report.text import table
from tinytrain.schemes.scheme import AUTO, Scheme
from tinytrain.search.cost import Costs, SchemeCost
from tinytrain.search.fill import Filler, Fits, drawn, fill

BIASES, CHANCE = "biases and head", "chance"             # names of what is tried
_MUTATION = 0.15                                          # of each layer of a child
_ATTEMPTS = 4                                             # at each scheme that was not tried before
_SHOWN = 3                                                # layers that training gains most from, and least


@dataclass(frozen=True)
class Worth:
    """What one training gains: accuracy (of targets that are no labels, the loss that it takes away), and the loss that it takes away."""

    gain: float
    drop: float


@dataclass(frozen=True)
class Trial:
    """A scheme that fits, where it came from (names with commas between), the rate at which it learned best, and what each of its trainings
    at that rate was worth.
    """

    name: str
    scheme: Scheme
    cost: SchemeCost
    rate: float = 1.0
    worths: tuple[Worth, ...] = ()

    @property
    def score(self) -> tuple[float, float]:
        """Mean gain, and for equals mean drop of the loss."""
        return score(self.worths)

    @property
    def chosen(self) -> Scheme:
        """The scheme with its rate in each of its layers."""
        return self.scheme if self.rate == 1.0 else replace(self.scheme, rates=dict.fromkeys(self.scheme.layers, self.rate))


def score(worths: Sequence[Worth]) -> tuple[float, float]:
    return mean(one.gain for one in worths), mean(one.drop for one in worths)


Tries = Sequence[tuple[Scheme, tuple[float, ...]]]        # and what to multiply the learning rate by, each in turn
# (tries, the first seed, the number of seeds) → for each scheme and each of its rates what each training was worth
Measure = Callable[[Tries, int, int], Sequence[Sequence[Sequence[Worth]]]]


@dataclass(frozen=True)
class Halving:
    """`schemes` by chance or by descent beside the presets, at most `seeds` trainings of each at its best rate, chances drawn from `seed`.

    `rates` multiply the learning rate; each scheme is tried with all of them once.
    """

    schemes: int = 16
    seeds: int = 3
    seed: int = 0
    rates: tuple[float, ...] = (1.0,)


def halve(costs: Costs, fits: Fits, known: Mapping[str, Scheme], effort: Halving, measure: Measure) -> list[Trial]:
    """All trials, the one that learned best of those that were trained most first; none where nothing fits.

    `known` are further schemes to try, by name, if they fit.
    """
    filler = Filler(costs.forward, costs.layers, fits)
    presets = {**{name: fill(name, costs, fits) for name in AUTO}, BIASES: filler.scheme(filler.biases())}
    children, attempts = effort.schemes // 2, range(_ATTEMPTS * effort.schemes)
    new = _new(costs, fits, {**presets, **known}.items(), ())
    chances = ((f"{CHANCE} {i}", drawn(costs, fits, effort.seed + i)) for i in attempts)
    tried = at_best_rate(new + _new(costs, fits, chances, new, effort.schemes - children), measure, effort.rates)
    born = ((f"child {i}", child) for i, child in zip(attempts, _children(filler, _best_first(tried), effort.seed), strict=False))
    tried += at_best_rate(_new(costs, fits, born, tried, children), measure, effort.rates)
    standing, out, done = _best_first(tried), list[Trial](), 1
    while len(standing) > 1 and done < effort.seeds:
        keep = -(-len(standing) // 2)
        out = standing[keep:] + out
        more = min(done, effort.seeds - done)
        standing = _best_first(_measured(standing[:keep], measure, done, more))
        done += more
    return standing + out


def _new(
    costs: Costs, fits: Fits, named: Iterable[tuple[str, Scheme]], tried: Sequence[Trial], most: int | None = None
) -> list[Trial]:
    """Those that fit and train something, no more than `most`; each once, under all the names that it has."""
    seen = {repr(one.scheme.layers) for one in tried}
    found: dict[str, Trial] = {}
    for name, scheme in named:
        if len(found) == most:
            break
        if (layers := repr(scheme.layers)) in found:
            found[layers] = replace(found[layers], name=f"{found[layers].name}, {name}")
        elif scheme.layers and layers not in seen and fits(scheme):
            found[layers] = Trial(name, scheme, costs.cost(scheme))
    return list(found.values())


def at_best_rate(trials: Sequence[Trial], measure: Measure, rates: tuple[float, ...]) -> list[Trial]:
    """Each at its best rate, by the first seed."""
    found = measure([(one.scheme, rates) for one in trials], 0, 1) if trials else []
    best = [max(range(len(rates)), key=lambda at: score(of_rates[at])) for of_rates in found]
    return [
        replace(one, rate=rates[at], worths=tuple(of_rates[at])) for one, at, of_rates in zip(trials, best, found, strict=True)
    ]


def _measured(trials: Sequence[Trial], measure: Measure, first: int, count: int) -> list[Trial]:
    """With so many trainings more."""
    found = measure([(one.scheme, (one.rate,)) for one in trials], first, count)
    return [replace(one, worths=(*one.worths, *worths)) for one, (worths,) in zip(trials, found, strict=True)]


def _best_first(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda one: one.score, reverse=True)


def _children(filler: Filler, parents: Sequence[Trial], seed: int) -> Iterator[Scheme]:
    """Of each layer as much as one of two parents takes, now and then a random part; layers in a random order, as many as fit. No end."""
    chance = random.Random(seed)
    best = [filler.levels(one.scheme) for one in parents[: max(2, len(parents) // 3)]]
    layers = range(len(filler.most))
    while len(best) > 1:
        mother, father = chance.sample(best, 2)
        levels = [
            chance.randint(0, filler.most[i]) if chance.random() < _MUTATION else chance.choice((mother[i], father[i])) for i in layers
        ]
        yield filler.scheme(filler.along([i for i in chance.sample(layers, len(layers)) for _ in range(levels[i])]))


def trials_text(trials: Sequence[Trial], points: bool) -> str:
    """What was tried, the best first; then which layers the schemes that gained more had in common."""
    factor, unit = (100, "points gained") if points else (1, "loss taken away")
    rows = [["tried", "RAM", "layers", "rate", "trainings", unit]]
    rows += [
        [
            one.name, f"{one.cost.ram_bytes:,}", str(len(one.scheme.layers)), f"×{one.rate:g}", str(len(one.worths)),
            f"{factor * one.score[0]:+.2f}",
        ]
        for one in trials
    ]
    apart = layer_effects(trials)
    told = [*apart[:_SHOWN], *apart[_SHOWN:][-_SHOWN:]]
    lines = [f"with       {layer}: {factor * effect:+.2f} over schemes without its weight" for layer, effect in told]
    return "\n".join([table(rows), *lines])


def layer_effects(trials: Sequence[Trial]) -> list[tuple[str, float]]:
    """(layer, what the first training of schemes with its weight gained over that of those without), the largest first.

    Of layers that two or more schemes train and two or more do not: an effect of what goes with the layer, too.
    """
    found = []
    for layer in dict.fromkeys(name for one in trials for name in one.scheme.layers):
        sides: dict[bool, list[float]] = {True: [], False: []}
        for one in trials:
            sides["weight" in one.scheme.layers.get(layer, {})].append(one.worths[0].gain)
        if min(map(len, sides.values())) > 1:
            found.append((layer, mean(sides[True]) - mean(sides[False])))
    return sorted(found, key=lambda each: each[1], reverse=True)
