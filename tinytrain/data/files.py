# SPDX-License-Identifier: Apache-2.0
"""Readers of tables of numbers (.csv) and of folders of images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tinytrain.errors import DataError, ToolError
from tinytrain.ir.types import Array

LABEL_COLUMNS = ("label", "labels", "class", "target", "y")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


def read_csv(path: Path, sample: int, target: int) -> tuple[Array, Array | None]:
    """One sample a row: `sample` numbers, then `target` numbers; a column called label may stand anywhere. A first row of names is fine.

    A table without targets is fine where they can be done without: y is None then.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of numbers ({error}); expected comma-separated text.") from None
    names = [] if not rows or _numbers(rows[0]) is not None else [name.strip().lower() for name in rows.pop(0)]
    if not rows:
        raise DataError(f"{path} holds no rows of numbers; expected one row a sample.", hint="Check that it is comma-separated text.")
    table = []
    for index, row in enumerate(rows):
        numbers = _numbers(row)
        if numbers is None or len(row) != len(rows[0]):
            raise DataError(
                f"{path}: row {index + 1 + bool(names)} does not hold {len(rows[0])} numbers; "
                f"expected {sample} for the sample and {target or 'none'} for the target.",
                hint="Replace text by numbers, for example class names by 0, 1, 2.",
            )
        table.append(numbers)
    data = np.array(table, np.float64)
    width = data.shape[1]
    column = next((names.index(name) for name in LABEL_COLUMNS if name in names), None) if target <= 1 else None
    if column is not None and width == sample + 1:
        return np.delete(data, column, axis=1), data[:, column]
    if width == sample:
        return data, None
    if width == sample + max(target, 1):
        y = data[:, sample:]
        return data[:, :sample], y[:, 0] if y.shape[1] == 1 else y
    raise DataError(
        f"{path}: its rows hold {width} numbers; expected {sample} for the sample and {max(target, 1)} for the target.",
        hint="Put one whole sample into a row, the target last.",
    )


def _numbers(row: list[str]) -> list[float] | None:
    try:
        return [float(cell) for cell in row]
    except ValueError:
        return None


def read_images(folder: Path, shape: tuple[int, ...], labelled: bool) -> tuple[Array, Array | None]:
    """uint8 (n, C, H, W) and labels: subfolders in alphabetical order are the classes 0, 1, …"""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(
            f"{folder} is a folder of images, but the model takes samples of shape {shape}; expected (1, H, W) or (3, H, W) for images.",
            hint="Use an .npz file.",
        )
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if labelled and not classes:
        raise DataError(f"{folder} has no subfolders; expected one subfolder with images for each class.", hint="Sort the images by class.")
    found = [(file, index) for index, sub in enumerate(classes) for file in sorted(sub.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
    if not classes:
        found = [(file, 0) for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise DataError(f"{folder} holds no images; expected files like {', '.join(IMAGE_SUFFIXES[:3])}.")
    x = np.stack([_read_image(file, shape) for file, _ in found])
    return x, np.array([index for _, index in found], np.int32) if classes else None


def _read_image(file: Path, shape: tuple[int, ...]) -> Array:
    """uint8 (C, H, W), grey or RGB as the model takes it."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ToolError("Images are read by the package Pillow, which is not installed.", hint="Install it: pip install pillow") from None
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if shape[0] == 1 else "RGB"), np.uint8)
    except (OSError, UnidentifiedImageError):
        raise DataError(f"{file} is not an image that Pillow can read; expected {', '.join(IMAGE_SUFFIXES[:3])} or the like.") from None
    if pixels.shape[:2] != shape[1:]:
        height, width = pixels.shape[:2]
        raise DataError(
            f"{file} is {width}x{height} pixels (width x height); expected {shape[2]}x{shape[1]}, as the model takes it.",
            hint="Resize the images.",
        )
    return pixels.reshape(*shape[1:], shape[0]).transpose(2, 0, 1)
