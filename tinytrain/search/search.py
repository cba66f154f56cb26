# SPDX-License-Identifier: Apache-2.0
"""The scheme with the largest sum of contributions under a budget of RAM, flash and instructions; and one for each of several budgets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from tinytrain.errors import SchemeError
from tinytrain.ir.graph import Graph
from tinytrain.report.text import table
from tinytrain.schemes.scheme import AUTO, Scheme, preset
from tinytrain.search.cost import Costs, SchemeCost
from tinytrain.search.evolve import search_evolution, search_random
from tinytrain.search.exact import Found, Plans, search_exact
from tinytrain.search.fill import fill
from tinytrain.search.halving import Halving, Trial, halve, trials_text
from tinytrain.search.rows import Explainer
from tinytrain.search.space import Budget, Group, Selection, Space, Spent
from tinytrain.search.trainings import Trainings

Method = Literal["exact", "evolution", "random", "halving"]
_LEFT_OUT = 3                                             # choices of which it is said why
_UNITS = {"ram_bytes": " bytes of RAM", "flash_bytes": " bytes of flash", "instructions": " instructions a step"}


@dataclass(frozen=True)
class Effort:
    """`evaluations` are plans that evolution and chance may make; `seconds` bound the exact search, which begins with evolution.

    What follows is of a search by training: how many schemes it tries, with how many seeds, at which multiples of the learning rate.
    """

    method: Method = "exact"
    evaluations: int = 300
    seconds: float = 120.0
    seed: int = 0
    schemes: int = 16
    seeds: int = 3
    rates: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Preset:
    """A preset that fills the same budget, its cost, and the contributions that `found` would count for it, if there are any."""

    scheme: Scheme
    cost: SchemeCost
    gain: float | None

    def text(self) -> str:
        counted = "" if self.gain is None else f"contributions of {self.gain:.4f} in all, "
        layers = len(self.scheme.layers)
        return f"{self.scheme.preset:<11} {counted}{self.cost.ram_bytes:,} B of RAM, {layers} layer{'s' * (layers > 1)}"


@dataclass(frozen=True)
class Chosen:
    """What was found under a budget: the scheme, its cost as `compile` will have it, and how good it is; presets that fill the same
    budget; `trials` are what a search by training tried, the one that was chosen first; `why` is what was chosen and left out, and why.
    """

    budget: Budget
    scheme: Scheme
    cost: SchemeCost
    found: Found
    plans: int
    seconds: float
    presets: tuple[Preset, ...] = ()
    trials: tuple[Trial, ...] = ()
    why: tuple[str, ...] = ()

    def text(self) -> str:
        """Lines for people."""
        found, cost = self.found, self.cost
        step = f", {cost.instructions:,} instructions a step (estimate)" if cost.instructions is not None else ""
        proved = "unknown" if found.gap is None else f"{100 * found.gap:.1f} %"
        said = "" if found.gap is None else f", nothing gains more than {found.bound:.4f}"
        if found.gap == 0:
            said = ", proved by cuts that none of these plans contradicts"
        head = f"found      contributions of {found.gain:.4f} in all; gap {proved}{said}"
        if self.trials:
            trainings = sum(len(one.worths) for one in self.trials)
            best = self.trials[0]
            at = "" if best.rate == 1.0 else f" at {best.rate:g} times the learning rate"
            head = f"found      {best.name} learned best of {len(self.trials)} schemes{at}, in {trainings} trainings at their best rates"
        return "\n".join((
            head,
            f"trains     {cost.weights:,} weights and {cost.biases:,} biases in {len(self.scheme.layers)} layers",
            f"takes      {cost.ram_bytes:,} B of RAM, {cost.flash_bytes:,} B of flash{step}",
            f"searched   {self.plans:,} plans in {self.seconds:.0f} s",
            *self.why,
            *(one.text() for one in self.presets),
        ))


def search(
    costs: Costs, space: Space, budgets: Sequence[Budget], effort: Effort, say: Callable[[str], None] = lambda text: None
) -> list[Chosen | None]:
    """For each budget the best scheme; None where nothing that gains anything fits, but SchemeError where that is the only budget.

    All budgets share their plans, so that a larger one never ends with less than a smaller one.
    """
    known: dict[Selection, Spent] = {}

    def oracle(selection: Selection) -> Spent:
        return spent(costs.cost(space.scheme(selection)))

    explainer = Explainer(costs, space) if effort.method == "exact" else None
    chosen: list[Chosen | None] = []
    for budget in budgets:
        began = time.monotonic()
        plans, found, presets = Plans(space, oracle, budget, known), None, list[Scheme]()
        if plans.fits(space.nothing):
            presets = [fill(name, costs, partial(_allowed, costs, budget)) for name in AUTO]
            found = _by(plans, explainer, effort, [space.within(scheme) for scheme in presets], say)
        if found is None or found.selection == space.nothing:
            if len(budgets) == 1:
                raise too_small(costs.forward, budget, spent(costs.cost(preset("head", costs.forward))))
            chosen.append(None)
            continue
        scheme = space.scheme(found.selection)
        cost = costs.cost(scheme, costs.options.exact_seconds)
        others = tuple(Preset(one, costs.cost(one), space.gain(space.within(one))) for one in presets)
        why = tuple(explained(plans, found.selection))
        chosen.append(Chosen(budget, scheme, cost, found, len(known), time.monotonic() - began, others, why=why))
    return chosen


def _by(plans: Plans, explainer: Explainer | None, effort: Effort, start: Sequence[Selection], say: Callable[[str], None]) -> Found:
    if effort.method == "random":
        return search_random(plans, effort.evaluations, effort.seed, say)
    found = search_evolution(plans, effort.evaluations, effort.seed, say, start)
    return found if explainer is None else search_exact(plans, explainer.rows, effort.seconds, say)


def explained(plans: Plans, selection: Selection) -> Iterator[str]:
    """What each choice of a selection gains, the most first; then the most that was left out, and what would be too much with it."""
    groups = plans.space.groups
    taken = {g: groups[g].choices[level - 1].gain for g, level in enumerate(selection) if level}
    for g in sorted(taken, key=lambda g: -taken[g]):
        yield f"chosen     {_named(groups[g], selection[g])}: {taken[g]:+.4f}"
    more = {
        (g, level): groups[g].choices[level - 1].gain - taken.get(g, 0.0)
        for g, now in enumerate(selection) for level in range(now + 1, len(groups[g].choices) + 1)
    }
    for g, level in sorted(more, key=lambda each: -more[each])[:_LEFT_OUT]:
        with_it = (*selection[:g], level, *selection[g + 1 :])
        over = [
            f"{value:,}{_UNITS[key]} with it" for key, value, limit in plans.budget.compare(plans.spent(with_it))
            if value is not None and limit is not None and value > limit
        ]
        yield f"left out   {_named(groups[g], level)}: {more[g, level]:+.4f}; {' and '.join(over) or 'the search had no time for it'}"


def _named(group: Group, level: int) -> str:
    size = group.choices[level - 1].size
    return f"{group.layer} {group.kind} {size:g}" if group.layer else f"biases of the last {size:g} layers"


def search_trained(
    costs: Costs, known: Mapping[str, Scheme], budgets: Sequence[Budget], effort: Effort, trainings: Trainings
) -> list[Chosen | None]:
    """As `search`, by training whole schemes; `known` are some to try beside presets, chance and what other budgets have found."""
    chosen: list[Chosen | None] = []
    known = dict(known)
    halving = Halving(effort.schemes, effort.seeds, effort.seed, effort.rates)
    for budget in budgets:
        began = time.monotonic()
        fits = partial(_allowed, costs, budget)
        trials = halve(costs, fits, known, halving, trainings.worths)
        if not trials:
            if len(budgets) == 1:
                raise too_small(costs.forward, budget, spent(costs.cost(preset("head", costs.forward))))
            chosen.append(None)
            continue
        best = trials[0]
        known[f"found under {budget.ram_bytes:,} B" if budget.ram_bytes else "found"] = best.scheme
        presets = tuple(Preset(one.chosen, one.cost, None) for one in trials if one.scheme.preset in AUTO)
        why = tuple(trials_text(trials, trainings.labelled).split("\n"))
        cost, seconds = costs.cost(best.chosen, costs.options.exact_seconds), time.monotonic() - began
        found = Found((), best.score[0])
        chosen.append(Chosen(budget, best.chosen, cost, found, costs.plans, seconds, presets, tuple(trials), why))
    return chosen


def _allowed(costs: Costs, budget: Budget, scheme: Scheme) -> bool:
    return budget.allows(spent(costs.cost(scheme)))


def spent(cost: SchemeCost) -> Spent:
    return Spent(cost.ram_bytes, cost.flash_bytes, cost.instructions)


def too_small(graph: Graph, budget: Budget, head: Spent) -> SchemeError:
    """The refusal of a budget, with its numbers."""
    over = [
        f"{value:,}{_UNITS[key]}, the budget is {limit:,}"
        for key, value, limit in budget.compare(head) if value is not None and limit is not None and value > limit
    ]
    if not over:
        message = f"Of what fits into the budget, nothing gains anything for {graph.name}."
        return SchemeError(message, hint="Give a larger budget, or train longer in the analysis.")
    message = f"The budget is too small for {graph.name}: even `head`, the last layer alone, takes {' and '.join(over)}."
    return SchemeError(message, hint="Give a larger budget, or use a smaller model.")


def sweep_text(chosen: Sequence[Chosen | None], budgets: Sequence[Budget], accuracies: Sequence[float | None]) -> str:
    """The table of a sweep, one line a budget; `accuracies` of trained schemes from 0 to 1, None where not measured."""
    rows = [["RAM budget", "planned RAM", "instructions", "contributions", "gap", "accuracy"]]
    for one, budget, accuracy in zip(chosen, budgets, accuracies, strict=True):
        limit = f"{budget.ram_bytes:,}"
        if one is None:
            rows.append([limit, "too small", "", "", "", ""])
            continue
        gap = "" if one.found.gap is None else f"{100 * one.found.gap:.1f} %"
        step = "" if one.cost.instructions is None else f"{one.cost.instructions:,}"
        rows.append([limit, f"{one.cost.ram_bytes:,}", step, f"{one.found.gain:.4f}", gap, "" if accuracy is None else f"{accuracy:.1%}"])
    return table(rows)
