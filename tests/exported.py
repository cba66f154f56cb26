# SPDX-License-Identifier: Apache-2.0
"""What an exported file must do: compile for the host twin, give what its framework gives, and learn as the framework does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ctypes_model import Library

from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.frontend.ports import Port
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.pack import packed, unpacked
from tinytrain.ir.types import F32, S32, Array

Tensors = tuple[Array, ...]                               # of each input or output, with a batch of 1; of a target, a label is one integer
RTOL = 1e-5                                               # of the largest element of an output
RATE = 0.05


@dataclass(frozen=True)
class Trace:
    """Samples, their targets, and what a framework makes of them: outputs for the first one, the loss of each step, outputs after all."""

    samples: Sequence[Tensors]
    targets: Sequence[Tensors]
    before: Tensors
    losses: Sequence[float]
    after: Tensors


def compiled_from(path: Path, loss: str = "ce", **options: Any) -> Compiled:
    """For the host, trained by plain descent; batch norms keep their parameters and statistics, as in a framework's evaluation mode."""
    return compile_model(path, Options(loss=loss, optimiser=Optimiser(RATE), fold_batchnorm=False, exact_seconds=0.0, **options))


def learns_as(compiled: Compiled, want: Trace, folder: Path, exactly: bool = True) -> None:
    """Outputs, losses and what comes of the training are the framework's; or, not `exactly`, nearly so."""
    device, inputs, outputs = Library(compiled, folder).instance(), compiled.imported.inputs, compiled.imported.outputs
    samples = [_record(inputs, sample) for sample in want.samples]
    _close(device.infer(samples[0]), outputs, want.before, RTOL)
    losses = [device.train_step(x, _record(outputs, target)) for x, target in zip(samples, want.targets, strict=True)]
    np.testing.assert_allclose(losses, want.losses, rtol=1e-4 if exactly else 0.05, atol=1e-5)
    _close(device.infer(samples[0]), outputs, want.after, 10 * RTOL if exactly else 0.1)


def _record(ports: Sequence[Port], tensors: Tensors) -> Array:
    """As the device takes them: integers for labels and for inputs that are integers, else reals in the order of the port."""
    laid = [a if a.dtype.kind == "i" and not a.ndim else a[0].transpose(port.perm) for port, a in zip(ports, tensors, strict=True)]
    return np.ascontiguousarray(packed([a.reshape(-1) for a in laid], [S32 if a.dtype.kind == "i" else F32 for a in laid]))


def _close(found: Array, ports: Sequence[Port], want: Tensors, rtol: float) -> None:
    types = [port.type for port in ports]
    for port, got, expected in zip(ports, unpacked(found, [t.numel for t in types], [t.dtype for t in types]), want, strict=True):
        given = expected[0].transpose(port.perm).reshape(-1)
        np.testing.assert_allclose(got, given, rtol=0, atol=rtol * np.abs(expected).max(), err_msg=port.name)
