# SPDX-License-Identifier: Apache-2.0
"""Untrained networks that learn two kinds of digits by losses of their own for each layer or block, beside back-propagation.

Run it with `make bench-goodness`; it needs the folder ../shared/data beside the source tree. Pictures are scikit-learn's digits, and
MNIST as means over 4x4 of its pixels: 8x8 both, which the built-in models `cnn` and `denoiser` read. A seed draws the order of the samples;
weights are those of the models. Rates are chosen on samples that are not learned from, with a seed of no row, each method with the same
candidates; the held-back samples are seen by the chosen ones alone. RAM and instructions of a step are those that `compile` states for a
Cortex-M4. What is finished is added to benchmarks/results/goodness.json at once, and is not made again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import onnx
import tasks

import tinytrain
from tinytrain import zoo
from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model
from tinytrain.data.dataset import Dataset
from tinytrain.errors import LearningError
from tinytrain.report.text import table

HERE = Path(__file__).resolve().parent
RESULTS, OUT = HERE / "results" / "goodness.json", HERE / "out" / "goodness"
BOARD = "mps2-an386"
RATES, SEEDS, TUNING_SEED = (0.01, 0.03, 0.1), range(5), 100
EPOCHS = {"digits": 6, "mnist": 3}


@dataclass(frozen=True)
class Way:
    """What learns, and how `compile` is told."""

    model: str
    method: str
    scheme: str = "full"

    @property
    def name(self) -> str:
        return f"{self.model}: {self.method if self.scheme == 'full' else f'--scheme {self.scheme}'}"


WAYS = (
    *(Way("cnn", method) for method in ("backprop", "mono", "forward-forward", "counter-current", "cascaded")),
    Way("cnn", "backprop", "head"), Way("denoiser", "backprop"), Way("denoiser", "noprop"),
)


@dataclass(frozen=True)
class Row:
    """A finished run; accuracy from 0 to 1, on validation samples where it is for `tuning`."""

    task: str
    way: str
    seed: int
    rate: float
    tuning: bool
    accuracy: float
    ram_bytes: int
    instructions: int


@cache
def samples(task: str) -> tuple[Dataset, Dataset, Dataset]:
    """To learn from, of validation, held back."""
    if task == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        whole = tasks.shuffled(found.images[:, None] / 16, found.target)
        learn, others = tasks.parts(whole, 1000)
        return learn, *tasks.parts(others, 200)
    kinds = (tasks.images("train", 0, 2000), tasks.images("train", 2000, 2500), tasks.images("test"))
    learn, validation, held = (Dataset(k.x[..., :1].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))[:, None], k.y) for k in kinds)
    return learn, validation, held


def run(task: str, way: Way, seed: int, rates: Sequence[float], tuning: bool) -> list[Row]:
    """A training for each rate."""
    learn, validation, held = samples(task)
    measured = validation if tuning else held
    ram_bytes, instructions = cost(way)
    rows = []
    for rate in rates:
        with built(way).twin() as device:
            with suppress(LearningError):                 # it has given back what was there before, which is measured
                device.train(learn.x, learn.y, epochs=EPOCHS[task], seed=seed, lr=rate)
            reached = device.evaluate(measured.x, measured.y).accuracy or 0.0
        rows.append(Row(task, way.name, seed, rate, tuning, reached, ram_bytes, instructions))
    return rows


def start(model: str) -> Path:
    OUT.mkdir(parents=True, exist_ok=True)
    onnx.save(zoo.model(model), path := OUT / f"{model}.onnx")
    return path


@cache
def built(way: Way) -> tinytrain.Build:
    return tinytrain.load(start(way.model)).compile("host", method=way.method, scheme=way.scheme)


@cache
def cost(way: Way) -> tuple[int, int]:
    """(RAM in all, instructions of a step)."""
    made = compile_model(start(way.model), Options(board=BOARD, method=way.method, scheme=way.scheme))
    assert made.room is not None and made.estimate is not None, BOARD
    return made.room.ram_bytes, made.estimate.instructions


def read() -> list[Row]:
    return [Row(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))] if RESULTS.is_file() else []


def keep(rows: Sequence[Row]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS, "[\n" + ",\n".join("  " + json.dumps(asdict(row)) for row in rows) + "\n]\n")


def show(rows: Sequence[Row]) -> str:
    lines = []
    for task in EPOCHS:
        body = [["", "accuracy %", "worst", "rate", "RAM in bytes", "instructions of a step"]]
        for way in WAYS:
            of = [row for row in rows if (row.task, row.way, row.tuning) == (task, way.name, False)]
            if of:
                reached = [100 * row.accuracy for row in of]
                deviation = statistics.stdev(reached) if len(of) > 1 else 0.0
                body.append([
                    way.name, f"{statistics.mean(reached):.1f} ± {deviation:.1f}", f"{min(reached):.1f}", f"{of[0].rate:g}",
                    f"{of[0].ram_bytes:,}", f"{of[0].instructions:,}",
                ])
        lines += ["", task, table(body)] if body[1:] else []
    return "\n".join(lines)


def main() -> None:
    rows = read()
    for task in EPOCHS:
        for way in WAYS:
            mine = [row for row in rows if (row.task, row.way) == (task, way.name)]
            if not any(row.tuning for row in mine):
                mine += run(task, way, TUNING_SEED, RATES, True)
            best = max((row for row in mine if row.tuning), key=lambda row: row.accuracy).rate
            for seed in SEEDS:
                if not any((row.seed, row.tuning) == (seed, False) for row in mine):
                    mine += run(task, way, seed, [best], False)
            rows = [row for row in rows if (row.task, row.way) != (task, way.name)] + mine
            keep(rows)
            print(show([row for row in mine if not row.tuning]), flush=True)
    print(show(rows))


if __name__ == "__main__":
    main()
