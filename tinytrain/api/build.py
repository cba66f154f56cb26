# SPDX-License-Identifier: Apache-2.0
"""A model compiled for a board: its folder of C, and the devices that run it."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytrain.api import html
from tinytrain.api.device import Device
from tinytrain.api.plan import Plan
from tinytrain.compiler import Compiled, compile_model, describe, write
from tinytrain.device.manifest import EXPECTED, Manifest
from tinytrain.device.project import BAUD, Project
from tinytrain.errors import BoardError, ModelError, OutputError
from tinytrain.reading import reading
from tinytrain.target.board import Board

if TYPE_CHECKING:
    from tinytrain.target.size import Sizes


class Scratch:
    """A folder that goes when nobody holds this any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="tinytrain."))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Build:
    """Made by `Model.compile` or `open`. Its folder is a temporary one until `write` has put it somewhere."""

    def __init__(self, compiled: Compiled | None = None, project: Project | None = None, *, keeps: object = None) -> None:
        """One of both; `keeps` is what must not go before this."""
        assert (compiled is None) != (project is None), "a build is compiled or on disk"
        self._compiled = compiled
        self._written = project
        self._keeps = keeps
        self._scratch: Scratch | None = None

    def __repr__(self) -> str:
        name = self._compiled.program.name if self._compiled else self.project.manifest.name
        return f"<Build of {name} for {self.board.name}>"

    @property
    def compiled(self) -> Compiled:
        """All that the compiler knows of it. Raises OutputError where it was compiled by another program."""
        if self._compiled is None:
            message = f"{self.folder} was compiled earlier: its manifest says less than the compiler knew."
            raise OutputError(message, hint="Compile the model here: tinytrain.load(path).compile(...).")
        return self._compiled

    @property
    def project(self) -> Project:
        """The compiled project on disk; written to a temporary folder where it is nowhere yet."""
        if self._written is None:
            self._scratch = Scratch()
            self.write(self._scratch.path / self.compiled.program.name)
        assert self._written is not None
        return self._written

    @property
    def folder(self) -> Path:
        return self.project.folder

    @property
    def board(self) -> Board:
        return self._compiled.board if self._compiled else self.project.board

    @property
    def described(self) -> dict[str, Any]:
        """The manifest: what was compiled from what, with which sizes and layouts (manifest.json of the folder)."""
        if self._compiled is not None:
            return describe(self._compiled)
        path = self.folder / "manifest.json"
        with reading(path, EXPECTED, OutputError):
            found = json.loads(Manifest.read_bytes(path))
            assert isinstance(found, dict), "Project.open has read it"
            return found

    @property
    def plan(self) -> Plan:
        """Where the memory goes. Raises OutputError where a manifest that was changed does not say so."""
        described = self.described
        with reading(Path("manifest.json"), EXPECTED, OutputError):
            return Plan.of(described["memory"])

    def _repr_html_(self) -> str:
        said, plan = self.described, self.plan
        ram = sum(memory.bytes for memory in self.board.memories if memory.kind == "ram")
        layers = dict.fromkeys(layer for scheme in said["schemes"] for layer in scheme)
        return html.table([
            ["model", said["name"]],
            ["board", self.board.title],
            ["trains", ", ".join(layers) or "nothing"],
            ["loss", said["loss"] or "none"],
            ["arena", f"{plan.arena_bytes:,} B" + (f" of {ram:,} B of RAM" if ram else "")],
            ["constants", f"{said['constants_bytes']:,} B"],
        ])

    def write(
        self, folder: str | Path, *, force: bool = False, packages: Sequence[str] = (), then: Callable[[Path], Any] | None = None,
        more: Mapping[str, bytes] | None = None,
    ) -> Path:
        """Write the self-contained project of C; it appears whole or not at all. Raises OutputError where it exists, or is on disk already.

        `force` replaces one that tinytrain made; `packages` are the ecosystems that find their way in it (docs/library.md); `then` is
        given the folder before it appears; `more` are further files by name.
        """
        write(self.compiled, Path(folder), force=force, packages=packages, then=then, more=more)
        self._written = Project.open(Path(folder))
        return Path(folder)

    def elf(self) -> Path:
        """The firmware, built if need be. Raises ToolError without a C compiler, DoesNotFit where the linker says so."""
        return self.project.elf()

    def sizes(self) -> Sizes:
        """Bytes of flash and RAM, as the linker made them."""
        return self.project.sizes()

    def device(self, *, icount: bool = False, timeout: float = 60.0) -> Device:
        """What runs the project: this computer for a host board, an emulator for others. `timeout` is for one answer, in seconds.

        `icount` makes an emulator count instructions, and slower.
        """
        return Device(self.project, icount=icount, timeout=timeout, keeps=self)

    def twin(self, *, timeout: float = 60.0) -> Device:
        """The same C as a program of this computer: the bits of the board, in a fraction of an emulator's time.

        Raises BoardError for a board's project on disk, ModelError where the model's file has changed since it was compiled.
        """
        return self._twin.device(timeout=timeout)

    def emulator(self, *, icount: bool = False, timeout: float = 60.0) -> Device:
        """The board's emulator. Raises BoardError where there is none, ToolError where it is not installed."""
        if self.board.is_host or not self.board.machine:
            what = "is this computer" if self.board.is_host else "has no emulator"
            hint = "build.twin() runs the same bits here; build.serial(port) takes a real one."
            raise BoardError(f"Board {self.board.name} {what}; expected one with an emulator.", hint=hint)
        return self.device(icount=icount, timeout=timeout)

    def serial(self, port: str = "auto", *, baud: int = BAUD, timeout: float = 60.0) -> Device:
        """The real board behind a serial port (/dev/ttyACM0, COM3, socket://HOST:PORT, or auto for the only one on USB).

        `tinytrain flash` writes the firmware into it. Raises ToolError without pyserial, DeviceError where another firmware answers.
        """
        return Device(replace(self.project, port=port, baud=baud), timeout=timeout, keeps=self)

    @cached_property
    def _twin(self) -> Build:
        if self.board.is_host:
            return self
        if self._compiled is None:
            message = f"{self.folder} was compiled for {self.board.name}; expected a build for {self.board.twin}, which has the same bits."
            raise BoardError(message, hint="Compile the model again, here or for that board.")
        mine = self._compiled.prepared
        twin = compile_model(mine.path, replace(self._compiled.options, board=self.board.twin, store=0))
        if twin.prepared.hash != mine.hash:
            raise ModelError(f"{mine.path} has changed since it was compiled for {self.board.name}.", hint="Compile it again.")
        return Build(twin, keeps=self._keeps)


def open(folder: str | Path, *, trust: bool = False) -> Build:
    """A project that `tinytrain compile`, or `Build.write`, made. Raises OutputError where it is none, or not as it was written; not so
    with `trust`, which runs its C as it is (docs/trust.md).
    """
    return Build(project=Project.open(Path(folder), trust=trust))
