# SPDX-License-Identifier: Apache-2.0
"""The weight store: whatever operation of a save loses power, there are the new weights or those before, and the device goes on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from compilers import SANITIZERS, sanitizing
from fake_firmware import need_tools
from kernel_cases import HERE, WARNINGS
from kernel_runs import compile_c

from tinytrain.paths import data_dir
from tinytrain.target.board import load_board

RUNTIME = data_dir("runtime_c")
SOURCES = [str(path) for path in (HERE / "store.c", HERE / "nor.c", RUNTIME / "tt_store.c", RUNTIME / "tt_crc.c")]
STORE_BYTES = 1800                                        # of code, -Os: the store and its CRC; with guards there may be 2,560


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("store") / "store"
    compile_c([sanitizing(), *WARNINGS, "-O1", *SANITIZERS, f"-I{RUNTIME}", f"-I{HERE}", *SOURCES, "-o", str(program)])
    return program


def told(store: Path, *arguments: str, seconds: int = 60) -> str:
    done = subprocess.run([store, *arguments], capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_operation_of_a_save_is_cut(store: Path) -> None:
    """Erasures and words, each in six states that a cut may leave it in, on flash of nine geometries."""
    assert int(told(store, "cuts", "0").split()[1]) > 15_000


@pytest.mark.long
def test_every_operation_is_cut_twice(store: Path) -> None:
    """The save after a cut is cut as well."""
    assert int(told(store, "cuts", "1", seconds=1800).split()[1]) > 700_000


def test_wear_is_level_and_nothing_foreign_is_loaded(store: Path) -> None:
    least, most = map(int, re.fullmatch(r"wear (\d+)\.\.(\d+)\n", told(store, "rules")).groups())  # type: ignore[union-attr]
    assert 0 < least <= most <= least + 1


def test_code_of_the_store_is_small(tmp_path: Path) -> None:
    board = load_board("netduinoplus2")
    need_tools(board)
    total = 0
    for name in ("tt_store", "tt_crc"):
        made = tmp_path / f"{name}.o"
        flags = (*WARNINGS, "-Os", "-ffreestanding", *board.flags)
        compile_c(["arm-none-eabi-gcc", *flags, "-c", str(RUNTIME / f"{name}.c"), "-o", str(made)])
        sizes = subprocess.run(["arm-none-eabi-size", made], capture_output=True, text=True, check=True).stdout.splitlines()[1].split()
        assert sizes[1] == sizes[2] == "0", "the store has variables of its own"
        total += int(sizes[0])
    assert total <= STORE_BYTES
