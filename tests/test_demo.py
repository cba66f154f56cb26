# SPDX-License-Identifier: Apache-2.0
"""The demo reaches what it promises: on the host twin in the short form, on the emulated kit in the long one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("board", ["host", pytest.param("netduinoplus2", marks=pytest.mark.long)])
def test_demo_recovers(board: str, tmp_path: Path) -> None:
    if board != "host" and not shutil.which("qemu-system-arm"):
        pytest.skip("needs qemu-system-arm")
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "digits", ignore=shutil.ignore_patterns("out"))
    command = [sys.executable, "digits/demo.py", "--board", board]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "digits" / "out" / "result.json").read_text())
    assert result["accuracy_before"] >= 0.92
    assert result["accuracy_shifted"] < 0.40
    assert result["accuracy_after"] >= 0.92
    assert (tmp_path / "digits" / "out" / "curve.png").stat().st_size > 5_000
