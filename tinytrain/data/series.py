# SPDX-License-Identifier: Apache-2.0
"""Series as samples: a recording, or a folder of them, each cut into windows by itself. Subfolders are classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tinytrain.data.file import DataFile
from tinytrain.data.images import class_folders
from tinytrain.data.labels import Raw, whole
from tinytrain.data.windows import cut
from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import reading

SUFFIXES = (".csv", ".npy", ".npz")
Read = Callable[[DataFile, bool], Raw]                    # of one recording: with its targets, or without


def read_series(file: DataFile, read: Read, *, labels: bool) -> Raw:
    """Windows (n, time, channels) with their targets; `labels`: targets are that, though they be numbers.

    Of a folder with subfolders each of them is a class, and recordings have no other targets. Those that are shorter than a window are
    left out, and counted. Raises DataError.
    """
    recordings = _recordings(file)
    x: list[Array] = []
    y: list[Array] = []
    mixed = short = size = 0
    for part, name in recordings:
        raw = read(part, name is None)
        if len(recordings) > 1 and len(raw.x) < file.window:
            short += 1
            continue
        targets = raw.y
        if targets is not None and raw.names and len(recordings) > 1:         # each has numbered its own
            targets = np.array(raw.names)[whole(targets, len(raw.names), str(part))]
        named = raw.names or (targets is not None and targets.dtype.kind in "US")
        windows, found, left = cut(part, raw.x, targets, size, labels=labels or bool(named))
        mixed, size = mixed + left, size + 4 * windows.size
        x.append(windows)
        y += [np.full(len(windows), name)] if name is not None else [] if found is None else [found]
    if not x:
        message = f"{file}: all of its {len(recordings):,} recordings are shorter than the {file.window:,} rows of one window."
        raise DataError(message, hint="Give longer ones, or a smaller --window that the model takes.")
    if len({window.shape[2] for window in x}) > 1 or len(y) not in (0, len(x)):
        what = "targets" if len(y) not in (0, len(x)) else "as many channels"
        raise DataError(f"{file}: not all of its recordings have {what}; expected all alike.", hint="Give --channels and --label.")
    count = sum(map(len, x))
    notes = [*raw.notes, f"{count:,} windows of {file.window:,} rows, one each {file.stride:,}"]
    if len(recordings) > 1:
        notes.append(f"from {len(x):,} recordings" + (f", {short:,} too short" if short else ""))
    if mixed:
        notes.append(f"{mixed:,} of {count + mixed:,} windows with more than one label are left out")
    return Raw(np.concatenate(x), np.concatenate(y) if y else None, raw.names if len(recordings) == 1 else (), tuple(notes))


def _recordings(file: DataFile) -> list[tuple[DataFile, str | None]]:
    """Each with the class that its subfolder is called by; None outside of one."""
    with reading(file.path, "a recording, or a folder of them", DataError, "Check the path."):
        if not file.path.is_dir():
            return [(file, None)]
        folders = class_folders(file.path)
        found: list[tuple[DataFile, str | None]] = [
            (replace(file, path=path), folder.name if folders else None) for folder in folders or [file.path]
            for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
    if not found:
        message = f"{file} holds no recordings; expected files {', '.join(SUFFIXES)} in it, or in one subfolder for each class."
        raise DataError(message, hint="Leave --window out where it holds images.")
    return found
