# SPDX-License-Identifier: Apache-2.0
"""Weights between a device and the files of its project: learned.npz and learned.onnx."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.atomic import write_bytes
from tinytrain.device.project import Project
from tinytrain.errors import DataError, DeviceError, OutputError
from tinytrain.ir.types import Array
from tinytrain.learn.state import LAST, LEARNED, LEARNED_MODEL, Record, State, read_state
from tinytrain.reading import reading

if TYPE_CHECKING:
    from tinytrain.device.session import Session


def parameters(
    project: Project, session: Session, read: Mapping[str, Array] | None = None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the device has learned: (parameters by ONNX initializer name in ONNX layout, state of the optimiser by name).

    `read` is what `session.get_params()` gave.
    """
    _check_parameters(project, session)
    read = dict(session.get_params() if read is None else read)
    before = project.initializers
    learned: dict[str, Array] = {}
    for p in project.manifest.parameters:
        with _laying_out(project):
            learned[p.name] = p.source.to_onnx(read.pop(p.key), learned.get(p.name, before[p.name]))
    return learned, read


def restore(project: Project, session: Session, path: Path | None = None) -> Record | None:
    """Write `learned.npz`, or `path`, into the device; returns how it came to be. Raises DataError: missing, or of another model."""
    _check_parameters(project, session)
    path = path or project.folder / LEARNED
    keys = {p.key for p in project.manifest.parameters}
    shapes = {p.name: p.source.onnx_shape for p in project.manifest.parameters}
    state = read_state(path, shapes, {name: count for name, count in session.elements.items() if name not in keys})
    if state.record is not None and state.record.model_sha256 != project.manifest.model_sha256:
        raise DataError(f"{path} was learned by another model than that of {project.folder}.", hint="Train this project, without --resume.")
    session.set_params({**on_device(project, state.learned), **state.optimiser})
    return state.record


def on_device(project: Project, learned: Mapping[str, Array]) -> dict[str, Array]:
    """Parameters by ONNX initializer name as the device has them, by its names."""
    with _laying_out(project):
        return {p.key: p.source.to_ir(learned[p.name], p.shape) for p in project.manifest.parameters}


def compiled(project: Project, session: Session) -> dict[str, Array]:
    """Trained weights as they were compiled: flat, by the device's names and in its order and types."""
    _check_parameters(project, session)
    known, dtypes = on_device(project, project.initializers), session.dtypes
    return {key: np.ascontiguousarray(known[key], dtype).reshape(-1) for key, dtype in dtypes.items() if key in known}


def export_learned(project: Project, session: Session) -> Path:
    """Write what the device has learned as `learned.npz` and `learned.onnx`; returns the latter."""
    return save(project, *parameters(project, session))


def save(project: Project, learned: dict[str, Array], state: dict[str, Array], record: Record | None = None) -> Path:
    """The one write of learned.npz is what counts; everything else is made from it, and made again by --resume.

    What was the last epoch of a training beside it goes: this is what a training goes on from.
    """
    if bad := not_finite({**learned, **state}):
        raise DeviceError(f"{bad} is not finite after training; nothing was saved.", hint="Train with a lower learning rate (--lr).")
    model = project.with_weights(learned)
    if record is not None and record.classes and not any(entry.key == "classes" for entry in model.metadata_props):
        model.metadata_props.add(key="classes", value=json.dumps(record.classes))       # `compile` reads it again
    write_bytes(project.folder / LEARNED, State(learned, state, record).to_bytes())
    write_bytes(project.folder / LEARNED_MODEL, model.SerializeToString())
    (project.folder / LAST).unlink(missing_ok=True)
    return project.folder / LEARNED_MODEL


def not_finite(arrays: Mapping[str, Array]) -> str | None:
    """The name of the first that has a number which is not finite."""
    return next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)


def _check_parameters(project: Project, session: Session) -> None:
    """The device and the manifest must speak of the same parameters."""
    for p in project.manifest.parameters:
        found, expected = session.elements.get(p.key, 0), math.prod(p.shape)
        if found != expected:
            message = f"The device has {found:,} elements of {reprlib.repr(p.key)}; expected {expected:,} as in {project.folder}."
            raise DeviceError(message, hint="Compile the model again.")


def _laying_out(project: Project) -> AbstractContextManager[None]:
    """Around a change of layout that the manifest describes."""
    return reading(project.folder / "manifest.json", "layouts that fit the parameters", OutputError, hint="Compile the model again.")
