# SPDX-License-Identifier: Apache-2.0
"""What a training step costs, row by row of what this project promises: instructions and estimated cycles on each board, beside a peer's.

Run it with `make bench-speed`; rows that need the folder ../shared/data beside the source tree say so where it is absent. Each row is
written to benchmarks/results/speed.json as soon as it is measured. `--only WORD` takes rows whose workload or board has that word;
`--keep` leaves rows alone that are measured already: an interrupted run goes on.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import mcunet
import micro
import networks
import numpy as np
import onnx
from measuring import Record, built, count, record

from tinytrain.atomic import write_text
from tinytrain.compiler import Compiled, Options, describe
from tinytrain.device.project import Project
from tinytrain.errors import TinytrainError
from tinytrain.ir.types import Array
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet

RESULTS = Path(__file__).parent / "results" / "speed.json"
DATA = mcunet.MODELS.parent
COMMAND = "make bench-speed"
STEPS = 2

Made = tuple[Compiled, Project, Array, int]               # what is trained, one sample and its label


@dataclass(frozen=True)
class Limit:
    """What a row must reach: instructions of a step, estimated cycles for each multiply-accumulate of it; `peer`'s instructions."""

    board: str
    instructions: int
    cycles_per_mac: float | None = None
    peer: int | None = None


@dataclass(frozen=True)
class Workload:
    """`make(folder, board)`; `loss` is that of the first step, where it is known."""

    name: str
    make: Callable[[Path, str], Made]
    limits: tuple[Limit, ...]
    loss: float | None = None


def built_in(name: str) -> Callable[[Path, str], Made]:
    return lambda folder, board: (*micro.prepared(name, folder, board), micro.LABEL)


def network(made: Callable[[], networks.Network]) -> Callable[[Path, str], Made]:
    def make(folder: Path, board: str) -> Made:
        onnx.save(made().model, folder / "model.onnx")
        return *built(folder / "model.onnx", Options(board=board), folder / "project"), made().sample, networks.LABEL
    return make


def sparse(folder: Path, board: str) -> Made:
    return *mcunet.prepared(folder, board), mcunet.LABEL


def quantised(model: str, samples: Callable[[], Array], grad: str) -> Callable[[Path, str], Made]:
    """A trained model, quantised with samples (count, channels, rows, columns), all its weights trained."""
    def make(folder: Path, board: str) -> Made:
        x = samples().astype(np.float32)
        np.savez(folder / "samples.npz", x=x)
        onnx.save(quantise_model(DATA / "models" / model, folder / "samples.npz", lockstep.Options(), Quiet()).model, folder / "int8.onnx")
        made = built(folder / "int8.onnx", Options(board=board, grad=grad), folder / "project")
        return *made, np.ascontiguousarray(x[0].transpose(1, 2, 0)), networks.LABEL
    return make


def digits() -> Array:
    """Images of digits as ResNet-8 takes them: 32×32, three equal channels, 0 to 255."""
    images = np.load(DATA / "sets" / "mnist_subset.npz")["x_train"][:64]
    return np.repeat(np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None], 3, axis=1)


def words() -> Array:
    return np.asarray(np.load(DATA / "sets" / "fsdd_mfcc49x10.npz")["x_train"][:64, None])


M4, M7, M55, RV, RVV = "mps2-an386", "mps2-an500", "mps3-an547", "riscv-virt", "riscv-virt-rvv"
RESNET8, DSCNN = ("mlperf_ic_resnet8_bn.onnx", digits), ("mlperf_kws_dscnn_bn.onnx", words)
WORKLOADS = (
    Workload("mlp", built_in("mlp"), (Limit(M4, 27_000, peer=327_096), Limit(M7, 20_000))),
    Workload("cnn", built_in("cnn"), (Limit(M4, 185_000, peer=4_694_780), Limit(M7, 130_000))),
    Workload("resnet8-fp32", network(networks.resnet8), (
        Limit(M4, 90_000_000, 2.7, 111_509_920), Limit(M7, 52_000_000), Limit(RV, 58_000_000, peer=128_591_406),
        Limit(M55, 20_000_000), Limit(RVV, 18_000_000),
    ), 3.2945344),
    Workload("dscnn-fp32", network(networks.dscnn), (
        Limit(M4, 20_000_000, 3.0, 26_023_320), Limit(M7, 11_500_000), Limit(RV, 12_500_000, peer=26_725_220),
    ), 3.1811687),
    Workload("mcunet-int8-sparse", sparse, (
        Limit(M7, 48_000_000, peer=106_370_520), Limit(M4, 58_000_000, peer=120_105_720), Limit(RV, 85_000_000),
        Limit(RVV, 20_000_000), Limit(M55, 14_000_000),
    )),
    Workload("resnet8-int8-grad-int8", quantised(*RESNET8, "int8"), (Limit(M4, 45_000_000), Limit(M7, 45_000_000))),
    Workload("dscnn-int8-grad-int8", quantised(*DSCNN, "int8"), (Limit(M4, 11_000_000), Limit(M7, 11_000_000))),
    Workload("resnet8-int8-grad-fp32", quantised(*RESNET8, "fp32"), (Limit(M7, 55_000_000),)),
    Workload("dscnn-int8-grad-fp32", quantised(*DSCNN, "fp32"), (Limit(M7, 13_000_000),)),
)


@dataclass(frozen=True)
class Row(Record):
    """A measurement beside what it must reach."""

    macs: int
    peer_instructions: int | None
    most_instructions: int
    most_cycles_per_mac: float | None
    loss: float


@dataclass(frozen=True)
class Refused:
    """A row that could not be measured, and why."""

    workload: str
    board: str
    refused: str


def measure(workload: Workload, limit: Limit, folder: Path) -> Row:
    """Raises TinytrainError where the board does not exist, the model does not fit, or a tool is missing."""
    compiled, project, sample, label = workload.make(folder, limit.board)
    counted = count(project, sample, label, STEPS)
    assert workload.loss is None or abs(counted.losses[0] - workload.loss) < 2e-6, (counted.losses[0], workload.loss)
    return Row(
        **asdict(record(workload.name, project, counted, COMMAND)), macs=describe(compiled)["macs"]["train"],
        peer_instructions=limit.peer, most_instructions=limit.instructions, most_cycles_per_mac=limit.cycles_per_mac,
        loss=counted.losses[0],
    )


def attempted(workload: Workload, limit: Limit) -> Row | Refused:
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measure(workload, limit, Path(folder))
    except TinytrainError as error:
        return Refused(workload.name, limit.board, error.sentences[0])
    except FileNotFoundError as error:
        return Refused(workload.name, limit.board, f"{os.path.relpath(error.filename)} is absent.")


def text(row: dict[str, Any]) -> str:
    head = f"{row['workload']:<22} {row['board']:<14}"
    if "refused" in row:
        return f"{head} {row['refused']}"
    instructions, cycles, macs, peer = row["instructions"], row["estimated_cycles"], row["macs"], row["peer_instructions"]
    short = instructions > row["most_instructions"] or cycles / macs > (row["most_cycles_per_mac"] or cycles)
    limit = f"{row['most_instructions']:,}" + (f" and {row['most_cycles_per_mac']} cycles/MAC" if row["most_cycles_per_mac"] else "")
    beside = f"peer {peer:>11,} ({peer / instructions:.2f} times)" if peer else "no peer"
    return (
        f"{head} {instructions:>11,} instr. {instructions / macs:5.2f}/MAC {cycles:>11,} est. cycles {cycles / macs:5.2f}/MAC "
        f"{row['ram_bytes']:>9,} B RAM {row['flash_bytes']:>9,} B flash   {beside:<29} {'SHORT OF' if short else 'ok,'} {limit}"
    )


@click.command()
@click.option("--only", multiple=True, help="Rows whose workload or board has this word; several words: rows that have all.")
@click.option("--keep", is_flag=True, help="Leave rows alone that are measured already.")
def main(only: tuple[str, ...], keep: bool) -> None:
    """Measure rows, print them, and write them to benchmarks/results/speed.json."""
    kept = {(row["workload"], row["board"]): row for row in (json.loads(RESULTS.read_text()) if RESULTS.is_file() else [])}
    rows = [(workload, limit) for workload in WORKLOADS for limit in workload.limits]
    chosen = [row for row in rows if all(word in f"{row[0].name} {row[1].board}" for word in only)]
    for i, (workload, limit) in enumerate(chosen, 1):
        key = (workload.name, limit.board)
        if not (keep and "instructions" in kept.get(key, {})):
            print(f"[{i}/{len(chosen)}] {workload.name} on {limit.board} ...", end="\r", file=sys.stderr, flush=True)
            kept[key] = asdict(attempted(workload, limit))
            order = [kept[w.name, at.board] for w, at in rows if (w.name, at.board) in kept]
            write_text(RESULTS, json.dumps(order, indent=2) + "\n")
        print(text(kept[key]), flush=True)
    print(f"\n{os.path.relpath(RESULTS)}")


if __name__ == "__main__":
    main()
