# SPDX-License-Identifier: Apache-2.0
"""Boards: folders of data. `boards/<name>/board.toml` over `boards/soc/<soc>/soc.toml`, and a toolchain that boards share."""

from __future__ import annotations

import difflib
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinytrain.errors import BoardError
from tinytrain.paths import data_dir
from tinytrain.target.flash_store import MOST_WORD_BYTES, FlashStore
from tinytrain.target.isa import HALF_ARITHMETIC, ISAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOURCE_FOLDERS = ("core", "soc", "toolchain")                     # folders of boards/ that are not boards
_HINT = "See the boards that come with tinytrain."


@dataclass(frozen=True)
class Memory:
    """A region of the board: origin and size in bytes; `kind` is "flash" or "ram"; `dma` is False where only the core reaches it."""

    name: str
    origin: int
    bytes: int
    kind: str
    dma: bool = True


@dataclass(frozen=True)
class Toolchain:
    """A C compiler: `cc` lists commands in order of preference, `package` is what apt calls it, the flags are for every board.

    `objdump` is the disassembler's command, empty where there is none.
    """

    name: str
    cc: tuple[str, ...]
    package: str
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    libraries: tuple[str, ...]
    objdump: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sharing:
    """What a firmware for several cores takes besides; `counting` are arguments of an emulator that counts their instructions."""

    sources: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    counting: tuple[str, ...] = ()
    defines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """A target. `machine` is the emulator's command, empty where there is none; `timer_hz` the rate of its tick counter, 0 without one.

    `fused`: a product and the sum it goes into are rounded once, which is quicker on this core; its host twin does the same. `twin` is
    the board of this computer whose floats have the same bits.
    `cores` share the work of a firmware, of `most_cores` that it has; `sharing` is what such a firmware takes besides.
    `sources` are files of runtime_c/, `defines` their macros. `flash` is data for flash tools. `real`: a kit with this chip can be bought.
    `store` is where learned weights may be kept, None where the board does not say.
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
    machine: tuple[str, ...]
    clock_hz: int
    timer_hz: int
    serial: str
    real: bool
    sources: tuple[str, ...]
    defines: Mapping[str, int] = field(hash=False)
    flash: Mapping[str, Any] = field(hash=False)
    store: FlashStore | None = None
    most_cores: int = 1
    sharing: Sharing = field(default_factory=Sharing, hash=False)
    cores: int = 1

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
    def half_arithmetic(self) -> tuple[str, ...]:
        """Its instruction sets that compute with halves."""
        return tuple(tag for tag in self.isa if tag in HALF_ARITHMETIC)

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


def board_names() -> list[str]:
    """Names of all boards, the host first."""
    names = sorted(path.parent.name for path in data_dir("boards").glob("*/board.toml"))
    return sorted(names, key=lambda name: name != "host")


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
    """The board of that name. `folder` stands for boards/ elsewhere. Raises BoardError: unknown name, or a file that is not valid."""
    boards = folder or data_dir("boards")
    path = boards / name / "board.toml"
    if not name or Path(name).name != name or name in SOURCE_FOLDERS or not path.is_file():
        known = sorted(p.parent.name for p in boards.glob("*/board.toml"))
        near = difflib.get_close_matches(name, known, 3, 0.5)
        raise BoardError(
            f"There is no board {name!r}; known boards are {', '.join(known)}.",
            hint=f"Did you mean {' or '.join(near)}?" if near else "See `tinytrain boards`.",
        )
    data = _Table(read_toml(path), path)
    soc = data.text("soc", "")
    if soc:
        soc_path = boards / "soc" / soc / "soc.toml"
        if not soc_path.is_file():
            raise BoardError(f"{path}: soc = {soc!r}, but there is no {soc_path}.", hint="Name a folder of boards/soc.")
        data = _Table(_merged(read_toml(soc_path), data.values), path)
    emulator, sharing = data.table("emulator"), data.table("sharing")
    fused = data.truth("fused")
    toolchain = _toolchain(boards / "toolchain" / f"{data.text('toolchain')}.toml")
    board = Board(
        name=name,
        title=data.text("title"),
        core=data.text("core"),
        isa=data.texts("isa"),
        fused=fused,
        twin=data.text("twin", "host-fused" if fused else "host"),
        toolchain=toolchain,
        flags=data.texts("flags"),
        memories=tuple(_memory(region, table, path) for region, table in data.table("memory").values.items()),
        machine=emulator.texts("command"),
        clock_hz=data.number("clock_hz", 0),
        timer_hz=emulator.number("timer_hz", 0),
        serial=emulator.text("serial", ""),
        real=data.truth("real"),
        sources=data.texts("sources"),
        defines=data.table("defines").numbers(),
        flash=data.table("flash").values,
        store=_store(data.table("flash_store")),
        most_cores=sharing.number("cores", 1),
        sharing=Sharing(sharing.texts("sources"), sharing.texts("flags"), sharing.texts("counting"), sharing.table("defines").numbers()),
    )
    _check(board, path)
    return board


class _Table:
    """A TOML table that says what is missing or of the wrong kind."""

    def __init__(self, values: Any, path: Path, where: str = "") -> None:
        if not isinstance(values, dict):
            raise BoardError(f"{path}: [{where}] should be a table, found {values!r}.", hint=_HINT)
        self.values: dict[str, Any] = values
        self.path = path
        self.where = f"{where}." if where else ""

    def _get(self, key: str, kind: type, called: str, default: Any = None) -> Any:
        value = self.values.get(key, default)
        if value is None:
            raise BoardError(f"{self.path}: {self.where}{key} is missing, expected {called}.", hint=_HINT)
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise BoardError(f"{self.path}: {self.where}{key} is {value!r}, expected {called}.", hint=_HINT)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        return str(self._get(key, str, "a string", default))

    def number(self, key: str, default: int | None = None) -> int:
        return int(self._get(key, int, "an integer", default))

    def truth(self, key: str, default: bool = False) -> bool:
        return bool(self._get(key, bool, "true or false", default))

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._get(key, list, "a list of strings", [])
        if not all(isinstance(item, str) for item in items):
            raise BoardError(f"{self.path}: {self.where}{key} is {items!r}, expected a list of strings.", hint=_HINT)
        return tuple(items)

    def numbers(self) -> dict[str, int]:
        return {key: self.number(key) for key in self.values}

    def table(self, key: str) -> _Table:
        return _Table(self.values.get(key, {}), self.path, self.where + key)


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BoardError(f"{path} is not valid TOML: {error}.", hint="Correct the line that the message names.") from None


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: tables key by key, everything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = base.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _toolchain(path: Path) -> Toolchain:
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise BoardError(f"There is no toolchain {path.stem!r}; known ones are {known}.", hint="Correct `toolchain` in the board's file.")
    data = _Table(read_toml(path), path)
    if not data.texts("cc"):
        raise BoardError(f"{path}: cc is missing, expected a list of compiler commands.", hint="Example: cc = [\"gcc\"]")
    return Toolchain(
        path.stem, data.texts("cc"), data.text("package"), data.texts("flags"), data.texts("link_flags"), data.texts("libraries"),
        data.texts("objdump"),
    )


def _memory(name: str, values: Any, path: Path) -> Memory:
    table = _Table(values, path, f"memory.{name}")
    kind = table.text("kind", "flash" if name == "flash" else "ram")
    memory = Memory(name, table.number("origin"), table.number("bytes"), kind, table.truth("dma", True))
    if memory.bytes <= 0 or memory.origin < 0 or memory.kind not in ("flash", "ram"):
        raise BoardError(
            f"{path}: memory.{name} has origin {memory.origin}, bytes {memory.bytes}, kind {memory.kind!r};"
            " expected a size above 0 and kind flash or ram.",
            hint=_HINT,
        )
    return memory


def _store(table: _Table) -> FlashStore | None:
    if not table.values:
        return None
    store = FlashStore(
        table.text("driver"), table.number("base"), table.number("page_bytes"), table.number("pages"), table.number("word_bytes"),
        table.texts("emulator"), table.number("emulator_bytes", 0),
    )
    if not (data_dir("runtime_c") / f"{store.driver}.h").is_file():
        raise BoardError(f"{table.path}: {table.where}driver is {store.driver!r}, expected a flash_*.h of runtime_c.", hint=_HINT)
    word, page = store.word_bytes, store.page_bytes
    if not 4 <= word <= MOST_WORD_BYTES or word & (word - 1) or page <= 0 or page % 64 or page % word or store.pages <= 0 or store.base < 0:
        raise BoardError(
            f"{table.path}: [flash_store] has {store.pages} pages of {page} bytes, programmed {word} bytes at once; expected pages of a "
            f"multiple of 64 bytes, and a power of two from 4 to {MOST_WORD_BYTES} at once.",
            hint=_HINT,
        )
    return store


def _check_isa(isa: Sequence[str], path: Path) -> None:
    for tag in isa:
        if tag not in ISAS:
            near = difflib.get_close_matches(tag, ISAS, 3, 0.5)
            raise BoardError(
                f"{path}: isa has {tag!r}; known instruction sets are {', '.join(ISAS)}.",
                hint=f"Did you mean {' or '.join(near)}?" if near else "Leave it out: kernels then use what the board has besides.",
            )
        lacking = [other for other in ISAS[tag].needs if other not in isa]
        if lacking:
            hint = f"Add {lacking[0]!r} to isa if the processor has it, or leave out {tag!r}."
            raise BoardError(f"{path}: isa has {tag!r} without {lacking[0]!r}, which kernels for {tag} need.", hint=hint)


def _check(board: Board, path: Path) -> None:
    _check_isa(board.isa, path)
    if board.memories and (board.ram is None or board.rom is None):
        raise BoardError(f"{path}: [memory] has no {'ram' if board.ram is None else 'flash'} region.", hint="Name one region of each kind.")
    if not (path.parent.parent / board.twin / "board.toml").is_file():
        raise BoardError(f"{path}: twin = {board.twin!r}, but there is no such board.", hint="Leave it out, or name another one.")
    missing = [source for source in (*board.sources, *board.sharing.sources) if not (data_dir("runtime_c") / source).is_file()]
    if missing or not board.sources:
        raise BoardError(
            f"{path}: sources = {list(board.sources)}, expected files of runtime_c.",
            hint=f"There is no {', '.join(missing)}." if missing else "Name at least a port_*.c.",
        )
    spans = sorted((m.origin, m.origin + m.bytes, m.name) for m in board.memories)
    for (_, end, first), (start, _, second) in itertools.pairwise(spans):
        if start < end:
            raise BoardError(f"{path}: memory.{first} and memory.{second} overlap.", hint="Correct origin or bytes.")
