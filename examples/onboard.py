# SPDX-License-Identifier: Apache-2.0
"""What examples with a main loop of their own share: a model that the host twin pretrains, and their C around the compiled library."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from tinytrain.atomic import write_bytes, write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.hosttwin import start_twin
from tinytrain.device.project import Project
from tinytrain.device.qemu import start_qemu
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.learn.training import train_decaying
from tinytrain.learn.weights import export_learned
from tinytrain.target.board import load_board
from tinytrain.target.build import build

FIRMWARE = Path(__file__).parent / "firmware"
SECONDS = 120                                             # until a firmware has said "end"
_FULL_SCALE = 32_000                                      # recordings are int16, as converters give them


@dataclass(frozen=True)
class Example:
    """`graph` is a model in ONNX text, `weights` its initializers; `factory` is what it learns before it is shipped, windows (n, frames,
    channels) and labels; `user` is what the sensor of the kit records. `rate` and `scheme` are those of learning on the kit.
    """

    name: str
    graph: str
    weights: dict[str, tuple[int, ...]]
    factory: Dataset
    user: Dataset
    scheme: str
    rate: float
    factory_rate: float
    factory_epochs: int


def run(example: Example, board: str, out: Path) -> list[str]:
    """Compile for the board with the example's own main loop, run it there (host or QEMU), and give back the lines that it prints."""
    model = out / f"{example.name}.onnx"
    if not model.is_file():
        write_bytes(model, _pretrained(example, out).read_bytes())
    folder = out / board
    write(compile_model(model, Options(board=board, scheme=example.scheme, optimiser=Optimiser(example.rate))), folder, force=True)
    for file in (*FIRMWARE.iterdir(), Path(__file__).parent / example.name / "main.c"):
        shutil.copy(file, folder / "app" / file.name)
    write_text(folder / "app" / "recording.h", _recording(example.user))
    elf = build(folder, load_board(board))
    transport = start_twin(elf) if load_board(board).is_host else start_qemu(elf, load_board(board))
    said, deadline = b"", time.monotonic() + SECONDS
    try:
        while not said.endswith((b"end\n", b"failed\n")):
            more = transport.read(deadline)
            assert more, f"{example.name} on {board} said only {said!r} in {SECONDS} s"
            said += more
    finally:
        transport.close()
    return said.decode("ascii").splitlines()


def _pretrained(example: Example, out: Path) -> Path:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {example.graph}')
    rng = np.random.default_rng(0)
    for name, shape in example.weights.items():
        fan = int(np.prod(shape[1:]))
        array = rng.normal(0, np.sqrt(2 / fan), shape) if len(shape) > 1 else np.zeros(shape)
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(model, out / "untrained.onnx")
    options = Options(optimiser=Optimiser(example.factory_rate, momentum=0.9))
    write(compile_model(out / "untrained.onnx", options), out / "factory", force=True)
    project = Project.open(out / "factory")
    with project.session() as session:
        train_decaying(session, example.factory, example.factory_rate, example.factory_epochs, seed=0)
        return export_learned(project, session)


def _recording(samples: Dataset) -> str:
    """`recording.h`: frames as int16 with one scale, and the button of each window."""
    assert samples.y is not None
    windows, frames, channels = samples.x.shape[:3]
    scale = float(np.abs(samples.x).max()) / _FULL_SCALE
    numbers: Array = np.rint(samples.x.reshape(windows * frames, channels) / scale).astype(int)
    rows = ",\n".join(f"    {{{', '.join(map(str, row))}}}" for row in numbers)
    return (
        "/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by the example. */\n#include <stdint.h>\n\n"
        f"#define RECORDED_FRAMES {windows * frames}\n#define RECORDED_CHANNELS {channels}\n#define RECORDED_WINDOW {frames}\n"
        f"#define RECORDED_SCALE {scale:.9e}f\n\n"
        f"static const int16_t recorded[RECORDED_FRAMES][RECORDED_CHANNELS] = {{\n{rows},\n}};\n\n"
        f"static const int8_t buttons[] = {{{', '.join(map(str, samples.y))}}};\n"
    )
