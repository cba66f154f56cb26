# SPDX-License-Identifier: Apache-2.0
"""A training step of the host twin against PyTorch on one thread of this computer: the same network, weights, sample and learning rate.

Run it with `make bench-host`; PyTorch is an optional dependency (`pip install -e .[torch]`). The twin is the C of its project, built as its
Makefile does it, but as a library in this process; steps take turns, and each is measured in CPU time. Writes benchmarks/results/host.json.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
from measuring import built
from onnx import numpy_helper

from tinytrain.atomic import write_text
from tinytrain.compiler import Options
from tinytrain.emit.project import ARENA_ALIGN
from tinytrain.target.board import load_board
from tinytrain.target.build import compiler_version, find_compiler

RESULTS = Path(__file__).parent / "results" / "host.json"
STEPS = 200
CONTEXT_BYTES = 256                                       # more than a context has
RATE = 0.01
Step = Callable[[], float]                                # one training step; its loss


@dataclass(frozen=True)
class Limit:
    """How much longer than the twin PyTorch must take, at least."""

    make: Callable[[], networks.Network]
    ratio: float


LIMITS = {"resnet8-fp32": Limit(networks.resnet8, 1.2), "dscnn-fp32": Limit(networks.dscnn, 3.0)}


@dataclass(frozen=True)
class Row:
    """Medians of CPU time."""

    workload: str
    steps: int
    twin_ms: float
    torch_ms: float
    ratio: float
    least_ratio: float
    compiler: str
    torch: str
    command: str = "make bench-host"


def twin(network: networks.Network, folder: Path) -> Step:
    onnx.save(network.model, folder / "model.onnx")
    compiled, project = built(folder / "model.onnx", Options(board="host"), folder / "project")
    toolchain, library = project.board.toolchain, folder / "model.so"
    flags = ["-std=c99", *toolchain.flags, "-ffp-contract=off", "-shared", "-fPIC"]
    sources = sorted(str(path) for path in (project.folder / "lib").glob("*.c"))
    command = [find_compiler(project.board), *flags, *sources, *toolchain.libraries, "-o", str(library)]
    subprocess.run(command, cwd=project.folder, check=True)
    model = ctypes.CDLL(str(library))
    memory = np.zeros(compiled.plan.arena_bytes + ARENA_ALIGN, np.uint8)
    arena = memory[-memory.ctypes.data % ARENA_ALIGN :]
    context, loss = ctypes.create_string_buffer(CONTEXT_BYTES), ctypes.c_float()
    status = model.model_init(ctypes.byref(context), ctypes.c_void_p(arena.ctypes.data), ctypes.c_size_t(compiled.plan.arena_bytes))
    assert status == 0
    target = ctypes.c_int32(networks.LABEL)
    arguments = (ctypes.byref(context), ctypes.c_void_p(network.sample.ctypes.data), ctypes.byref(target), ctypes.byref(loss))

    def step() -> float:
        status = model.model_train_step(*arguments)
        assert status == 0 and memory.size                # the arena lives as long as this function
        return loss.value

    return step


def pytorch(network: networks.Network, torch: Any) -> Step:
    functional, graph = torch.nn.functional, network.model.graph
    weights = {w.name: torch.tensor(numpy_helper.to_array(w), requires_grad=True) for w in graph.initializer}
    sample = torch.tensor(network.sample.transpose(2, 0, 1)[None].copy())
    target = torch.tensor([networks.LABEL])
    optimiser = torch.optim.SGD(weights.values(), RATE)
    nodes = [(node, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}) for node in graph.node]

    def conv(x: Any, w: Any, strides: list[int], pads: list[int], group: int) -> Any:
        top, left, bottom, right = pads
        if (top, left) != (bottom, right):
            x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
        return functional.conv2d(x, w, None, strides, (top, left), 1, group)

    layers = {
        "Conv": conv, "Relu": functional.relu, "Add": torch.add, "GlobalAveragePool": lambda x: x.mean((2, 3)),
        "Flatten": lambda x: x, "Gemm": lambda x, w, transB: functional.linear(x, w),
    }

    def step() -> float:
        values = {graph.input[0].name: sample, **weights}
        for node, attributes in nodes:
            values[node.output[0]] = layers[node.op_type](*(values[name] for name in node.input), **attributes)
        loss = functional.cross_entropy(values[graph.output[0].name], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def measure(workload: str, limit: Limit, torch: Any) -> Row:
    network = limit.make()
    with tempfile.TemporaryDirectory() as folder:
        steps = (twin(network, Path(folder)), pytorch(network, torch))
        took: tuple[list[int], list[int]] = ([], [])
        for i in range(STEPS):
            losses = []
            for step, times in zip(steps, took, strict=True):
                start = time.process_time_ns()
                losses.append(step())
                times.append(time.process_time_ns() - start)
            assert i or max(abs(loss - network.loss) for loss in losses) < 2e-5, losses
    ours, theirs = (float(np.median(times)) / 1e6 for times in took)
    compiler = compiler_version(load_board("host"))
    return Row(workload, STEPS, round(ours, 4), round(theirs, 4), round(theirs / ours, 3), limit.ratio, compiler, torch.__version__)


def main() -> int:
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed, and there is nothing to compare with. Install it: pip install -e .[torch]", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    rows = [measure(workload, limit, torch) for workload, limit in LIMITS.items()]
    write_text(RESULTS, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    for row in rows:
        print(
            f"{row.workload:<13} {row.twin_ms:7.3f} ms a step of the twin, {row.torch_ms:7.3f} ms of PyTorch {row.torch}: "
            f"{row.ratio:.2f} times, {'ok,' if row.ratio >= row.least_ratio else 'SHORT OF'} {row.least_ratio}"
        )
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
