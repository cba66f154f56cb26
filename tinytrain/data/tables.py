# SPDX-License-Identifier: Apache-2.0
"""Tables of numbers in text (.csv): one sample a line, separated by commas, semicolons or tabs; UTF-8, or UTF-16 and UTF-32 that say so.

They say so by a byte order mark. A line of names may come first, also as a comment (`numpy.savetxt` writes it so). Lines that are empty,
hold separators alone, or begin with # are left out, and so are separators at the end of every line. A number is decimal, with a point:
1, -2.5, 3e-4. What else could be meant (a decimal comma, 1_000, nan) is refused with its place. docs/data.md says which column is the
label.
"""

from __future__ import annotations

import codecs
import csv
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np

from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import check_file, plain, reading

LABEL_COLUMNS = ("label", "labels", "class", "target")
AXIS = "y"                                                # a label too, where it is no axis of x, y, z
SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
MOST_TABLE_BYTES = 150_000_000
MOST_CELL = 1_000                                         # characters of a cell, on average over a line
EXPECTED = "a table of numbers in text, separated by commas"
COUNTED = 3                                               # columns from which on 0, 1, 2 in the first line look like names

_DIGITS = re.compile(r"[0-9+\-.eE]*")
_LIKE_A_NUMBER = re.compile(r"[+-]?(\.?\d.*|nan|inf|infinity)|n/?a|null|none|", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """`numbers`: float64 (n, columns). `names` of the columns in lower case, none where the file gives none."""

    names: list[str]
    numbers: Array
    notes: tuple[str, ...] = ()


def read_csv(path: Path, sample: int, target: int) -> tuple[Array, Array | None, tuple[str, ...]]:
    """(samples of `sample` numbers, their targets of `target` numbers, notes on what was chosen).

    A table without targets is fine where they can be done without: they are None then.
    """
    check_file(path, MOST_TABLE_BYTES, EXPECTED, DataError)
    with reading(path, EXPECTED, DataError, "Save it as text in UTF-8, one sample a line."):
        table = _read(path, MOST_CELL * (sample + target + 2))
    data, names, notes = table.numbers, table.names, table.notes
    width = data.shape[1]
    column = _label(path, names) if target <= 1 else None
    if column is not None and width == sample + 1:
        if names[column] == AXIS:
            notes += (f"column {column + 1} ({AXIS}) of {path} is taken as the target",)
        return np.delete(data, column, axis=1), data[:, column], notes
    if column is not None and names[column] != AXIS:
        message = f"{path}: its rows hold {width - 1} numbers beside the column {names[column]!r}; expected {sample} for the sample."
        raise DataError(message, hint="Put one whole sample into a line; rename the column if it is no label.")
    if width == sample:
        return data, None, notes
    if width == sample + max(target, 1):
        last = f"the last {target} columns" if target > 1 else f"the last column{f' ({plain(names[-1])})' if names else ''}"
        notes += (f"{last} of {path} {'are' if target > 1 else 'is'} taken as the target: no column is called label",)
        return data[:, :sample], data[:, -1] if target <= 1 else data[:, sample:], notes
    raise DataError(
        f"{path}: its rows hold {width} numbers; expected {sample} for the sample and {max(target, 1)} for the target.",
        hint="Put one whole sample into a line, the target last or in a column called label.",
    )


def _label(path: Path, names: list[str]) -> int | None:
    """The column that is called a label."""
    found = [i for i, name in enumerate(names) if name in LABEL_COLUMNS]
    if not found and "z" not in names:
        found = [i for i, name in enumerate(names) if name == AXIS]
    if len(found) > 1:
        called = " and ".join(f"{i + 1} ({names[i]})" for i in found)
        raise DataError(f"{path}: columns {called} are both called labels; expected one.", hint="Take the others out, or rename them.")
    return found[0] if found else None


def _read(path: Path, longest: int) -> Table:
    first = [line for _, line in islice((found for found in _lines(path, longest) if not found[1].startswith("#")), 2)]
    separator = next(s for s in SEPARATORS if s in first[-1] or s == ",") if first else ","
    names: list[str] = []
    numbers = array("d")
    notes: tuple[str, ...] = ()
    remark = ""
    total = width = 0
    for number, line in _lines(path, longest):
        if line.startswith("#"):
            remark = remark if width else line
            continue
        row = [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))]
        if not any(row):
            continue
        if not width:
            total, width = len(row), max(i for i, cell in enumerate(row, 1) if cell)
            names = _names(path, row[:width])
            if names:
                continue
            above = [cell.strip(' "') for cell in remark.lstrip("# ").split(separator)]
            names = _names(path, above) if len(above) == width else []
            if total >= COUNTED and row == [str(i) for i in range(total)]:
                notes = (f"line {number} of {path} counts 0, 1, 2, … as a line of names may; it is read as a sample",)
        if len(row) != total or any(row[width:]):
            beyond = max((i for i, cell in enumerate(row, 1) if cell), default=0)
            raise DataError(
                f"{path}: line {number} holds {beyond} values (separated by {SEPARATORS[separator]}), the first one {width}; "
                "expected as many in each line.", hint="Complete the line, or take it out.",
            )
        found = _numbers(row[:width])
        if found is None:
            raise _no_number(path, number, row[:width], names, separator)
        numbers.extend(found)
    if not numbers:
        raise DataError(f"{path} holds no lines of numbers; expected one line a sample.", hint="Check that it is comma-separated text.")
    return Table(names, np.frombuffer(numbers, np.float64).reshape(-1, width), notes)


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


def _names(path: Path, row: list[str]) -> list[str]:
    """Names of columns in lower case; none where the line holds something else.

    Names are: a label among them, or none of them a number and one at least nothing like a number.
    """
    names = [cell.lower() for cell in row]
    labelled = any(name in LABEL_COLUMNS for name in names)
    if not labelled and (any(_numbers([cell]) for cell in row) or all(_LIKE_A_NUMBER.fullmatch(name) for name in names)):
        return []
    if unnamed := next((i for i, name in enumerate(names, 1) if not name or name.startswith("unnamed:")), None):
        message = f"{path}: column {unnamed} has no name, as an index of lines has none; expected a name for each column."
        raise DataError(message, hint="Take the index out (pandas: to_csv(path, index=False)), or name the column.")
    return names


def _numbers(row: list[str]) -> list[float] | None:
    """None where a cell is no decimal number. Python itself would also read 1_000, nan and digits of other scripts."""
    if not _DIGITS.fullmatch("".join(row)):
        return None
    try:
        return [float(cell) for cell in row]
    except ValueError:
        return None


def _no_number(path: Path, number: int, row: list[str], names: list[str], separator: str) -> DataError:
    column, cell = next((i, cell) for i, cell in enumerate(row) if _numbers([cell]) is None)
    called = f" ({plain(names[column])})" if names else ""
    found = f"holds {plain(repr(cell))}" if cell else "is empty"
    hint = "Replace text by numbers, for example class names by 0, 1, 2."
    if "," in cell:
        hint = "Write decimals with a point: 1.5 in place of 1,5."
    where = f"{path}: line {number}, column {column + 1}{called}"
    return DataError(f"{where} {found} (columns are separated by {SEPARATORS[separator]}); expected a number.", hint=hint)
