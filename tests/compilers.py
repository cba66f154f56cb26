# SPDX-License-Identifier: Apache-2.0
"""Which compilers of this computer tests of C on the host take: clang needs a third of the time of gcc, with sanitizers a fifth."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

from tinytrain.target.doctor import LLVM_VERSIONS

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")


def installed(kind: str) -> str | None:
    """The newest compiler of a kind: `gcc`, `clang`, `g++` or `clang++`."""
    names = [*(f"{kind}-{version}" for version in LLVM_VERSIONS), kind] if kind.startswith("clang") else [kind]
    return next((name for name in names if shutil.which(name)), None)


def quick() -> str:
    return installed("clang") or "gcc"


@cache
def sanitizing() -> str:
    """clang where the library of its sanitizers is installed, which is a package of its own."""
    clang = installed("clang")
    if clang is None:
        return "gcc"
    command = [clang, *SANITIZERS, "-x", "c", "-", "-o", "/dev/null"]
    linked = subprocess.run(command, input="int main(void) { return 0; }", capture_output=True, text=True, check=False)
    return "gcc" if linked.returncode else clang


def quicker_sanitizers() -> tuple[str, ...]:
    """Half of the time again: no words for what is undefined, and arrays on the stack are left to UBSan, which knows their bounds."""
    stack = ("--param", "asan-stack=0") if sanitizing() == "gcc" else ("-mllvm", "-asan-stack=0")
    return ("-fsanitize-undefined-trap-on-error", *stack)
