# SPDX-License-Identifier: Apache-2.0
"""Seals: what this user's tinytrain has written is known again; what others wrote or changed is not.

A seal is an HMAC-SHA-256 under a random key in the user's own state folder. Nothing else is kept there: a sealed folder may be copied and
moved. Who can read the key can forge seals; it is as safe as the user's other files.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from functools import cache
from pathlib import Path

from tinytrain.paths import state_dir

KEY_BYTES = 32


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def seal(data: bytes) -> str:
    return hmac.new(_key(state_dir() / "key"), data, hashlib.sha256).hexdigest()


def is_sealed(data: bytes, found: bytes) -> bool:
    """Whether `found`, as read from a file, is the seal of `data`."""
    return hmac.compare_digest(seal(data).encode(), found.strip())


@cache
def _key(path: Path) -> bytes:
    """The key at `path`, made where there is none. Where that cannot be written, one that holds until this process ends."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for _ in range(2):
            with contextlib.suppress(FileExistsError):
                _make_key(path)
            key = path.read_bytes()
            if len(key) == KEY_BYTES:
                return key
            path.unlink()                                 # damaged: what it sealed is lost, as with no key at all
    return secrets.token_bytes(KEY_BYTES)


def _make_key(path: Path) -> None:
    """Whole or not at all; two processes that do this at once end with the same key. Raises FileExistsError where there is one."""
    handle, name = tempfile.mkstemp(dir=path.parent)      # readable by its owner alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        os.link(name, path)
    finally:
        os.unlink(name)
