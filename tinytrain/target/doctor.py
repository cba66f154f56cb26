# SPDX-License-Identifier: Apache-2.0
"""What this machine has: each tool and optional package, its version, what needs it, and how to get it.

Only looks; installs and prints nothing. The newest version tested comes first among the commands of a tool.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

Version = tuple[int, ...]


@dataclass(frozen=True)
class Tool:
    """A program on the PATH. The first of `commands` that is at least `minimum` is the one to use."""

    name: str
    commands: tuple[str, ...]
    needed_for: str
    get: str
    minimum: Version = ()


@dataclass(frozen=True)
class Package:
    """An optional Python package, by the name under which it is installed, and the extra of tinytrain that brings it."""

    name: str
    extra: str
    needed_for: str


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report. `found` is false for a tool that is too old; `version` then says what is there."""

    name: str
    found: bool
    version: str | None
    path: str | None
    needed_for: str
    get: str


LLVM_VERSIONS = (19, 20, 21, 22, 18, 17, 16)

CLANG = Tool(
    "clang",
    (*(f"clang-{v}" for v in LLVM_VERSIONS), "clang"),
    "RISC-V boards",
    "apt-get install clang-19",
    minimum=(16,),
)
LLD = Tool(
    "ld.lld",
    (*(f"ld.lld-{v}" for v in LLVM_VERSIONS), "ld.lld"),
    "RISC-V boards",
    "apt-get install lld-19",
    minimum=(16,),
)
TOOLS = (
    Tool("C compiler", ("cc", "gcc", "clang"), "board host and its twin of every board", "apt-get install gcc libc6-dev"),
    Tool("make", ("make",), "building generated projects", "apt-get install make"),
    Tool("arm-none-eabi-gcc", ("arm-none-eabi-gcc",), "Cortex-M boards", "apt-get install gcc-arm-none-eabi", minimum=(10,)),
    Tool("qemu-system-arm", ("qemu-system-arm",), "emulated Cortex-M boards", "apt-get install qemu-system-arm", minimum=(6, 2)),
    CLANG,
    LLD,
    Tool("qemu-system-riscv32", ("qemu-system-riscv32",), "emulated RISC-V boards", "apt-get install qemu-system-misc", minimum=(7, 2)),
    Tool("node", ("node",), "boards browser and raspberry-pi-pico", "apt-get install nodejs", minimum=(18,)),
    Tool("cmake", ("cmake",), "building generated projects with CMake instead of make", "apt-get install cmake", minimum=(3, 16)),
    Tool("gdb-multiarch", ("gdb-multiarch",), "flashing by a GDB server", "apt-get install gdb-multiarch", minimum=(8,)),
    Tool("openocd", ("openocd",), "flashing boards with a debug probe", "apt-get install openocd"),
)
PACKAGES = (
    Package("ortools", "solver", "exact memory placement; a heuristic stands in without it"),
    Package("apache-tvm", "tvm", "the independent oracle of `tinytrain verify --oracle tvm`"),
    Package("pyserial", "flash", "real boards on a serial port"),
    Package("pyocd", "flash", "flashing Cortex-M boards with a debug probe"),
    Package("esptool", "flash", "flashing ESP32 boards"),
    Package("matplotlib", "plot", "plots of learning curves"),
    Package("tornado", "page", "`tinytrain open`: the page served to a browser"),
    Package("distributed", "cluster", "analysis and search on several machines (--cluster)"),
    Package("scikit-learn", "examples", "data of the examples"),
)


def parse_version(text: str) -> str | None:
    """The first dotted number that is not in parentheses, where distributions put their own: `gcc (Debian 12.2-14) 12.2.0`."""
    match = re.search(r"\d+(?:\.\d+)+", re.sub(r"\([^)]*\)", "", text))
    return match.group() if match else None


def version_of(path: str) -> str | None:
    """What a program answers to --version, or None when it does not answer (also to a broken link or a wrong architecture)."""
    try:
        answer = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(answer.stdout + answer.stderr)


def numbers(version: str) -> Version:
    return tuple(int(part) for part in version.split("."))


def find(tool: Tool) -> Finding:
    """The first command of `tool` that is new enough; failing that, the first that is there, marked as not found."""
    too_old = Finding(tool.name, False, None, None, tool.needed_for, tool.get)
    for command in tool.commands:
        path = shutil.which(command)
        version = version_of(path) if path else None
        if version is None:
            continue
        if numbers(version) >= tool.minimum:
            return Finding(tool.name, True, version, path, tool.needed_for, tool.get)
        if too_old.version is None:
            wanted = ".".join(map(str, tool.minimum))
            too_old = Finding(tool.name, False, version, path, tool.needed_for, f"version {wanted} or newer: {tool.get}")
    return too_old


def find_package(package: Package) -> Finding:
    """Looks at what is installed without importing it: importing TVM alone takes seconds."""
    get = f"pip install 'tinytrain[{package.extra}]'"
    try:
        installed = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        return Finding(package.name, False, None, None, package.needed_for, get)
    return Finding(package.name, True, installed.version, str(installed.locate_file("")), package.needed_for, get)


def examine() -> list[Finding]:
    """Everything tinytrain can use, in the order in which a user is likely to need it."""
    python = Finding("python", True, ".".join(map(str, sys.version_info[:3])), sys.executable, "tinytrain itself", "3.10 or newer")
    return [python, *map(find, TOOLS), *map(find_package, PACKAGES)]
