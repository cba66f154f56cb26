# SPDX-License-Identifier: Apache-2.0
"""A training step in a browser against the host twin: the same C, as WebAssembly in Node.js, whose engine is that of Chromium.

Run it with `make bench-browser`. Both are measured in CPU time of one thread, the quickest of some rounds. Writes
benchmarks/results/browser.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import host
import networks
import numpy as np
from sklearn.datasets import load_digits

from tinytrain import zoo
from tinytrain.atomic import write_text
from tinytrain.device.project import BROWSER, Project
from tinytrain.target.board import load_board
from tinytrain.target.build import compiler_version

RESULTS = Path(__file__).parent / "results" / "browser.json"
MODULE = Path(__file__).with_name("browser_step.mjs")
STEPS, ROUNDS = 100, 20
MOST_RATIO = {"digits": 2.0}                              # vectors of the twin are twice as long as those of WebAssembly


@dataclass(frozen=True)
class Row:
    """CPU time of a step; `loss` is that of the first one, with the same bits in both."""

    workload: str
    twin_ms: float
    browser_ms: float
    ratio: float
    loss: float
    compiler: str
    node: str
    command: str = "make bench-browser"


def digits() -> networks.Network:
    """The CNN of the examples, and the first of the digits."""
    found = load_digits()
    return networks.Network(zoo.model("cnn"), np.float32(found.images[0][:, :, None] / 16), 0.0)


WORKLOADS: dict[str, Callable[[], networks.Network]] = {"digits": digits, "dscnn-fp32": networks.dscnn, "resnet8-fp32": networks.resnet8}


def measure(workload: str, network: networks.Network) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        step = host.twin(network, folder)
        (folder / "sample").write_bytes(np.ascontiguousarray(network.sample, np.float32).tobytes())
        module = Project.open(folder / "project").module()
        command = ["node", str(MODULE), str(module), str(folder / "sample"), str(networks.LABEL), str(STEPS), str(ROUNDS)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        loss = step()
        assert np.float32(loss) == np.float32(found["loss"]), (loss, found["loss"])
        quickest = float("inf")
        for _ in range(ROUNDS):
            start = time.process_time_ns()
            for _ in range(STEPS):
                step()
            quickest = min(quickest, (time.process_time_ns() - start) / 1e6 / STEPS)
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    ratio = round(found["ms"] / quickest, 2)
    return Row(workload, round(quickest, 4), round(found["ms"], 4), ratio, loss, compiler_version(load_board(BROWSER)), node)


def main() -> int:
    rows = [measure(workload, make()) for workload, make in WORKLOADS.items()]
    write_text(RESULTS, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    for row in rows:
        most = MOST_RATIO.get(row.workload)
        said = f"{row.ratio:.2f} times" + (f", {'ok,' if row.ratio <= most else 'MORE THAN'} {most}" if most else "")
        print(f"{row.workload:<13} {row.twin_ms:7.4f} ms a step of the twin, {row.browser_ms:7.4f} ms in {row.node}: {said}")
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
