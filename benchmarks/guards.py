# SPDX-License-Identifier: Apache-2.0
"""What guards cost: instructions, RAM and flash of a training step without them, with them, and where a step is left out as a whole.

Run it with `make bench-guards`; words name boards, in place of two of them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from measuring import built, count
from networks import LABEL, resnet8

from tinytrain import zoo
from tinytrain.compiler import Options
from tinytrain.errors import DoesNotFit
from tinytrain.ir.graph import Guards

BOARDS = ("mps2-an386", "mps2-an500")
KINDS: tuple[Guards, ...] = ("none", "rest", "step")
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mlp": lambda: zoo.model("mlp"), "cnn": lambda: zoo.model("cnn"), "resnet8": lambda: resnet8().model,
}


def measure(name: str, board: str, guards: Guards, folder: Path) -> tuple[int, int, int]:
    """Instructions of a step, bytes of RAM in all, bytes of flash."""
    model = folder / f"{name}.onnx"
    onnx.save(MODELS[name](), model)
    compiled, project = built(model, Options(board=board, guards=guards), folder / guards)
    shape = compiled.program.entries["infer"].inputs[0].shape
    counted = count(project, np.random.default_rng(0).random(shape, np.float32), LABEL, steps=2)
    return counted.instructions, counted.ram_bytes, project.sizes().flash_bytes


def main() -> int:
    for board in sys.argv[1:] or BOARDS:
        for name in MODELS:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    found = {guards: measure(name, board, guards, Path(folder)) for guards in KINDS}
            except DoesNotFit as error:
                print(f"{board:<11} {name:<8} {error.sentences[0]}")
                continue
            for guards, (instructions, ram, flash) in found.items():
                more = instructions / found["none"][0] - 1
                cost = f"{instructions:>12,} instructions {more:+7.2%} {ram:>10,} B RAM {flash:>9,} B flash"
                print(f"{board:<11} {name:<8} guards {guards:<5} {cost}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
