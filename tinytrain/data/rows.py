# SPDX-License-Identifier: Apache-2.0
"""Tables in text: one row a line, separated by commas, semicolons or tabs; UTF-8, or UTF-16 and UTF-32 that say so.

They say so by a byte order mark. A line of names may come first, also as a comment (`numpy.savetxt` writes it so). Lines that are empty,
hold separators alone, or begin with # are left out, and so are separators at the end of every line. A number is decimal, with a point:
1, -2.5, 3e-4. What else could be meant (a decimal comma, 1_000, nan) is refused with its place.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from tinytrain.errors import DataError
from tinytrain.reading import plain

LABEL_COLUMNS = ("label", "labels", "class", "target")
SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
COUNTED = 3                                               # columns from which on 0, 1, 2 in the first line look like names

_DIGITS = re.compile(r"[0-9+\-.eE]*")
_LIKE_A_NUMBER = re.compile(r"[+-]?(\.?\d.*|nan|inf|infinity)|n/?a|null|none|", re.IGNORECASE)
_MISSING = re.compile(r"n/a|<na>|#n/a|", re.IGNORECASE)   # nan is read as a number


@dataclass(frozen=True)
class Table:
    """The rows of a table. `names` of the `width` columns in lower case, none where the file gives none; `total` counts columns that are
    empty in all rows, at the end, too. `begin` is the line of the first row, 0 where there is none.
    """

    path: Path
    longest: int                                          # characters of a line
    separator: str
    names: list[str]
    width: int
    total: int
    begin: int
    notes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, longest: int, *, unnamed: bool) -> Table:
        """Read the head. Raises DataError, also where a column has no name unless `unnamed` ones do not matter."""
        first = [line for _, line in islice((found for found in _lines(path, longest) if not found[1].startswith("#")), 2)]
        separator = next(s for s in SEPARATORS if s in first[-1] or s == ",") if first else ","
        remark = ""
        for number, line in _lines(path, longest):
            if line.startswith("#"):
                remark = line
                continue
            row = _cells(line, separator)
            if not any(row):
                continue
            total, width = len(row), max(i for i, cell in enumerate(row, 1) if cell)
            names, begin = _names(path, row[:width], unnamed), number + 1
            notes: tuple[str, ...] = ()
            if not names:
                begin = number
                above = [cell.strip(' "') for cell in remark.lstrip("# ").split(separator)]
                names = _names(path, above, unnamed) if len(above) == width else []
                if total >= COUNTED and row == [str(i) for i in range(total)]:
                    notes = (f"line {number} counts 0, 1, 2, … as a line of names may; it is read as a sample",)
            return cls(path, longest, separator, names, width, total, begin, notes)
        return cls(path, longest, separator, [], 0, 0, 0, ())

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(number of its line from 1, cells of a row). Raises DataError for a row that is longer or shorter than the first."""
        for number, line in _lines(self.path, self.longest):
            if number < self.begin or line.startswith("#"):
                continue
            row = _cells(line, self.separator)
            if not any(row):
                continue
            if len(row) != self.total or any(row[self.width :]):
                beyond = max((i for i, cell in enumerate(row, 1) if cell), default=0)
                raise DataError(
                    f"{self.path}: line {number} holds {beyond} values (separated by {SEPARATORS[self.separator]}), the first one "
                    f"{self.width}; expected as many in each line.", hint="Complete the line, or take it out.",
                )
            yield number, row

    def called(self, column: int) -> str:
        """For a sentence: the column counted from 1, and its name."""
        return f"column {column + 1}{f' ({plain(self.names[column])})' if self.names else ''}"

    def no_number(self, number: int, row: Sequence[str], columns: Sequence[int], hint: str = "") -> DataError:
        """About the first of these cells that is none."""
        column, cell = next((i, row[i]) for i in columns if numbers([row[i]]) is None)
        hint = hint or "Replace text by numbers, or choose the columns: --channels A,B,C. Classes may have names: --label NAME."
        if "," in cell:
            hint = "Write decimals with a point: 1.5 in place of 1,5."
        return self.refusal(number, column, cell, "a number", hint)

    def refusal(self, number: int, column: int, cell: str, expected: str, hint: str) -> DataError:
        found = f"holds {plain(repr(cell))}" if cell else "is empty"
        where = f"{self.path}: line {number}, {self.called(column)}"
        return DataError(f"{where} {found} (columns are separated by {SEPARATORS[self.separator]}); expected {expected}.", hint=hint)


def numbers(row: Sequence[str]) -> list[float] | None:
    """None where a cell is no decimal number. Python itself would also read 1_000, nan and digits of other scripts."""
    if not _DIGITS.fullmatch("".join(row)):
        return None
    try:
        return [float(cell) for cell in row]
    except ValueError:
        return None


def is_name(cell: str) -> bool:
    """Whether a label is a name, rather than nothing, or a number in another way of writing."""
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return not _MISSING.fullmatch(cell)
    return False


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))]


def _lines(path: Path, longest: int) -> Iterator[tuple[int, str]]:
    """(its number from 1, a line that is not empty), blanks at its ends taken off, but not tabs, which separate."""
    with path.open("rb") as file:
        begin = file.read(4)
    encoding = next((name for mark, name in MARKS.items() if begin.startswith(mark)), "utf-8-sig")
    with path.open(encoding=encoding) as text:
        for number in count(1):
            line = text.readline(longest + 1)
            if not line:
                return
            if len(line) > longest:
                message = f"{path}: line {number} has more than {longest:,} characters; expected one sample."
                raise DataError(message, hint="Put each sample into a line of its own.")
            if "\0" in line:
                message = f"{path}: line {number} holds zero bytes, as UTF-16 without its mark does; expected text in UTF-8."
                raise DataError(message, hint="Save it as text in UTF-8.")
            if line.strip():
                yield number, line.strip(" \r\n")


def _names(path: Path, row: list[str], unnamed: bool) -> list[str]:
    """Names of columns in lower case; none where the line holds something else.

    Names are: a label among them, or none of them a number and one at least nothing like a number.
    """
    names = [cell.lower() for cell in row]
    labelled = any(name in LABEL_COLUMNS for name in names)
    if not labelled and (any(numbers([cell]) for cell in row) or all(_LIKE_A_NUMBER.fullmatch(name) for name in names)):
        return []
    if not unnamed and (column := next((i for i, name in enumerate(names, 1) if not name or name.startswith("unnamed:")), None)):
        message = f"{path}: column {column} has no name, as an index of lines has none; expected a name for each column."
        raise DataError(message, hint="Take the index out (pandas: to_csv(path, index=False)), name it, or choose --channels.")
    return names
