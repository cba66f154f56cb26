# SPDX-License-Identifier: Apache-2.0
"""A whole int8 network on an emulated Cortex-M7: every bit as the reference computes it, and how many instructions that takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.select import select
from tinytrain.ir.types import Array
from tinytrain.random import random_u32
from tinytrain.verify.reference import ReferenceModel

MOST_INSTRUCTIONS = 36_000_000                            # of one inference; 34,490,000 when this was written


def image(shape: tuple[int, ...]) -> Array:
    return (random_u32(1, np.arange(int(np.prod(shape)))) >> 24).astype(np.uint8).view(np.int8).reshape(shape)


def test_inference_with_words_of_int8(shared_data: Path, tmp_path: Path) -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    model = shared_data / "models" / "mcunet5fps_10cls_qdq_int8.onnx"
    compiled = compile_model(model, Options(board="mps2-an500", loss=None, int8_input=True))
    (x,) = compiled.program.entries["infer"].inputs
    layers = [n for n in compiled.program.entries["infer"].nodes if n.op.name in ("conv2d", "depthwise_conv2d", "dense")]
    assert layers and all(select(n, compiled.board.isa).kernel.isa == "dsp" for n in layers)
    write(compiled, tmp_path / "project")
    q = image(x.shape)
    assert x.type.quant is not None
    real = (q.astype(np.float32) - np.float32(x.type.quant.zero_point)) * np.float32(x.type.quant.scale[0])
    with Project.open(tmp_path / "project").session(icount=True) as device:
        got, counters = device.infer(real), device.counters()
    np.testing.assert_array_equal(got, ReferenceModel(compiled.program).infer(q).reshape(-1))
    assert counters.instructions is not None and counters.instructions <= MOST_INSTRUCTIONS, f"{counters.instructions:,} instructions"
