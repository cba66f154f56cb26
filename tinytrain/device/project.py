# SPDX-License-Identifier: Apache-2.0
"""A compiled project on disk: its manifest, its firmware, its device."""

from __future__ import annotations

import json
import reprlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain import __version__
from tinytrain.atomic import write_bytes, write_text
from tinytrain.device.manifest import Manifest
from tinytrain.emit.auxiliary import AUXILIARY, read_auxiliary
from tinytrain.errors import ModelError, OutputError, ToolError
from tinytrain.ir.types import Array
from tinytrain.reading import read_limited, reading
from tinytrain.seal import digest, is_sealed, seal
from tinytrain.target.board import Board, load_board

if TYPE_CHECKING:
    import onnx

    from tinytrain.device.link import Transport
    from tinytrain.device.session import Session
    from tinytrain.target.size import Sizes

MOST_FILE_BYTES = (1 << 31) - 1                           # protobuf has the same limit
MOST_SEAL_BYTES = 1 << 10
BAUD = 115_200                                            # of the boards' UARTs
BROWSER = "browser"                                      # the board of a page
BUILT = (".c", ".h", ".S", ".ld")                         # what a firmware is built from
_AGAIN = "or compile the model again."


@dataclass(frozen=True)
class Project:
    """A folder that `tinytrain compile` made. Its own commands are never run: the firmware is built from `BUILT` files by ours.

    `trusted`: its owner vouches for it. Otherwise every file must be as this user's tinytrain wrote it (docs/trust.md).
    `port`: the real board that runs it, at `baud` bits a second; without one it runs on this computer.
    """

    folder: Path
    manifest: Manifest
    trusted: bool = False
    port: str | None = None
    baud: int = BAUD

    @classmethod
    def open(cls, folder: Path, *, trust: bool = False, port: str | None = None, baud: int = BAUD) -> Project:
        """Raises OutputError where the folder is none of ours, or differs from what `tinytrain compile` wrote; not so with `trust`."""
        path = folder / "manifest.json"
        data = Manifest.read_bytes(path)
        project = cls(folder, Manifest.parse(data, path), trust, port, baud)
        if not trust:
            project._check_seal(data)
            for name in project.manifest.files:
                project.content(name)
        return project

    @cached_property
    def board(self) -> Board:
        return load_board(self.manifest.board_file or self.manifest.board).with_cores(self.manifest.cores)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The ONNX model that was compiled. Raises ModelError where its file is damaged."""
        import onnx
        from onnx.external_data_helper import uses_external_data

        path = self.folder / "model.onnx"
        expected = "the ONNX model of the project"
        again = "Compile the model again."
        with reading(path, expected, ModelError, hint=again):
            model = onnx.load_model_from_string(self.content("model.onnx"))
            if outside := next((tensor.name for tensor in model.graph.initializer if uses_external_data(tensor)), None):
                raise ModelError(f"{path}: tensor {reprlib.repr(outside)} has its data in another file; expected {expected}.", hint=again)
            onnx.checker.check_model(model)
        return model

    @cached_property
    def initializers(self) -> dict[str, Array]:
        """The weights that are trained as the model was compiled with them, in ONNX layout, by name; of integers also the reals that they
        stand for. Raises ModelError.
        """
        from tinytrain.frontend.stored import stored_tensors

        path = self.folder / "model.onnx"
        with reading(path, "the weights of the project", ModelError, hint="Compile the model again."):
            stored = stored_tensors(self.model)
        found = {}
        if any(p.source.auxiliary for p in self.manifest.parameters):
            with reading(self.folder / AUXILIARY, "what parameters of the method start from", OutputError, hint="Compile the model again."):
                stored = {**stored, **read_auxiliary(self.content(AUXILIARY))}
        for p in self.manifest.parameters:
            array, shape, called = stored.get(p.name), p.source.onnx_shape, reprlib.repr(p.name)
            if array is None or array.shape != shape:
                lacks = f"has no {called}" if array is None else f"{called} has the shape {[*array.shape]}"
                raise ModelError(f"{path}: {lacks}; expected an initializer of shape {[*shape]}.", hint="Compile the model again.")
            found[p.name] = array
        return found

    def with_weights(self, learned: Mapping[str, Array]) -> onnx.ModelProto:
        """The ONNX model with these, by initializer name in ONNX layout: without what a method of learning added to it.

        Raises ModelError where its file is damaged.
        """
        from tinytrain.frontend.export import export

        added = {p.name for p in self.manifest.parameters if p.source.auxiliary}
        return export(self.model, {name: array for name, array in learned.items() if name not in added}, str(self.folder))

    @cached_property
    def _elf(self) -> Path:
        return self._built(self.board, self._sources())

    def _built(self, board: Board, files: Mapping[str, bytes]) -> Path:
        """What these files make for a board: in build/, made again only where they, the board or its compiler have changed."""
        from tinytrain.target.build import build_apart

        elf = self.folder / "build" / f"{self.manifest.name}{board.toolchain.suffix}"
        stamp = elf.with_name(f"{elf.name}.seal")
        recipe = [__version__, repr(board), _compiler(board), {path: digest(data) for path, data in files.items()}]

        def made_of(data: bytes) -> bytes:
            """What a seal stands for that says: this firmware was built here from these files."""
            return json.dumps([*recipe, digest(data)]).encode()

        if elf.is_file() and stamp.is_file():
            seal_ = read_limited(stamp, MOST_SEAL_BYTES, "a seal", OutputError)
            if is_sealed(made_of(read_limited(elf, MOST_FILE_BYTES, "a firmware", OutputError)), seal_):
                return elf
        made = build_apart(files, self.manifest.name, board)
        elf.parent.mkdir(exist_ok=True)
        for file, data in made.items():
            write_bytes(elf.parent / file, data, 0o755 if file == elf.name else 0o644)
        write_text(stamp, f"{seal(made_of(made[elf.name]))}\n")
        return elf

    def elf(self) -> Path:
        """The firmware, built if need be. Raises ToolError without a compiler, DoesNotFit where the linker says so."""
        return self._elf

    def module(self) -> Path:
        """The same C of the model as a WebAssembly module, for a browser: what its kernels compute has the bits of the board's.

        Raises ToolError where clang or its linker is missing, or the project shares a step among several cores.
        """
        from tinytrain.target.build import project_files

        if self.manifest.cores > 1:
            message = f"{self.folder} shares each step among {self.manifest.cores} cores; a browser runs it on one."
            raise ToolError(message, hint="Compile the model without --cores.")
        lib = {path: data for path, data in self._sources().items() if path.startswith("lib/")}
        board = load_board(BROWSER)
        texts = {path.removeprefix("lib/"): data.decode(errors="replace") for path, data in lib.items()}
        files = project_files(board, self.manifest.name, texts, stack_bytes=0)
        return self._built(board, {**{path: text.encode() for path, text in files.items()}, **lib})

    @property
    def device_name(self) -> str:
        """What runs it, for a person."""
        if self.port is not None:
            return f"the board on {self.port}"
        return "the host twin" if self.board.emulator == "twin" else f"an emulator of {self.board.title}"

    def sizes(self) -> Sizes:
        from tinytrain.target.size import sizes

        return sizes(self.elf(), self.board.memories)

    def transport(self) -> Transport:
        """The bytes of its device, which nobody has greeted yet: the port, or a program that is started. Raises ToolError, DeviceError."""
        from tinytrain.device.emulators import start_device
        from tinytrain.device.serial import SerialTransport

        return start_device(self.elf(), self.board) if self.port is None else SerialTransport(self.port, self.baud)

    def session(self, *, icount: bool = False, counts: bool = False, timeout: float = 60.0) -> Session:
        """Start the device (host twin or emulator), or open the port of the real one, and greet it.

        `icount` makes an emulator's counter count instructions, `counts` also by kind.
        """
        from tinytrain.device.session import connect, start

        if self.port is not None:
            return connect(self.transport(), self.board, self.manifest, timeout=timeout)
        return start(self.elf(), self.board, self.manifest, icount=icount, counts=counts, timeout=timeout)

    def _check_seal(self, manifest: bytes) -> None:
        path = self.folder / "manifest.seal"
        found = read_limited(path, MOST_SEAL_BYTES, "a seal", OutputError) if path.is_file() else b""
        if not is_sealed(manifest, found):
            raise OutputError(
                f"{self.folder} was not compiled by you on this computer, or its manifest.json has changed since.",
                "Its C would be compiled and run.",
                hint=f"Give --trust if you know who made it, {_AGAIN}",
            )

    def content(self, name: str) -> bytes:
        """A file of the project; unless it is trusted, as the compiler wrote it."""
        path = self.folder / name
        data = read_limited(path, MOST_FILE_BYTES, "a file of the project", OutputError)
        if not self.trusted and digest(data) != self.manifest.files.get(name):
            hint = f"Give --trust to work with the folder as it is, {_AGAIN}"
            raise OutputError(f"{path} differs from what `tinytrain compile` wrote.", hint=hint)
        return data

    def _sources(self) -> dict[str, bytes]:
        """What the firmware is built from: what the compiler wrote, or all that is there where that is trusted."""
        names = [*self.manifest.files]
        if self.trusted:
            names = [str(path.relative_to(self.folder)) for folder in ("lib", "app") for path in (self.folder / folder).glob("*.*")]
        return {name: self.content(name) for name in sorted(names) if name.endswith(BUILT)}


def _compiler(board: Board) -> str:
    """The program that will compile; a new version of it often has another name behind the same command."""
    found = next(filter(None, map(shutil.which, board.toolchain.cc)), "")
    return str(Path(found).resolve())
