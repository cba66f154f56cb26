# SPDX-License-Identifier: Apache-2.0
"""Pages of docs/ as programs. A page's blocks run in their order in one folder, and must do what the page shows.

    ```sh                         runs; `tinytrain` and `python` are those of the tests
    ```python                     runs
    ```LANGUAGE title="a/b.c"     is that file
    ```text                       lines of what the block above has printed, in their order; figures may differ, … stands for anything
    ```LANGUAGE                   else: only shown
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"[−-]?\d[\d,.]*(?:e-?\d+)?")
SECONDS = 900


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the file that it is (empty: none), its text."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """Blocks of README.md, docs/ops.md, ..., in their order."""
    return [Block(*found) for found in BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))]


def run_page(page: str, folder: Path) -> None:
    """Does what the page says, in an empty folder; AssertionError says what a block printed instead."""
    said = ""
    for block in blocks(page):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            said = _run(["sh", "-euc", block.text], block, folder)
        elif block.language == "python":
            said = _run([sys.executable, "-c", block.text], block, folder)
        elif block.language == "text":
            _assert_shown(block.text.splitlines(), said)


def _run(command: Sequence[str], block: Block, folder: Path) -> str:
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(paths), "PYTHONPATH": str(ROOT), "COLUMNS": "140", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{block.text}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def _assert_shown(lines: Sequence[str], said: str) -> None:
    """All lines are among those of the output, in their order, whatever their figures and spaces are."""
    rest = iter([plain(line) for line in said.splitlines()])
    for line in filter(str.strip, lines):
        pattern = re.escape(plain(line)).replace("…", ".*")
        assert any(re.fullmatch(pattern, other) for other in rest), f"{line!r} is not, or not there, in\n{said}"


def plain(line: str) -> str:
    return " ".join(FIGURE.sub("0", line).split())
