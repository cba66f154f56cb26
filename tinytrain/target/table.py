# SPDX-License-Identifier: Apache-2.0
"""Tables of a board's TOML files: what is missing, of the wrong kind, or known to nobody is said with its key and file."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinytrain.errors import BoardError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HINT = "See the boards that come with tinytrain."


class Table:
    """A table whose reader asks for every key it knows: `refuse_unread` then names any other."""

    def __init__(self, values: Any, path: Path, where: str = "") -> None:
        if not isinstance(values, dict):
            raise BoardError(f"{path}: [{where}] should be a table, found {values!r}.", hint=HINT)
        self.values: dict[str, Any] = values
        self.path = path
        self.where = f"{where}." if where else ""
        self._asked: dict[str, Table | None] = {}

    def __bool__(self) -> bool:
        return bool(self.values)

    def _get(self, key: str, kind: type, called: str, default: Any = None) -> Any:
        self._asked[key] = None
        value = self.values.get(key, default)
        if value is None:
            meant = difflib.get_close_matches(key, [other for other in self.values if other not in self._asked], 1, 0.5)
            hint = f"Is it meant by {meant[0]}, which is not a key of a board?" if meant else HINT
            raise BoardError(f"{self.path}: {self.where}{key} is missing, expected {called}.", hint=hint)
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise BoardError(f"{self.path}: {self.where}{key} is {value!r}, expected {called}.", hint=HINT)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        return str(self._get(key, str, "a string", default))

    def number(self, key: str, default: int | None = None) -> int:
        return int(self._get(key, int, "an integer", default))

    def truth(self, key: str, default: bool = False) -> bool:
        return bool(self._get(key, bool, "true or false", default))

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._get(key, list, "a list of strings", [])
        if not all(isinstance(item, str) for item in items):
            raise BoardError(f"{self.path}: {self.where}{key} is {items!r}, expected a list of strings.", hint=HINT)
        return tuple(items)

    def numbers(self, key: str) -> tuple[int, ...]:
        items = self._get(key, list, "a list of integers", [])
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            raise BoardError(f"{self.path}: {self.where}{key} is {items!r}, expected a list of integers.", hint=HINT)
        return tuple(items)

    def pair(self, key: str) -> tuple[int, int]:
        """(least, most); (0, 0) where there is none."""
        items = self.numbers(key)
        if len(items) not in (0, 2):
            raise BoardError(f"{self.path}: {self.where}{key} is {[*items]}, expected [least, most].", hint=HINT)
        least, most = items or (0, 0)
        return least, most

    def table(self, key: str) -> Table:
        """The table of that key, an empty one where there is none."""
        inner = self._asked.get(key) or Table(self.values.get(key, {}), self.path, self.where + key)
        self._asked[key] = inner
        return inner

    def tables(self) -> dict[str, Table]:
        """A table for each key, whatever it is called."""
        return {key: self.table(key) for key in self.values}

    def all_numbers(self) -> dict[str, int]:
        """An integer for each key, whatever it is called."""
        return {key: self.number(key) for key in self.values}

    def all_values(self) -> dict[str, Any]:
        """What somebody else reads: no key of it is unknown here."""
        self._asked.update(dict.fromkeys(self.values))
        return self.values

    def refuse_unread(self) -> None:
        """Raise BoardError for the first key that nobody has asked for, here or in a table below."""
        for key in self.values:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, 1, 0.5)
                known = f"Did you mean {near[0]}?" if near else f"Known keys are {', '.join(sorted(self._asked))}."
                raise BoardError(f"{self.path}: {self.where}{key} is not a key of a board.", hint=known)
            if inner := self._asked[key]:
                inner.refuse_unread()


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BoardError(f"{path} is not valid TOML: {error}.", hint="Correct the line that the message names.") from None


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: tables key by key, everything else replaced."""
    result = dict(base)
    for key, value in over.items():
        old = base.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
