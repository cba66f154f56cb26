# SPDX-License-Identifier: Apache-2.0
"""tinytrain quantize: read, observe, equalise, quantise layer by layer, write, report."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.data.dataset import Dataset, Labels, NoTargets
from tinytrain.data.given import Source, dataset
from tinytrain.data.layout import Layout
from tinytrain.errors import DataError, ModelError
from tinytrain.frontend.onnx_import import Imported, import_model
from tinytrain.frontend.prepare import Prepared, prepare
from tinytrain.quantise.bits import choose_bits
from tinytrain.quantise.calibrate import observe
from tinytrain.quantise.equalise import equalise
from tinytrain.quantise.lockstep import Lockstep, Options, Outcome, snr_db
from tinytrain.quantise.normalise import Editor, normalise, refuse_later_outputs, refuse_quantised
from tinytrain.quantise.plan import Plan, Point, make_plan
from tinytrain.quantise.qdq import write_qdq
from tinytrain.quantise.ranges import PROBABILITIES, Observed, Scale, activation_scale
from tinytrain.quantise.report import Report, Row, accuracy, finite
from tinytrain.report.live import Progress
from tinytrain.report.samples import say_how_read

if TYPE_CHECKING:
    import onnx

FEW_SAMPLES = 16


@dataclass(frozen=True, eq=False)
class Quantised:
    model: onnx.ModelProto
    report: Report


def quantise_model(path: Path, data: Source, options: Options, progress: Progress) -> Quantised:
    """Quantise an ONNX file with samples. Raises ModelError, DataError."""
    prepared = prepare(path, shapes=options.shapes)
    refuse_quantised(prepared)
    refuse_later_outputs(prepared)
    prepared = dataclasses.replace(prepared, model=normalise(prepared.model))
    model = import_model(prepared)
    if not model.input.type.dtype.is_float:
        raise ModelError(
            f"{path}: input {model.input.name} holds whole numbers, which have no scale; expected an input of float32.",
            hint="Compile it with --dtype fp16, or let it take float32 and cast that (docs/data.md).",
        )
    plan = make_plan(prepared.model.graph)
    if not plan.layers:
        raise ModelError(
            f"{path} has no Conv, Gemm or MatMul with stored weights; expected a layer that can be quantised.",
            hint="Compile it as it is.",
        )
    samples, notes = _samples(data, model, options.samples, progress)
    method, histogram = options.method, options.method != "minmax"
    notes += model.notes
    seen = observe(model, plan, samples.x, progress, histogram=histogram and not options.equalise)
    _refuse_constant(seen, plan, samples, data)
    if options.equalise:
        equal, said = equalise(prepared.model, plan, seen, per_tensor=options.per_tensor)
        notes += said
        prepared = dataclasses.replace(prepared, model=equal)
        plan = make_plan(equal.graph)
        model = import_model(prepared)
        seen = observe(model, plan, samples.x, progress, histogram=histogram)
    free = (-math.inf, math.inf)
    scales = {tensor: activation_scale(s, method, options.percentile, plan.bounds.get(tensor, free)) for tensor, s in seen.items()}
    scales.update(_constant_scales(prepared, plan))
    scales.update({p.tensor: PROBABILITIES for p in plan.points.values() if p.op == "Softmax"})
    notes += [f"{t} is 0 for all samples: its scale is {s.scale:g}, whatever it becomes later" for t, s in scales.items() if s.dead]
    bits, said = choose_bits(model, plan, samples.x, options, progress)
    notes += said
    outcome = Lockstep(model, plan, scales, options, bits).run(samples.x, progress)
    if raised := {name: made.raised for name, made in outcome.layers.items() if made.raised}:
        channels = ", ".join(f"{name} ({count} channels)" for name, count in raised.items())
        notes.append(f"weights too small beside their bias have a greater scale: {channels}")
    written = write_qdq(prepared.model, plan, scales, outcome.layers, per_tensor=options.per_tensor)
    return Quantised(written, _report(path, options, prepared, plan, scales, outcome, samples, notes))


def _samples(source: Source, model: Imported, most: int, progress: Progress) -> tuple[Dataset, list[str]]:
    """(evenly spread samples, with labels where there are integer labels that the output of the model can stand for; notes)."""
    layout = Layout(model.input.onnx_shape[1:], model.input.perm)
    classes = math.prod(model.output.onnx_shape)
    notes: list[str] = []
    try:
        found = dataset(source, layout, Labels(classes))
    except DataError as error:
        found = dataset(source, layout, None)
        if not isinstance(error, NoTargets):
            notes.append(f"no accuracy: {error.sentences[0]}")
    say_how_read(found, progress)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
    if len(chosen) < FEW_SAMPLES:
        notes.append(f"only {len(chosen)} samples: expect better ranges from 100 or more")
    return found.some(chosen), notes


def _refuse_constant(seen: dict[str, Observed], plan: Plan, samples: Dataset, data: Source) -> None:
    entry = plan.entry
    if entry is not None and seen[entry].low == seen[entry].high:
        raise DataError(
            f"{data}: all {len(samples):,} samples hold nothing but {seen[entry].low:g}, so input {entry} has no range; "
            "expected samples like those the model will see.",
            hint="Check how the file was written.",
        )


def _constant_scales(prepared: Prepared, plan: Plan) -> dict[str, Scale]:
    arrays = Editor(prepared.model.graph).arrays
    return {
        name: activation_scale(Observed(float(arrays[name].min()), float(arrays[name].max())), "minmax", 100) for name in plan.constants
    }


def _report(
    path: Path, options: Options, prepared: Prepared, plan: Plan, scales: dict[str, Scale], outcome: Outcome, samples: Dataset,
    notes: list[str],
) -> Report:
    nodes = {node.name: node for node in prepared.model.graph.node}
    made_by = {behind: node for node in nodes.values() for before, behind in plan.folded.items() if node.output[0] == before}

    def row(point: Point) -> Row:
        maker = made_by.get(point.tensor) or nodes.get(point.node)
        layer, op = (maker.name, maker.op_type) if maker is not None else (point.tensor, "input")
        scale, made = scales[point.root], outcome.layers.get(layer)
        return Row(
            layer, op, point.tensor, float(scale.scale), scale.zero_point, finite(outcome.snr[point.tensor]),
            finite(made.snr) if made is not None else None, made.bits if made is not None else 8,
        )

    made = [(v, v.weight.size, v.bias.size if v.bias is not None else 0) for v in outcome.layers.values()]
    return Report(
        path.name, options.method, len(samples), tuple(row(p) for p in plan.points.values() if p.tensor in outcome.snr),
        finite(snr_db(outcome.exact, outcome.int8)),
        accuracy(outcome.exact, outcome.int8, samples.y) if samples.y is not None else None,
        tuple(f"{nodes[name].name} ({nodes[name].op_type})" for name in plan.islands), tuple(notes),
        sum(4 * (w + b) for _, w, b in made),
        sum(-(-w * v.bits // 8) + 4 * b + 4 * (1 if options.per_tensor else v.scales.size) for v, w, b in made),
    )
