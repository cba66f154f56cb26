# SPDX-License-Identifier: Apache-2.0
"""How many bits the weights of each layer have: 8 or 4, so that all parameters keep to a budget and the output moves least.

minimise  Σ_l e_l·x_l   over x_l in {0, 1}    with    Σ_l bytes_l(8) − saved_l·x_l ≤ budget          x_l = 1: four bits

e_l is measured: the power by which the output of the float32 model moves on calibration samples when layer l alone has four bits; the mean
of each channel is taken back, as bias correction does. Errors of different layers are taken to add up, as independent noise does, and as
HAWQ-V3 takes them (Yao et al., arXiv 2011.10680), whose e_l are estimated from curvature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import DoesNotFit, TinytrainError, ToolError
from tinytrain.frontend.onnx_import import Imported
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Array, Value
from tinytrain.passes.pack_four_bits import WORTH
from tinytrain.quantise import bias
from tinytrain.quantise.layers import LINEAR_OPS, from_rows, to_rows
from tinytrain.quantise.lockstep import Options, evaluate
from tinytrain.quantise.plan import Plan
from tinytrain.quantise.ranges import nearest, weight_scales
from tinytrain.report.live import Progress

MEASURED_SAMPLES = 32
_CHANNEL_BYTES = 12                                       # bias, multiplier and shift of an output channel, also where all have one scale
_UNIT = 1e-9                                              # errors are counted in billionths of the largest


@dataclass(frozen=True)
class Sensitivity:
    """Of a layer by its node: bytes that a firmware which only infers has of its weight, biases and factors at 8 bits, what 4 bits save of
    them, and the error that these add to the output, in parts of its power."""

    node: str
    bytes_8: int
    saved: int
    error: float


def choose_bits(model: Imported, plan: Plan, samples: Array, options: Options, progress: Progress) -> tuple[dict[str, int], list[str]]:
    """(bits of each layer by node, notes). Raises TinytrainError where the budget is missing or too small, ToolError without ortools."""
    layers = {node.origin: node for node in model.graph.nodes if isinstance(node.op, LINEAR_OPS) and node.origin in plan.layers}
    if options.bits != "mixed":
        return dict.fromkeys(layers, int(options.bits)), []
    if options.flash_budget is None:
        message = "--bits mixed is given without --flash-budget; expected the bytes that parameters may take."
        raise TinytrainError(message, hint="Try --flash-budget 30K, or --bits 4.")
    chosen = samples[np.unique(np.linspace(0, len(samples) - 1, min(MEASURED_SAMPLES, len(samples))).astype(int))]
    measured = _measure(model.graph, layers, chosen, options, progress)
    few = fewest_errors(measured, options.flash_budget)
    added = sum(one.error for one in measured if one.node in few)
    notes = [f"4 bits in {len(few)} of {len(measured)} layers, so that they take {options.flash_budget:,} B of flash at most: "
             f"expected error {added:.2g} of the output's power"]
    return {one.node: 4 if one.node in few else 8 for one in measured}, notes


def fewest_errors(layers: Sequence[Sensitivity], budget_bytes: int) -> frozenset[str]:
    """The layers that get four bits. Raises DoesNotFit where that is too much even if all do, ToolError without ortools."""
    most, least = sum(one.bytes_8 for one in layers), sum(one.bytes_8 - one.saved for one in layers)
    if least > budget_bytes:
        message = f"Layers take {least:,} bytes with 4 bits in all layers; expected {budget_bytes:,} or less, as --flash-budget says."
        raise DoesNotFit(message, hint="Give a larger budget, or a smaller model.")
    if most <= budget_bytes:
        return frozenset()
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        message = "The choice of bits needs ortools, which is not installed."
        raise ToolError(message, hint="Install it: pip install 'tinytrain[solver]', or choose --bits 4.") from None
    program = cp_model.CpModel()
    few = [program.new_bool_var(one.node) for one in layers]
    largest = max(one.error for one in layers) or 1.0
    program.add(sum(one.saved * x for one, x in zip(layers, few, strict=True)) >= most - budget_bytes)
    # of equal errors the fewest layers
    program.minimize(sum((round(one.error / largest / _UNIT) + 1) * x for one, x in zip(layers, few, strict=True)))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    status = solver.solve(program)
    assert status == cp_model.OPTIMAL, f"{solver.status_name(status)}: all at four bits would fit"
    return frozenset(one.node for one, x in zip(layers, few, strict=True) if solver.value(x))


def _measure(
    graph: Graph, layers: Mapping[str, Node], samples: Array, options: Options, progress: Progress
) -> list[Sensitivity]:
    (start,), (end,) = graph.inputs, graph.outputs
    exact: dict[Value, Array] = {start: samples}
    for node in graph.nodes:
        evaluate(node, exact, {})
    power = float(np.square(exact[end], dtype=np.float64).mean()) or 1.0
    progress.start("measuring 4 bits", len(layers))
    found = []
    for name, node in layers.items():
        progress.advance(name)
        w = node.inputs[1]
        assert w.data is not None, f"{name}: {w!r} is not stored"
        values, moved = dict(exact), {w: _few_bits(node, w.data, options)}
        changed: set[Value] = set()
        for later in graph.nodes[graph.nodes.index(node):]:
            if later is node or changed.intersection(later.inputs):
                evaluate(later, values, moved)
                if later is node and options.bias_correction:
                    y = node.outputs[0]
                    values[y] = values[y] + bias.shift(exact[y], values[y])
                changed.update(later.outputs)
        error = float(np.square(values[end].astype(np.float64) - exact[end]).mean()) / power
        saved = w.type.numel // 2 if w.type.numel >= WORTH else 0
        found.append(Sensitivity(name, w.type.numel + _CHANNEL_BYTES * node.outputs[0].shape[-1], saved, error))
    return found


def _few_bits(node: Node, w: Array, options: Options) -> Array:
    rows = to_rows(node.op, w)
    flat = rows.reshape(-1, rows.shape[-1])
    scales = weight_scales(flat, options.method, options.per_tensor, 4)
    return from_rows(node.op, (nearest(flat, scales, 4) * scales[:, None]).reshape(rows.shape), w.shape)
