# SPDX-License-Identifier: Apache-2.0
"""What a training leaves in its project, and goes on from: the best epoch as learned.npz and learned.onnx, and beside it the last one.

Whatever ends a training, one of learned.npz and last.npz has the last epoch that was finished: the one whose record says more epochs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinytrain.atomic import uninterrupted, write_bytes, write_text
from tinytrain.device.project import Project
from tinytrain.errors import DataError, DeviceError, OutputError
from tinytrain.ir.types import Array
from tinytrain.learn.state import LAST, LEARNED, LEARNED_MODEL, Record, Settings, State, read_record
from tinytrain.learn.weights import not_finite, parameters, restore, save

if TYPE_CHECKING:
    from tinytrain.device.session import Session

HISTORY = "history.json"                                  # the record of the last epoch, for people to read


def left_by(project: Project) -> tuple[str, ...]:
    """Names of the files that a training has left."""
    return tuple(name for name in (HISTORY, LEARNED, LEARNED_MODEL, LAST) if (project.folder / name).exists())


def checkpoint(project: Project, session: Session, read: dict[str, Array], record: Record) -> None:
    """Write the last epoch, whose weights and state were `read`: as what is learned if it is the best one."""
    learned, state = parameters(project, session, read)
    with uninterrupted():
        if record.best == len(record.epochs):
            save(project, learned, state, record)
        elif bad := not_finite({**learned, **state}):
            raise DeviceError(f"{bad} is not finite after training; nothing was saved.", hint="Train with a lower learning rate (--lr).")
        else:
            write_bytes(project.folder / LAST, State(learned, state, record).to_bytes())
        write_text(project.folder / HISTORY, record.to_json())


def resume(project: Project, session: Session) -> tuple[Record, dict[str, Array]] | tuple[None, None]:
    """How far an earlier training came, with its last epoch back in the device, and what `get_params` gives in its best one.

    None where there was no training. Raises DataError for files that are damaged, or of something else.
    """
    path = project.folder / LEARNED
    if not left_by(project):
        return None, None
    record = restore(project, session)
    if record is None:
        message = f"{path} does not say how it was trained; expected a file that `tinytrain train` of this version wrote."
        raise DataError(message, hint="Train anew: --force in place of --resume.")
    best, last = session.get_params(), read_record(project.folder / LAST)
    if last is None or len(last.epochs) <= len(record.epochs):
        return record, best
    restore(project, session, project.folder / LAST)
    return last, best


def check_same(project: Project, record: Record, settings: Settings) -> None:
    """Refuse to go on with what would be another training. Raises DataError."""
    differs = {key: (record.settings.get(key), value) for key, value in settings.items() if record.settings.get(key) != value}
    if differs:
        was, found = (", ".join(f"{key} {_said(pair[i])}" for key, pair in differs.items()) for i in (0, 1))
        message = f"{project.folder / LEARNED} was trained with {was}; found {found}."
        raise DataError(message, hint="Give what it was trained with, --resume --changed to go on all the same, or --force to train anew.")


def refuse_replacing(project: Project) -> None:
    """Raise OutputError where an earlier training has left something."""
    if left := left_by(project):
        message = f"{project.folder} has {', '.join(left)} of an earlier training; nothing was trained."
        raise OutputError(message, hint="Give --resume to go on with it, or --force to train anew and replace it.")


def _said(value: str | int | float | None) -> str:
    return "none" if value is None else f"{value}"
