# SPDX-License-Identifier: Apache-2.0
"""Exact placement by CP-SAT: buffers are rectangles of fixed time and height, only their offsets are free."""

from __future__ import annotations

from collections.abc import Sequence

from tinytrain.planner.place import Placement, lower_bound
from tinytrain.planner.plan import Buffer

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
    spans, rows, tops = [], [], []
    for b in buffers:
        size = b.padded // unit
        if size == 0:
            continue
        low, high = (0, start.height // unit - size) if b.fixed is None else (b.fixed // unit, b.fixed // unit)
        offset = model.new_int_var(low, high, f"offset{b.id}")
        model.add_hint(offset, start.offsets[b.id] // unit)
        spans.append(model.new_fixed_size_interval_var(b.start, b.end - b.start, f"time{b.id}"))
        rows.append(model.new_fixed_size_interval_var(offset, size, f"row{b.id}"))
        model.add(offset + size <= height)
        tops.append((b.id, offset))
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
    for i, offset in tops:
        offsets[i] = solver.value(offset) * unit
    best = Placement(tuple(offsets), solver.value(height) * unit, status == cp_model.OPTIMAL)
    return best if best.height < start.height or best.proven_optimal else start
