# SPDX-License-Identifier: Apache-2.0
"""The limits that the benchmark workloads must keep: instructions of a training step, bytes of RAM in all."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
LIMITS = {"mlp": (32_000, 12_500), "cnn": (470_000, 21_500)}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("workload", LIMITS)
@pytest.mark.skipif(not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))), reason="needs the Arm compiler and emulator")
def test_workload_keeps_its_limits(workload: str, tmp_path: Path) -> None:
    record = load("micro").measure(workload, tmp_path)
    instructions, ram_bytes = LIMITS[workload]
    assert record.instructions <= instructions
    assert record.ram_bytes <= ram_bytes
