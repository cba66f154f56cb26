# SPDX-License-Identifier: Apache-2.0
"""Which layers must stay fp32, by samples: what fp16 has no range for, or loses more of than a tolerance.

Samples run forward and backward through the NumPy reference of the fp32 program, in float64. What each node of the fp16 program makes is
compared with that, where its exact results are rounded as they are stored, and then where what it reads is: what they are off is its own
doing, not that of layers before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from tinytrain.compiler import Options, compile_model, understand
from tinytrain.data.dataset import Dataset
from tinytrain.data.given import Source
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.types import F16, Array, Role, Value
from tinytrain.learn.samples import load
from tinytrain.learn.unwritten import unwritten
from tinytrain.passes.halve_weights import HALF_MAX
from tinytrain.report.live import Progress
from tinytrain.schemes.precision import Rule
from tinytrain.verify.reference import cast, evaluate, run

# Rounding alone makes 0.0003, or 0.04 where it takes results to a bound such as that of Relu6; what loses more cancelled or underflowed.
TOLERANCE = 0.05
SAMPLES = 64                                              # at most, evenly spread


@dataclass(eq=False)
class Seen:
    """Of one value that a layer makes, over the samples: its largest magnitude, the sum of its squares, and those of what is missed."""

    value: Value
    largest: float = 0.0
    square: float = 0.0
    missed: float = 0.0
    missed_by_fp32: float = 0.0

    def see(self, exact: Array, single: Array, rounded: Array) -> None:
        self.largest = max(self.largest, float(np.abs(exact).max(initial=0.0)))
        self.square += float(np.square(exact).sum())
        self.missed += float(np.square(rounded - exact).sum())
        self.missed_by_fp32 += float(np.square(single - exact).sum())

    def why(self, tolerance: float) -> str | None:
        """Why its layer must stay fp32, if it must."""
        if self.value.type.dtype is F16 and self.largest > HALF_MAX:
            return f"its {self.value.name} reaches {self.largest:,.0f} on the samples, fp16 {HALF_MAX:,.0f}"
        # a gradient that is 0 but for rounding, as that of what softmax takes away, is no better in fp32
        error, least = (float(np.sqrt(part / self.square)) if self.square else 0.0 for part in (self.missed, self.missed_by_fp32))
        return f"fp16 takes its {self.value.name} {error:.1%} off on the samples" if error > tolerance >= least else None


def calibrated(model: Path, data: Source, options: Options, tolerance: float, progress: Progress) -> Options:
    """The same options with a rule for each layer that must stay fp32; rules that are there already keep the last word.

    `tolerance` is for the root of the squares of what is missed, in parts of that of all. Raises DataError for data that does not fit the
    model, and what `compile_model` raises.
    """
    # gradients of weights are results of their own only where they are summed
    summed = dataclasses.replace(options.rule, accumulate=2)
    narrow = dataclasses.replace(options, board="host", cores=1, store=0, tuned=None, optimiser=summed, exact_seconds=0.0)
    wide = compile_model(model, dataclasses.replace(narrow, dtype="fp32"))
    project = unwritten(wide, model)
    samples = some(load(project, data, "train", targets=bool(wide.program.trains), progress=progress))
    rules: list[Rule] = []
    # a layer that reads what another one cannot store is none the worse once that stays fp32
    for reads in (False, True):
        halves = understand(model, dataclasses.replace(narrow, precision=(*rules, *options.precision)))
        layers = {node.origin for node in halves.imported.graph.nodes if node.origin}
        found = _observed(wide.program, halves.program, samples, reads, layers, progress)
        reasons = {layer: why for (layer, _), seen in found.items() if (why := seen.why(tolerance))}
        rules += [Rule(layer, "fp32", why) for layer, why in reasons.items()]
    return dataclasses.replace(options, precision=(*rules, *options.precision))


def some(samples: Dataset) -> Dataset:
    """So many of the samples that each can be looked at closely."""
    at = np.unique(np.linspace(0, len(samples) - 1, min(SAMPLES, len(samples))).astype(int))
    return Dataset(samples.x[at], None if samples.y is None else samples.y[at])


def _observed(
    wide: Program, narrow: Program, samples: Dataset, reads: bool, layers: Collection[str], progress: Progress
) -> dict[tuple[str, str], Seen]:
    """(layer, value) → what was seen of it in the entries that the device trains by; with `reads` operands are rounded too."""
    found: dict[tuple[str, str], Seen] = {}
    entries = wide.trains or ["infer"]
    progress.start("calibrating", len(samples) * len(entries))
    for key in entries:
        graph, halves = wide.entries[key], narrow.entries[key]
        readers = halves.readers()
        made = [v for node in graph.nodes for v in node.outputs]
        for i in range(len(samples)):
            given = [array[i].reshape(v.shape) for v, array in zip(graph.inputs, (samples.x, samples.y), strict=False) if array is not None]
            exact = run(graph, given, dtype=np.float64, keep=made).values
            held = (*_stored(halves), *_stored(graph), *zip(graph.inputs, given, strict=True), *exact.items())
            known = {v.name: array for v, array in held}
            for node in halves.nodes:
                # what the loss makes on the way back is that of the layers that read it
                behind = {reader.origin for v in node.outputs for reader in readers[v]}
                for v, *arrays in _compared(node, known, reads):
                    for layer in ({node.origin} if node.origin in layers else behind) & {*layers}:
                        found.setdefault((layer, v.name), Seen(v)).see(*arrays)
            progress.advance("")
    return found


def _stored(graph: Graph) -> Iterator[tuple[Value, Array]]:
    return ((v, v.data) for v in graph.stored(Role.CONST, Role.PARAM, Role.STATE) if v.data is not None)


def _compared(node: Node, known: dict[str, Array], reads: bool) -> Iterator[tuple[Value, Array, Array, Array]]:
    """(value, exact, as fp32 has it, as the fp16 program has it) of the floats that a node makes, where fp16 has a part in them.

    `known` has the exact values by name, and gets those that only this program has.
    """
    if any(v.name not in known for v in node.outputs):
        known.update(zip((v.name for v in node.outputs), node.op.reference(*_wide(node, known, np.float64)), strict=True))
    if node.op.view or not any(v.type.dtype is F16 for v in (*node.inputs, *node.outputs)):
        return
    exact = [known[v.name] for v in node.outputs]
    with np.errstate(over="ignore", invalid="ignore"):
        if reads:
            single = node.op.reference(*_wide(node, known, np.float32))
            rounded = evaluate(node, [cast(v, known[v.name]) for v in node.inputs], np.float32)
        else:
            single = tuple(array.astype(np.float32) for array in exact)
            rounded = [cast(v, array) for v, array in zip(node.outputs, exact, strict=True)]
    yield from (found for found in zip(node.outputs, exact, single, rounded, strict=True) if found[0].type.dtype.is_float)


def _wide(node: Node, known: dict[str, Array], dtype: DTypeLike) -> list[Array]:
    """The operands of a node, floats in this type."""
    return [known[v.name].astype(dtype) if v.type.dtype.is_float else np.asarray(known[v.name], v.type.dtype.np) for v in node.inputs]
