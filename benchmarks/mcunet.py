# SPDX-License-Identifier: Apache-2.0
"""MCUNet-5FPS in int8 with a 10-class head on an emulated Cortex-M7: one step of a published sparse-update workload, batch 1.

Run it with `make bench-mcunet`; it needs the folder ../shared/data beside the source tree. The workload file names the layers and channels
that are updated, the learning rates and the synthetic image. Writes benchmarks/results/mcunet.json. Beside each figure stands that of the
best published system on exactly this work and emulator.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measuring import Record, built, count, record
from onnx import helper, numpy_helper

from tinytrain.compiler import Compiled, Options, describe
from tinytrain.device.project import Project
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array, Role

BOARD = "mps2-an500"
MODELS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "models"
RESULTS = Path(__file__).parent / "results" / "mcunet.json"
STEPS, LABEL = 20, 1
PUBLISHED = {"instructions": 106_370_520, "forward": 65_000_000, "sram_kb": 253.5, "flash_kb": 662.5}
WEIGHTS_RATE, BIAS_FACTOR = 8e-4, 0.5                     # of the workload: biases learn at 4e-4


@dataclass(frozen=True)
class SparseRecord(Record):
    """A training step of the workload: `temporaries_bytes` of the arena are not parameters (the sample and kernels' scratch are in it),
    `losses` are those on the repeated image.
    """

    forward_instructions: int
    temporaries_bytes: int
    updated_weights: int
    updated_biases: int
    backward_macs: int
    losses: tuple[float, ...]


def scheme(layers: list[dict[str, Any]]) -> str:
    """The update lists of the workload as a scheme file."""
    lines = []
    for layer in layers:
        channels = layer["update_weight_in_channels"]
        if not channels and not layer["update_bias"]:
            continue
        lines.append(f'\n[layers."{layer["name"]}"]')
        if channels:
            lines.append("weight = true" if channels == layer["in_chw"][0] else f'weight = "0:{channels}"')
        if layer["update_bias"]:
            lines.append("bias = true")
    return "\n".join(lines) + "\n"


def image(shape: tuple[int, ...], scale: float, zero_point: int) -> Array:
    """The workload's synthetic image as real numbers: the top byte of s ← s·1664525 + 1013904223 mod 2³², from s = 1, in H, W, C order."""
    state, stored = 1, np.empty(int(np.prod(shape)), np.int64)
    for i in range(stored.size):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        stored[i] = (state >> 24) - ((state >> 24) & 0x80) * 2
    return np.asarray((stored.reshape(shape) - zero_point) * scale, np.float32)


def stored_logits(path: Path, target: Path) -> Path:
    """The model with its logits as stored numbers: the workload's loss does not multiply them by their scale."""
    model = onnx.load(path)
    output = model.graph.output[0]
    last = next(node for node in model.graph.node if output.name in node.output)
    dequantised = [node for node in model.graph.node if node.op_type == "DequantizeLinear"][-1]
    scale = next(t for t in model.graph.initializer if t.name == dequantised.input[1])
    model.graph.initializer.append(numpy_helper.from_array(1 / numpy_helper.to_array(scale), "logit_unit"))
    last.output[0] = "real_logits"
    model.graph.node.append(helper.make_node("Mul", ["real_logits", "logit_unit"], [output.name], name="stored_logits"))
    onnx.save(model, target)
    return target


def prepared(folder: Path, board: str) -> tuple[Compiled, Project, Array]:
    """The workload compiled for a board, and its image."""
    workload = json.loads((MODELS / "mcunet5fps_10cls_workload.json").read_text())
    (folder / "scheme.toml").write_text(scheme(workload["layers"]))
    optimiser = Optimiser(WEIGHTS_RATE, bias_factor=BIAS_FACTOR)
    options = Options(board=board, scheme=str(folder / "scheme.toml"), optimiser=optimiser, int8_input=True)
    model = stored_logits(MODELS / "mcunet5fps_10cls_qdq_int8.onnx", folder / "mcunet.onnx")
    compiled, project = built(model, options, folder / "project")
    kind = compiled.program.entries["infer"].inputs[0].type
    assert kind.quant is not None
    return compiled, project, image(kind.shape, kind.quant.scale[0], kind.quant.zero_point)


def measure(folder: Path) -> SparseRecord:
    compiled, project, x = prepared(folder, BOARD)
    counted = count(project, x, LABEL, STEPS)
    parameters = compiled.program.stored(Role.PARAM)
    macs = describe(compiled)["macs"]
    return SparseRecord(
        **asdict(record("mcunet5fps-10cls-sparse", project, counted, "make bench-mcunet")),
        forward_instructions=counted.forward_instructions, temporaries_bytes=compiled.plan.arena_bytes - compiled.plan.fixed_bytes,
        updated_weights=sum(v.type.numel for v in parameters if len(v.shape) > 1),
        updated_biases=sum(v.type.numel for v in parameters if len(v.shape) == 1),
        backward_macs=macs["train"] - macs["evaluate"], losses=counted.losses,
    )


def main() -> int:
    if not MODELS.is_dir():
        print(f"{os.path.relpath(MODELS)} is absent: nothing to measure.")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        made = measure(Path(folder))
    RESULTS.write_text(json.dumps([asdict(made)], indent=2) + "\n")
    print(f"{made.compiler}\n{made.flags}\n")
    print(f"step      {made.instructions:>12,} instructions   published {PUBLISHED['instructions']:,}")
    print(f"          {made.estimated_cycles:>12,} estimated cycles")
    print(f"forward   {made.forward_instructions:>12,} instructions   published {PUBLISHED['forward']:,}")
    print(f"SRAM      {made.ram_bytes:>12,} B   published {PUBLISHED['sram_kb']} KB")
    print(f"  planned {made.temporaries_bytes:>12,} B of sample, activations, gradients and scratch")
    print(f"  trained {made.updated_weights:>12,} int8 weights and {made.updated_biases:,} int32 biases")
    print(f"  stack   {made.stack_bytes:>12,} B")
    print(f"flash     {made.flash_bytes:>12,} B   published {PUBLISHED['flash_kb']} KB")
    print(f"backward  {made.backward_macs:>12,} multiply-accumulates")
    print(f"loss      {' '.join(f'{loss:.3f}' for loss in made.losses)}")
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
