# SPDX-License-Identifier: Apache-2.0
"""Boards: folders of data. `boards/<name>/board.toml` over `boards/soc/<soc>/soc.toml`, and a toolchain that boards share.

They lie in the folders that TINYTRAIN_BOARDS names, in the user's own, and in tinytrain's: the first that has one counts.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinytrain.errors import BoardError, did_you_mean
from tinytrain.paths import config_dir, data_dir
from tinytrain.target.clocks import clock_defines, uart_defines
from tinytrain.target.flash_store import FlashStore, flash_store
from tinytrain.target.isa import ISAS
from tinytrain.target.table import HINT, Table, merged, read_toml

BOARD_FILE = "board.toml"
STACK_BYTES = 2048                                                # of each core, where a board does not say
LEAST_STACK_BYTES = 512
EMULATORS = ("qemu", "rp2040js", "node", "twin")
SOURCE_FOLDERS = ("core", "soc", "toolchain")                     # folders of boards/ that are not boards


@dataclass(frozen=True)
class Memory:
    """A region of the board: origin and size in bytes; `kind` is "flash" or "ram"; `dma` is False where only the core reaches it.

    `data_origin`: where loads find what code is fetched of at `origin`, None for the same address.
    """

    name: str
    origin: int
    bytes: int
    kind: str
    dma: bool = True
    data_origin: int | None = None

    def views(self) -> tuple[int, ...]:
        """The addresses at which it begins."""
        return (self.origin,) if self.data_origin is None else (self.origin, self.data_origin)


@dataclass(frozen=True)
class Toolchain:
    """A C compiler: `cc` lists commands in order of preference, `package` is what apt calls it, the flags are for every board.

    `objdump` is the disassembler's command, empty where there is none; `suffix` that of the file that it links.
    """

    name: str
    cc: tuple[str, ...]
    package: str
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    libraries: tuple[str, ...]
    objdump: tuple[str, ...] = ()
    suffix: str = ".elf"


@dataclass(frozen=True)
class Sharing:
    """What a firmware for several cores takes besides; `counting` are arguments of an emulator that counts their instructions."""

    sources: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    counting: tuple[str, ...] = ()
    defines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """A target. `emulator` is its kind, `machine` its command, empty where there is none; `timer_hz` the rate of its tick counter, 0
    without one.

    `fused`: a product and the sum it goes into are rounded once, which is quicker on this core; its host twin does the same. `twin` is
    the board of this computer whose floats have the same bits.
    `cores` share the work of a firmware, of `most_cores` that it has; `sharing` is what such a firmware takes besides.
    `sources` are C files, each in the first of `places` that has it, `defines` their macros; `file` is where all this stands. `flash` is
    data for flash tools. `real`: a kit with this chip can be bought, for about `price_usd`, 0 where nobody says. `store`
    is where learned weights may be kept, None where the board does not say. `core_stack_bytes` are reserved for the stack of each core.
    """

    name: str
    title: str
    core: str
    isa: tuple[str, ...]
    fused: bool
    twin: str
    toolchain: Toolchain
    flags: tuple[str, ...]
    memories: tuple[Memory, ...]
    emulator: str
    machine: tuple[str, ...]
    clock_hz: int
    timer_hz: int
    serial: str
    real: bool
    sources: tuple[str, ...]
    file: Path
    places: tuple[Path, ...]
    defines: Mapping[str, int] = field(hash=False)
    flash: Mapping[str, Any] = field(hash=False)
    store: FlashStore | None = None
    most_cores: int = 1
    sharing: Sharing = field(default_factory=Sharing, hash=False)
    cores: int = 1
    price_usd: int = 0
    core_stack_bytes: int = STACK_BYTES

    @property
    def stack_bytes(self) -> int:
        """RAM that is reserved for the stacks of all cores at work; what is used is measured on the board."""
        return self.core_stack_bytes * self.cores

    def with_cores(self, cores: int) -> Board:
        """The same with so many cores at work. Raises BoardError where it has fewer."""
        if cores == self.cores:
            return self
        if cores > self.most_cores:
            has = f"{self.most_cores} cores" if self.most_cores > 1 else "one core"
            others = ", ".join(name for name in board_names() if load_board(name).most_cores >= cores)
            hint = f"Boards that have as many: {others}." if others else "No board has as many."
            raise BoardError(f"{self.name} has {has} for a step; --cores asks for {cores}.", hint=hint)
        return replace(
            self, cores=cores, sources=(*self.sources, *self.sharing.sources), flags=(*self.flags, *self.sharing.flags),
            defines={**self.defines, **self.sharing.defines, "TT_CORES": cores},
            machine=(*self.machine, "-smp", str(cores)) if self.machine else (),
        )

    @property
    def is_host(self) -> bool:
        return not self.memories

    @property
    def is_ours(self) -> bool:
        """It comes with tinytrain, and its name says all."""
        return self.file.is_relative_to(data_dir("boards"))

    @property
    def half_arithmetic(self) -> tuple[str, ...]:
        """Its instruction sets that compute with halves."""
        return tuple(tag for tag in self.isa if ISAS[tag].halves)

    @property
    def ram(self) -> Memory | None:
        """The memory of data and stack; None on the host."""
        return next(iter(self.rams), None)

    @property
    def rams(self) -> tuple[Memory, ...]:
        """The memories that may hold the arena; all else is in the first."""
        return tuple(m for m in self.memories if m.kind == "ram")

    @property
    def flashes(self) -> tuple[Memory, ...]:
        """The memories that keep constants; code is in the first."""
        return tuple(m for m in self.memories if m.kind == "flash")

    @property
    def rom(self) -> Memory | None:
        """The memory of code; None on the host."""
        return next(iter(self.flashes), None)

    def keeping(self) -> Board:
        """The board with its store: no code or constant lies in the pages that are for learned weights. Raises BoardError without any."""
        if (store := self.store) is None:
            raise BoardError(
                f"Board {self.name} does not say where learned weights are kept; --store needs [flash_store] in its file.",
                hint="Add one (docs/store.md), choose another board, or leave out --store and call NAME_save yourself.",
            )
        cut = (replace(m, bytes=store.base - m.origin) if m.origin < store.base < m.origin + m.bytes else m for m in self.memories)
        return replace(self, memories=tuple(cut))

    def instructions(self, ticks: int) -> int:
        """Ticks of the emulator's timer as instructions, when it runs with one instruction a nanosecond (`-icount shift=0`).

        Exact to one tick: 1e9 / timer_hz instructions.
        """
        return round(ticks * 1_000_000_000 / self.timer_hz) if self.timer_hz else 0


def board_folders() -> list[Path]:
    """Where boards, chips, tool chains and cores are looked for, the first place first."""
    named = [Path(folder) for folder in os.environ.get("TINYTRAIN_BOARDS", "").split(os.pathsep) if folder]
    return [*named, config_dir() / "boards", data_dir("boards")]


def find_data(path: str, folders: Sequence[Path]) -> Path | None:
    """The first file of that name in the folders."""
    return next((folder / path for folder in folders if (folder / path).is_file()), None)


def board_names(folders: Sequence[Path] | None = None) -> list[str]:
    """Names of all boards, the host first."""
    found = {path.parent.name for folder in folders or board_folders() for path in folder.glob("*/board.toml")}
    return sorted(found - {*SOURCE_FOLDERS}, key=lambda name: (name != "host", name))


def check_half_arithmetic(board: Board) -> None:
    """Raise BoardError where a core has no instructions that compute with halves."""
    if board.half_arithmetic:
        return
    others = ", ".join(name for name in board_names() if load_board(name).half_arithmetic)
    has = ", ".join(board.isa) or "integers only"
    raise BoardError(
        f"{board.name} ({board.core}) does not compute with halves, which --half-arithmetic demands; it has {has}.",
        hint="Without the option it stores halves and computes in fp32 (fp16-storage): half the RAM, for more instructions than fp32.\n"
        f"Boards that compute with halves: {others}.",
    )


def load_board(name: str, folder: Path | None = None) -> Board:
    """The board of that name, or of a file `NAME.toml`, or of a folder with a board.toml. `folder` stands for all places of boards.

    Raises BoardError: unknown name, or a file that is not valid.
    """
    path = _board_file(name, [folder] if folder else board_folders())
    folders = list(dict.fromkeys([folder] if folder else [path.parent.parent, *board_folders()]))
    name = path.parent.name if path.name == BOARD_FILE else path.stem
    if not re.fullmatch(r"[\w.+-]{1,100}", name, re.ASCII):
        raise BoardError(f"{path}: a board cannot be called {name!r}.", hint="Use letters, digits, `-`, `_`, `.` and `+`.")
    data = Table(read_toml(path), path)
    places = [path.parent]
    if soc := data.text("soc", ""):
        soc_path = find_data(f"soc/{soc}/soc.toml", folders)
        if soc_path is None:
            chips = sorted({found.parent.name for place in folders for found in place.glob("soc/*/soc.toml")})
            message = f"{path}: soc = {soc!r}, but there is no soc/{soc}/soc.toml; known chips are {', '.join(chips)}."
            raise BoardError(message, hint=did_you_mean(soc, chips, "Name one of them, or put its folder beside the board's."))
        places.append(soc_path.parent)
        data = Table(merged(read_toml(soc_path), data.values), path)
        data.text("soc")
    emulator, sharing = data.table("emulator"), data.table("sharing")
    fused = data.truth("fused")
    toolchain = _toolchain(data.text("toolchain"), path, folders)
    buses = data.table("buses")
    clocks = clock_defines(data.table("clock"), buses)
    clock_hz = data.number("clock_hz", clocks.get("TT_CLOCK_HZ", 0))
    if clock_hz and not clocks:
        clocks = {"TT_CLOCK_HZ": clock_hz}
    uart = uart_defines(data.table("uart"), data.table("uarts"), data.table("ports"), buses, clock_hz)
    board = Board(
        name=name,
        title=data.text("title"),
        core=data.text("core"),
        isa=data.texts("isa"),
        fused=fused,
        twin=data.text("twin", "host-fused" if fused else "host"),
        toolchain=toolchain,
        flags=data.texts("flags"),
        memories=tuple(_memory(region, table, path) for region, table in data.table("memory").tables().items()),
        emulator=emulator.text("kind", "qemu" if data.table("memory").tables() else "twin"),
        machine=emulator.texts("command"),
        clock_hz=clock_hz,
        timer_hz=emulator.number("timer_hz", 0),
        serial=emulator.text("serial", ""),
        real=data.truth("real"),
        sources=data.texts("sources"),
        defines=data.table("defines").all_numbers() | clocks | uart,
        flash=data.table("flash").all_values(),
        file=path,
        places=(*places, data_dir("runtime_c")),
        store=flash_store(data.table("flash_store")),
        most_cores=sharing.number("cores", 1), price_usd=data.number("price_usd", 0),
        core_stack_bytes=data.number("stack_bytes", STACK_BYTES),
        sharing=Sharing(
            sharing.texts("sources"), sharing.texts("flags"), sharing.texts("counting"), sharing.table("defines").all_numbers()
        ),
    )
    data.refuse_unread()
    _check(board, folders)
    return board


def _board_file(name: str, folders: Sequence[Path]) -> Path:
    """The board.toml, or the file of another name, that `name` stands for."""
    given = Path(name)
    if given.name != name or given.suffix == ".toml":     # a path; a name alone is never one, whatever lies in the working directory
        path = given / BOARD_FILE if given.is_dir() else given
        if path.is_file():
            return path.resolve()
    elif name and name not in SOURCE_FOLDERS and (found := find_data(f"{name}/{BOARD_FILE}", folders)):
        return found.resolve()
    known = board_names(folders)
    hint = did_you_mean(name, known, "See `tinytrain boards`; a board of your own is given as a path, ./my-board.toml.")
    raise BoardError(f"There is no board {name!r}; known boards are {', '.join(known)}.", hint=hint)


def _toolchain(name: str, board: Path, folders: Sequence[Path]) -> Toolchain:
    path = find_data(f"toolchain/{name}.toml", folders)
    if path is None:
        known = ", ".join(sorted({p.stem for folder in folders for p in folder.glob("toolchain/*.toml")}))
        raise BoardError(f"{board}: there is no toolchain {name!r}; known ones are {known}.", hint="Correct `toolchain`.")
    data = Table(read_toml(path), path)
    if not data.texts("cc"):
        raise BoardError(f"{path}: cc is missing, expected a list of compiler commands.", hint="Example: cc = [\"gcc\"]")
    toolchain = Toolchain(
        path.stem, data.texts("cc"), data.text("package"), data.texts("flags"), data.texts("link_flags"), data.texts("libraries"),
        data.texts("objdump"), data.text("suffix", ".elf"),
    )
    data.refuse_unread()
    return toolchain


def _memory(name: str, table: Table, path: Path) -> Memory:
    kind = table.text("kind", "flash" if name == "flash" else "ram")
    data_origin = table.number("data_origin", -1)
    memory = Memory(
        name, table.number("origin"), table.number("bytes"), kind, table.truth("dma", True), None if data_origin < 0 else data_origin,
    )
    if memory.bytes <= 0 or memory.origin < 0 or memory.kind not in ("flash", "ram"):
        raise BoardError(
            f"{path}: memory.{name} has origin {memory.origin}, bytes {memory.bytes}, kind {memory.kind!r};"
            " expected a size above 0 and kind flash or ram.",
            hint=HINT,
        )
    return memory


def _check_isa(isa: Sequence[str], path: Path) -> None:
    for tag in isa:
        if tag not in ISAS:
            raise BoardError(
                f"{path}: isa has {tag!r}; known instruction sets are {', '.join(ISAS)}.",
                hint=did_you_mean(tag, ISAS, "Leave it out: kernels then use what the board has besides."),
            )
        lacking = [other for other in ISAS[tag].needs if other not in isa]
        if lacking:
            hint = f"Add {lacking[0]!r} to isa if the processor has it, or leave out {tag!r}."
            raise BoardError(f"{path}: isa has {tag!r} without {lacking[0]!r}, which kernels for {tag} need.", hint=hint)


def _check(board: Board, folders: Sequence[Path]) -> None:
    path = board.file
    _check_isa(board.isa, path)
    if board.core_stack_bytes < LEAST_STACK_BYTES or board.core_stack_bytes % 16:
        message = f"{path}: stack_bytes is {board.core_stack_bytes:,}, expected {LEAST_STACK_BYTES} or more, and a multiple of 16."
        raise BoardError(message, hint=f"Leave it out for {STACK_BYTES:,}.")
    if board.memories and (board.ram is None or board.rom is None):
        raise BoardError(f"{path}: [memory] has no {'ram' if board.ram is None else 'flash'} region.", hint="Name one region of each kind.")
    if find_data(f"{board.twin}/{BOARD_FILE}", folders) is None:
        raise BoardError(f"{path}: twin = {board.twin!r}, but there is no such board.", hint="Leave it out, or name another one.")
    sources = (*board.sources, *board.sharing.sources)
    missing = [source for source in sources if Path(source).name != source or find_data(source, board.places) is None]
    if missing or not board.sources:
        where = "beside the board's file, beside its chip's, or in runtime_c"
        raise BoardError(
            f"{path}: sources = {list(board.sources)}, expected C files {where}.",
            hint=f"There is no {', '.join(missing)}." if missing else "Name at least a port_*.c.",
        )
    if board.emulator not in EMULATORS:
        message = f"{path}: emulator.kind is {board.emulator!r}, expected one of {', '.join(EMULATORS)}."
        raise BoardError(message, hint="Leave it out for QEMU.")
    spans = sorted((start, start + m.bytes, m.name) for m in board.memories for start in m.views())
    for (_, end, first), (start, _, second) in itertools.pairwise(spans):
        if start < end:
            raise BoardError(f"{path}: memory.{first} and memory.{second} overlap.", hint="Correct origin or bytes.")
