# SPDX-License-Identifier: Apache-2.0
"""The manifest of a compiled project as what it means: read once, and checked field by field."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from tinytrain.errors import OutputError
from tinytrain.ir.types import F32, Array, DType, Source
from tinytrain.reading import read_limited, reading
from tinytrain.seal import digest

MOST_BYTES = 16 << 20                                     # of a manifest.json
MOST_ELEMENTS = 1 << 28                                   # of one tensor
MOST_CORES = 1 << 10
MOST_CHARACTERS = 500                                     # of a name
EXPECTED = "the manifest of a compiled project"
_NEEDED = ("name", "board", "model_sha256", "input", "output", "target", "parameters", "optimiser")
_HINT = "Make the project again with `tinytrain compile`."
_HASH = r"[0-9a-f]{64}"
_TAGS = {d.tag: d for d in DType}


@dataclass(frozen=True)
class Port:
    """An input or output: shape on the device, ONNX shape with a batch of 1 (an output may have lost it), how its axes but the batch are
    permuted; (scale, zero point) of integers. Of several it is their record, and `parts` are they, in order.
    """

    shape: tuple[int, ...]
    onnx_shape: tuple[int, ...]
    perm: tuple[int, ...]
    quant: tuple[float, int] | None
    dtype: DType = F32
    parts: tuple[tuple[str, Port], ...] = ()

    @property
    def each(self) -> tuple[Port, ...]:
        """Itself, or its parts."""
        return tuple(port for _, port in self.parts) or (self,)

    def apart(self, rows: Array) -> list[Array]:
        """Of rows as the device has them (n, elements): each part, (n, ...) as ONNX has it without the batch."""
        ends = np.cumsum([math.prod(part.shape) for part in self.each])[:-1]
        cut = zip(np.split(rows.reshape(len(rows), -1), ends, axis=1), self.each, strict=True)
        return [row.reshape(-1, *part.shape).transpose(0, *(1 + int(axis) for axis in np.argsort(part.perm))) for row, part in cut]


@dataclass(frozen=True)
class TargetPart:
    """One of several targets: the output that it is for, number of elements, type."""

    name: str
    count: int
    dtype: DType


@dataclass(frozen=True)
class Parameter:
    """A trained tensor: its ONNX initializer, what it is called over the link, its shape on the device, and how the two are laid out."""

    name: str
    key: str
    shape: tuple[int, ...]
    source: Source


@dataclass(frozen=True)
class Step:
    """Of a training step on the board, as estimated: `milliseconds` at the clock that the firmware sets, None where it sets none."""

    instructions: int
    milliseconds: float | None


@dataclass(frozen=True)
class Manifest:
    """What was compiled. `target` is None for inference only, `targets` are those of several losses; `chosen` stands for all that decides
    what a state of training means; `scheduled`: the device changes its learning rate by itself.

    `board_file` is the file of a board that does not come with tinytrain, "" otherwise.
    `files` has the SHA-256 of each file that the compiler wrote; `macs` are the multiply-accumulates of one inference, `work` is how many
    times as many a training step has, 0 where that is not known; `step` is None where nothing was counted. `cores` share the work of a
    call. `classes` are the names of the output's elements, where they have any; `memory` holds so many samples that train again. The
    firmware keeps what it learns in flash after each `store` samples, 0: never.
    """

    name: str
    board: str
    board_file: str
    model_sha256: str
    loss: str | None
    loss_options: Mapping[str, float | tuple[float, ...]]
    learning_rate: float
    accumulate: int
    scheduled: bool
    input: Port
    output: Port
    target: DType | None
    targets: tuple[TargetPart, ...]
    parameters: tuple[Parameter, ...]
    chosen: str
    files: Mapping[str, str]
    macs: int
    cores: int = 1
    work: float = 0.0
    step: Step | None = None
    classes: tuple[str, ...] = ()
    memory: int = 0
    store: int = 0

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises OutputError."""
        return cls.parse(cls.read_bytes(path), path)

    @classmethod
    def read_bytes(cls, path: Path) -> bytes:
        """Raises OutputError where the folder has none."""
        try:
            return read_limited(path, MOST_BYTES, EXPECTED, OutputError)
        except OutputError as error:
            raise _no_project(path, error) from error

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Manifest:
        """`path` is for messages. Raises OutputError."""
        try:
            with reading(path, EXPECTED, OutputError):
                described = json.loads(data.decode("utf-8"))
        except OutputError as error:
            raise _no_project(path, error) from error
        return cls.of(described, path)

    @classmethod
    def of(cls, described: Any, path: Path) -> Manifest:
        """What the compiler says of itself (`compiler.describe`), or a file that should have come from there. Raises OutputError."""
        if not isinstance(described, dict) or (missing := [key for key in _NEEDED if key not in described]):
            lacks = f"lacks {', '.join(missing)}" if isinstance(described, dict) else "is no JSON object"
            raise OutputError(f"{path} {lacks}; expected {EXPECTED}.", hint=_HINT)
        top = _Fields(described, path)
        optimiser = top.inner("optimiser")
        target = top.inner("target") if described["target"] is not None else None
        optional = ("loss_options", "method", "replay", "distil", "elastic")
        keys = ["loss", "optimiser", "gradients", "schemes", *(key for key in optional if described.get(key))]
        return cls(
            name=top.name("name", r"[A-Za-z_]\w{0,199}", "a C identifier"),
            board=top.name("board", r"[\w.+-]{1,100}", "the name of a board"),
            board_file=top.text("board_file") if described.get("board_file") else "",
            model_sha256=top.name("model_sha256", _HASH, "a SHA-256 in hex"),
            loss=top.text("loss") if described.get("loss") is not None else None,
            loss_options=_loss_options(top) if described.get("loss_options") else {},
            learning_rate=optimiser.real("learning_rate"),
            accumulate=optimiser.integer("accumulate", 1),
            scheduled=_scheduled(optimiser),
            input=_port(top.inner("input")),
            output=_port(top.inner("output")),
            target=_target(target) if target else None,
            targets=_targets(target) if target else (),
            parameters=tuple(_parameter(item) for item in top.items("parameters")),
            chosen=digest(json.dumps([described.get(key) for key in keys]).encode()),
            files=_files(top) if "files" in described else {},
            cores=top.integer("cores", 1, MOST_CORES) if "cores" in described else 1,
            classes=top.texts("classes") if "classes" in described else (),
            memory=top.inner("replay").integer("samples", 1) if "replay" in described else 0,
            store=top.integer("store", 1) if "store" in described else 0,
            macs=top.inner("macs").integer("infer", 0, 2**62) if "macs" in described else 0,
            work=_work(top.inner("macs")) if "macs" in described else 0.0,
            step=_step(top.inner("estimate")) if described.get("estimate") and described["target"] is not None else None,
        )


class _Fields:
    """A JSON object that says what is missing or of the wrong kind; `where` ends in a point."""

    def __init__(self, values: Mapping[str, Any], path: Path, where: str = "") -> None:
        self.values, self.path, self.where = values, path, where

    def refuse(self, key: str, expected: str) -> NoReturn:
        found = f"is {reprlib.repr(self.values[key])}" if key in self.values else "is missing"
        raise OutputError(f"{self.path}: {self.where}{key} {found}; expected {expected}.", hint=_HINT)

    def inner(self, key: str) -> _Fields:
        value = self.values.get(key)
        return _Fields(value, self.path, f"{self.where}{key}.") if isinstance(value, dict) else self.refuse(key, "an object")

    def items(self, key: str) -> list[_Fields]:
        value = self.values.get(key)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, dict) for item in value):
            self.refuse(key, "a list of objects")
        return [_Fields(item, self.path, f"{self.where}{key}[{i}].") for i, item in enumerate(value)]

    def text(self, key: str) -> str:
        """A name as ONNX has them, of any characters: messages show it by reprlib."""
        value = self.values.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= MOST_CHARACTERS:
            self.refuse(key, f"a text of at most {MOST_CHARACTERS} characters")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) and len(name) <= MOST_CHARACTERS for name in value):
            self.refuse(key, f"a list of texts of at most {MOST_CHARACTERS} characters")
        return tuple(value)

    def name(self, key: str, pattern: str, called: str) -> str:
        value = self.values.get(key)
        return value if isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) else self.refuse(key, called)

    def integer(self, key: str, least: int, most: int = 2**31 - 1) -> int:
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(key, f"an integer from {least:,} to {most:,}")
        return value

    def real(self, key: str) -> float:
        value = self.values.get(key)
        return float(value) if value is not None and _is_real(value) else self.refuse(key, "a finite number")

    def integers(self, key: str) -> tuple[int, ...]:
        value = self.values.get(key)
        if not isinstance(value, (list, tuple)) or not all(_is_integer(i) and 0 <= i <= MOST_ELEMENTS for i in value):
            self.refuse(key, f"a list of integers from 0 to {MOST_ELEMENTS:,}")
        return tuple(value)

    def shape(self, key: str) -> tuple[int, ...]:
        value = self.integers(key)
        # the product of the first axes alone may be huge: math.prod does not overflow, and 32 axes are NumPy's limit
        return value if len(value) <= 32 and math.prod(value) <= MOST_ELEMENTS else self.refuse(key, "a shape")

    def permutation(self, key: str, axes: int) -> tuple[int, ...]:
        value = self.integers(key)
        return value if sorted(value) == list(range(axes)) else self.refuse(key, f"an order of {axes} axes")

    def reals(self, key: str) -> tuple[float, ...]:
        value = self.values.get(key)
        if not isinstance(value, (list, tuple)) or not all(_is_real(number) for number in value):
            self.refuse(key, "a list of finite numbers")
        return tuple(float(number) for number in value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (_is_integer(value) and abs(value) < 2**63)


def _scheduled(optimiser: _Fields) -> bool:
    if optimiser.values.get("schedule") is None:          # as older ones have it
        return False
    schedule = optimiser.inner("schedule").values
    return schedule.get("course") != "constant" or bool(schedule.get("warmup"))


def _work(macs: _Fields) -> float:
    infer = macs.integer("infer", 0, 2**62)
    return macs.integer("train", 0, 2**62) / infer if infer and "train" in macs.values else 0.0


def _step(fields: _Fields) -> Step:
    milliseconds = None if fields.values.get("milliseconds") is None else fields.real("milliseconds")
    return Step(fields.integer("instructions", 0, 2**62), milliseconds)


def _no_project(path: Path, error: OutputError) -> OutputError:
    message = f"{path.parent} is not a compiled project: it has no readable manifest.json."
    return OutputError(message, error.sentences[0], hint="Make one with `tinytrain compile`.")


def _port(fields: _Fields) -> Port:
    shape, onnx_shape = fields.shape("shape"), fields.shape("onnx_shape")
    if math.prod(shape) != math.prod(onnx_shape):
        fields.refuse("onnx_shape", f"a shape with as many elements as {list(shape)}")
    quant = None
    if fields.values.get("quant") is not None:
        inner = fields.inner("quant")
        scales = inner.reals("scale")
        if not scales or scales[0] <= 0:
            inner.refuse("scale", "a list of numbers above 0")
        quant = scales[0], inner.integer("zero_point", -(2**31))
    batch = len(onnx_shape) > len(fields.integers("perm"))  # an output may have lost it
    parts = tuple((part.text("name"), _port(part)) for part in fields.items("parts")) if "parts" in fields.values else ()
    if parts and sum(math.prod(port.shape) for _, port in parts) != math.prod(shape):
        fields.refuse("parts", f"parts of {math.prod(shape):,} elements in all")
    dtype = _dtype(fields, *_TAGS) if "dtype" in fields.values else F32
    return Port(shape, onnx_shape, fields.permutation("perm", len(onnx_shape) - batch), quant, dtype, parts)


def _dtype(fields: _Fields, *tags: str) -> DType:
    tag = fields.values.get("dtype")
    return _TAGS[tag] if isinstance(tag, str) and tag in tags else fields.refuse("dtype", " or ".join(tags))


def _target(fields: _Fields) -> DType:
    return _dtype(fields, "s32", "f32")


def _targets(fields: _Fields) -> tuple[TargetPart, ...]:
    if "parts" not in fields.values:
        return ()
    return tuple(TargetPart(part.text("name"), math.prod(part.shape("shape")), _target(part)) for part in fields.items("parts"))


def _loss_options(top: _Fields) -> dict[str, float | tuple[float, ...]]:
    """Those that the loss has, each of its kind and within a model's bounds."""
    inner = top.inner("loss_options")
    return {name: inner.reals(name) if isinstance(value, (list, tuple)) else inner.real(name) for name, value in inner.values.items()}


def _parameter(fields: _Fields) -> Parameter:
    source = fields.inner("source")
    onnx_shape, shape = source.shape("onnx_shape"), source.shape("shape")
    if math.prod(shape) != math.prod(onnx_shape):
        source.refuse("shape", f"a shape with as many elements as {list(onnx_shape)}")
    whole = source.shape("whole")
    take = source.values.get("take")
    if not isinstance(take, (list, tuple)) or not all(_is_take(item, whole) for item in take):
        source.refuse("take", f"pairs of an axis of {list(whole)} and a list of its indices")
    within = source.values.get("within", ())
    if not isinstance(within, (list, tuple)) or len(within) not in (0, 2) or not all(_is_integer(i) and abs(i) < 2**31 for i in within):
        source.refuse("within", "no bounds, or the least and the largest integer")
    return Parameter(
        fields.text("name"), fields.text("key"), fields.shape("shape"),
        Source(
            source.text("initializer"), onnx_shape, shape, source.permutation("perm", len(shape)), source.integer("offset", -(2**31)),
            source.reals("scale"), whole, tuple((axis, tuple(indices)) for axis, indices in take),
            within=tuple(within), auxiliary=source.values.get("auxiliary") is True,
        ),
    )


def _is_take(item: Any, whole: Sequence[int]) -> bool:
    if not isinstance(item, (list, tuple)) or len(item) != 2 or not _is_integer(item[0]) or not 0 <= item[0] < len(whole):
        return False
    return isinstance(item[1], (list, tuple)) and all(_is_integer(i) and 0 <= i < whole[item[0]] for i in item[1])


def _files(top: _Fields) -> dict[str, str]:
    inner = top.inner("files")
    for name in inner.values:
        parts = PurePosixPath(name).parts
        if not name.isprintable() or len(name) > 200 or "\\" in name or name.startswith("/") or not parts or ".." in parts:
            raise OutputError(f"{top.path}: files has {reprlib.repr(name)}; expected names of files inside the folder.", hint=_HINT)
    return {name: inner.name(name, _HASH, "a SHA-256 in hex") for name in inner.values}
