# SPDX-License-Identifier: Apache-2.0
"""Several cores at one kernel: the bits of one core alone, on threads of the host (under ThreadSanitizer) and on the harts of a board."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import onnx
import pytest
from compilers import quick
from kernel_cases import Case, all_cases, cases_header, families, write_program
from kernel_runs import HOST_DEFINES, HOST_FLAGS, compile_c, parse
from test_traces import assert_same_bits, need, trace

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import BoardError
from tinytrain.gradient.update import Optimiser
from tinytrain.ops.simd import HALVES, SIMD
from tinytrain.paths import data_dir
from tinytrain.target.board import load_board

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
    program, port = folder / "cases", data_dir("runtime_c") / "cores_host.c"
    flags = ("-fsanitize=thread", f"-DTT_CORES={cores}u", "-pthread", str(port))
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


STEPS = 4
# fp32 masters beside halves; halves alone, rounded at random
OPTIMISERS = {"masters": Optimiser(0.02, momentum=0.9), "halves": Optimiser(0.02, master=False)}


@pytest.fixture(scope="module", params=OPTIMISERS)
def training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Compiled]:
    """The built-in CNN in fp16 for so many cores of a board."""
    model = tmp_path_factory.mktemp("model") / "cnn.onnx"
    onnx.save(zoo.model("cnn"), model)
    rule = OPTIMISERS[request.param]

    def made(board: str, cores: int) -> Compiled:
        return compile_model(model, Options(board=board, cores=cores, dtype="fp16", optimiser=rule, exact_seconds=0))

    return made


def test_steps_on_cores_give_the_bits_of_one(training: Callable[[str, int], Compiled], tmp_path: Path) -> None:
    """Threads of the host, and harts that really run at the same time."""
    need("pulp-virt")
    golden = golden_vectors(training("host-fused", 1).program, STEPS)
    alone = trace(training("host-fused", 1), golden, tmp_path / "alone")
    for board, cores in (("host-fused", 3), ("host-fused", 8), ("pulp-virt", 2), ("pulp-virt", 3), ("pulp-virt", 8)):
        assert_same_bits(trace(training(board, cores), golden, tmp_path / f"{board}-{cores}"), alone)


def test_harts_that_are_counted_give_the_same_bits_and_share_the_work(training: Callable[[str, int], Compiled], tmp_path: Path) -> None:
    need("pulp-virt")
    counts, losses = {}, {}
    for cores in (1, 2, 8):
        write(training("pulp-virt", cores), tmp_path / str(cores))
        project = Project.open(tmp_path / str(cores))
        golden = golden_vectors(training("pulp-virt", cores).program, 2)
        with project.session(icount=True, timeout=300) as session:
            losses[cores] = [session.train_step(x, y).loss for x, y in zip(golden.x, golden.target, strict=True)]
            counters = session.counters()
        counts[cores] = counters.instructions
        assert len(counters.shared) == (cores if cores > 1 else 0)
        # what the slowest of them did between two barriers is a part of the count, for each of them
        assert max(counters.shared, default=0) < counters.instructions <= counts[1]
        assert sum(counters.shared) < 2 * counts[1]
    assert losses[1] == losses[2] == losses[8]
    assert counts[8] < counts[2] < counts[1], counts


def test_more_cores_than_a_board_has_are_refused() -> None:
    with pytest.raises(BoardError, match=r"pulp-virt has 8 cores for a step; --cores asks for 9\."):
        load_board("pulp-virt").with_cores(9)
    with pytest.raises(BoardError, match=r"mps2-an386 has one core for a step; --cores asks for 2\."):
        load_board("mps2-an386").with_cores(2)
