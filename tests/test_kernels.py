# SPDX-License-Identifier: Apache-2.0
"""Generated C equals the reference: each op × kernel × example on the host under sanitizers, and bit for bit the same on boards."""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import kernel_cases
import numpy as np
import pytest
from compilers import installed
from kernel_cases import WARNINGS, Case, all_cases, cases_header, families, grouped, write_program
from kernel_runs import board_results, compile_c, host_results

from tinytrain.emit.kernels import KernelCall, render
from tinytrain.ir.op import Elementwise, registry
from tinytrain.ir.types import S8, Array
from tinytrain.ops.simd import HALVES, SIMD
from tinytrain.paths import data_dir
from tinytrain.target.board import Board, board_names, load_board
from tinytrain.verify.checks import assert_matches

# kernels for an instruction set have a form in C for the host: of vocabularies those of true vectors and of pairs, and int8 of others
ISAS = ("dsp", "xpulp", *dict.fromkeys(simd.isa for simd in (*SIMD, *HALVES) if simd.isa and simd.words))
INT8 = tuple(
    case for simd in SIMD if simd.isa and not simd.words
    for case in all_cases(frozenset({simd.isa})) if case.kernel.isa and case.kernel.dtypes == (S8, S8)
)
CASES = tuple(dict.fromkeys((*(case for tag in ISAS for case in all_cases(frozenset({tag}))), *INT8)))
# instruction sets of cores that are all fused: their words are, on the host too
FUSED = {tag for tag in ISAS if all(board.fused for board in map(load_board, board_names()) if tag in board.isa)}
FAMILIES = families(CASES)
# (fused arithmetic, sanitizers) → programs: what is left over of a vector is computed as its board does it, and plain kernels in both
# ways, of which the sanitizers see one
PROGRAMS = {
    (False, True): families([case for case in CASES if case.kernel.isa not in FUSED]),
    (True, True): families([case for case in CASES if case.kernel.isa in FUSED]),
    (True, False): families(dict.fromkeys(case.plain for case in CASES)),
}


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.cache.mkdir("kernel_cases"))


@pytest.fixture(scope="session")
def host_c(folder: Path) -> Callable[..., str]:
    """What a case gave on the host, or a plain one with fused arithmetic; its whole family is compiled and run at the first question."""
    known: dict[tuple[str, bool], str] = {}

    def ask(case: Case, fused: bool = False) -> str:
        if (str(case), fused) not in known:
            sanitized = not fused or case.kernel.isa in FUSED
            results = host_results(PROGRAMS[fused, sanitized][case.kernel.template], folder, fused, sanitized)
            known.update({(name, fused): value for name, value in results.items()})
        return known[str(case), fused]

    return ask


# by op and instruction set: one test each, for a test a case would take longer to be counted than to run
ALIKE = grouped(CASES, lambda case: "/".join([case.op.name, *([case.kernel.isa] if case.kernel.isa else [])]))


@pytest.mark.parametrize("name", ALIKE)
def test_kernel_equals_reference(name: str, host_c: Callable[..., str]) -> None:
    """Generated C under ASan and UBSan equals op.reference: exactly for integers, by TOLERANCE for floats, fused or not.

    All kernels of an op sum in one order: whatever the lanes, they give the bits of the plain one, rounded as often. Those that round
    products to halves do not: each result is within some last bits of a half of the largest one.
    """
    wrong = []
    for case in ALIKE[name]:
        try:
            check(case, host_c)
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, f"{len(wrong)} of {len(ALIKE[name])} cases: " + "\n".join(wrong[:5])


def check(case: Case, host_c: Callable[..., str]) -> None:
    want, fused = case.want(), case.kernel.isa in FUSED
    if not case.kernel.exact:
        got = host_c(case, fused)
        assert not got.startswith("error"), f"{case}: {got}"
        assert_near(case.decode(bytes.fromhex(got)), want, str(case))
        return
    for got in (host_c(case, fused), host_c(case.plain, fused=True)):
        assert not got.startswith("error"), f"{case}: {got}"
        assert_matches(case.decode(bytes.fromhex(got)), want, [t.dtype for t in case.outputs], str(case), case.scale(want))
    plain = host_c(case.plain, fused)
    assert host_c(case, fused) == plain, f"{case}: {_bits_differ(case, host_c(case, fused), plain)}"


def assert_near(got: Sequence[Array], want: Sequence[Array], name: str) -> None:
    """Each output within 2·2^-11 of its largest element."""
    for output, (a, b) in enumerate(zip(got, want, strict=True)):
        largest, gap = (float(np.abs(n).max(initial=0)) for n in (b.astype(np.float64), a.astype(np.float64) - b.astype(np.float64)))
        assert a.shape == b.shape and gap <= 2 * 2**-11 * max(1.0, largest), f"{name}, output {output}: {gap:.3g} from one of {largest:.3g}"


def emulated() -> list[Board]:
    """Those that a firmware of many cases fits."""
    boards = [board for board in map(load_board, board_names()) if board.machine and board.emulator == "qemu"]
    return [board for board in boards if board.flashes[0].bytes >= 512 << 10 and board.rams[0].bytes >= 128 << 10]


def skip_without_tools(board: Board) -> None:
    for tool in (board.machine[0], "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not any(map(shutil.which, board.toolchain.cc)):
        pytest.skip(f"{board.toolchain.package} is not installed")


def one_for_each_processor() -> list[Board]:
    """The emulated boards but those whose kernels are the same code as another one's."""
    return list({board.flags: board for board in reversed(emulated())}.values())


@cache
def shares() -> dict[str, list[Case]]:
    """Board → what it runs in the short form: each case on one of the processors that it is made for; of portable ones, which run on the
    host under sanitizers, every third example on one of all."""
    able: dict[Case, list[str]] = {}
    for board in one_for_each_processor():
        for case in all_cases(frozenset(board.isa)):
            if case.kernel.isa is None and case.seed % 3:
                continue
            able.setdefault(case, []).append(board.name)
    found: dict[str, list[Case]] = {}
    for case, names in able.items():
        found.setdefault(names[case.seed // 3 % len(names)], []).append(case)
    return found


def short_and_long() -> list[object]:
    """Kernels run on one processor in the short form, on all that can in the long one."""
    params: list[object] = [pytest.param(board, True, id=board.name) for board in one_for_each_processor()]
    return params + [pytest.param(board, False, id=f"{board.name}-all", marks=pytest.mark.long) for board in emulated()]


@pytest.mark.parametrize(("board", "short"), short_and_long())
def test_board_equals_host(board: Board, short: bool, folder: Path, host_c: Callable[..., str]) -> None:
    """Kernels that the board can run, in few firmwares: outputs are bit for bit those of the host, and nothing around is touched."""
    skip_without_tools(board)
    runs = shares()[board.name] if short else all_cases(frozenset(board.isa))
    cases = [case for case in runs if not host_c(twin(case), board.fused).startswith("error")]
    got = board_results(cases, board, folder)
    missing = [str(case) for case in cases if str(case) not in got]
    assert not missing, f"{board.name} stopped in {missing[0]}"
    wrong = [case for case in cases if got[str(case)] != f"{zlib.crc32(bytes.fromhex(host_c(twin(case), board.fused))):08x}"]
    if wrong:
        shown = board_results(wrong[:5], board, folder, whole=True)
        differences = [f"{case}: {_bits_differ(case, shown[str(case)], host_c(twin(case), board.fused))}" for case in wrong[:5]]
        raise AssertionError("\n".join(differences))


def twin(case: Case) -> Case:
    """What gives the same bits on the host: the portable kernel, or the form in C of one that rounds products."""
    return case.plain if case.kernel.exact else case


def _bits_differ(case: Case, got: str, want: str) -> str | None:
    """The first element with other bits, by its place, and both values."""
    if got.startswith("error"):
        return got
    for o, (a, b, kind) in enumerate(zip(case.decode(bytes.fromhex(got)), case.decode(bytes.fromhex(want)), case.outputs, strict=True)):
        unequal = (a.view(f"u{a.itemsize}") != b.view(f"u{b.itemsize}")).nonzero()
        if unequal[0].size:
            at = tuple(int(axis[0]) for axis in unequal)
            return f"output {o} of {kind} has other bits in {unequal[0].size} elements, first at {at}: {a[at]!r} instead of {b[at]!r}"
    return None


def some_of_each(cases: Iterable[Case], count: int) -> list[Case]:
    """So many of each op, kernel and type: boards' builds compile all, with the same warnings."""
    plain = (case for case in cases if not case.shared and not case.coarse)
    alike = grouped(plain, lambda case: (case.op.name, case.kernel.template, case.kernel.isa, case.kernel.dtypes))
    return [case for found in alike.values() for case in found[:count]]


@pytest.mark.parametrize("kind", ["gcc", "clang"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_kernels_compile_without_warning(family: str, kind: str, tmp_path: Path) -> None:
    if (compiler := installed(kind)) is None:
        pytest.skip(f"{kind} is not installed")
    sources = write_program(cases_header(some_of_each(FAMILIES[family], 4)), tmp_path)
    # what a compiler sees only when it optimises, the boards' builds of the same kernels do, with the same warnings
    compile_c([compiler, *WARNINGS, "-fsyntax-only", "-D_POSIX_C_SOURCE=200809L", "-DCASES_HOST", *sources])


def test_each_kernel_passes_cpp(tmp_path: Path) -> None:
    """As C++17, too, where `restrict` has another name (codegen/kernels.h.j2): a case of each kernel."""
    compiler = installed("clang++") or installed("g++") or pytest.skip("needs clang++ or g++")
    (tmp_path / "cases.h").write_text(f"#define restrict __restrict\n{cases_header(some_of_each(CASES, 1))}")
    (tmp_path / "cases.cpp").write_text('#include "cases.h"\nint main() { return (int)sizeof cases; }\n')
    flags = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-fsyntax-only", f"-I{data_dir('runtime_c')}")
    compile_c([compiler, *flags, "-DCASES_HOST", str(tmp_path / "cases.cpp")])


@pytest.mark.parametrize("level", ["-O0", "-Og", "-Os", "-O3"])
def test_assembly_finds_registers(level: str, tmp_path: Path) -> None:
    """Loops in assembly take nearly all registers: whatever a user's Makefile says, there must be enough."""
    board = load_board("mps2-an386")
    if shutil.which(board.toolchain.cc[0]) is None:
        pytest.skip(f"{board.toolchain.package} is not installed")
    own = some_of_each((case for case in all_cases(frozenset(board.isa)) if case.kernel.isa), 1)
    sources = write_program(cases_header(own), tmp_path)
    flags = [*board.toolchain.flags, *board.flags, *WARNINGS, level]
    compile_c([board.toolchain.cc[0], *flags, "-S", "-o", "/dev/null", *sources])


@pytest.mark.parametrize("name", sorted(registry()))
def test_op_is_complete(name: str) -> None:
    """Every op is tested, and can be computed: by a kernel, or because it only looks at its input in another shape."""
    op = registry()[name]
    assert op.examples, f"{name} has no example"
    assert op.kernels or op.view, f"{name} has no kernel"
    used = {case.kernel for case in all_cases() if case.op.name == name}
    portable = [kernel for kernel in op.kernels if kernel.isa is None]
    assert op.view or all(kernel in used for kernel in portable), f"{name}: no example uses {[k for k in portable if k not in used]}"
    refused = [k for k in op.kernels if not any(k.accepts(example.op, *example.inputs) is True for example in op.examples)]
    assert not refused, f"{name}: no example suits {refused}"


def test_every_macro_belongs_to_an_op() -> None:
    """A macro over `k` alone that no other macro of its file uses renders a function: some op must name it."""
    named = {(kernel.template, kernel.macro or op.name) for op in registry().values() for kernel in op.kernels}
    found = set()
    for path in (data_dir("codegen") / "kernels").glob("*.c.j2"):
        text = path.read_text()
        whole = [macro for macro in re.findall(r"macro\s+(\w+)\(k\)", text) if len(re.findall(rf"\b{macro}\(", text)) == 1]
        found |= {(path.name.removesuffix(".c.j2"), macro) for macro in whole}
    assert found - named == set(), "macros without an op"
    assert named - found == set(), "ops without a macro"


def test_elementwise_ops_have_no_own_template() -> None:
    for op in registry().values():
        if issubclass(op, Elementwise):
            assert all(k.template == "elementwise" for k in op.kernels), op.name


def test_case_names_are_unique() -> None:
    names = [str(case) for case in CASES]
    assert len(names) == len(set(names))
    assert cases_header(all_cases()[:3]) == cases_header(all_cases()[:3])


def relus() -> list[Case]:
    return [case for case in FAMILIES["elementwise"] if case.op.name == "relu" and case.kernel.isa is None and not case.shared]


@pytest.fixture
def one_element_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of seven elements compute eight."""

    def spoilt(call: KernelCall, symbol: str) -> str:
        return render(call, symbol).replace("i < 7;", "i < 8;")

    monkeypatch.setattr(kernel_cases, "render", spoilt)


@pytest.mark.usefixtures("one_element_too_many")
def test_overrun_is_seen_on_the_host(tmp_path: Path) -> None:
    results = host_results(relus(), tmp_path)
    seven = {str(case) for case in relus() if case.outputs[0].numel == 7}
    assert seven and {name for name, value in results.items() if value.startswith("error")} == seven
    assert all("heap-buffer-overflow" in results[name] for name in seven)


def test_undefined_behaviour_is_seen_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def spoilt(call: KernelCall, symbol: str) -> str:
        return render(call, symbol).replace("\n{\n", "\n{\n    volatile int32_t most = INT32_MAX;\n    most = most + 1;\n", 1)

    monkeypatch.setattr(kernel_cases, "render", spoilt)
    results = host_results(relus()[:2], tmp_path)
    assert len(results) == 2
    assert all("signed integer overflow" in value for value in results.values())


@pytest.mark.usefixtures("one_element_too_many")
def test_overrun_is_seen_on_a_board(tmp_path: Path) -> None:
    board = load_board("mps2-an385")
    skip_without_tools(board)
    results = board_results(relus(), board, tmp_path)
    seven = {str(case) for case in relus() if case.outputs[0].numel == 7}
    assert {name for name, value in results.items() if value.startswith("error")} == seven
