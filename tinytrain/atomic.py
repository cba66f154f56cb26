# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinytrain.errors import OutputError
from tinytrain.reading import first_line


def write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all. Raises OutputError where that is not possible."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(name, mode)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or first_line(error)}."
        raise OutputError(message, hint="Check the path, its permissions and the space left.") from error


def check_files(*paths: Path | None) -> None:
    """Before long work: raises OutputError where one of the files that it is for cannot be written, or where two are the same."""
    files = [path for path in paths if path is not None]
    for path in files:
        if not path.parent.is_dir():
            raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.", hint="Make the folder first.")
        if path.is_dir():
            raise OutputError(f"{path} cannot be written: it is a folder; expected a file.", hint="Name a file in it.")
    if len({path.resolve() for path in files}) < len(files):
        message = f"{' and '.join(map(str, files))} are not all different files; one would replace another."
        raise OutputError(message, hint="Give each a name of its own.")


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; at the end of the block it takes the place of `out`, whatever stood there. Raises OutputError, and changes nothing
    then, nor where the block raises."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        message = f"{out} cannot be made: {error.strerror} ({error.filename}); nothing was written."
        raise OutputError(message, hint="Choose another -o, inside a folder that you may write to.") from error
    try:
        yield staging
        staging.chmod(0o755)
        with uninterrupted():
            _put(staging, out)
    except OSError as error:
        message = f"{out} cannot be written: {error.strerror or first_line(error)}; nothing was written."
        raise OutputError(message, hint="Check its permissions and the space left, or choose another -o.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put(staging: Path, out: Path) -> None:
    """Give the folder its place; what stands there goes when that is done."""
    before = staging.with_name(f"{staging.name}.before")
    if out.exists():
        out.rename(before)
    try:
        staging.rename(out)
    except OSError:
        if before.exists():
            before.rename(out)
        raise
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back to the end of the block, for files that only make sense together. Keep the block short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if pressed:
        signal.raise_signal(signal.SIGINT)
