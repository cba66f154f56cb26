# SPDX-License-Identifier: Apache-2.0
"""Boards as data, the project around a model, its build on every toolchain, sizes, and the runtime's own arithmetic."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from compilers import installed
from fake_firmware import STACK_BYTES, build_fake, need_tools, write_fake

from tinytrain.device.project import BROWSER
from tinytrain.errors import BoardError, DoesNotFit, ToolError
from tinytrain.ir.op import registry
from tinytrain.ops.curve import erf
from tinytrain.paths import data_dir
from tinytrain.random import random_u32, random_unit
from tinytrain.target.board import Board, board_names, load_board
from tinytrain.target.build import build, find_compiler
from tinytrain.target.isa import ISAS, headers
from tinytrain.target.memory import arena_memory
from tinytrain.target.size import sizes

NAMES = board_names()


def test_the_boards() -> None:
    assert NAMES[0] == "host"
    assert set(NAMES) >= {"host", "mps2-an385", "mps2-an386", "mps2-an500", "mps3-an547", "netduinoplus2"}
    assert set(NAMES) >= {"stm32vldiscovery", "microbit", "lm3s6965evb", "hifive1", "mps2-an505", "raspberry-pi-pico"}
    assert set(NAMES) >= {"nucleo-f446re", "stm32f746g-disco", "nucleo-h743zi", "nrf52840-dk"}
    assert set(NAMES) >= {"raspberry-pi-pico2", "raspberry-pi-pico2-riscv", "esp32-c3"}
    assert set(NAMES) >= {"riscv-virt", "riscv-virt-rvv", "riscv-virt-zfh", "riscv-virt-zvfh", "pulp-virt"}


@pytest.mark.parametrize("name", NAMES)
def test_each_board_is_valid(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.title
    assert board.is_host == (board.ram is None)
    assert board.clock_hz == board.defines.get("TT_CLOCK_HZ", 0)
    if board.machine:
        assert board.timer_hz > 0
        assert board.instructions(board.timer_hz) == 1_000_000_000


def test_netduino_has_the_memory_of_the_chip() -> None:
    board = load_board("netduinoplus2")
    assert {m.name: m.bytes for m in board.memories} == {"flash": 1 << 20, "ram": 128 << 10, "ccm": 64 << 10}
    assert [m.dma for m in board.memories] == [True, True, False]
    assert board.flash["pyocd"] == "stm32f405rg"


@pytest.mark.parametrize("name", ["mps2-an836", "", "soc", "../boards/host", "toolchain", "nothing-like-it"])
def test_unknown_board(name: str) -> None:
    with pytest.raises(BoardError, match=f"There is no board {re.escape(repr(name))}; known boards are host, browser, esp32-c3, hifive1, "):
        load_board(name)


def test_unknown_board_names_the_nearest() -> None:
    with pytest.raises(BoardError, match=r"\nDid you mean netduinoplus2\?"):
        load_board("netduino")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('core = "cortex-m4"\n', "", "core is missing, expected a string"),
        ('core = "cortex-m4"\n', 'core = "cortex-m4"\nfused = "no"\n', "fused is 'no', expected true or false"),
        ('sysclk_hz = 168_000_000', 'sysclk_hz = "fast"', "clock.sysclk_hz is 'fast', expected an integer"),
        ('isa = ["dsp", "fpu-sp", "vfp"]', 'isa = ["dsp", 3]', r"isa is \['dsp', 3\], expected a list of strings"),
        ('"fpu-sp", "vfp"]', '"fpu"]', r"isa has 'fpu'; known instruction sets are dsp, fpu-sp, .*, rvv, .*\.\nDid you mean .*fpu-sp"),
        ('"fpu-sp", "vfp"]', '"neon"]', r"isa has 'neon'; known instruction sets are .*\.\nLeave it out"),
        ('core = "cortex-m4"\n', 'core = "cortex-m4"\ntwin = "hots"\n', r"twin = 'hots', but there is no such board\.\nLeave it out"),
        ('"fpu-sp", "vfp"]', '"mve"]', "isa has 'mve' without 'fpu-sp', which kernels for mve need"),
        ("bytes = 131_072", "bytes = -1", "memory.ram has origin 536870912, bytes -1, kind 'ram'; expected a size above 0"),
        *(('core = "cortex-m4"\n', f'core = "cortex-m4"\nstack_bytes = {found}\n', f"stack_bytes is {found:,}, expected 512 or more")
          for found in (0, -2048, 496, 1000)),
        ("bytes = 131_072", "size = 1", "memory.ram.bytes is missing, expected an integer"),
        ("ram = {", "ram = { orgin = 3,", r"memory.ram.orgin is not a key of a board\.\nDid you mean origin\?"),
        ("168_000_000 }", "200_000_000 }", r"clock.sysclk_hz is 200,000,000; the chip runs at 168,000,000 Hz at most"),
        ("= 25_000_000,", "= 25_000_003,", r"sysclk_hz is 168,000,000, which the PLL does not make of 25,000,003 Hz"),
        ("= 25_000_000,", "= 7,", r"clock.hse_hz is 7, expected 1,000,000 to 50,000,000"),
        ('"hse"', '"xtal"', r"clock.source is 'xtal'; expected one of hsi, hse, hse_bypass"),
        ('"USART1"', '"USART7"', r"uart.unit is 'USART7'; the chip has USART1, .*\nDid you mean USART"),
        ('"PA9"', '"PA2"', r"uart.tx is 'PA2'; tx of USART1 is on PA9, PB6"),
        ("baud = 115_200", "baud = 60_000_000", r"uart.baud is 60,000,000; a divider of 84,000,000 Hz gives 84,000,000 at best"),
        ("hse_hz", "hse_mhz", r"clock.hse_mhz is not a key of a board\.\nDid you mean hse_hz\?"),
        ("baud =", "boud =", r"uart.boud is not a key of a board\.\nDid you mean baud\?"),
        ("title =", "titel =", r"title is missing, expected a string\.\nIs it meant by titel, which is not a key of a board\?"),
        ("real = true", "reel = true", r"reel is not a key of a board\.\nDid you mean real\?"),
        ("real = true", "_ = 3", r"_ is not a key of a board\.\nKnown keys are buses, clock, clock_hz, core, "),
        ("origin = 0x1000_0000", "origin = 0x2000_0100", "memory.ram and memory.ccm overlap"),
        ('soc = "stm32f4"', 'soc = "stm32f5"', "soc = 'stm32f5', but there is no .*\\nDid you mean .*stm32f4"),
        ('soc = "stm32f4"', "", "toolchain is missing, expected a string"),
        ("[memory]\n", "[memory\n", "is not valid TOML"),
        ("ram = {", "other = { kind = 'flash',", r"\[memory\] has no ram region|memory.other"),
    ],
)
def test_an_invalid_board(tmp_path: Path, old: str, new: str, message: str) -> None:
    boards = tmp_path / "boards"
    shutil.copytree(data_dir("boards"), boards)
    path = boards / "netduinoplus2" / "board.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new)
    if "other" in new:
        text = re.sub(r"ccm = .*\n", "", text)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BoardError, match=message) as caught:
        load_board("netduinoplus2", boards)
    assert str(path) in str(caught.value)


def test_kernels_name_known_instruction_sets() -> None:
    assert {kernel.isa for op in registry().values() for kernel in op.kernels if kernel.isa} <= ISAS.keys()
    assert all(tag == isa.tag and set(isa.needs) <= ISAS.keys() for tag, isa in ISAS.items())
    assert all((data_dir("runtime_c") / header).is_file() for header in headers(ISAS))


@pytest.mark.parametrize("name", [name for name in NAMES if name != BROWSER])
def test_build_and_sizes(tmp_path: Path, name: str) -> None:
    """The firmware without a model stays small: it is what every project pays for start-up and link."""
    elf = build_fake(tmp_path, name) / "build" / "fake.elf"
    found = sizes(elf)
    assert found.by_symbol["fake_train_step"] > 40
    assert list(found.by_symbol.values()) == sorted(found.by_symbol.values(), reverse=True)
    if not load_board(name).is_host:
        assert found.flash_bytes < 12_288               # esp32-c3, whose libgcc, of floats in software, is not compressed
        assert (found.stack_bytes, found.arena_bytes) == (STACK_BYTES, 80)
        assert found.bss_bytes < 700
        assert found.ram_bytes == found.data_bytes + found.bss_bytes + STACK_BYTES


@pytest.mark.parametrize("name", ["host", "netduinoplus2", "riscv-virt", BROWSER])
def test_cmake_builds_it_too(tmp_path: Path, name: str) -> None:
    board = load_board(name)
    need_tools(board)
    if not shutil.which("cmake"):
        pytest.skip("needs cmake")
    write_fake(tmp_path, board)
    for command in (["cmake", "-S", ".", "-B", "cmake"], ["cmake", "--build", "cmake"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "cmake" / f"fake{board.toolchain.suffix}").is_file()


def test_make_takes_another_compiler(tmp_path: Path) -> None:
    board = load_board("netduinoplus2")
    need_tools(board)
    write_fake(tmp_path, board)
    where = Path(shutil.which("arm-none-eabi-objcopy") or "").parent
    command = ["make", f"CROSS={where}/arm-none-eabi-", "all", "bin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{where}/arm-none-eabi-gcc " in done.stdout
    assert (tmp_path / "build" / "fake.bin").stat().st_size == sizes(tmp_path / "build" / "fake.elf").flash_bytes


def test_clang_finds_nothing_to_warn_about(tmp_path: Path) -> None:
    if (clang := installed("clang")) is None:
        pytest.skip("needs clang")
    write_fake(tmp_path, load_board("host"))
    done = subprocess.run(["make", f"CC={clang}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["netduinoplus2", "riscv-virt"])
def test_what_does_not_fit_is_said_by_the_linker(tmp_path: Path, name: str) -> None:
    board = load_board(name)
    need_tools(board)
    assert board.ram is not None
    write_fake(tmp_path, board, arena_bytes=1 + max(m.bytes for m in board.rams))
    words = f"fake does not fit: arena, buffers and stack need more than the {board.ram.bytes} bytes of ram of {name}|overflowed by"
    with pytest.raises(DoesNotFit, match=words):
        build(tmp_path, board)


def test_the_arena_goes_where_it_fits(tmp_path: Path) -> None:
    board = load_board("mps3-an547")
    assert arena_memory(board, 500_000, 4096).name == "ram"
    assert arena_memory(board, 600_000, 4096).name == "sram"
    assert arena_memory(board, 1 << 30, 4096).name == "ram"
    need_tools(board)
    write_fake(tmp_path, board, arena_bytes=600_000)
    assert sizes(build(tmp_path, board)).arena_bytes == 600_000


def test_missing_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"mps2-an385 needs the C compiler arm-none-eabi-gcc, .*\n.*apt-get install gcc-arm-none-eabi"):
        find_compiler(load_board("mps2-an385"))
    with pytest.raises(ToolError, match=r"needs the C compiler clang-19, .*\n.*apt-get install clang-19 lld-19"):
        find_compiler(load_board("riscv-virt"))


def test_missing_emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tinytrain.device.qemu import start_qemu

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"Board riscv-virt needs the emulator qemu-system-riscv32, .*\n.*qemu-system-misc"):
        start_qemu(tmp_path / "x.elf", load_board("riscv-virt"))


def test_the_compilers_own_words(tmp_path: Path) -> None:
    board = load_board("host")
    need_tools(board)
    write_fake(tmp_path, board)
    (tmp_path / "lib" / "fake.c").write_text("this is not C\n")
    with pytest.raises(ToolError, match=r"Building .* failed:\nlib/fake\.c:1:[\s\S]*\nRun `make "):
        build(tmp_path, board)
    with pytest.raises(ToolError, match="has no Makefile, expected a folder made by"):
        build(tmp_path / "build", board)


def test_sizes_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.elf").write_bytes(b"no ELF at all")
    with pytest.raises(ToolError, match=r"x\.elf is not a readable ELF file"):
        sizes(tmp_path / "x.elf")


WRAPPERS = """
#include "tt_curve.h"
#include "tt_random.h"
#define WRAP(f) \\
    void f##_all(const float *x, float *y, int n); \\
    void f##_all(const float *x, float *y, int n) { while (n-- > 0) y[n] = f(x[n]); }
WRAP(tt_expf) WRAP(tt_logf) WRAP(tt_tanhf) WRAP(tt_sigmoidf) WRAP(tt_sqrtf)
WRAP(tt_erff) WRAP(tt_expm1f) WRAP(tt_softplusf)
void random_all(uint32_t seed, const uint32_t *x, uint32_t *y, float *u, int n);
void random_all(uint32_t seed, const uint32_t *x, uint32_t *y, float *u, int n)
{ while (n-- > 0) { y[n] = tt_random(seed, x[n]); u[n] = tt_random_unit(seed, x[n]); } }
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    host: Board = load_board("host")
    need_tools(host)
    folder = tmp_path_factory.mktemp("math")
    (folder / "wrap.c").write_text(WRAPPERS)
    flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-ffp-contract=off", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run([find_compiler(host), *flags, f"-I{data_dir('runtime_c')}", "wrap.c", "-o", "wrap.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "wrap.so"))


@pytest.mark.parametrize(
    ("name", "reference", "ulps"),
    [
        ("tt_expf", np.exp, 1.2),
        ("tt_logf", np.log, 1.0),
        ("tt_tanhf", np.tanh, 1.6),
        ("tt_sigmoidf", lambda x: 1 / (1 + np.exp(-x)), 2.5),
        ("tt_sqrtf", np.sqrt, 0.51),
        ("tt_erff", erf, 3.0),
        ("tt_expm1f", np.expm1, 3.0),
        ("tt_softplusf", lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 4.0),
    ],
)
def test_elementary_functions(runtime: ctypes.CDLL, name: str, reference: np.ufunc, ulps: float) -> None:
    """Against float64, over all exponents and both signs, infinities, NaN and subnormal numbers included."""
    bits = np.concatenate([np.arange(0, 1 << 32, 4099, dtype=np.uint64), [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 1, 0x7FFFFF]])
    dense = np.linspace(-20, 20, 400_001)
    x = np.concatenate([bits.astype(np.uint32).view(np.float32), dense.astype(np.float32)])
    y = np.empty_like(x)
    pointer = np.ctypeslib.ndpointer(np.float32, flags="C")
    call = runtime[f"{name}_all"]
    call.argtypes = [pointer, pointer, ctypes.c_int]
    call(x, y, len(x))
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
        rounded = want.astype(np.float32)
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    error = np.abs(y[finite].astype(np.float64) - want[finite]) / unit[finite]
    worst = np.argmax(error)
    assert error[worst] < ulps, f"{name}({x[finite][worst]!r}) = {y[finite][worst]!r}, wrong by {error[worst]:.2f} units in the last place"


def test_random_numbers_agree(runtime: ctypes.CDLL) -> None:
    counters = np.concatenate([np.arange(5000), [2**31 - 1, 2**31, 2**32 - 1]]).astype(np.uint32)
    values, units = np.empty(counters.shape, np.uint32), np.empty(counters.shape, np.float32)
    u32, f32 = np.ctypeslib.ndpointer(np.uint32, flags="C"), np.ctypeslib.ndpointer(np.float32, flags="C")
    call = runtime["random_all"]
    call.argtypes = [ctypes.c_uint32, u32, u32, f32, ctypes.c_int]
    for seed in (0, 1, 12345, 2**32 - 1):
        call(seed, counters, values, units, len(counters))
        np.testing.assert_array_equal(random_u32(seed, counters), values)
        np.testing.assert_array_equal(random_unit(seed, counters), units)


def test_random_numbers_look_random() -> None:
    u = random_unit(7, np.arange(100_000)).astype(np.float64)
    assert abs(u.mean() - 0.5) < 0.004
    assert abs(u.var() - 1 / 12) < 0.001
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(u, random_unit(8, np.arange(100_000)))[0, 1]) < 0.01
    assert len(np.unique(random_u32(7, np.arange(100_000)))) == 100_000
