# SPDX-License-Identifier: Apache-2.0
"""The part of a project that does not depend on the model (main, runtime, linker script, build files), and running its build."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tinytrain.errors import DoesNotFit, ToolError
from tinytrain.paths import data_dir
from tinytrain.target.board import Board, Memory

BUILD_SECONDS = 600
_SHOWN_LINES = 20                                         # of a failed compiler's output
_OVERFLOW = re.compile(r"does not fit|overflowed by|will not fit in region")


def project_files(board: Board, name: str, *, stack_bytes: int, arena_bytes: int = 0) -> dict[str, str]:
    """Relative path → text of everything beside the model's own files `<name>.c`, `<name>*.h`.

    `stack_bytes` is reserved for the stack; `arena_bytes` decides which memory of the board the arena lies in.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    runtime = data_dir("runtime_c")
    shared = ["tt_frame.c", "tt_link.c"]
    sources = [f"{name}.c", "main.c", *(f"runtime/{source}" for source in (*shared, *board.sources))]
    compiler = board.toolchain.cc[0]
    prefix, dash, base = compiler.rpartition("-") if compiler.endswith("-gcc") else ("", "", compiler)
    values = {
        "board": board, "name": name, "NAME": name.upper(), "sources": sources, "stack_bytes": stack_bytes,
        "prefix": prefix + dash, "compiler": base, "objcopy": "llvm-objcopy" if "clang" in base else "$(CROSS)objcopy",
    }
    files = {"main.c": "main.c.j2", "Makefile": "Makefile.j2", "CMakeLists.txt": "CMakeLists.txt.j2"}
    if not board.is_host:
        arena = arena_memory(board, arena_bytes, stack_bytes)
        entry = "tt_entry" if "port_riscv.c" in board.sources else "tt_reset_handler"
        values |= {"ram": board.ram, "rom": board.rom, "arena": arena, "entry": entry}
        files["link.ld"] = "link.ld.j2"
    environment = Environment(
        loader=FileSystemLoader(data_dir("codegen")), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )
    texts = {path: environment.get_template(template).render(values).lstrip("\n") for path, template in files.items()}
    headers = sorted(path.name for path in runtime.glob("*.h") if not (board.is_host and path.name in ("uart.h", "tt_start.h")))
    for file in (*headers, *shared, *board.sources):
        texts[f"runtime/{file}"] = (runtime / file).read_text(encoding="utf-8")
    return texts


def arena_memory(board: Board, arena_bytes: int, reserved_bytes: int) -> Memory:
    """Where the arena goes: the first RAM if it holds it beside `reserved_bytes` (stack, buffers), else the first other that does.

    Falls back to the first, where the linker then says what is missing.
    """
    ram = board.ram
    assert ram is not None, board.name
    if arena_bytes + reserved_bytes <= ram.bytes:
        return ram
    others = (m for m in board.memories if m.kind == "ram" and m is not ram)
    return next((m for m in others if arena_bytes <= m.bytes), ram)


def find_compiler(board: Board) -> str:
    """The first of the board's compilers that is installed. Raises ToolError with the package that has it."""
    for command in board.toolchain.cc:
        if shutil.which(command):
            return command
    raise ToolError(
        f"Board {board.name} needs the C compiler {board.toolchain.cc[0]}, which is not installed.",
        hint=f"Install it: apt-get install {board.toolchain.package}.",
    )


def find_tools(board: Board) -> str:
    """The compiler, where make is there too. Raises ToolError."""
    if not shutil.which("make"):
        raise ToolError("`make` is not installed; it builds the project.", hint="Install it: apt-get install make.")
    return find_compiler(board)


def build(project: Path, board: Board, *, jobs: int = 2) -> Path:
    """Run make in a project folder; returns the ELF. Raises ToolError, or DoesNotFit where the linker ran out of memory."""
    if not (project / "Makefile").is_file():
        raise ToolError(f"{project} has no Makefile, expected a folder made by `tinytrain compile`.", hint="Compile the model first.")
    command = ["make", f"-j{jobs}", f"CC={find_tools(board)}"]
    try:
        done = subprocess.run(
            command, cwd=project, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        hint = f"Run `make` in {project} to see where it stands."
        raise ToolError(f"Building {project} took more than {BUILD_SECONDS} s.", hint=hint) from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("make")]
        if any(_OVERFLOW.search(line) for line in lines):
            why = _why_not(lines) or f"The firmware does not fit into the memory of {board.name}."
            less = "Use a smaller model" if board.rom and f"of {board.rom.name}" in why else "Train less of the model (--scheme last:1)"
            raise DoesNotFit(why, hint=f"{less}, or choose a board with more memory (tinytrain boards).")
        hint = f"Run `{' '.join(command)}` in {project} to see everything."
        raise ToolError(f"Building {project} failed:", details=lines[:_SHOWN_LINES], hint=hint)
    elf = next((project / "build").glob("*.elf"), None)
    if elf is None:
        raise ToolError(f"Building {project} left no ELF file in {project / 'build'}.", hint="Was the Makefile changed?")
    return elf


def _why_not(lines: list[str]) -> str:
    """The linker's own words, the assertions of the linker script first."""
    words = [line.split("ld: ", 1)[-1].split("error: ", 1)[-1] for line in lines if _OVERFLOW.search(line)]
    found = [line for line in words if "does not fit:" in line] or words
    return "; ".join(dict.fromkeys(found)) + "." if found else ""
