# SPDX-License-Identifier: Apache-2.0
"""Pairs of halves of PULP's SmallFloat extension: the same bits on the board, whose traps emulate them, and in plain C on the host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compilers import SANITIZERS, installed
from fake_firmware import need_tools
from kernel_cases import HERE, WARNINGS
from kernel_runs import STACK_BYTES, compile_c, until_dot

from tinytrain.device.qemu import qemu_command
from tinytrain.paths import data_dir
from tinytrain.target.board import load_board
from tinytrain.target.build import build, project_files


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the board prints."""
    board, folder = load_board("pulp-virt"), tmp_path_factory.mktemp("pairs")
    need_tools(board)
    model = {"pairs.c": "typedef int unused;\n", "board_or_host.h": (HERE / "board_or_host.h").read_text()}
    files = project_files(board, "pairs", model, stack_bytes=STACK_BYTES, main=(HERE / "pairs.c").read_text())
    for file, text in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    return until_dot(qemu_command(build(folder, board), board, icount=True)).splitlines()


def test_what_is_emulated_counts_as_one_instruction(printed: list[str]) -> None:
    assert int(printed[0], 16) == 3 * 1000


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_pairs_on_the_board_equal_those_in_c(name: str, printed: list[str], tmp_path: Path) -> None:
    if (compiler := installed(name)) is None:
        pytest.skip(f"needs {name}")
    program, flags = tmp_path / "pairs", ["-O1", *SANITIZERS, "-DON_HOST", f"-I{data_dir('runtime_c')}"]
    compile_c([compiler, *WARNINGS, *flags, str(HERE / "pairs.c"), "-o", str(program), "-lm"])
    want = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert len(want) > 40 and printed[1:] == want
