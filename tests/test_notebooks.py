# SPDX-License-Identifier: Apache-2.0
"""The notebooks of examples/ run, cell by cell, and print what they show; no Jupyter is needed for that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from pages import plain

NOTEBOOKS = sorted((ROOT / "examples").rglob("*.ipynb"))


def printed(cell: dict[str, Any]) -> str:
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


@pytest.mark.skipif(not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))), reason="needs the Arm compiler and emulator")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells)
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    shown = "".join(map(printed, cells)).splitlines()
    assert shown and [*map(plain, done.stdout.splitlines())] == [*map(plain, shown)]


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS
