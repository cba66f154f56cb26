# SPDX-License-Identifier: Apache-2.0
"""Tables (.csv) as samples: which columns are read, and which are the target. docs/data.md says it for people."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from tinytrain.data.file import DataFile
from tinytrain.data.labels import Raw, listed, named
from tinytrain.data.rows import LABEL_COLUMNS, Table, is_name, numbers
from tinytrain.errors import DataError
from tinytrain.ir.types import Array
from tinytrain.reading import check_file, plain, reading

AXIS = "y"                                                # a label too, where it is no axis of x, y, z
MOST_TABLE_BYTES = 150_000_000
MOST_CELL = 1_000                                         # characters of a cell, on average over a line
MOST_CHOSEN = 1_000_000                                   # characters of a line of which columns are chosen
EXPECTED = "a table of numbers in text, separated by commas"


def read_csv(file: DataFile, sample: int, target: int) -> Raw:
    """Samples of `sample` numbers, or the rows of a series, and their targets of `target` numbers; one target may be the name of a class.

    A table without targets is fine where they can be done without: they are None then. Raises DataError.
    """
    path = file.path
    check_file(path, MOST_TABLE_BYTES, EXPECTED, DataError)
    each = sample // file.window if file.window and sample % file.window == 0 else sample
    if file.window and sample % file.window:
        message = f"--window {file.window} does not fit the model, whose samples have {sample:,} numbers."
        raise DataError(message, hint="Expected as many rows as the model takes steps of time.")
    longest = MOST_CHOSEN if file.columns or file.window else MOST_CELL * (sample + target + 2)
    with reading(path, EXPECTED, DataError, "Save it as text in UTF-8, one sample a line."):
        table = Table.open(path, longest, unnamed=bool(file.columns))
        if not table.begin:
            raise _nothing(file)
        features, targets, notes = _columns(file, table, each, target)
        x, y = _read(table, features, targets if target else ())
    if not len(x):
        raise _nothing(file)
    aims, classes = named(y) if y is not None else (None, ())
    return Raw(x, aims, classes, table.notes + notes)


def _columns(file: DataFile, table: Table, each: int, target: int) -> tuple[list[int], list[int], tuple[str, ...]]:
    """(columns of a sample, of its targets, what was chosen)."""
    path, names, width = table.path, table.names, table.width
    notes: tuple[str, ...] = ()
    targets = [_find(table, "--label", name) for name in file.targets]
    label = _label(table) if not targets else None
    if file.columns:
        features = [_find(table, "--channels", name) for name in file.columns]
        if twice := next((i for i in features if i in targets), None):
            raise DataError(f"{path}: {table.called(twice)} is both a channel and the label; expected one of them.")
        targets = targets or [i for i in (label,) if i is not None and i not in features]
    else:
        if label is not None and (width == each + 1 or (names[label] != AXIS and width != each + max(target, 1))):
            targets = [label]
            notes = (f"{table.called(label)} is taken as the target",) if names[label] == AXIS else ()
        elif not targets and width == each + max(target, 1):
            targets = list(range(each, width))
            last = f"the last {target} columns" if target > 1 else f"the last column{f' ({plain(names[-1])})' if names else ''}"
            notes = (f"{last} {'are' if target > 1 else 'is'} taken as the target: no column is called label",)
        features = [i for i in range(width) if i not in targets]
    if len(features) != each:
        raise _other_width(file, table, features, targets, each, target)
    return features, targets, notes


def _find(table: Table, option: str, given: str) -> int:
    """The column of that name, or of that number from 1 on where none is called so."""
    name = given.strip().lower()
    found = [i for i, other in enumerate(table.names) if other == name]
    if not found and name.isdecimal() and 1 <= int(name) <= table.width:
        return int(name) - 1
    if len(found) != 1:
        has = f"its columns are {listed(table.names)}" if table.names else f"it has {table.width} columns without names"
        count = "no column" if not found else f"{len(found)} columns"
        raise DataError(f"{table.path}: {option} {plain(given)}: {count} of that name; {has}.", hint="A number counts columns from 1.")
    return found[0]


def _label(table: Table) -> int | None:
    """The column that is called a label."""
    names = table.names
    found = [i for i, name in enumerate(names) if name in LABEL_COLUMNS]
    if not found and "z" not in names:
        found = [i for i, name in enumerate(names) if name == AXIS]
    if len(found) > 1:
        called = " and ".join(f"{i + 1} ({names[i]})" for i in found)
        raise DataError(f"{table.path}: columns {called} are both called labels; expected one.", hint="Say which: --label NAME.")
    return found[0] if found else None


def _other_width(
    file: DataFile, table: Table, features: Sequence[int], targets: Sequence[int], each: int, target: int
) -> DataError:
    """Why these are not the columns of a sample; of a file that is no such table at all, the first cell that is no number."""
    number, row = next(table.rows(), (0, []))
    if not row:
        return _nothing(file)
    if not file.columns and numbers([row[i] for i in features]) is None:
        return table.no_number(number, row, features)
    what = "the row of a window" if file.window else "the sample"
    hint = "Put one whole sample into a line, the target last or in a column called label."
    if table.names:
        hint = f"Choose columns by --channels and --label; there are {listed(table.names)}."
    if not file.window and len(features) > 1 and each % len(features) == 0:
        hint = f"Where a line is one step of time: --window {each // len(features)}."
    if file.columns:
        return DataError(f"{table.path}: --channels names {len(features)} columns; expected {each} for {what}.", hint=hint)
    if targets:
        beside = f"the column {table.names[targets[0]]!r}" if table.names and len(targets) == 1 else f"{len(targets)} of the target"
        return DataError(f"{table.path}: its rows hold {len(features)} numbers beside {beside}; expected {each} for {what}.", hint=hint)
    message = f"{table.path}: its rows hold {table.width} numbers; expected {each} for {what} and {max(target, 1)} for the target."
    return DataError(message, hint=hint)


def _read(table: Table, features: Sequence[int], targets: Sequence[int]) -> tuple[Array, Array | None]:
    """float64 (n, features), and float64 or text (n,), float64 (n, targets): one target may be a name, in each row or in none."""
    x, y, texts, first = array("d"), array("d"), list[str](), 0
    for number, row in table.rows():
        first = first or number
        found, aims = (numbers([row[i] for i in columns]) for columns in (features, targets))
        if found is None:
            raise table.no_number(number, row, sorted({*features, *(targets if y else ())}))
        x.extend(found)
        if aims is not None and not texts:
            y.extend(aims)
        elif len(targets) == 1 and not y and aims is None and is_name(row[targets[0]]):
            texts.append(row[targets[0]])
        elif texts:
            cell = row[targets[0]]
            raise table.refusal(number, targets[0], cell, f"a name, as line {first} has", "Give all labels as names, or all as numbers.")
        else:
            hint = f"Give all labels as numbers, as line {first} has one, or all as names." if y else ""
            raise table.no_number(number, row, targets, hint)
    samples = np.frombuffer(x, np.float64).reshape(-1, len(features))
    if texts:
        return samples, np.array(texts)
    if not targets:
        return samples, None
    return samples, np.frombuffer(y, np.float64).reshape(-1, *(() if len(targets) == 1 else (len(targets),)))


def _nothing(file: DataFile) -> DataError:
    return DataError(f"{file} holds no lines of numbers; expected one line a sample.", hint="Check that it is comma-separated text.")
