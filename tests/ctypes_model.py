# SPDX-License-Identifier: Apache-2.0
"""A generated model as a shared library in this process: the fastest way to compare the C text with the reference."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tinytrain.compiler import Compiled
from tinytrain.emit.golden import golden_vectors
from tinytrain.emit.project import ARENA_ALIGN
from tinytrain.ir.pack import packed
from tinytrain.ir.types import Array, Role
from tinytrain.paths import data_dir
from tinytrain.verify.reference import ReferenceModel

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Werror")
STRICT = ("-std=c99", "-ffp-contract=off", *WARNINGS)
STORE = [str(data_dir("runtime_c") / name) for name in ("tt_store.c", "tt_crc.c", "tt_delta.c")]
RTOL, ATOL = 1e-4, 1e-5                                   # the latter of the largest element, if that is above 1


def built(models: Sequence[Compiled], folder: Path, *flags: str, compiler: str = "gcc") -> ctypes.CDLL:
    """The C of models with different names, in one library."""
    sources = []
    for compiled in models:
        for file, text in compiled.files.items():
            (folder / file).write_text(text, encoding="utf-8")
        sources.append(str(folder / f"{compiled.program.name}.c"))
    target = Path(tempfile.mkdtemp(dir=folder)) / f"{models[0].program.name}.so"      # the loader knows files by their names
    flags = (*STRICT, *(flags or ("-O1",)), "-shared", "-fPIC", f"-I{data_dir('runtime_c')}")
    command = [compiler, *flags, *sources, *STORE, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return ctypes.CDLL(str(target))


class Library:
    """The C of a compiled model, loaded; `instance` makes independent contexts."""

    def __init__(
        self, compiled: Compiled, folder: Path, *flags: str, compiler: str = "gcc", library: ctypes.CDLL | None = None
    ) -> None:
        self.compiled = compiled
        self.library = library or built([compiled], folder, *flags, compiler=compiler)

    def call(self, entry: str, *args: object) -> int:
        status: int = getattr(self.library, f"{self.compiled.program.name}_{entry}")(*args)
        return status

    def instance(self) -> Instance:
        return Instance(self)


_NUMBERS = ("count", "scheme", "skip_below", "skip_above", "skipped",
            "not_finite", "steps", "saved", "sequence", "torn", "foreign", "newer", "piece")


class _Context(ctypes.Structure):
    _fields_ = (("arena", ctypes.c_void_p), *((name, ctypes.c_uint32) for name in _NUMBERS), ("loss", ctypes.c_float),
                *((name, ctypes.c_void_p) for name in ("x", "target")), ("spent", ctypes.c_int32))


class Instance:
    """One context with its own arena; calls take and give arrays in the layout of the device."""

    def __init__(self, library: Library) -> None:
        self.library = library
        plan = library.compiled.plan
        bytes_ = max(plan.arena_bytes, ARENA_ALIGN)
        self.memory = np.full(bytes_ + ARENA_ALIGN, 0xA5, np.uint8)
        start = -self.memory.ctypes.data % ARENA_ALIGN
        self.arena = self.memory[start : start + bytes_]
        self.context = _Context()
        assert library.call("init", ctypes.byref(self.context), ctypes.c_void_p(self.arena.ctypes.data), ctypes.c_size_t(bytes_)) == 0

    def _output(self) -> Array:
        """Room for the output, or the record of several."""
        outputs = [v.type for v in self.library.compiled.program.entries["infer"].outputs]
        return np.zeros(outputs[0].shape, outputs[0].dtype.np) if len(outputs) == 1 else packed(
            [np.zeros(kind.shape) for kind in outputs], [kind.dtype for kind in outputs]
        )

    def infer(self, x: Array) -> Array:
        y = self._output()
        assert self.library.call("infer", ctypes.byref(self.context), _pointer(x), _pointer(y)) == 0
        return y

    def evaluate(self, x: Array, target: Array) -> tuple[float, Array]:
        y = self._output()
        loss = np.empty(1, np.float32)
        assert self.library.call("evaluate", ctypes.byref(self.context), _pointer(x), _pointer(target), _pointer(loss), _pointer(y)) == 0
        return float(loss[0]), y

    def train_step(self, x: Array, target: Array) -> float:
        loss = np.empty(1, np.float32)
        assert self.library.call("train_step", ctypes.byref(self.context), _pointer(x), _pointer(target), _pointer(loss)) == 0
        return float(loss[0])

    def stored(self) -> dict[str, Array]:
        """PARAM and STATE values by name."""
        plan = self.library.compiled.plan
        return {
            v.name: self.arena[at : at + v.type.nbytes].view(v.type.dtype.np).reshape(v.shape).copy()
            for v, at in plan.fixed.items()
        }


def _pointer(array: Array) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def assert_learns_as_reference(library: Library, steps: int = 10) -> None:
    """Outputs, losses and everything that is stored, after a number of training steps."""
    compiled, device = library.compiled, library.instance()
    golden = golden_vectors(compiled.program, steps)
    reference = ReferenceModel(compiled.program)

    def close(found: ArrayLike, expected: ArrayLike, name: str = "") -> None:
        largest = float(np.abs(expected).max(initial=1.0))
        np.testing.assert_allclose(found, expected, RTOL, ATOL * largest, err_msg=name)

    close(device.infer(golden.x[0]), golden.output)
    if "train" not in compiled.program.entries:
        return
    losses = [device.train_step(x, target) for x, target in zip(golden.x, golden.target, strict=True)]
    for x, target in zip(golden.x, golden.target, strict=True):
        reference.train_step(x, target)
    close(losses, golden.losses)
    stored = device.stored()
    for v in compiled.program.stored(Role.PARAM, Role.STATE):
        close(stored[v.name], reference.state[v], v.name)
    loss, output = device.evaluate(golden.x[0], golden.target[0])
    expected = reference.evaluate(golden.x[0], golden.target[0])
    close(loss, expected[0])
    close(output, expected[1])
