# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the kernel cases: once for each distinct program, shared by all test processes of this and later sessions."""

from __future__ import annotations

import fcntl
import hashlib
import json
import select
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from compilers import SANITIZERS, quick, quicker_sanitizers, sanitizing
from kernel_cases import HERE, Case, cases_header, write_program

from tinytrain.device.qemu import qemu_command
from tinytrain.paths import data_dir
from tinytrain.target.board import Board
from tinytrain.target.build import build, project_files

# Not optimised: the same bits in a fifth of the compiler's time, and sanitizers see most; boards run the same cases at -O2.
HOST_FLAGS = ("-std=c99", "-ffp-contract=off", "-O0")
WORDS = "-g1"                                             # lines in what the sanitizers say
HOST_DEFINES = ("-D_POSIX_C_SOURCE=200809L", "-DCASES_HOST", "-DCASES_HEX")
BATCH_SECONDS = 1800
STACK_BYTES = 4096
PER_FIRMWARE = 700                                        # cases whose code fits the 512 KB of the smallest board


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time; released when the process ends, however it ends."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def once(cache: Path, key: Sequence[str], make: Callable[[Path], dict[str, str]]) -> dict[str, str]:
    """The result of `make(folder)`, made by the first process that asks and read from the cache by all others."""
    digest = hashlib.sha256()
    fixed = sorted([*data_dir("runtime_c").glob("**/*.[chS]"), HERE / "kernel_cases.c"])
    for part in [*key, *(p.read_text() for p in fixed)]:
        digest.update(part.encode() + b"\0")
    folder = cache / digest.hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        kept = folder / "results.json"
        if not kept.exists():
            results = make(folder)
            kept.write_text(json.dumps(results))
        loaded: dict[str, str] = json.loads(kept.read_text())
    return loaded


def compile_c(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[:6000]}"


def _host_program(header: str, folder: Path, flags: Sequence[str]) -> Path:
    program = folder / f"cases{zlib.crc32(header.encode())}"
    compiler = sanitizing() if flags else quick()
    compile_c([compiler, *HOST_FLAGS, *flags, *HOST_DEFINES, *write_program(header, folder), "-o", str(program), "-lm"])
    return program


def _run(program: Path, first: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, str(first)], capture_output=True, text=True, check=False, timeout=BATCH_SECONDS)


def host_results(cases: Sequence[Case], cache: Path, fused: bool = False, sanitized: bool = True) -> dict[str, str]:
    """str(case) → hex of the outputs, or `error: …` with what AddressSanitizer or UBSan said."""
    flags = (*SANITIZERS, *quicker_sanitizers()) if sanitized else ()
    header = cases_header(cases, fused)

    def make(folder: Path) -> dict[str, str]:
        program = _host_program(header, folder, flags)
        results: dict[str, str] = {}
        while len(results) < len(cases):
            done = _run(program, len(results))
            results.update(parse(cases, done.stdout))
            if len(results) < len(cases):                 # this case stopped the program: go on behind it
                case = cases[len(results)]
                if not done.stderr:
                    done = _run(_host_program(cases_header([case], fused), folder, (*SANITIZERS, WORDS)), 0)
                results[str(case)] = f"error: left with {done.returncode}: {done.stderr[:3000]}"
        program.unlink()
        return results

    return once(cache, [sanitizing(), quick(), header, *HOST_FLAGS, *flags, *HOST_DEFINES], make)


def parse(cases: Sequence[Case], text: str) -> dict[str, str]:
    """`<case> <value> <guards whole>` lines by the name of the case."""
    results: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) != 3:
            continue
        results[str(cases[int(words[0], 16)])] = words[1] if words[2] == "1" else "error: bytes around a buffer were overwritten"
    return results


def board_results(cases: Sequence[Case], board: Board, cache: Path, *, whole: bool = False) -> dict[str, str]:
    """str(case) → CRC-32 of the outputs on the emulated board, PER_FIRMWARE cases in each firmware; `whole`: hex of the outputs."""
    found: dict[str, str] = {}
    for start in range(0, len(cases), PER_FIRMWARE):
        found |= _firmware_results(cases[start : start + PER_FIRMWARE], board, cache, whole=whole)
    return found


def _firmware_results(cases: Sequence[Case], board: Board, cache: Path, *, whole: bool) -> dict[str, str]:
    header = ("#define CASES_HEX\n" if whole else "") + cases_header(cases, board.fused)

    def make(folder: Path) -> dict[str, str]:
        model = {"cases.h": header, "cases.c": "typedef int unused; /* the model, of which there is none */\n"}
        files = project_files(board, "cases", model, stack_bytes=STACK_BYTES, main=(HERE / "kernel_cases.c").read_text())
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        printed = until_dot(qemu_command(build(folder, board), board))
        shutil.rmtree(folder / "build")
        return parse(cases, printed)

    return once(cache, [board.name, *board.toolchain.flags, *board.flags, *board.machine, header], make)


def until_dot(command: Sequence[str]) -> str:
    """What a program prints until a line with only a dot; it is then stopped, as it is when it prints nothing for a while."""
    silence_seconds = 600.0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        received = b""
        stop = time.monotonic() + BATCH_SECONDS
        while not received.endswith(b"\n.\n") and time.monotonic() < stop:
            if not select.select([process.stdout], [], [], silence_seconds)[0]:
                break
            chunk = process.stdout.read1(65536)
            if not chunk:
                break
            received += chunk.replace(b"\r", b"")
        process.kill()
    return received.decode("ascii", "replace")
