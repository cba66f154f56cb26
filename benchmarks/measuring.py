# SPDX-License-Identifier: Apache-2.0
"""One workload on one emulated board: compiled, built, trained for some steps, counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.ir.types import Array
from tinytrain.target.build import compiler_version


@dataclass(frozen=True)
class Record:
    """One measurement of a training step. RAM is arena (the sample lies there too), context, target, and the deepest stack use.

    `estimated_cycles` are those of the board's core by its timing table (boards/core), without wait states of memories and caches.
    """

    workload: str
    board: str
    compiler: str
    flags: str
    instructions: int
    estimated_cycles: int | None
    ram_bytes: int
    arena_bytes: int
    stack_bytes: int
    flash_bytes: int
    command: str


@dataclass(frozen=True)
class Counted:
    """What the device did: the costliest of some steps (the first and the last one's losses among `losses`), one inference before them.

    `shared` are the instructions of each of several cores in what they shared of the last step; there are no estimated cycles of those.
    """

    instructions: int
    estimated_cycles: int | None
    forward_instructions: int
    losses: tuple[float, ...]
    ram_bytes: int
    arena_bytes: int
    stack_bytes: int
    shared: tuple[int, ...] = ()


def built(model: Path, options: Options, folder: Path) -> tuple[Compiled, Project]:
    compiled = compile_model(model, options)
    write(compiled, folder)
    return compiled, Project.open(folder)


def count(project: Project, sample: Array, label: int, steps: int) -> Counted:
    alone = project.board.cores == 1
    with project.session(icount=True, counts=alone, timeout=300) as session:
        session.infer(sample)
        forward = session.counters().instructions or 0
        made = [(session.train_step(sample, np.int32(label)), session.profile().cycles if alone and i == 0 else None) for i in range(steps)]
        counters = session.counters()
        ram = session.info.ram_bytes + counters.stack_bytes
    return Counted(
        max(step.instructions or 0 for step, _ in made), made[0][1], forward, tuple(step.loss for step, _ in made),
        ram, counters.arena_bytes, counters.stack_bytes, counters.shared,
    )


def record(workload: str, project: Project, counted: Counted, command: str) -> Record:
    toolchain = project.board.toolchain
    return Record(
        workload, project.board.name, compiler_version(project.board), " ".join((*toolchain.flags, *project.board.flags)),
        counted.instructions, counted.estimated_cycles, counted.ram_bytes, counted.arena_bytes, counted.stack_bytes,
        project.sizes().flash_bytes, command,
    )
