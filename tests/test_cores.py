# SPDX-License-Identifier: Apache-2.0
"""Several cores at one kernel: the bits of one core alone, on threads of the host (under ThreadSanitizer) and on the harts of a board."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from compilers import quick
from kernel_cases import Case, all_cases, cases_header, families, write_program
from kernel_runs import HOST_DEFINES, HOST_FLAGS, compile_c, parse

from tinytrain.ops.simd import HALVES, SIMD
from tinytrain.paths import data_dir

ISAS = ("xpulp", *dict.fromkeys(simd.isa for simd in (*SIMD, *HALVES) if simd.isa and simd.words))
SECONDS = 300
MOST = 150                                                # cases of a family: many differ in their formulas alone


@cache
def shared_cases() -> dict[str, list[Case]]:
    """Family → cases of kernels whose work cores share, in the forms that they have on the host."""
    found = [case for tag in ISAS for case in all_cases(frozenset({tag})) if case.kernel.shared and not case.coarse and not case.lead]
    made = families(dict.fromkeys(found))
    return {family: cases[:: -(-len(cases) // MOST)] for family, cases in made.items()}


def on_host(cases: Sequence[Case], folder: Path, cores: int) -> dict[str, str]:
    """str(case) → hex of the outputs, by so many threads; with several, ThreadSanitizer sees them."""
    folder.mkdir()
    cases = [dataclasses.replace(case, cores=cores) for case in cases]
    program, flags = folder / "cases", ("-fsanitize=thread", f"-DTT_CORES={cores}u", "-pthread", str(data_dir("runtime_c") / "cores_host.c"))
    command = [quick(), *HOST_FLAGS, *HOST_DEFINES, *write_program(cases_header(cases), folder), "-o", str(program), "-lm"]
    compile_c([*command, *(flags if cores > 1 else ())])
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert not done.returncode, done.stderr[:3000]
    return {name.replace(f"/{cores}cores", ""): value for name, value in parse(cases, done.stdout).items()}


@pytest.mark.parametrize("family", shared_cases())
def test_threads_give_the_bits_of_one_core(family: str, tmp_path: Path) -> None:
    cases = shared_cases()[family]
    alone = on_host(cases, tmp_path / "1", 1)
    assert len(alone) == len({str(case) for case in cases})
    for cores in (2, 3, 8):
        together = on_host(cases, tmp_path / str(cores), cores)
        wrong = [name for name, value in alone.items() if together[name] != value]
        assert not wrong, f"{cores} cores: {len(wrong)} of {len(alone)} differ, as {wrong[:5]}"
