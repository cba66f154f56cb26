# SPDX-License-Identifier: Apache-2.0
"""What fp16 saves of a full training step: bytes of RAM in all on one board, instructions on each emulated board with an FPU.

Run it with `make bench-fp16`; rows that need the folder ../shared/data beside the source tree say so where it is absent. Each row is
written to benchmarks/results/fp16.json as soon as it is measured. `--only WORD` takes rows whose workload, board or form has that word;
`--keep` leaves rows alone that are measured already.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import networks
import numpy as np
import onnx
import tasks
from measuring import Record, built, count, record
from models import MODELS

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, describe
from tinytrain.errors import DoesNotFit, TinytrainError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.target.board import board_names, load_board

RESULTS = Path(__file__).parent / "results" / "fp16.json"
COMMAND = "make bench-fp16"
STEPS = 2                                                 # the first one only tries the loss scale
RAM_BOARD = "mps2-an500"
MOST_RAM = 1 << 20                                        # more than any workload here takes
PAPER = 0.39                                              # multiply-accumulates a cycle and core, arXiv 2305.19167: 3.11 on eight cores

FORMS: dict[str, dict[str, Any]] = {
    "fp32": {}, "fp16": {"dtype": "fp16"}, "fp16-no-master": {"dtype": "fp16", "optimiser": Optimiser(master=False)},
    "fp16-8-cores": {"dtype": "fp16", "cores": 8},
}


@dataclass(frozen=True, eq=False)
class Workload:
    """`make` gives a model, and a sample in the layout of the device with its label."""

    name: str
    make: Callable[[], tuple[onnx.ModelProto, Array, int]]
    boards: Callable[[], list[str]]


@dataclass(frozen=True)
class Limit:
    """What a row must reach: part of fp32's RAM; instructions, and how many times fewer than those of `than` on the same board."""

    ram: float | None = None
    instructions: int | None = None
    fewer: float | None = None
    than: str = "fp32"


@dataclass(frozen=True)
class Row(Record):
    """A measurement; `half_arithmetic` are the board's instruction sets that compute with halves.

    Where several cores share the work, instructions are those of one: of the slowest between two barriers. `shared` are those of each.
    """

    form: str
    half_arithmetic: tuple[str, ...]
    macs: int
    loss: float
    shared: tuple[int, ...] = ()


def seeded(shape: tuple[int, ...], largest: float = 1.0) -> Array:
    return np.asarray(np.random.default_rng(0).random(shape) * largest, np.float32)


def stored(name: str, sample: Array) -> tuple[onnx.ModelProto, Array, int]:
    return onnx.load(tasks.DATA / "models" / name), sample, networks.LABEL


def resnet8() -> tuple[onnx.ModelProto, Array, int]:
    made = networks.resnet8()
    return made.model, made.sample, networks.LABEL


@cache
def with_fpu() -> list[str]:
    """The emulated boards that compute with floats and have room for the network."""
    boards = (load_board(name) for name in board_names())
    return [b.name for b in boards if b.machine and "fpu-sp" in b.isa and sum(m.bytes for m in b.rams) >= MOST_RAM]


WORKLOADS = (
    Workload("resnet8-mlperf", lambda: stored("mlperf_ic_resnet8_bn.onnx", seeded((32, 32, 3), 255)), lambda: [RAM_BOARD]),
    Workload("dscnn-mlperf", lambda: stored("mlperf_kws_dscnn_bn.onnx", seeded((49, 10, 1))), lambda: [RAM_BOARD]),
    Workload("har", lambda: (tasks.har_model(), seeded((26, 1, 3)), 1), lambda: [RAM_BOARD]),
    # those of `make bench-models` that are made of attention and recurrence
    Workload("cct2", lambda: (MODELS["cct2"](), seeded((32, 32, 3)), 1), lambda: [RAM_BOARD]),
    Workload("lstm", lambda: (MODELS["lstm"](), seeded((49, 10)), 1), lambda: [RAM_BOARD]),
    Workload("gru", lambda: (MODELS["gru"](), seeded((49, 10)), 1), lambda: [RAM_BOARD]),
    Workload("resnet8", resnet8, with_fpu),               # that of `make bench-speed`
)
LIMITS = {
    ("resnet8-mlperf", RAM_BOARD, "fp16"): Limit(ram=0.77), ("dscnn-mlperf", RAM_BOARD, "fp16"): Limit(ram=0.63),
    **{(name, RAM_BOARD, "fp16-no-master"): Limit(ram=0.55) for name in ("resnet8-mlperf", "dscnn-mlperf", "har", "cct2", "lstm", "gru")},
    ("resnet8", "riscv-virt-zvfh", "fp16"): Limit(instructions=8_000_000, fewer=1.7),
    ("resnet8", "mps3-an547", "fp16"): Limit(instructions=12_000_000, fewer=1.7),
    ("resnet8", "pulp-virt", "fp16"): Limit(fewer=1.8),
    ("resnet8", "pulp-virt", "fp16-8-cores"): Limit(fewer=7.0, than="fp16"),
}

Key = tuple[str, str, str]                                # workload, board, form


def measure(workload: Workload, board: str, form: str, folder: Path) -> Row:
    """Raises TinytrainError where the model does not fit the board, or a tool is missing."""
    model, sample, label = workload.make()
    onnx.save(model, folder / "model.onnx")
    compiled, project = built(folder / "model.onnx", Options(board=board, **FORMS[form]), folder / "made")
    counted = count(project, sample, label, STEPS)
    return Row(
        **asdict(record(workload.name, project, counted, COMMAND)), form=form, half_arithmetic=compiled.board.half_arithmetic,
        macs=describe(compiled)["macs"]["train"], loss=counted.losses[0], shared=counted.shared,
    )


def attempted(workload: Workload, board: str, form: str) -> dict[str, Any]:
    """A row, or why there is none."""
    head = {"workload": workload.name, "board": board, "form": form}
    try:
        with tempfile.TemporaryDirectory() as folder:
            return asdict(measure(workload, board, form, Path(folder)))
    except DoesNotFit:
        return {**head, "refused": "It does not fit."}
    except TinytrainError as error:
        return {**head, "refused": error.sentences[0]}
    except FileNotFoundError as error:
        return {**head, "refused": f"{os.path.relpath(error.filename)} is absent."}


def short(row: dict[str, Any], base: dict[str, Any], limit: Limit) -> bool:
    """Whether a row misses what it must reach."""
    return any((
        limit.ram is not None and row["ram_bytes"] > limit.ram * base["ram_bytes"],
        limit.instructions is not None and row["instructions"] > limit.instructions,
        limit.fewer is not None and row["instructions"] * limit.fewer > base["instructions"],
    ))


def text(row: dict[str, Any], base: dict[str, Any] | None) -> str:
    """One line; `base` is the row of the same workload and board that this one is held against."""
    head = f"{row['workload']:<15} {row['board']:<15} {row['form']:<15}"
    if "refused" in row:
        return f"{head} {row['refused']}"
    cores = row.get("shared") or (0,)
    each = row["macs"] / len(cores) / row["instructions"]
    line = f"{head} {row['ram_bytes']:>9,} B RAM {row['instructions']:>11,} instr. {each:5.3f} MAC/instr."
    if base is None or "refused" in base or base is row:
        return line
    fewer = base["instructions"] / row["instructions"]
    times = f"{max(fewer, 1 / fewer):4.2f} times {'fewer' if fewer >= 1 else 'more'}"
    line += f"  {row['ram_bytes'] / base['ram_bytes']:6.1%} of {base['form']}'s RAM, {times}"
    if len(cores) > 1:
        line += f", shared by {len(cores)} cores: {', '.join(f'{n:,}' for n in cores)}"
    limit = LIMITS.get((row["workload"], row["board"], row["form"]))
    return line if limit is None else f"{line}  {'SHORT OF' if short(row, base, limit) else 'ok,'} {asked(limit)}"


def asked(limit: Limit) -> str:
    parts = (
        f"{limit.ram:.0%} of RAM" if limit.ram else "", f"{limit.instructions:,} instr." if limit.instructions else "",
        f"{limit.fewer} times" if limit.fewer else "",
    )
    return ", ".join(part for part in parts if part)


def planned() -> Iterator[tuple[Workload, Key]]:
    for workload in WORKLOADS:
        for board in workload.boards():
            cores = load_board(board).most_cores
            yield from ((workload, (workload.name, board, form)) for form, given in FORMS.items() if given.get("cores", 1) <= cores)


@click.command()
@click.option("--only", multiple=True, help="Rows whose workload, board or form has this word; several words: rows that have all.")
@click.option("--keep", is_flag=True, help="Leave rows alone that are measured already.")
def main(only: tuple[str, ...], keep: bool) -> None:
    """Measure rows, print them, and write them to benchmarks/results/fp16.json."""
    kept = {(row["workload"], row["board"], row["form"]): row for row in (json.loads(RESULTS.read_text()) if RESULTS.is_file() else [])}
    chosen = [(workload, key) for workload, key in planned() if all(word in " ".join(key) for word in only)]
    for i, (workload, key) in enumerate(chosen, 1):
        if not (keep and "instructions" in kept.get(key, {})):
            print(f"[{i}/{len(chosen)}] {' '.join(key)} ...", end="\r", file=sys.stderr, flush=True)
            kept[key] = attempted(workload, *key[1:])
            write_text(RESULTS, json.dumps([kept[at] for _, at in planned() if at in kept], indent=2) + "\n")
        print(text(kept[key], kept.get((*key[:2], LIMITS.get(key, Limit()).than))), flush=True)
    print(f"\nThe paper (arXiv 2305.19167) has {PAPER} MAC a cycle and core; here are MAC an instruction, which takes a cycle or more.")
    print(os.path.relpath(RESULTS))


if __name__ == "__main__":
    main()
