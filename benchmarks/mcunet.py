# SPDX-License-Identifier: Apache-2.0
"""MCUNet-5FPS in int8 with a 10-class head on an emulated Cortex-M7: one step of a published sparse-update workload, batch 1.

Run it with `make bench-mcunet`; it needs the folder ../shared/data beside the source tree. The workload file names the layers and channels
that are updated, the learning rates and the synthetic image. Writes benchmarks/results/mcunet.json. Beside each figure stands that of the
best published system on exactly this work and emulator.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from micro import Record
from onnx import helper, numpy_helper

from tinytrain.compiler import Options, compile_model, describe, write
from tinytrain.device.project import Project
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array, Role

BOARD = "mps2-an500"
MODELS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "models"
RESULTS = Path(__file__).parent / "results" / "mcunet.json"
STEPS = 20
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


def measure(folder: Path) -> SparseRecord:
    workload = json.loads((MODELS / "mcunet5fps_10cls_workload.json").read_text())
    (folder / "scheme.toml").write_text(scheme(workload["layers"]))
    optimiser = Optimiser(WEIGHTS_RATE, bias_factor=BIAS_FACTOR)
    options = Options(board=BOARD, scheme=str(folder / "scheme.toml"), optimiser=optimiser, int8_input=True)
    model = stored_logits(MODELS / "mcunet5fps_10cls_qdq_int8.onnx", folder / "mcunet.onnx")
    compiled = compile_model(model, options)
    write(compiled, folder / "project")
    project = Project.open(folder / "project")
    kind = compiled.program.entries["infer"].inputs[0].type
    assert kind.quant is not None
    x = image(kind.shape, kind.quant.scale[0], kind.quant.zero_point)
    with project.session(icount=True, timeout=300) as session:
        session.infer(x)
        forward = session.counters().instructions or 0
        steps = [session.train_step(x, np.int32(1)) for _ in range(STEPS)]
        counters = session.counters()
        ram = session.info.ram_bytes + counters.stack_bytes
    toolchain = project.board.toolchain
    version = subprocess.run([toolchain.cc[0], "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    parameters = compiled.program.stored(Role.PARAM)
    macs = describe(compiled)["macs"]
    return SparseRecord(
        "mcunet5fps-10cls-sparse", BOARD, version.splitlines()[0], " ".join((*toolchain.flags, *project.board.flags)),
        max(step.instructions or 0 for step in steps), ram,
        counters.arena_bytes, counters.stack_bytes, project.sizes().flash_bytes, "make bench-mcunet",
        forward_instructions=forward, temporaries_bytes=compiled.plan.arena_bytes - compiled.plan.fixed_bytes,
        updated_weights=sum(v.type.numel for v in parameters if len(v.shape) > 1),
        updated_biases=sum(v.type.numel for v in parameters if len(v.shape) == 1),
        backward_macs=macs["train"] - macs["evaluate"], losses=tuple(step.loss for step in steps),
    )


def main() -> int:
    if not MODELS.is_dir():
        print(f"{os.path.relpath(MODELS)} is absent: nothing to measure.")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        record = measure(Path(folder))
    RESULTS.write_text(json.dumps([asdict(record)], indent=2) + "\n")
    print(f"{record.compiler}\n{record.flags}\n")
    print(f"step      {record.instructions:>12,} instructions   published {PUBLISHED['instructions']:,}")
    print(f"forward   {record.forward_instructions:>12,} instructions   published {PUBLISHED['forward']:,}")
    print(f"SRAM      {record.ram_bytes:>12,} B   published {PUBLISHED['sram_kb']} KB")
    print(f"  planned {record.temporaries_bytes:>12,} B of sample, activations, gradients and scratch")
    print(f"  trained {record.updated_weights:>12,} int8 weights and {record.updated_biases:,} int32 biases")
    print(f"  stack   {record.stack_bytes:>12,} B")
    print(f"flash     {record.flash_bytes:>12,} B   published {PUBLISHED['flash_kb']} KB")
    print(f"backward  {record.backward_macs:>12,} multiply-accumulates")
    print(f"loss      {' '.join(f'{loss:.3f}' for loss in record.losses)}")
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
