# SPDX-License-Identifier: Apache-2.0
"""The files of a project (`lib/`: model, kernels and runtime; `app/`: the firmware around it; how to build both), and running its build."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tinytrain.errors import DoesNotFit, ToolError
from tinytrain.paths import data_dir
from tinytrain.reading import first_line, plain
from tinytrain.target.board import Board, find_data
from tinytrain.target.memory import arena_memory

BUILD_SECONDS = 600
LIBRARY_FLAGS = ("-ffp-contract=off", "-fno-math-errno")  # sums of products are rounded where the C says so; roots are one instruction
LINK = "tt_link.c"                                        # of runtime_c, in every firmware: ports report faults by it
_SHOWN_LINES = 20                                         # of a failed compiler's output
_RECIPES = {"Makefile": "Makefile.j2", "CMakeLists.txt": "CMakeLists.txt.j2", "lib/CMakeLists.txt": "lib/CMakeLists.txt.j2"}
_INCLUDED = re.compile(r'^ *# *include "([^"/]+)"', re.MULTILINE)
_OVERFLOW = re.compile(r"does not fit|overflowed by|will not fit in region")


def project_files(
    board: Board, name: str, model: Mapping[str, str], *, stack_bytes: int, arena_bytes: int = 0, buffer_bytes: int = 0, main: str = "",
    store_every: int = 0,
) -> dict[str, str]:
    """Relative path → text of a whole project. `model`: `<name>.c` and what is beside it; `main`: another program's.

    The firmware keeps what it learns in flash after each `store_every` samples, 0: never.
    `stack_bytes` is reserved for the stack; with `arena_bytes` and `buffer_bytes` it decides which memory of the board the arena lies in.
    """
    values = _values(board, name) | {"stack_bytes": stack_bytes, "store": board.store if store_every else None, "every": store_every}
    app = {"main.c": main or rendered("main.c.j2", values)}
    if not board.is_host:
        arena = arena_memory(board, arena_bytes, stack_bytes + buffer_bytes)
        entry = "tt_entry" if "port_riscv.c" in board.sources else "tt_reset_handler"
        app["link.ld"] = rendered("link.ld.j2", values | {"ram": board.ram, "rom": board.rom, "arena": arena, "entry": entry})
    lib = {**runtime_files(model.values()), **model}
    app |= runtime_files(app.values(), (LINK, *board.sources), lib, board.places)
    values |= {"sources": _sources(lib), "app_sources": _sources(app)}
    built = {file: rendered(template, values) for file, template in _RECIPES.items()}
    return {**{f"lib/{file}": text for file, text in lib.items()}, **{f"app/{file}": text for file, text in app.items()}, **built}


def runtime_files(
    texts: Iterable[str], files: Iterable[str] = (), beside: Container[str] = (), places: Sequence[Path] = (),
) -> dict[str, str]:
    """File name → text of what these C texts need of runtime_c, where it is not `beside` them: `files`, what is included, and with each
    header the source of its name. A board's `places` are looked at first.
    """
    found = dict[str, str]()
    left = [*files, *(file for text in texts for file in _INCLUDED.findall(text))]
    while left:
        name = left.pop()
        path = find_data(name, places or [data_dir("runtime_c")])
        if path is not None and name not in found and name not in beside:
            found[name] = path.read_text(encoding="utf-8")
            left += [*_INCLUDED.findall(found[name]), Path(name).with_suffix(".c").name]
    return dict(sorted(found.items()))


def _sources(files: Iterable[str]) -> list[str]:
    return sorted(file for file in files if file.endswith(".c"))


def _values(board: Board, name: str) -> dict[str, Any]:
    """What the templates of build files read."""
    compiler = board.toolchain.cc[0]
    prefix, dash, base = compiler.rpartition("-") if compiler.endswith("-gcc") else ("", "", compiler)
    return {
        "board": board, "name": name, "NAME": name.upper(), "prefix": prefix + dash, "compiler": base,
        "library_flags": LIBRARY_FLAGS, "tool": "llvm-" if "clang" in base else "$(CROSS)",
    }


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """Text of a template of codegen/."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(data_dir("codegen")), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values).lstrip("\n")


def find_compiler(board: Board) -> str:
    """The first of the board's compilers that is installed. Raises ToolError with the package that has it."""
    for command in board.toolchain.cc:
        if shutil.which(command):
            return command
    raise ToolError(
        f"Board {board.name} needs the C compiler {board.toolchain.cc[0]}, which is not installed.",
        hint=f"Install it: apt-get install {board.toolchain.package}.",
    )


@cache
def _version(command: str) -> str:
    done = subprocess.run([command, "--version"], capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS, check=False)
    return plain(done.stdout.partition("\n")[0])


def compiler_version(board: Board) -> str:
    """The first line of what the board's compiler says of itself; "" where it is not installed."""
    return next((_version(command) for command in board.toolchain.cc if shutil.which(command)), "")


def find_tools(board: Board) -> str:
    """The compiler, where make is there too. Raises ToolError."""
    if not shutil.which("make"):
        raise ToolError("`make` is not installed; it builds the project.", hint="Install it: apt-get install make.")
    return find_compiler(board)


def build(project: Path, board: Board, *, jobs: int = 2) -> Path:
    """Run make in a folder of the caller's own; returns the ELF. Raises ToolError, or DoesNotFit where the linker ran out of memory."""
    if not (project / "Makefile").is_file():
        raise ToolError(f"{project} has no Makefile, expected a folder made by `tinytrain compile`.", hint="Compile the model first.")
    command = ["make", f"-j{jobs}", f"CC={find_tools(board)}"]
    return _make(project, board, command, str(project), f"Run `{' '.join(command)}` in {project} to see everything.")


def build_apart(files: Mapping[str, bytes], name: str, board: Board, *, jobs: int = 2) -> dict[str, bytes]:
    """Build these files alone, in a folder that nobody else writes to, by the commands that this tinytrain has for the board.

    File name → content of what came out: the firmware, and a board's map. Raises as `build` does.
    """
    command = ["make", f"-j{jobs}", f"CC={find_tools(board)}"]
    try:
        with tempfile.TemporaryDirectory(prefix="tinytrain-") as temporary:
            folder = Path(temporary)
            for path, data in {**files, "Makefile": rendered("Makefile.j2", _values(board, name)).encode()}.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            hint = "Compile the model again with this tinytrain; with --no-build, `make` in the folder shows everything."
            elf = _make(folder, board, command, name, hint)
            return {path.name: path.read_bytes() for path in (elf, elf.with_suffix(".map")) if path.is_file()}
    except OSError as error:
        message = f"Building {name} failed: {error.strerror or first_line(error)} ({error.filename or tempfile.gettempdir()})."
        raise ToolError(message, hint="It needs some space for temporary files; TMPDIR says where.") from error


def _make(folder: Path, board: Board, command: list[str], called: str, hint: str) -> Path:
    """Run make in `folder`, for what messages call `called`."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"Building {called} took more than {BUILD_SECONDS} s.", hint=hint) from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("make")]
        if any(_OVERFLOW.search(line) for line in lines):
            why = _why_not(lines) or f"The firmware does not fit into the memory of {board.name}."
            less = "Use a smaller model" if board.rom and f"of {board.rom.name}" in why else "Train less of the model (--scheme last:1)"
            raise DoesNotFit(why, hint=f"{less}, or choose a board with more memory (tinytrain boards).")
        raise ToolError(f"Building {called} failed:", details=(lines or done.stderr.splitlines())[:_SHOWN_LINES], hint=hint)
    elf = next((folder / "build").glob(f"*{board.toolchain.suffix}"), None)
    if elf is None:
        raise ToolError(f"Building {called} left no file *{board.toolchain.suffix}.", hint="Was the Makefile changed?")
    return elf


def _why_not(lines: list[str]) -> str:
    """The linker's own words, the assertions of the linker script first."""
    words = [line.split("ld: ", 1)[-1].split("error: ", 1)[-1] for line in lines if _OVERFLOW.search(line)]
    found = [line for line in words if "does not fit:" in line] or words
    return "; ".join(dict.fromkeys(found)) + "." if found else ""
