# SPDX-License-Identifier: Apache-2.0
"""Whether `learned.onnx` is what the device has learned: both run over a few samples, by onnx's own evaluator and on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.device.manifest import Port
from tinytrain.device.project import Project
from tinytrain.errors import DeviceError
from tinytrain.ir.types import Array
from tinytrain.learn.state import LEARNED_MODEL
from tinytrain.learn.weights import compiled
from tinytrain.onnx_graph import stored_array
from tinytrain.reading import first_line

if TYPE_CHECKING:
    import onnx

    from tinytrain.device.session import Session

SAMPLES = 4
SMALLEST = 1e-6                                           # of differences that count
MANY_MACS = 20_000_000                                    # from here on one sample has to do: the evaluator takes seconds for each
MOST_MACS = 200_000_000
FLOAT_PART = 1e-3                                         # of the largest output, which sums in another order may be off
# Where layers round to int8 a step of one moves all behind it. How far off that takes the outputs on average the untrained model shows:
# so many times that, and this part of their range, is no fault.
ROUNDED_TIMES, ROUNDED_PART = 4, 1 / 64


def check_export(project: Project, session: Session, samples: Array, say: Callable[[str], None]) -> None:
    """Say in what `learned.onnx` differs from the compiled model's form, and that it equals the device on some samples, or was not checked.

    Raises DeviceError, and removes it, where it does not equal the device; `learned.npz` then still holds what was learned.
    """
    import onnx

    from tinytrain.frontend.export import changed_forms

    path = project.folder / LEARNED_MODEL
    original, learned = onnx.load(project.folder / "model.onnx"), onnx.load(path)
    for change in changed_forms(original, learned):
        say(f"learned.onnx  stores {change}")
    macs = project.manifest.macs
    if macs > MOST_MACS:
        say(f"learned.onnx  not compared with the device: {macs:,} MACs are too many for onnx's evaluator")
        return
    few = samples[: SAMPLES if macs < MANY_MACS else 1]
    rounds = any(node.op_type == "QuantizeLinear" for node in learned.graph.node)
    try:
        want = [evaluated(model, project.manifest.input, few) for model in (learned, *([original] if rounds else []))]
    except Exception as why:                              # whatever an evaluator without some operator raises
        say(f"learned.onnx  not compared with the device: onnx's evaluator cannot run it ({first_line(why)})")
        return
    count = f"{len(few)} sample{'s' if len(few) > 1 else ''}"
    found = _inferred(project, session, few)
    gap = np.abs(found - want[0])
    largest = float(gap.max(initial=0.0))
    if rounds:
        untrained = np.abs(_untrained(project, session, few) - want[1])
        off, allowed = gap.mean(), ROUNDED_TIMES * untrained.mean() + ROUNDED_PART * float(np.ptp([found, want[0]]))
    else:
        off, allowed = gap.max(initial=0.0), FLOAT_PART * np.abs([found, want[0]]).max(initial=0.0)
    if not off <= allowed + SMALLEST:
        path.unlink()
        raise DeviceError(
            f"{path} does not compute what the device does: on {count} they differ by up to {largest:.3g}; it was removed.",
            f"{project.folder / 'learned.npz'} holds what was learned.",
            hint="Where the device answers rightly and no file of the project was changed, this is a fault of tinytrain: please report it "
            "with the model. `tinytrain infer --learned` still runs what was learned.",
        )
    rounding = " but for rounding to int8" if rounds and largest > SMALLEST else ""
    say(f"learned.onnx  equals the device on {count}{rounding}, largest difference {largest:.1g}")


def _inferred(project: Project, session: Session, samples: Array) -> Array:
    """Outputs of the device, a row each, in the order of ONNX."""
    rows = np.array([session.infer(x) for x in samples], np.float64)
    return np.concatenate([part.reshape(len(rows), -1) for part in project.manifest.output.apart(rows)], axis=1)


def _untrained(project: Project, session: Session, samples: Array) -> Array:
    """The same with the weights that were compiled in; what was learned is put back. All else, as the scheme, stays as it is."""
    before = compiled(project, session)
    learned = session.get_params(*before)
    session.set_params(before)
    outputs = _inferred(project, session, samples)
    session.set_params(learned)
    return outputs


def evaluated(model: onnx.ModelProto, port: Port, samples: Array) -> Array:
    """Outputs of the model, a row each, for samples in the layout of the device."""
    return np.array([np.concatenate([np.reshape(y, -1) for y in outputs]) for outputs in runs(model, port, samples)], np.float64)


def runs(model: onnx.ModelProto, port: Port, samples: Array) -> list[list[Array]]:
    """What onnx's evaluator gives for each sample in the layout of the device: the outputs of the model, in order."""
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(model, new_ops=list(quantising()))
    found = []
    for x in samples:
        parts = zip(model.graph.input, port.apart(x[None]), port.each, strict=True)
        given = {entry.name: _as_stored(model, entry, part.reshape(each.onnx_shape)) for entry, part, each in parts}
        found.append(evaluator.run(None, given))
    return found


def _as_stored(model: onnx.ModelProto, entry: onnx.ValueInfoProto, x: Array) -> Array:
    """A sample in the type of the input; as the integers that a DequantizeLinear reads, where one reads it."""
    from onnx import helper

    name = entry.name
    reader = next((node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] == name), None)
    if reader is None:
        return x.astype(helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
    stored = {t.name: stored_array(t) for t in model.graph.initializer}
    scale, zero = stored[reader.input[1]], stored[reader.input[2]] if len(reader.input) > 2 else np.zeros((), np.int8)
    limits = np.iinfo(zero.dtype)
    return np.asarray(np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(zero.dtype))


def quantising() -> tuple[type, type]:
    """QuantizeLinear and DequantizeLinear, of which the evaluator has only newer versions than most models use."""
    from onnx.reference.op_run import OpRun

    def along(x: Array, each: Array, axis: int) -> Array:
        return each.reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)]) if each.size > 1 else each.reshape(())

    class DequantizeLinear(OpRun):
        op_domain = ""

        def _run(self, x: Array, scale: Array, zero: Array | None = None, axis: int = 1, **_: Any) -> tuple[Array]:
            shift = 0 if zero is None else along(x, zero, axis).astype(np.int64)
            return (((x.astype(np.int64) - shift) * along(x, scale, axis)).astype(np.float32),)

    class QuantizeLinear(OpRun):
        op_domain = ""

        def _run(self, x: Array, scale: Array, zero: Array | None = None, axis: int = 1, **_: Any) -> tuple[Array]:
            point = np.zeros((), np.uint8) if zero is None else along(x, zero, axis)
            limits = np.iinfo(point.dtype)
            return (np.clip(np.rint(x / along(x, scale, axis)) + point.astype(np.float32), limits.min, limits.max).astype(point.dtype),)

    return QuantizeLinear, DequantizeLinear
