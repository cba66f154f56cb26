# SPDX-License-Identifier: Apache-2.0
"""The best selection under a budget: CP-SAT on a relaxation, and cuts from the real planner until what it proposes fits.

    maximise Σ gain · x  over the rows known so far  →  plan the answer  →  it fits: nothing better exists
                                                     →  it does not: add why, and again

Why is, from the strongest down: a row at the peak of its plan (rows.py) that the answer breaks; that no selection with all of a smaller
one fits, which already did not; that this very one does not. The first two hold if training more never takes less. The planner is a
heuristic, so this is checked: a row that claims more than any plan took is lowered, and a plan that fits where a smaller one did not
makes the latter's cut one of itself alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tinytrain.errors import ToolError
from tinytrain.search.rows import Explain, Row
from tinytrain.search.space import Budget, Oracle, Selection, Space, Spent, at_most

_UNIT = 1e-6                                              # gains are counted in millionths
_SHRINKINGS = 12                                          # plans made to find a smaller reason
_DESCENTS = 5                                             # rounds from one attempt to make a proposal fit to the next


@dataclass(frozen=True)
class Found:
    """A selection that fits, its gain, and what no selection that fits can exceed; `bound` is None where nothing was proved."""

    selection: Selection
    gain: float
    bound: float | None = None

    @property
    def gap(self) -> float | None:
        """How far the gain may be from the best there is, in parts of that; 0 when it is the best."""
        if self.bound is None:
            return None
        return max(0.0, self.bound - self.gain) / self.bound if self.bound > 0 else 0.0


@dataclass
class Plans:
    """The oracle with a memory: every selection is planned once, whoever asks."""

    space: Space
    oracle: Oracle
    budget: Budget
    known: dict[Selection, Spent] = field(default_factory=dict)

    def spent(self, selection: Selection) -> Spent:
        if selection not in self.known:
            self.known[selection] = self.oracle(selection)
        return self.known[selection]

    def fits(self, selection: Selection) -> bool:
        return self.budget.allows(self.spent(selection))

    def best(self) -> Selection | None:
        """Of all that were planned, the one that fits and gains the most; of equals the one with less RAM."""
        fitting = [s for s, spent in self.known.items() if self.budget.allows(spent)]
        return max(fitting, key=lambda s: (self.space.gain(s), -self.known[s].ram_bytes), default=None)


@dataclass
class _Cuts:
    rows: list[Row] = field(default_factory=list)
    compared: list[int] = field(default_factory=list)     # with how many of the plans each row was compared
    reasons: set[Selection] = field(default_factory=set)  # nothing that has all of one fits
    single: set[Selection] = field(default_factory=set)   # that very one does not fit


def search_exact(
    plans: Plans, explain: Explain | None, seconds: float, say: Callable[[str], None] = lambda text: None
) -> Found:
    """The best selection, or the best found in about `seconds` with a bound. Starts from all that `plans` knows.

    Raises ToolError without ortools.
    """
    stop = time.monotonic() + seconds
    cuts, bound = _Cuts(), plans.space.gain(plans.space.all)
    if explain:
        cuts.rows += explain(plans.space.all)
    plans.fits(plans.space.nothing)
    rounds = 0
    while True:
        _check(cuts, plans)
        best = plans.best()
        assert best is not None, "the caller has seen that the least fits"
        proposed, upper = _solve(plans, cuts, best, max(0.1, stop - time.monotonic()))
        slack = _UNIT * sum(plans.space.all)              # gains were rounded, one by one
        bound = max(min(bound, upper), plans.space.gain(best)) if upper > plans.space.gain(best) + slack else plans.space.gain(best)
        say(f"{plans.space.gain(best):.4f} of at most {bound:.4f}, {len(plans.known)} plans, {len(cuts.rows) + len(cuts.reasons)} cuts")
        if proposed is None or bound == plans.space.gain(best) or time.monotonic() > stop:
            break
        if plans.fits(proposed):
            continue
        _cut(cuts, plans, proposed, explain)
        if (rounds := rounds + 1) % _DESCENTS == 1:
            _descend(plans, proposed)
    best = plans.best()
    assert best is not None
    return Found(best, plans.space.gain(best), bound)


def _check(cuts: _Cuts, plans: Plans) -> None:
    """No cut may forbid what was planned and fits; no row may claim more than a plan took."""
    made = list(plans.known.items())
    cuts.compared += [0] * (len(cuts.rows) - len(cuts.compared))
    for i, row in enumerate(cuts.rows):
        taken = [(row.value(s), getattr(spent, row.resource)) for s, spent in made[cuts.compared[i]:]]
        excess = max((claimed - value for claimed, value in taken if value is not None), default=0)
        cuts.compared[i] = len(made)
        if excess > 0:
            cuts.rows[i] = dataclasses.replace(row, base=row.base - excess)
    fitting = [s for s, spent in plans.known.items() if plans.budget.allows(spent)]
    wrong = {reason for reason in cuts.reasons if any(at_most(reason, s) for s in fitting)}
    cuts.reasons -= wrong
    cuts.single |= {s for s in plans.known if any(at_most(reason, s) for reason in wrong)} - set(fitting)


def _cut(cuts: _Cuts, plans: Plans, proposed: Selection, explain: Explain | None) -> None:
    """Forbid a selection that does not fit, and as much as possible with it."""
    rows = [row for row in explain(proposed) if _broken(row, proposed, plans.budget)] if explain else []
    cuts.rows += [row for row in rows if row not in cuts.rows]
    _check(cuts, plans)
    if any(_broken(row, proposed, plans.budget) for row in cuts.rows):
        return
    reason = _smaller(plans, proposed)
    cuts.reasons.add(reason)
    _check(cuts, plans)
    if reason not in cuts.reasons:
        cuts.single.add(proposed)


def _descend(plans: Plans, selection: Selection) -> None:
    """Plan what is left of a selection that does not fit when as few groups as needed are taken out, those that gain the least."""
    groups = plans.space.groups
    order = sorted((g for g, level in enumerate(selection) if level), key=lambda g: groups[g].choices[selection[g] - 1].gain)
    low, high = 0, len(order)                             # groups taken out: too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        fits = plans.fits(tuple(0 if g in order[:middle] else level for g, level in enumerate(selection)))
        low, high = (low, middle) if fits else (middle, high)


def _broken(row: Row, selection: Selection, budget: Budget) -> bool:
    limit = getattr(budget, row.resource)
    return limit is not None and row.value(selection) > limit


def _smaller(plans: Plans, reason: Selection) -> Selection:
    """A smaller selection that does not fit either: what gains the least is left out, as long as that goes, for a few plans."""
    groups = plans.space.groups
    order = sorted((g for g, level in enumerate(reason) if level), key=lambda g: groups[g].choices[reason[g] - 1].gain)
    for g in order[:_SHRINKINGS]:
        trial = (*reason[:g], reason[g] - 1, *reason[g + 1 :])
        if not plans.fits(trial):
            reason = trial
    return reason


def _solve(plans: Plans, cuts: _Cuts, best: Selection, seconds: float) -> tuple[Selection | None, float]:
    """(the best selection that no cut forbids, None where there is none; what none of them exceeds)."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        message = "The exact search needs ortools, which is not installed."
        raise ToolError(message, hint="Install it: pip install 'tinytrain[solver]', or choose --method evolution.") from None

    model = cp_model.CpModel()
    # reach[g][i]: group g takes choice i or a larger one
    reach = [[model.new_bool_var(f"{g}_{i}") for i in range(1, len(group.choices) + 1)] for g, group in enumerate(plans.space.groups)]
    gains = []
    for g, group in enumerate(plans.space.groups):
        for i, literal in enumerate(reach[g]):
            if i:
                model.add_implication(literal, reach[g][i - 1])
            more = group.choices[i].gain - (group.choices[i - 1].gain if i else 0.0)
            gains.append(round(more / _UNIT) * literal)
            model.add_hint(literal, best[g] > i)
    total = sum(gains)
    model.add(total >= round(plans.space.gain(best) / _UNIT) - len(gains))
    some: dict[Collection[tuple[int, int]], cp_model.IntVar] = {}
    for row in cuts.rows:
        limit = getattr(plans.budget, row.resource)
        if limit is None:
            continue
        terms = []
        for amount, needs in row.terms:
            if needs not in some:
                literals = [reach[g][level - 1] for g, level in needs]
                some[needs] = literals[0] if len(literals) == 1 else model.new_bool_var(f"some_{len(some)}")
                if len(literals) > 1:
                    model.add_max_equality(some[needs], literals)
            terms.append(amount * some[needs])
        model.add(sum(terms) + row.base <= limit)
    for reason in cuts.reasons:
        model.add_bool_or([~reach[g][level - 1] for g, level in enumerate(reason) if level])
    for one in cuts.single:
        smaller = [~reach[g][level - 1] for g, level in enumerate(one) if level]
        larger = [reach[g][level] for g, level in enumerate(one) if level < len(reach[g])]
        model.add_bool_or([*smaller, *larger])
    model.maximize(total)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = seconds
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return None, plans.space.gain(best)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, float("inf")                         # out of time
    upper = solver.best_objective_bound * _UNIT
    return tuple(sum(int(solver.value(literal)) for literal in literals) for literals in reach), upper
