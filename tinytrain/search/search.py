# SPDX-License-Identifier: Apache-2.0
"""The scheme with the largest sum of contributions under a budget of RAM, flash and instructions; and one for each of several budgets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tinytrain.errors import SchemeError
from tinytrain.ir.graph import Graph
from tinytrain.report.text import table
from tinytrain.schemes.scheme import Scheme, preset
from tinytrain.search.cost import Costs, SchemeCost
from tinytrain.search.evolve import search_evolution, search_random
from tinytrain.search.exact import Found, Plans, search_exact
from tinytrain.search.rows import Explainer
from tinytrain.search.space import Budget, Selection, Space, Spent

Method = Literal["exact", "evolution", "random"]
_UNITS = {"ram_bytes": " bytes of RAM", "flash_bytes": " bytes of flash", "instructions": " instructions a step"}


@dataclass(frozen=True)
class Effort:
    """`evaluations` are plans that evolution and chance may make; `seconds` bound the exact search, which begins with evolution."""

    method: Method = "exact"
    evaluations: int = 300
    seconds: float = 120.0
    seed: int = 0


@dataclass(frozen=True)
class Chosen:
    """What was found under a budget: the scheme, its cost as `compile` will have it, and how good it is."""

    budget: Budget
    scheme: Scheme
    cost: SchemeCost
    found: Found
    plans: int
    seconds: float

    def text(self) -> str:
        """Lines for people."""
        found, cost = self.found, self.cost
        step = f", {cost.instructions:,} instructions a step (estimate)" if cost.instructions is not None else ""
        proved = "unknown" if found.gap is None else f"{100 * found.gap:.1f} %"
        said = "" if found.gap is None else f", nothing gains more than {found.bound:.4f}"
        if found.gap == 0:
            said = ", proved by cuts that none of these plans contradicts"
        return "\n".join((
            f"found      contributions of {found.gain:.4f} in all; gap {proved}{said}",
            f"trains     {cost.weights:,} weights and {cost.biases:,} biases in {len(self.scheme.layers)} layers",
            f"takes      {cost.ram_bytes:,} B of RAM, {cost.flash_bytes:,} B of flash{step}",
            f"searched   {self.plans:,} plans in {self.seconds:.0f} s",
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
        plans = Plans(space, oracle, budget, known)
        found = _by(plans, explainer, effort, say) if plans.fits(space.nothing) else None
        if found is None or found.selection == space.nothing:
            if len(budgets) == 1:
                raise too_small(costs.forward, budget, spent(costs.cost(preset("head", costs.forward))))
            chosen.append(None)
            continue
        scheme = space.scheme(found.selection)
        cost = costs.cost(scheme, costs.options.exact_seconds)
        chosen.append(Chosen(budget, scheme, cost, found, len(known), time.monotonic() - began))
    return chosen


def _by(plans: Plans, explainer: Explainer | None, effort: Effort, say: Callable[[str], None]) -> Found:
    if effort.method == "random":
        return search_random(plans, effort.evaluations, effort.seed, say)
    found = search_evolution(plans, effort.evaluations, effort.seed, say)
    return found if explainer is None else search_exact(plans, explainer.rows, effort.seconds, say)


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


@dataclass(frozen=True)
class Whole:
    """A scheme as a candidate of an analysis, to measure what all of it gains."""

    toml: str
    scheme: Scheme = field(compare=False)


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
