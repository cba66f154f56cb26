# SPDX-License-Identifier: Apache-2.0
"""The scheme with the largest sum of contributions under a budget of RAM, flash and instructions; and one for each of several budgets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from tinytrain.errors import SchemeError
from tinytrain.report.text import table
from tinytrain.schemes.scheme import AUTO, Scheme, preset
from tinytrain.search.cost import Costs, SchemeCost
from tinytrain.search.evolve import search_evolution, search_random
from tinytrain.search.exact import Found, Plans, search_exact
from tinytrain.search.fill import Fits, bounded, fill
from tinytrain.search.halving import Halving, Trial, halve, trials_text
from tinytrain.search.rows import Explainer
from tinytrain.search.space import Budget, Group, Selection, Space, Spent
from tinytrain.search.trainings import Trainings

Method = Literal["exact", "evolution", "random", "halving"]
CONTRIBUTIONS = "contributions"
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
    """A preset that fills the same budget, its cost, and the contributions that `found` would count for it, if there are any: of each
    weight the largest part that was analysed and is not more than it trains."""

    scheme: Scheme
    cost: SchemeCost
    gain: float | None

    def text(self) -> str:
        counted = "" if self.gain is None else f"contributions of {self.gain:.4f} in all at least, "
        layers = len(self.scheme.layers)
        return f"{self.scheme.preset:<11} {counted}{self.cost.ram_bytes:,} B of RAM, {layers} layer{'s' * (layers > 1)}"


@dataclass(frozen=True)
class Chosen:
    """What was found under a budget: the scheme, its cost as `compile` will have it, and how good it is; presets that fill the same
    budget; `trials` are what a search by training tried, the one that was chosen first; `why` is what was chosen and left out, and why.
    `gained` names what is gained.
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
    gained: str = CONTRIBUTIONS

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
            ties = [one.name for one in self.trials[1:] if (one.score, len(one.worths)) == (best.score, len(best.worths))]
            head = f"found      {best.name} learned best of {len(self.trials)} schemes{at}, in {trainings} trainings at their best rates"
            head += f"; as well learned {', '.join(ties)}" if ties else ""
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
        fits, plans = _allowed(costs, budget), Plans(space, oracle, on_board(costs, budget), known)
        found, presets = None, list[Scheme]()
        if plans.fits(space.nothing):
            presets = [one for name in AUTO if fits(one := fill(name, costs, fits))]
            found = _by(plans, explainer, effort, [space.within(scheme) for scheme in presets], say)
        if found is None or found.selection == space.nothing:
            if len(budgets) == 1:
                raise too_small(costs, budget)
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
    known, gained = dict(known), "accuracy gained" if trainings.labelled else "loss taken away"
    halving = Halving(effort.schemes, effort.seeds, effort.seed, effort.rates)
    for budget in budgets:
        began = time.monotonic()
        trials = halve(costs, _allowed(costs, budget), known, halving, trainings.worths)
        if not trials or trials[0].score[0] <= 0:
            if len(budgets) == 1:
                raise too_small(costs, budget)
            chosen.append(None)
            continue
        best = trials[0]
        known[f"found under {budget.ram_bytes:,} B" if budget.ram_bytes else "found"] = best.scheme
        presets = tuple(Preset(one.chosen, one.cost, None) for one in trials if one.scheme.preset in AUTO)
        why = tuple(trials_text(trials, trainings.labelled).split("\n"))
        cost, seconds = costs.cost(best.chosen, costs.options.exact_seconds), time.monotonic() - began
        found = Found((), best.score[0])
        chosen.append(Chosen(budget, best.chosen, cost, found, costs.plans, seconds, presets, tuple(trials), why, gained))
    return chosen


def _allowed(costs: Costs, budget: Budget) -> Fits:
    return bounded(costs, lambda cost: budget.allows(spent(cost)))


def on_board(costs: Costs, budget: Budget) -> Budget:
    """A budget, or what the board has where that is less: of RAM, and of flash by the code of the last layer's training."""
    head = costs.cost(preset("head", costs.forward))
    if head.room is None:
        return budget
    has = Budget(head.ram_bytes + head.room.ram_left, head.flash_bytes + head.room.flash_left)
    given = {one.name: (getattr(budget, one.name), getattr(has, one.name)) for one in fields(budget)}
    return replace(budget, **{key: min((n for n in both if n is not None), default=None) for key, both in given.items()})


def spent(cost: SchemeCost) -> Spent:
    return Spent(cost.ram_bytes, cost.flash_bytes, cost.instructions)


def too_small(costs: Costs, budget: Budget) -> SchemeError:
    """The refusal of a budget, with its numbers."""
    name, head = costs.forward.name, spent(costs.cost(preset("head", costs.forward)))
    over = [
        f"{value:,}{_UNITS[key]}, {'the budget is' if limit == getattr(budget, key) else f'{costs.board.name} has'} {limit:,}"
        for key, value, limit in on_board(costs, budget).compare(head) if value is not None and limit is not None and value > limit
    ]
    if not over:
        message = f"Of what fits into the budget, nothing gains anything for {name}."
        return SchemeError(message, hint="Give a larger budget, or train longer (--epochs).")
    message = f"The budget is too small for {name}: even `head`, the last layer alone, takes {' and '.join(over)}."
    return SchemeError(message, hint="Give a larger budget, or use a smaller model.")


def sweep_text(
    chosen: Sequence[Chosen | None], budgets: Sequence[Budget], accuracies: Sequence[float | None],
    presets: Sequence[Mapping[str, float | None]],
) -> str:
    """The table of a sweep, one line a budget; accuracies of trained schemes and presets are 0 to 1, None where not measured."""
    gained = next((one.gained for one in chosen if one), CONTRIBUTIONS)
    beside = [name for name in AUTO if any(name in others for others in presets)]
    rows = [["RAM budget", "planned RAM", "instructions", gained, "gap", "accuracy", *beside]]
    for one, budget, accuracy, others in zip(chosen, budgets, accuracies, presets, strict=True):
        limit = f"{budget.ram_bytes:,}"
        if one is None:
            rows.append([limit, "nothing gains", *("" for _ in rows[0][2:])])
            continue
        gap = "" if one.found.gap is None else f"{100 * one.found.gap:.1f} %"
        step = "" if one.cost.instructions is None else f"{one.cost.instructions:,}"
        measured = ["" if part is None else f"{part:.1%}" for part in (accuracy, *(others.get(name) for name in beside))]
        rows.append([limit, f"{one.cost.ram_bytes:,}", step, f"{one.found.gain:.4f}", gap, *measured])
    return table(rows)
