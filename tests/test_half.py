# SPDX-License-Identifier: Apache-2.0
"""fp16 as a way of storing fp32: the conversions are those of NumPy on the host and on every board, whatever instructions they use."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import WARNINGS
from kernel_runs import STACK_BYTES, until_dot
from test_traces import BOARDS, need

from tinytrain.device.qemu import qemu_command
from tinytrain.ir.types import F16, Array, TensorType, Value
from tinytrain.paths import data_dir
from tinytrain.target.board import load_board
from tinytrain.target.build import build, project_files
from tinytrain.verify.reference import cast

# prints a CRC of all 65,536 halfs as floats, one of what is stored of each half, of the middle to the next, and of both its sides, and how
# many halfs are other floats in runs of any length from anywhere, but for what is not a number
SOURCE = r"""
#include "tt_widen.h"
#ifdef HOST
#include <stdio.h>
static void start(void) { }
static void put(int byte) { putchar(byte); }
static void flush(void) { }
#else
#include "tt_port.h"
static void start(void) { tt_port_start(); }
static void put(int byte) { tt_port_put((uint8_t)byte); }
static void flush(void) { tt_port_flush(); }
#endif

static uint32_t crc(uint32_t crc, uint32_t word, int bytes)
{
    crc = ~crc;
    for (int i = 0; i < bytes; ++i) {
        crc ^= word >> (8 * i) & 255u;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ (UINT32_C(0xEDB88320) & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

static void show(uint32_t word)
{
    for (int digit = 7; digit >= 0; --digit) {
        put("0123456789abcdef"[word >> (4 * digit) & 15u]);
    }
    put('\n');
}

static uint32_t wrong(uint32_t first)
{
    static tt_half halfs[100];
    static float floats[101];
    uint32_t found = 0;
    for (uint32_t i = 0; i < 100u; ++i) {
        halfs[i] = (tt_half)(first + i);
    }
    const uint32_t from = first % 3u, count = first / 7u % 97u;
    floats[count] = 5.0f;
    tt_widen(floats, halfs + from, (int32_t)count);
    for (uint32_t i = 0; i < count; ++i) {
        const float one = tt_half_to_float(halfs[from + i]);
        found += tt_to_bits(one) != tt_to_bits(floats[i]) && (one == one || floats[i] == floats[i]);
    }
    return found + (tt_to_bits(floats[count]) != tt_to_bits(5.0f));
}

int main(void)
{
    static volatile uint32_t given; /* nothing is known before it runs */
    uint32_t read = 0, stored = 0, other = 0;
    start();
    for (uint32_t half = 0; half < 65536u; ++half) {
        given = half;
        const uint32_t bits = tt_to_bits(tt_half_to_float((tt_half)given));
        read = crc(read, bits, 4);
        for (uint32_t more = 0; more < 4u; ++more) {
            given = bits + (more ? 0x0FFEu + more : 0u);
            stored = crc(stored, tt_float_to_half(tt_from_bits(given)), 2);
        }
    }
    for (uint32_t half = 0; half < 65536u; half += 29u) {
        other += wrong(half);
    }
    show(read);
    show(stored);
    show(other);
    put('.');
    put('\n');
    flush();
#ifndef HOST
    for (;;) {
    }
#endif
    return 0;
}
"""


def stored(numbers: Array) -> Array:
    """What NumPy stores of fp32 numbers."""
    return cast(Value("x", TensorType(numbers.shape, F16)), numbers)


def expected(one: bool = False) -> list[str]:
    """What the program prints. A NaN is quiet once converted, and keeps what it can of its payload, as by Arm's instructions; by those
    of RISC-V it is always `one`."""
    halfs = np.arange(65536, dtype=np.uint16)
    bits = halfs.view(np.float16).astype(np.float32).view(np.uint32)
    bits |= np.where(np.isnan(bits.view(np.float32)), np.uint32(0x400000), np.uint32(0))
    bits = np.where(np.isnan(bits.view(np.float32)), np.uint32(0x7FC00000), bits) if one else bits
    given = bits[:, None] + np.array([0, 0x0FFF, 0x1000, 0x1001], np.uint32)
    quiet = (given >> 16 & 0x8000 | 0x7E00 | given >> 13 & 0x1FF).astype(np.uint16)
    quiet = np.uint16(0x7E00) if one else quiet
    kept = np.where(np.isnan(given.view(np.float32)), quiet, stored(given.view(np.float32)).view(np.uint16))
    return [*(f"{zlib.crc32(array.tobytes()):08x}" for array in (bits, kept)), "00000000"]


def test_conversions_on_the_host(tmp_path: Path) -> None:
    (tmp_path / "half.c").write_text(SOURCE)
    flags = [*WARNINGS, "-O2", "-fsanitize=undefined", "-fno-sanitize-recover", "-DHOST", f"-I{data_dir('runtime_c')}"]
    subprocess.run(["gcc", *flags, tmp_path / "half.c", "-o", tmp_path / "half"], check=True)
    done = subprocess.run([tmp_path / "half"], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [*expected(), "."]


@pytest.mark.parametrize("name", [name for name in BOARDS if load_board(name).emulator == "qemu"])
def test_conversions_on_a_board(name: str, tmp_path: Path) -> None:
    need(name)
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    board = load_board(name)
    files = project_files(board, "half", {"half.c": "typedef int unused;\n"}, stack_bytes=STACK_BYTES, main=SOURCE)
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    assert until_dot(qemu_command(build(tmp_path, board), board)).split() == [*expected("zfh" in board.isa), "."]


def test_stored_numbers() -> None:
    """Ends of the range, ties, and what is too large or none."""
    given = np.array([65504, 65519.9, 65520, -1e9, np.inf, 2**-25, 3 * 2**-25, 2**-24, 1 + 2**-11, 1 + 3 * 2**-11, np.nan], np.float32)
    want = [65504, 65504, np.inf, -np.inf, np.inf, 0, 2**-23, 2**-24, 1, 1 + 2**-9, np.nan]
    np.testing.assert_array_equal(stored(given), np.array(want, np.float16))
