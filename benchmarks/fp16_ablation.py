# SPDX-License-Identifier: Apache-2.0
"""What loss scaling and sums in fp32 are for: gradients of a trained network that fp16 flushes to zero, and how far gradients are off.

Run it with `make fp16-ablation`. Each task of `make learning` has a row in benchmarks/results/fp16_ablation.json: its network, trained for
the world before the change, and samples of that world. All by the NumPy reference.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import int8_learning
import numpy as np
import tasks

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, understand
from tinytrain.gradient.loss_scale import LossScale
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import F16, Array, Role, Value
from tinytrain.passes.pack_masks import turning_point
from tinytrain.verify.reference import cast, evaluate

RESULTS = Path(__file__).parent / "results" / "fp16_ablation.json"
SAMPLES = 16
SCALES = (1.0, 2.0**10)


class HalfSums(np.ndarray[Any, np.dtype[np.float32]]):
    """Numbers whose products are summed in fp16, one after the other, as kernels do that accumulate in fp16."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **more: Any) -> Any:
        plain = [a.view(np.ndarray) if isinstance(a, HalfSums) else a for a in inputs]
        if ufunc is np.matmul:
            left, right = np.atleast_2d(plain[0]), plain[1]
            total = np.zeros(np.matmul(left, right).shape, np.float16)
            for k in range(left.shape[-1]):
                total = (total + left[..., :, k, None] * right[..., k, None, :]).astype(np.float16)
            made = total.astype(np.float32).reshape(np.matmul(*plain).shape)
        elif ufunc is np.add and method == "reduce":
            made = sums(plain[0], **more)
        else:
            made = getattr(ufunc, method)(*plain, **more)
            if ufunc is np.add and out is not None:       # one more part of a sum
                made = made.astype(np.float16).astype(np.float32)
        if out is not None:
            np.asarray(out[0])[...] = made
            return out[0]
        return made.view(HalfSums) if isinstance(made, np.ndarray) and made.dtype == np.float32 else made


def sums(array: Array, axis: Any = 0, keepdims: bool = False, **more: Any) -> Array:
    """Sums along axes in fp16, one after the other."""
    axes = tuple(range(array.ndim)) if axis is None else tuple(a % array.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
    rest = [a for a in range(array.ndim) if a not in axes]
    flat = array.transpose(*axes, *rest).reshape(-1, *(array.shape[a] for a in rest))
    made = np.add.accumulate(flat, axis=0, dtype=np.float16)[-1].astype(array.dtype)
    return np.asarray(np.expand_dims(made, sorted(axes)) if keepdims else made)


@dataclass(frozen=True)
class Row:
    """By loss scale: of `gradients` that are not 0 in fp32 the part that fp16 takes for 0; and how far the gradients of a sample for all
    weights are off, the norm of it in parts of theirs, the median over samples, where sums are fp32 and where they are fp16.
    """

    task: str
    gradients: int
    flushed: dict[str, float]
    error_fp32_sums: dict[str, float]
    error_fp16_sums: dict[str, float]


def train_graph(model: Path, scale: float, dtype: Any) -> Graph:
    """What a step runs that only sums gradients: each gradient is then a result of its own."""
    scaled = LossScale(scale, steps=0)
    options = Options(dtype=dtype, loss_scale=scaled, optimiser=Optimiser(accumulate=2, loss_scale=scaled))
    return understand(model, options).program.entries["train"]


def run(graph: Graph, given: Mapping[str, Array], kind: type[np.ndarray[Any, Any]] = np.ndarray) -> dict[str, Array]:
    """Value → what it holds, where sums of nodes that read halves are those of `kind`."""
    live: dict[Value, Array] = {v: cast(v, v.data) for v in graph.stored(Role.CONST, Role.PARAM, Role.STATE) if v.data is not None}
    live |= {v: cast(v, given[v.name].reshape(v.shape)) for v in graph.inputs}
    for node in graph.nodes:
        halves = any(v.type.dtype is F16 for v in node.inputs)
        arrays = [live[v].view(kind) if halves and live[v].dtype.kind == "f" else live[v] for v in node.inputs]
        live.update(zip(node.outputs, evaluate(node, arrays, np.float32), strict=True))
    return {v.name: array for v, array in live.items()} | {old.name: live[new] for old, new in graph.updates.items()}


def summed(graph: Graph, found: Mapping[str, Array]) -> Array:
    """Gradients of all weights of one sample, which are added to sums that are 0."""
    return np.concatenate([found[old.name].astype(np.float64).ravel() for old in graph.updates if old.name.startswith("sum_")])


def measure(task: tasks.Task, out: Path) -> Row:
    model, world = tasks.start(task, out).model, task.world().before
    assert world.y is not None
    graphs = {scale: (train_graph(model, scale, "fp32"), train_graph(model, scale, "fp16")) for scale in SCALES}
    count, lost = dict.fromkeys(SCALES, 0), dict.fromkeys(SCALES, 0)
    off: dict[type[np.ndarray[Any, Any]], dict[float, list[float]]] = {kind: {s: [] for s in SCALES} for kind in (np.ndarray, HalfSums)}
    for x, y in zip(world.x[-SAMPLES:], world.y[-SAMPLES:], strict=True):
        for scale, (wide, narrow) in graphs.items():
            given = {wide.inputs[0].name: x, wide.inputs[1].name: y}
            exact = run(wide, given)
            for v in (v for node in narrow.nodes[turning_point(narrow) :] for v in node.outputs if v.type.dtype is F16):
                count[scale] += int(np.count_nonzero(exact[v.name]))
                lost[scale] += int(np.count_nonzero((exact[v.name] != 0) & (exact[v.name].astype(np.float16) == 0)))
            wanted = summed(wide, exact)
            for kind, of in off.items():
                of[scale].append(float(np.linalg.norm(summed(wide, run(narrow, given, kind)) - wanted) / np.linalg.norm(wanted)))
    errors = [{f"{scale:g}": statistics.median(of[scale]) for scale in SCALES} for of in off.values()]
    return Row(task.name, count[1.0], {f"{scale:g}": lost[scale] / count[scale] for scale in SCALES}, *errors)


@click.command()
@click.option("--task", "names", multiple=True, type=click.Choice([t.name for t in tasks.TASKS]), help="Only this task.")
@click.option("--out", type=click.Path(path_type=Path), default=int8_learning.OUT, help="Folder for pretrained models.")
def main(names: tuple[str, ...], out: Path) -> None:
    """Measure the tasks whose data is there, print them, and write them to benchmarks/results/fp16_ablation.json."""
    rows = {row["task"]: row for row in (json.loads(RESULTS.read_text()) if RESULTS.is_file() else [])}
    for task in tasks.TASKS:
        if (names and task.name not in names) or task.missing:
            continue
        row = measure(task, out)
        rows[task.name] = asdict(row)
        write_text(RESULTS, json.dumps([rows[t.name] for t in tasks.TASKS if t.name in rows], indent=2) + "\n")
        for scale, part in row.flushed.items():
            print(
                f"{row.task:<8} loss scale {scale:>4}: {part:6.2%} of {row.gradients:,} gradients flushed to zero, those of weights off by "
                f"{row.error_fp32_sums[scale]:.2%} with sums in fp32, {row.error_fp16_sums[scale]:.2%} in fp16", flush=True,
            )
    print(os.path.relpath(RESULTS))


if __name__ == "__main__":
    main()
