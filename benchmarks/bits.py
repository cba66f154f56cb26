# SPDX-License-Identifier: Apache-2.0
"""Weights of 8 and 4 bits: the integer program of `quantize --bits mixed` beside other choices that fit the same bytes.

Run it with `make bench-bits`. The tasks are those of the learning benchmark, before their world changes: the pretrained float model is
quantised by samples without labels, accuracy is that on samples of the same world which nobody has seen. Rows go to
benchmarks/results/bits.json as they come.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import click
import tasks
from int8_learning import OUT, task_of

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import DoesNotFit
from tinytrain.learn.outputs import evaluate
from tinytrain.quantise import bits, lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet

RESULTS = Path(__file__).resolve().parent / "results" / "bits.json"
PARTS = (0.6, 0.75, 0.9)                                  # of the bytes at 8 bits
SAMPLES = 64
Rule = Callable[[Sequence[bits.Sensitivity], int], frozenset[str]]


def in_order(layers: Sequence[bits.Sensitivity], budget_bytes: int) -> frozenset[str]:
    """4 bits for one layer after the other until the rest fits."""
    left, few = sum(one.bytes_8 for one in layers), set()
    for one in layers:
        if left > budget_bytes and one.saved:
            left -= one.saved
            few.add(one.node)
    return frozenset(few)


def largest_first(layers: Sequence[bits.Sensitivity], budget_bytes: int) -> frozenset[str]:
    return in_order(sorted(layers, key=lambda one: -one.saved), budget_bytes)


def at_random(seed: int) -> Rule:
    return lambda layers, budget_bytes: in_order(random.Random(seed).sample(layers, len(layers)), budget_bytes)


RULES: dict[str, Rule] = {
    "mixed": bits.fewest_errors, "largest first": largest_first, **{f"random {seed}": at_random(seed) for seed in range(3)},
}


@dataclass(frozen=True)
class Row:
    """`part`: of the bytes at 8 bits, that were allowed; accuracy from 0 to 1, of the quantised model and of the float one."""

    task: str
    how: str
    part: float
    parameter_bytes: int
    snr_db: float
    accuracy: float
    fp32: float


def quantised(task: tasks.Task, start: tasks.Start, how: str, part: float, budget: int | None, unseen: Dataset) -> Row:
    chosen = "mixed" if how in RULES else how
    options = lockstep.Options(equalise=task.equalise, samples=SAMPLES, bits=chosen, flash_budget=budget)  # type: ignore[arg-type]
    with patch.object(bits, "fewest_errors", RULES.get(how, bits.fewest_errors)), TemporaryDirectory() as folder:
        made = quantise_model(start.model, start.model.parent / "calibration.npz", options, Quiet())
        model = Path(folder) / "model.onnx"
        model.write_bytes(made.model.SerializeToString())
        write(compile_model(model, Options()), Path(folder) / "project")
        with Project.open(Path(folder) / "project").session() as session:
            accuracy = evaluate(session, unseen, Quiet()).accuracy or 0.0
    return Row(task.name, how, part, made.report.int8_bytes, made.report.output_snr_db or 0.0, accuracy, start.before)


def rows_of(task: tasks.Task, out: Path, results: Path) -> list[Row]:
    """All rows of a task; those that `results` has are not measured again."""
    start, before = tasks.start(task, out), task.world().before
    _, unseen = tasks.parts(before, len(before) * 9 // 10)
    rows = [Row(**row) for row in json.loads(results.read_text(encoding="utf-8"))] if results.is_file() else []

    def row(how: str, part: float, budget: int | None = None) -> Row:
        found = next((r for r in rows if (r.task, r.how, r.part) == (task.name, how, part)), None)
        if found is None:
            found = quantised(task, start, how, part, budget, unseen)
            rows.append(found)
            write_text(results, "[\n" + ",\n".join("  " + json.dumps(asdict(r)) for r in rows) + "\n]\n")
        return found

    made = [row("8", 1.0), row("4", 0.0)]
    for part in PARTS:
        try:
            made += [row(how, part, int(part * made[0].parameter_bytes)) for how in RULES]
        except DoesNotFit as error:
            print(f"{task.name}, {part:.0%} of the bytes: {error.sentences[0]}")
    return made


def table(rows: Sequence[Row]) -> str:
    lines = [f"{rows[0].task}: fp32 {rows[0].fp32:.2%}", f"  {'how':<16}{'bytes':>10}{'accuracy %':>12}{'output SNR dB':>16}"]
    for part in dict.fromkeys(row.part for row in rows):
        for how in ("8", "4", "mixed", "largest first", "random"):
            found = [row for row in rows if row.part == part and row.how.startswith(how)]
            if found:
                accuracy, snr = (statistics.mean(getattr(row, key) for row in found) for key in ("accuracy", "snr_db"))
                lines.append(f"  {how:<16}{max(row.parameter_bytes for row in found):>10,}{100 * accuracy:>12.1f}{snr:>16.1f}")
    return "\n".join(lines)


@click.command()
@click.option("--task", "names", multiple=True, type=click.Choice([t.name for t in tasks.TASKS]), help="Only this task.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Folder for pretrained models.")
def main(names: tuple[str, ...], results: Path, out: Path) -> None:
    """Accuracy of each choice of bits on all tasks whose data is there."""
    for task in map(task_of, names or [t.name for t in tasks.TASKS]):
        if not task.missing:
            print(table(rows_of(task, out, results)), flush=True)


if __name__ == "__main__":
    main()
