# SPDX-License-Identifier: Apache-2.0
"""Searches that the exact one is compared with and starts from: evolution as in arXiv 2206.15472 (3.2 and appendix), and chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from tinytrain.search.exact import Found, Plans
from tinytrain.search.space import Selection

POPULATION, PARENTS = 40, 10
_MUTATION = 0.1                                           # of each group
_NEAR = 1.1                                               # of a budget


def search_random(plans: Plans, evaluations: int, seed: int, say: Callable[[str], None] = lambda text: None) -> Found:
    """The best of `evaluations` selections drawn at random, each made smaller until it fits."""
    chance = random.Random(seed)
    plans.fits(plans.space.nothing)
    mine = [plans.space.nothing]
    for _ in range(evaluations):
        mine.append(_repaired(plans, _drawn(plans, chance), chance))
        say(f"{max(map(plans.space.gain, mine)):.4f}, {len(plans.known)} plans")
    best = max(mine, key=plans.space.gain)
    return Found(best, plans.space.gain(best))


def search_evolution(
    plans: Plans, evaluations: int, seed: int, say: Callable[[str], None] = lambda text: None, start: Collection[Selection] = ()
) -> Found:
    """A population of selections that fit, those to `start` from among them; the best are crossed and mutated, and repaired where a child
    does not fit.

    Ends when about `evaluations` selections were planned, or nothing new was born in a generation.
    """
    chance = random.Random(seed)
    plans.fits(plans.space.nothing)
    population = {plans.space.nothing, *filter(plans.fits, start)}
    until = len(plans.known) + evaluations
    while len(population) < POPULATION // 2 and len(plans.known) < until:
        size = len(population)
        population.add(_repaired(plans, _drawn(plans, chance), chance))
        if len(population) == size:                       # few selections fit: what is there must do
            break
    for _ in range(evaluations):
        parents = sorted(population, key=plans.space.gain, reverse=True)[:PARENTS]
        population = set(parents)
        for _ in range(POPULATION):
            mother, father = chance.choice(parents), chance.choice(parents)
            child = tuple(chance.choice(pair) for pair in zip(mother, father, strict=True))
            child = tuple(_new(plans, g, chance) if chance.random() < _MUTATION else level for g, level in enumerate(child))
            population.add(_repaired(plans, child, chance))
        best = max(population, key=plans.space.gain)
        say(f"{plans.space.gain(best):.4f}, {len(plans.known)} plans")
        if len(plans.known) >= until or population == set(parents):
            break
    return Found(best, plans.space.gain(best))


def _drawn(plans: Plans, chance: random.Random) -> Selection:
    return tuple(_new(plans, g, chance) for g in range(len(plans.space.groups)))


def _new(plans: Plans, group: int, chance: random.Random) -> int:
    return chance.randint(0, len(plans.space.groups[group].choices))


def _repaired(plans: Plans, selection: Selection, chance: random.Random) -> Selection:
    """Smaller choices here and there until it fits: halves of a quarter of them where it is far off, one choice where it is near."""
    while not plans.fits(selection):
        there = [g for g, level in enumerate(selection) if level]
        over = max(value / limit for _, value, limit in plans.budget.compare(plans.spent(selection)) if value and limit)
        if over > _NEAR:
            fewer = chance.sample(there, max(1, len(there) // 4))
            selection = tuple(level // 2 if g in fewer else level for g, level in enumerate(selection))
        else:
            g = chance.choice(there)
            selection = (*selection[:g], selection[g] - 1, *selection[g + 1 :])
    return selection
