# SPDX-License-Identifier: Apache-2.0
"""Runs calibration samples through the float32 model and observes every point."""

from __future__ import annotations

from tinytrain.frontend.onnx_import import Imported
from tinytrain.ir.types import Array, Value
from tinytrain.quantise.plan import Plan
from tinytrain.quantise.ranges import Observed
from tinytrain.report.live import Progress
from tinytrain.verify.reference import run


def point_values(model: Imported, plan: Plan) -> dict[Value, str]:
    """Value → point that it holds. A move that is only a view has none of its own."""
    last = {node.origin: node.outputs[0] for node in model.graph.nodes}
    found = {last[p.node]: p.tensor for p in plan.points.values() if p.node in last}
    if plan.entry is not None:
        found[model.graph.inputs[0]] = plan.entry
    return found


def observe(model: Imported, plan: Plan, samples: Array, progress: Progress, *, histogram: bool) -> dict[str, Observed]:
    """Point → what was seen of it. The ends must be known before anything can be counted between them: two runs for a histogram."""
    points = {v: t for v, t in point_values(model, plan).items() if plan.points[t].root == t}
    seen = {tensor: Observed() for tensor in points.values()}
    progress.start("calibrating", len(samples) * (2 if histogram else 1))
    for counting in (False, True) if histogram else (False,):
        for sample in samples:
            values = run(model.graph, [sample], keep=points).values
            for value, tensor in points.items():
                if counting:
                    seen[tensor].see_counts(values[value])
                else:
                    seen[tensor].see_ends(values[value])
            progress.advance("")
    return seen
