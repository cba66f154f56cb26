# SPDX-License-Identifier: Apache-2.0
"""Exact placement by CP-SAT: buffers are rectangles of fixed time and height, only their offsets are free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinytrain.planner.place import Placement, lower_bound
from tinytrain.planner.plan import Buffer

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import IntVar

# a second of a 2-core machine, in the solver's own deterministic unit
_UNITS_PER_SECOND = 0.3


def improve(buffers: Sequence[Buffer], start: Placement, seconds: float) -> Placement:
    """The least arena, or the best found in about `seconds`, never worse than `start`.

    What is counted is the solver's work on one worker, not time, so that the same model gives the same plan on any machine.
    Without ortools the given placement comes back.
    """
    if start.proven_optimal or seconds <= 0:
        return start
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        return start

    unit = buffers[0].align
    bound = lower_bound(buffers) // unit
    model = cp_model.CpModel()
    height = model.new_int_var(bound, start.height // unit, "height")
    spans, rows = [], []
    tops: dict[int, IntVar] = {}
    over = {b.id: b.over for b in buffers if b.over is not None and min(b.padded, buffers[b.over[0]].padded) > 0}
    covered = {lower for lower, _ in over.values()}
    for b in buffers:
        size = b.padded // unit
        if size == 0:
            continue
        low, high = (0, start.height // unit - size) if b.fixed is None else (b.fixed // unit, b.fixed // unit)
        offset = model.new_int_var(low, high, f"offset{b.id}")
        model.add_hint(offset, start.offsets[b.id] // unit)
        # what another one may lie over is apart from it at its last position only if that one does not
        shared = b.id in covered
        spans.append(model.new_fixed_size_interval_var(b.start, b.end - b.start - shared, f"time{b.id}"))
        rows.append(model.new_fixed_size_interval_var(offset, size, f"row{b.id}"))
        model.add(offset + size <= height)
        tops[b.id] = offset
    for upper, (lower, lead) in over.items():
        one, other = buffers[upper], buffers[lower]
        joint = model.new_bool_var(f"joint{upper}")
        model.add(tops[upper] + lead // unit == tops[lower]).only_enforce_if(joint)
        model.add_hint(joint, one.lies_over(start.offsets[upper], other, start.offsets[lower]))
        # where the two are not joint, all of the lower one; where they are, what of it the upper one does not cover
        pieces = [(joint.negated(), tops[lower], other.padded), (joint, tops[upper] + one.padded // unit, lead + other.padded - one.padded)]
        for there, bottom, size in pieces:
            if size > 0:
                spans.append(model.new_optional_fixed_size_interval_var(one.start, 1, there, f"last{len(spans)}"))
                rows.append(model.new_optional_fixed_size_interval_var(bottom, size // unit, there, f"row{len(spans)}"))
    model.add_no_overlap_2d(spans, rows)
    model.minimize(height)

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = seconds * _UNITS_PER_SECOND
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return start
    offsets = [b.fixed or 0 for b in buffers]
    for i, offset in tops.items():
        offsets[i] = solver.value(offset) * unit
    best = Placement(tuple(offsets), solver.value(height) * unit, status == cp_model.OPTIMAL)
    return best if best.height < start.height or best.proven_optimal else start
