# SPDX-License-Identifier: Apache-2.0
"""The instructions of a linked firmware, as the disassembler of its tool chain (GNU binutils) shows them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tinytrain.errors import ToolError
from tinytrain.target.board import Board

SECONDS = 120
UNKNOWN = ".4byte"                                        # an instruction that the disassembler of RISC-V does not know
_FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
_COMMENT = re.compile(r"\s*(@|;|# ).*")
_PLACE = re.compile(r" <[^>]*>")
_TARGET = re.compile(r"(?:^|,)\s*([0-9a-f]+) <")
_REGISTERS = re.compile(
    r"\b(?:r\d+|[sdq]\d+|sl|fp|ip|lr|sp|pc|[af]?[ast]\d+|f[ast]\d+|ra|gp|tp|v\d+|zero)\b(?:-[rsd]?\d+)?"
)
_ALIASES = {"sl": "r10", "fp": "r11", "ip": "r12", "sp": "r13", "lr": "r14", "pc": "r15"}

# What is not "the first operand is written, all others are read", by name without width and condition.
_READ_ALL = re.compile(
    r"str.*|stm.*|vst.*|push|vpush|cmp|cmn|tst|teq|vcmpe?(\..*)?|b|bl|bx|blx|cbn?z|tb[bh]|it.*|vp.*|msr|vmsr|nop|dls|wls|letp?"
    r"|s[bhw]|fs[dhw]|vs(e|se|uxei|oxei|m)\d*\.v|b(eq|ne|lt|ge|gt|le|cs|cc|mi|pl|vs|vc|hi|ls)u?z?|j|jr|jalr?|ret|call|tail|csrw"
)
_READS_FIRST = re.compile(
    r"v(f|ml|fn|nml|qrdml)[am]?[asl][as]?l?(t|b)?\..*|v(fm|ml|fnm|nml)[as](\..*)?|v(r?ml[as]l?dav|addl?v)ax?\..*"
    r"|[su]mlal.*|movt|bfi|bfc|vf?n?w?n?m(acc|sac|add|sub)(su|us|u)?\.v[vxf]|vins.*|vslideup.*"
)
_WRITES_TWO = re.compile(r"ldrd|[su]ml[as]l.*|[su]mull|v(r?ml[as]|add)l[adv].*")
_LISTS = re.compile(r"(v?ldm(ia|db)?|v?pop)(\..*)?")


@dataclass(frozen=True)
class Instruction:
    """`name` without width or condition; `target` is where a branch goes, None where that is not one place."""

    address: int
    bytes: int
    function: str
    name: str
    operands: str
    target: int | None = None

    @cached_property
    def registers(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """(read, summed up in, written). What is summed up in is read late by some cores; doubles and quads are their singles."""
        parts = [_named(part) for part in _split(self.operands)]
        if _LISTS.fullmatch(self.name):
            base = frozenset[str]() if "pop" in self.name else parts[0]
            return base, frozenset(), frozenset().union(*parts[0 if "pop" in self.name else 1 :])
        if _READ_ALL.fullmatch(self.name):
            return frozenset().union(*parts), frozenset(), frozenset()
        writes = 2 if _WRITES_TWO.fullmatch(self.name) else 1
        written = frozenset[str]().union(*parts[:writes])
        summed = written if _READS_FIRST.fullmatch(self.name) else frozenset[str]()
        return frozenset[str]().union(*parts[writes:]), summed, written

    @property
    def listed(self) -> int:
        """How many registers its list in braces has."""
        found = re.search(r"{(.*)}", self.operands)
        return sum(len(_names(part)) for part in found[1].split(",")) if found else 0


def listing(elf: Path, board: Board) -> tuple[Instruction, ...]:
    """All instructions in order of address. Raises ToolError where the disassembler is missing."""
    command = board.toolchain.objdump
    if not command or not shutil.which(command[0]):
        raise ToolError(
            f"Board {board.name} needs the disassembler {command[0] if command else 'of a tool chain'} to count instructions by kind.",
            hint="Run scripts/setup.sh, or install the binutils of its tool chain.",
        )
    text = subprocess.run(
        [*command, "-d", "-w", str(elf)], capture_output=True, text=True, errors="replace", timeout=SECONDS, check=True
    ).stdout
    return tuple(parsed(text))


def parsed(text: str) -> list[Instruction]:
    """The instructions of a disassembler's output."""
    found: list[Instruction] = []
    function, conditional = "", (0, 0)                    # how many letters of a condition the names of how many more instructions end in
    for line in text.splitlines():
        if head := _FUNCTION.match(line):
            function = head[2]
        elif len(parts := line.split("\t", 3)) > 2 and (parts[2] == UNKNOWN or not parts[2].startswith(".")):
            name, operands = re.sub(r"\.[nw]$", "", parts[2]), _COMMENT.sub("", "".join(parts[3:]))
            letters, count = conditional
            if count and not name.startswith(("it", "vpst", "vpt")):
                stem, dot, kind = name.partition(".")
                name, conditional = stem[:-letters] + dot + kind, (letters, count - 1)
            if block := re.fullmatch(r"(it|vps?t)([te]*)(\..*)?", name):
                conditional = (2 if block[1] == "it" else 1, 1 + len(block[2]))
                name = block[1]
            to = _TARGET.search(operands)
            target = int(to[1], 16) if to else None
            address, bytes_ = int(parts[0].rstrip(":"), 16), len(parts[1].replace(" ", "")) // 2
            found.append(Instruction(address, bytes_, function, name, _PLACE.sub("", operands), target))
    return found


def _split(operands: str) -> list[str]:
    """Operands at commas outside of brackets and braces."""
    parts, depth = [""], 0
    for letter in operands:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _named(text: str) -> frozenset[str]:
    return frozenset(name for found in _REGISTERS.finditer(text) for name in _names(found[0])) - {"zero"}


def _names(text: str) -> list[str]:
    """Single registers of `r0`, `s0-s3`, `d1` or `q0`."""
    first, _, last = (_ALIASES.get(part, part) for part in text.strip().partition("-"))
    if not re.fullmatch(r"[a-z]+\d+", first):
        return [first]
    letters, low = re.match(r"([a-z]+)(\d+)", first).groups()  # type: ignore[union-attr]
    high = re.sub(r"\D", "", last) or low
    wide = {"d": 2, "q": 4}.get(letters, 1)
    return [f"{'s' if wide > 1 else letters}{n}" for n in range(int(low) * wide, (int(high) + 1) * wide)]
