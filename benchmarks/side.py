# SPDX-License-Identifier: Apache-2.0
"""What trains the tail of int8 MCUNet in less RAM: its last K layers against side networks and low-rank adapters, on MNIST at 128x128.

Run it with `make bench-side`; it needs the folder ../shared/data beside the source tree. RAM is that of the whole network on a Cortex-M7.
The layers that nobody trains run once: what they make of the samples is cut out by the host twin and kept in benchmarks/out/side. Rates are
chosen on samples of validation, each method with the same number of candidates; the held-back samples are seen by the chosen ones alone.
Every finished run is added to benchmarks/results/side.json at once, and runs that are there are not made again.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tasks
from onnx import utils
from PIL import Image

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import LearningError
from tinytrain.gradient.update import Optimiser
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.report.live import Quiet

HERE = Path(__file__).resolve().parent
RESULTS, OUT = HERE / "results" / "side.json", HERE / "out" / "side"
MODEL = tasks.DATA / "models" / "mcunet5fps_10cls_qdq_int8.onnx"
CUT = "add5_y"                                            # the last 13 layers follow it
BOARD = "mps2-an500"
EPOCHS, SEEDS, TUNING_SEED = 6, range(5), 100
PARTS = {"learn": ("train", 0, 600), "validate": ("train", 2000, 3500), "held": ("test", 0, 1000)}


@dataclass(frozen=True)
class Way:
    """A way to train, by what the command line calls it."""

    scheme: str
    rates: tuple[float, ...]
    method: str = "backprop"

    @property
    def name(self) -> str:
        return self.scheme if self.method == "backprop" else f"{self.method} {self.scheme}"

    def options(self, board: str) -> Options:
        optimiser = Optimiser(self.rates[0])
        return Options(board=board, scheme=self.scheme, method=self.method, optimiser=optimiser, int8_input=True, exact_seconds=1.0)


LAST = (0.0005, 0.001, 0.002, 0.003)
WAYS = (
    Way("head", (0.003, 0.006, 0.01, 0.02)),
    *(Way(f"last:{layers}", LAST) for layers in (3, 6, 9, 12)),
    Way("bias-last:12", (0.001, 0.003, 0.006, 0.01)),
    *(Way("last:6", (0.003, 0.006, 0.01, 0.015), f"lowrank:{rank}") for rank in (2, 4)),
    Way("last:9", (0.003, 0.006, 0.01, 0.015), "lowrank:2"),
    *(Way("full", (0.003, 0.006, 0.01, 0.015), f"ladder:{reduction}") for reduction in (16, 32)),
)


def enlarged(which: str, first: int, end: int) -> Iterator[tuple[np.ndarray, int]]:
    """Digits as 128x128 images of three equal channels from -1 to 1, and their labels."""
    file = np.load(tasks.DATA / "sets" / "mnist_subset.npz")
    for image, label in zip(file[f"x_{which}"][first:end], file[f"y_{which}"][first:end], strict=True):
        large = np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.BILINEAR), np.float32) / 127.5 - 1
        yield np.repeat(large[..., None], 3, axis=2), int(label)


def cut() -> tuple[Path, dict[str, Dataset]]:
    """The last layers as a model, and what the others make of all samples."""
    OUT.mkdir(parents=True, exist_ok=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(MODEL))
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    parts = utils.Extractor(model)
    tail, front = OUT / "tail.onnx", OUT / "front.onnx"
    onnx.save(parts.extract_model([CUT], ["logits"]), tail)
    if not all((OUT / f"{name}.npz").is_file() for name in PARTS):
        onnx.save(parts.extract_model(["input"], [f"{CUT}_dq"]), front)
        project = made(front, Options(loss=None, int8_input=True), "front")
        shape = project.manifest.output.shape
        with project.session() as session:
            for name, part in PARTS.items():
                x, y = zip(*((session.infer(image).reshape(shape), label) for image, label in enlarged(*part)), strict=True)
                np.savez(OUT / f"{name}.npz", x=np.stack(x).astype(np.float32), y=np.array(y, np.int32))
    files = {name: np.load(OUT / f"{name}.npz") for name in PARTS}
    return tail, {name: Dataset(file["x"], file["y"]) for name, file in files.items()}


def made(model: Path, options: Options, name: str) -> Project:
    write(compile_model(model, options), OUT / name, force=True)
    return Project.open(OUT / name)


def ram_bytes(way: Way) -> int:
    """Arena and the device's buffers and stack, of the whole network."""
    compiled = compile_model(MODEL, way.options(BOARD))
    assert compiled.room is not None
    return compiled.room.ram_bytes


def accuracy(project: Project, samples: dict[str, Dataset], part: str, rate: float, seed: int) -> float:
    """In %, after training; that of chance where it fails."""
    with project.session() as session:
        try:
            train_decaying(session, samples["learn"], rate, EPOCHS, seed)
        except LearningError:
            return 10.0
        return 100 * (evaluate(session, samples[part], Quiet()).accuracy or 0.0)


def main() -> int:
    if not MODEL.is_file():
        print(f"{os.path.relpath(MODEL)} is absent: nothing to measure.")
        return 0
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    tail, samples = cut()

    def keep(way: Way, key: str, measured: Any) -> None:
        found.setdefault(way.name, {})[key] = measured
        write_text(RESULTS, json.dumps(found, indent=1) + "\n")

    for way in WAYS:
        row = found.get(way.name, {})
        if "ram_bytes" not in row:
            keep(way, "ram_bytes", ram_bytes(way))
        runs = [("validate", rate, TUNING_SEED) for rate in way.rates]
        todo = [run for run in runs if f"{run[0]} {run[1]} {run[2]}" not in found[way.name]]
        project = made(tail, way.options("host"), way.name.replace(":", "-").replace(" ", "-"))
        for part, rate, seed in todo:
            keep(way, f"{part} {rate} {seed}", accuracy(project, samples, part, rate, seed))
        best = max(way.rates, key=lambda rate: found[way.name][f"validate {rate} {TUNING_SEED}"])
        for seed in SEEDS:
            if f"held {best} {seed}" not in found[way.name]:
                keep(way, f"held {best} {seed}", accuracy(project, samples, "held", best, seed))
        keep(way, "rate", best)
        print(line(way, found), flush=True)
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


def line(way: Way, found: dict[str, Any]) -> str:
    """One row of the table: RAM, also as a share of that of last:6, mean, deviation and worst of the seeds."""
    row = found[way.name]
    held = [row[f"held {row['rate']} {seed}"] for seed in SEEDS]
    share = f"{100 * row['ram_bytes'] / found['last:6']['ram_bytes']:4.0f} %" if "last:6" in found else ""
    validated = row[f"validate {row['rate']} {TUNING_SEED}"]
    spread = f"{statistics.mean(held):5.1f} ± {statistics.stdev(held):.1f} (worst {min(held):.1f})"
    return f"{way.name:24} {row['ram_bytes']:>9,} B {share:>6}   {spread}   validated {validated:.1f}"


if __name__ == "__main__":
    sys.exit(main())
