# SPDX-License-Identifier: Apache-2.0
"""Power cuts: QEMU's `riscv-virt` trains and saves after every third sample, with its flash in a file, and is killed at random moments.

Each start must find the weights and the optimiser's state of the last save that was answered, or of the one that was being made, bit for
bit as on a twin that nobody kills; then it goes on from there. Run it with `make faults`. Writes benchmarks/results/faults.json, and fails
when anything is lost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from measuring import built

from tinytrain import zoo
from tinytrain.atomic import write_text
from tinytrain.compiler import Options
from tinytrain.device import store
from tinytrain.device.project import Project
from tinytrain.device.qemu import start_qemu
from tinytrain.device.session import Session
from tinytrain.errors import DeviceError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array

RESULTS = Path(__file__).parent / "results" / "faults.json"
BOARD = "riscv-virt"
KILLS = 300
EVERY = 3                                                 # samples a save
LONGEST_SECONDS = 1.2                                     # from power on to power off: a start, and some steps with their saves
LABEL = np.dtype(np.int32)


@dataclass
class Counts:
    """Starts after a kill, by what they found: the save that was being made when the power went, or the one before; how many of these
    saw one that was torn; kills before the device said hello; and what must not be: weights that are neither.
    """

    kills: int = 0
    new: int = 0
    old: int = 0
    torn: int = 0
    starting: int = 0
    lost: int = 0
    samples: int = 0

    @property
    def starts(self) -> int:
        return self.new + self.old + self.lost


class Twin:
    """The same model where nobody cuts the power: what it keeps after each sample."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.kept = [digest(session)]

    def after(self, samples: int) -> str:
        while len(self.kept) <= samples:
            self.session.train_step(*sample(len(self.kept) - 1, self.session))
            self.kept.append(digest(self.session))
        return self.kept[samples]


def digest(session: Session) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for _, array in sorted(session.get_params().items()))).hexdigest()


def sample(index: int, session: Session) -> tuple[Array, np.int32]:
    rng = np.random.default_rng(index)
    return rng.standard_normal(session.info.input_bytes // 4, np.float32), np.int32(rng.integers(10))


def loaded(session: Session, answered: int) -> store.Kept | None:
    """What the flash has; None where there may be nothing yet. Raises DeviceError."""
    try:
        return store.load(session)
    except DeviceError as error:
        if answered >= EVERY or "refused load" not in str(error):
            raise
        return None


def life(project: Project, flash: Path, seconds: float, answered: int, twin: Twin, counts: Counts) -> int:
    """From power on to power off; samples that were answered until then."""
    where = project.board.store
    assert where is not None
    transport = start_qemu(project.elf(), project.board, more=where.kept_in(flash, project.elf()))
    off = threading.Timer(seconds, transport.kill)
    off.start()
    found = False
    try:
        with Session(transport, project.board, target_dtype=LABEL) as session:
            kept = loaded(session, answered)
            steps = kept.steps if kept else 0
            saved = answered - answered % EVERY
            being_saved = saved + EVERY if answered + 1 == saved + EVERY else saved
            whole = steps in (saved, being_saved) and digest(session) == twin.after(steps)
            found = True
            counts.new += whole and steps > saved
            counts.old += whole and steps == saved
            answered = steps
            counts.lost += not whole
            counts.torn += kept.torn if kept else 0
            while True:
                session.train_step(*sample(answered, session))
                answered += 1
                counts.samples += 1
    except DeviceError as error:
        if "has ended by itself" not in str(error):
            counts.lost += 1
            print(error)
    finally:
        off.cancel()
        transport.close()
    counts.starting += not found
    counts.kills += 1
    return answered


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="starts that are looked at after a kill")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    moments, counts, answered = random.Random(given.seed), Counts(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(zoo.model("mlp"), folder / "mlp.onnx")
        options = Options(board=BOARD, scheme="last:1", optimiser=Optimiser(0.01, momentum=0.9), store=EVERY)
        _, project = built(folder / "mlp.onnx", options, folder / "device")
        _, still = built(folder / "mlp.onnx", replace(options, board=project.board.twin, store=0), folder / "twin")
        with still.session() as session:
            twin = Twin(session)
            while counts.starts < given.kills and not counts.lost:
                answered = life(project, folder / "flash.img", moments.uniform(0.0, LONGEST_SECONDS), answered, twin, counts)
                if counts.kills % 25 == 0:
                    print(f"{counts.kills} kills, {counts.starts} starts looked at, {counts.lost} lost", flush=True)
    about = {"board": BOARD, "model": "mlp, last:1, momentum", "seed": given.seed}
    result = {**about, **asdict(counts), "command": f"make faults ARGS='--seed {given.seed}'"}
    write_text(RESULTS, json.dumps(result, indent=2) + "\n")
    print(f"\n{counts.kills} kills while starting, training and saving {counts.samples} samples; {counts.starts} starts looked at")
    for name, number in (("the save before", counts.old), ("the save being made", counts.new), ("neither: lost", counts.lost)):
        print(f"  {name:<24} {number:5d}")
    print(f"  {'beside a torn save':<24} {counts.torn:5d}")
    print(f"\n{os.path.relpath(RESULTS)}")
    return 1 if counts.lost else 0


if __name__ == "__main__":
    sys.exit(main())
