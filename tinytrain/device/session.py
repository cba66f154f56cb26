# SPDX-License-Identifier: Apache-2.0
"""A conversation with a model on a device, in NumPy arrays."""

from __future__ import annotations

import math
import reprlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinytrain.device.commands import Command
from tinytrain.device.counters import Counters, Scale, Step
from tinytrain.device.hello import HELLO, Hello, hello_names
from tinytrain.device.link import MOST_FRAME_BYTES, VERSION, Link, Transport
from tinytrain.device.manifest import Manifest
from tinytrain.errors import DataError, DeviceError, ToolError
from tinytrain.ir.graph import CHOICE, LOSS_SCALE
from tinytrain.ir.pack import as_numbers, packed, unpacked
from tinytrain.ir.types import Array, DType
from tinytrain.ops.loss_scale import EXPONENT, GOOD, IN_A_ROW, LARGEST, LEAST, SKIPPED
from tinytrain.target.board import Board

if TYPE_CHECKING:
    from tinytrain.device.counting import Counter, Profile

_DTYPES = [d.np for d in DType]                           # by tt_tag of runtime_c/tt_types.h
COUNTERS = struct.Struct("<Q5I")
_STEP = struct.Struct("<fQ")
_RECORD = struct.Struct("<4i")                            # of ops/loss_scale.py
_MOST_PARAMS = 1 << 16                                    # the index of a parameter has two bytes
_READ_BYTES = 1 << 16                                     # of a parameter at once
_MARGIN = 1 << 16                                         # of the longest frame, for what is not an array: heads and names


@dataclass(frozen=True)
class _Param:
    index: int
    dtype: np.dtype[Any]
    bytes: int


class Session:
    """A model on a device. Use it in a `with` statement: leaving it ends the emulator or program that it talks to.

    `target_dtype` is that of the model's target (int32 label or float32); without it the array's own kind decides. `input_quant` is the
    (scale, zero point) of a model whose input is int8: samples are given as real numbers all the same. So are records, whose `pieces` say
    what becomes of them: integers are given and taken as numbers too. `manifest` is that of the project, where there is one.
    All methods raise DeviceError where the device does not answer or refuses, DataError where an array does not fit the model.
    """

    def __init__(
        self, transport: Transport, board: Board, *, icount: bool = False, timeout: float = 60.0,
        target_dtype: np.dtype[Any] | None = None, input_quant: tuple[float, int] | None = None, counter: Counter | None = None,
        pieces: Pieces | None = None, link: Link | None = None, manifest: Manifest | None = None,
    ) -> None:
        self.board = board
        self.manifest = manifest
        self.counts_instructions = icount and board.timer_hz > 0
        self.target_dtype = target_dtype
        self.input_quant = input_quant
        self.counter = counter
        self.pieces = pieces or Pieces()
        self.link = link or Link(transport, timeout)
        try:
            self.info = self.hello()
            if self.info.board != board.name:
                raise DeviceError(
                    f"The firmware on {transport.name} was built for board {self.info.board}, expected {board.name}.",
                    hint="Build the project again.",
                )
            self._params = self._list_params()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.link.close()
        if self.counter:
            self.counter.close()

    def profile(self) -> Profile:
        """Instructions one by one, and estimated cycles, of the last inference, evaluation or training step; where `counts` was given."""
        assert self.counter is not None, "a session that counts is started with counts=True"
        return self.counter.read()

    def hello(self) -> Hello:
        answer = self.link.hello()
        if len(answer) < HELLO.size:
            raise DeviceError(f"{self.link.transport.name} does not speak this protocol.", hint="Is the right firmware on the board?")
        version, _, _, *numbers, model_hash = HELLO.unpack_from(answer)
        if version != VERSION:
            raise DeviceError(
                f"{self.link.transport.name} speaks version {version} of the link protocol, expected {VERSION}.",
                hint="Compile the project again with this version of tinytrain.",
            )
        texts = hello_names(answer)
        inputs, target, output, arena, ctx, params, trains, payload, schemes = numbers
        longest = max(output, arena)
        if len(texts) < 2 or output % 4 or params > _MOST_PARAMS or not payload or longest > MOST_FRAME_BYTES:
            raise self._nonsense(f"said hello with {params:,} parameters, bytes of output {output:,}, arena {arena:,}, payload {payload:,}")
        self.link.longest = longest + _MARGIN
        model, board = texts
        return Hello(model, board, model_hash, inputs, target, output, arena, ctx, params, bool(trains), payload, schemes)

    def infer(self, x: ArrayLike) -> NDArray[np.float32]:
        """x in the model's layout (rows, columns, channels) -> y, flat."""
        return self._output(self._call(Command.INFER, self._input(x), self.info.output_bytes))

    def train_step(self, x: ArrayLike, target: ArrayLike) -> Step:
        loss, ticks = _STEP.unpack(self._call(Command.TRAIN, self._sample(x, target), _STEP.size))
        return Step(loss, self._instructions(ticks))

    def remember(self, x: ArrayLike, target: ArrayLike) -> None:
        """Keep a sample in the device's memory (`compile --replay`) without training."""
        self._call(Command.REMEMBER, self._sample(x, target), 0)

    def evaluate(self, x: ArrayLike, target: ArrayLike) -> tuple[float, NDArray[np.float32]]:
        """Loss and output of one sample; nothing is updated."""
        answer = self._call(Command.EVALUATE, self._sample(x, target), 4 + self.info.output_bytes)
        return struct.unpack_from("<f", answer)[0], self._output(answer[4:])

    def get_params(self, *only: str) -> dict[str, Array]:
        """Name → flat array, of everything that training changes, or of what is there of these names."""
        return {name: np.frombuffer(self._read(p), p.dtype).copy() for name, p in self._params.items() if name in only or not only}

    def _read(self, param: _Param) -> bytes:
        """In pieces that can be asked for again when one is damaged."""
        pieces = []
        for start in range(0, param.bytes, _READ_BYTES):
            length = min(param.bytes - start, _READ_BYTES)
            pieces.append(self._call(Command.READ_PARAM, struct.pack("<I", length), length, index=param.index, offset=start))
        return b"".join(pieces)

    @property
    def elements(self) -> dict[str, int]:
        """Name → number of elements, of everything that training changes."""
        return {name: p.bytes // p.dtype.itemsize for name, p in self._params.items()}

    @property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Name → type of the elements, of the same."""
        return {name: p.dtype for name, p in self._params.items()}

    def set_params(self, values: Mapping[str, ArrayLike]) -> None:
        """Overwrite the named parameters; any shape with the right number of elements. Nothing is written unless all fit."""
        for name, data in [(name, self._bytes_of(name, value)) for name, value in values.items()]:
            self.write(name, data)

    def write(self, name: str, data: bytes, first: int = 0) -> None:
        """Overwrite bytes of a parameter, from `first` on."""
        param, most = self._param(name), self.info.payload_bytes
        for start in range(0, len(data), most):
            self.link.call(Command.WRITE_PARAM, data[start : start + most], index=param.index, offset=first + start)

    def set_lr(self, learning_rate: float) -> None:
        self.link.call(Command.SET_LR, struct.pack("<f", learning_rate))

    def set_skip_below(self, loss: float) -> None:
        """Let samples whose loss is closer to zero than this cost their forward pass only; what is not positive ends that."""
        self.link.call(Command.SET_SKIP_BELOW, struct.pack("<f", loss))

    def set_skip_above(self, loss: float) -> None:
        """The same of samples whose loss is farther from zero than this."""
        self.link.call(Command.SET_SKIP_ABOVE, struct.pack("<f", loss))

    def set_scheme(self, scheme: int) -> None:
        """What the next steps train, 0 for the first --scheme of the compiler. Summed gradients that are not yet applied are dropped."""
        if not 0 <= scheme < self.info.schemes:
            held = "no scheme" if not self.info.schemes else f"schemes 0 to {self.info.schemes - 1}"
            raise DataError(f"{self.info.model} has {held}, found {scheme}.", hint="Compile it with one --scheme for each.")
        if CHOICE in self._params:
            if not scheme:                                # there is nothing to drop: each step makes its own update
                return
            message = f"{self.info.model} chooses among its schemes by itself (--method green): scheme {scheme} would change nothing."
            raise DataError(message, hint="Leave --use-scheme out, or compile it without --method green.")
        self.link.call(Command.SET_SCHEME, struct.pack("<I", scheme))

    def counters(self) -> Counters:
        cores = struct.Struct(f"<{self.board.cores if self.board.cores > 1 else 0}Q")
        data = self._call(Command.COUNTERS, b"", COUNTERS.size + cores.size)
        ticks, calls, used, reserved, skipped, clock = COUNTERS.unpack_from(data)
        return Counters(
            self._instructions(ticks), ticks, calls, used, reserved, self.info.arena_bytes, self.info.ctx_bytes, skipped, clock,
            cores.unpack_from(data, COUNTERS.size),
        )

    def scale(self) -> Scale | None:
        """The loss scale; None where gradients are not scaled."""
        param = self._params.get(LOSS_SCALE)
        if param is None or param.dtype != np.int32 or param.bytes != _RECORD.size:
            return None
        record = _RECORD.unpack(self._call(Command.READ_PARAM, struct.pack("<I", param.bytes), param.bytes, index=param.index))
        if not LEAST <= record[EXPONENT] <= LARGEST:
            raise self._nonsense(f"says that gradients are 2^{record[EXPONENT]:,} times what they are")
        return Scale(2.0 ** record[EXPONENT], record[GOOD], record[SKIPPED], record[IN_A_ROW])

    def reset(self) -> None:
        """Back to the compiled parameters, optimiser state and learning rate, to the first scheme, and to the compiled thresholds."""
        self.link.call(Command.RESET)

    def _instructions(self, ticks: int) -> int | None:
        return self.board.instructions(ticks) if self.counts_instructions else None

    def _call(self, command: Command, payload: bytes, length: int, *, index: int = 0, offset: int = 0) -> bytes:
        """The answer, which must have that many bytes."""
        answer = self.link.call(command, payload, index=index, offset=offset)
        if len(answer) != length:
            raise self._nonsense(f"answered {command.name.lower()} with {len(answer):,} bytes, expected {length:,}")
        return answer

    def _nonsense(self, what: str) -> DeviceError:
        return DeviceError(f"{self.link.transport.name} {what}.", hint="Is the right firmware on the board? Compile the model again.")

    def _list_params(self) -> dict[str, _Param]:
        found: dict[str, _Param] = {}
        for index in range(self.info.param_count):
            answer = self.link.call(Command.PARAM_INFO, index=index)
            bytes_, tag = struct.unpack_from("<II", answer.ljust(8, b"\xff"))
            name = answer[8:].rstrip(b"\0").decode(errors="replace")
            if tag >= len(_DTYPES) or bytes_ > self.info.arena_bytes or bytes_ % _DTYPES[tag].itemsize or not name or name in found:
                raise self._nonsense(f"describes parameter {index} as {reprlib.repr(name)} of type {tag} with {bytes_:,} bytes")
            found[name] = _Param(index, _DTYPES[tag], bytes_)
        return found

    def _param(self, name: str) -> _Param:
        if name not in self._params:
            raise DataError(
                f"{self.info.model} has no trained parameter {name!r}; it has {', '.join(self._params) or 'none'}.",
                hint="Were these weights learned with another scheme?",
            )
        return self._params[name]

    def _bytes_of(self, name: str, value: ArrayLike) -> bytes:
        param = self._param(name)
        given = np.asarray(value)
        count = param.bytes // param.dtype.itemsize
        if given.size != count:
            raise DataError(
                f"Parameter {name} of {self.info.model} has {count} elements, found {given.size}.",
                hint="Were these weights learned with another model?",
            )
        with np.errstate(all="ignore"):
            data = np.ascontiguousarray(given, param.dtype)
        if not (np.isfinite(data).all() if param.dtype.kind == "f" else np.array_equal(data, given)):
            message = f"Parameter {name} of {self.info.model} is of type {param.dtype}, found numbers that it cannot hold."
            raise DataError(message, hint="Were these weights learned with another model?")
        return data.tobytes()

    def _input(self, x: ArrayLike) -> bytes:
        values = _as_given(np.ascontiguousarray(x, np.float32), self.pieces.input)
        if self.input_quant is not None:
            scale, zero_point = self.input_quant
            values = np.clip(np.rint(values / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)
        data = values.tobytes()
        if len(data) != self.info.input_bytes:
            raise DataError(
                f"A sample for {self.info.model} has {self.info.input_bytes // values.itemsize} values, found shape {np.shape(x)}.",
                hint="Give samples in the shape of the model's input.",
            )
        return data

    def _output(self, data: bytes) -> NDArray[np.float32]:
        """The numbers of an answer."""
        values = np.frombuffer(data, "<f4")
        return as_numbers(values, *zip(*self.pieces.output, strict=True)) if self.pieces.output else values.astype(np.float32)

    def _sample(self, x: ArrayLike, target: ArrayLike) -> bytes:
        if not self.info.trains:
            raise DeviceError(f"{self.info.model} was compiled for inference only.", hint="Compile it with --loss and --scheme.")
        values = _as_given(np.asarray(target), self.pieces.target)
        dtype = self.target_dtype or np.dtype(np.int32 if values.dtype.kind in "iub" else np.float32)
        data = np.ascontiguousarray(values, dtype).tobytes()
        if len(data) != self.info.target_bytes:
            raise DataError(
                f"A target for {self.info.model} has {self.info.target_bytes // 4} values, found shape {values.shape}.",
                hint="Give one integer label, or as many values as the model puts out.",
            )
        x_bytes = self._input(x)
        return x_bytes + bytes(-len(x_bytes) % 4) + data


@dataclass(frozen=True)
class Pieces:
    """(number of elements, their type) of what a sample, a target and an output are made of; () for floats alone, or a single label."""

    input: tuple[tuple[int, DType], ...] = ()
    target: tuple[tuple[int, DType], ...] = ()
    output: tuple[tuple[int, DType], ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Pieces:
        ports = ((tuple((math.prod(port.shape), port.dtype) for port in ports.each)) for ports in (manifest.input, manifest.output))
        given, got = (() if {dtype for _, dtype in pieces} <= {DType.F32, DType.S8} else pieces for pieces in ports)
        return cls(given, tuple((part.count, part.dtype) for part in manifest.targets), got)


def _as_given(numbers: Array, pieces: tuple[tuple[int, DType], ...]) -> Array:
    """A record of numbers as the device takes it; as it is where it does not have as many."""
    if not pieces or numbers.size != sum(count for count, _ in pieces):
        return numbers
    counts, kinds = zip(*pieces, strict=True)
    return packed(unpacked(numbers.astype(np.float32), counts, [DType.F32] * len(counts)), kinds)


def start(
    elf: Path, board: Board, manifest: Manifest | None = None, *, icount: bool = False, counts: bool = False, timeout: float = 60.0
) -> Session:
    """Run a firmware on its board (host twin or emulator) and say hello. `icount` counts instructions on an emulator, and makes it slower;
    with `counts` the session has a `profile` of them, too.

    Raises ToolError (no emulator), DeviceError, also where the firmware is of another model than the manifest.
    """
    from tinytrain.device.emulators import start_device

    counter = None
    if counts:
        from tinytrain.device.counting import Counter

        counter = Counter(elf, board)
    transport = start_device(elf, board, icount=icount, more=counter.arguments if counter else ())
    return connect(transport, board, manifest, icount=icount, counter=counter, timeout=timeout)


def connect(
    transport: Transport, board: Board, manifest: Manifest | None, *, icount: bool = False, counter: Counter | None = None,
    timeout: float = 60.0,
) -> Session:
    """Say hello to the firmware behind a transport. Raises DeviceError, also where it is of another model than the manifest."""
    target, quant = (manifest.target, manifest.input.quant) if manifest else (None, None)
    dtype = target.np if target else None
    session = Session(
        transport, board, icount=icount, timeout=timeout, target_dtype=dtype, input_quant=quant, counter=counter,
        pieces=Pieces.of(manifest) if manifest else None, manifest=manifest,
    )
    if manifest and session.info.model_hash.hex() != manifest.model_sha256:
        session.close()
        message = f"The firmware on {transport.name} was made from another model than the manifest of its project says."
        raise DeviceError(message, hint="Compile the model again, and flash it.")
    return session


def open_session(project: Path, board: Board, *, icount: bool = False, timeout: float = 60.0) -> Session:
    """The same for a folder of the caller's own that is built with `make`. Raises ToolError where it is not."""
    elf = next((project / "build").glob(f"*{board.toolchain.suffix}"), None)
    if elf is None:
        raise ToolError(f"{project} is not built: there is no firmware in {project / 'build'}.", hint=f"Run `make` in {project}.")
    path = project / "manifest.json"
    return start(elf, board, Manifest.read(path) if path.is_file() else None, icount=icount, timeout=timeout)
