# SPDX-License-Identifier: Apache-2.0
"""Folders of images: grey or RGB of 8 bits a channel, without transparency, one picture a file, of the size that the model takes.

Nothing is scaled, flattened or cut in silence, and a picture is decoded only where its header gives the right size.
"""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.data.arrays import MOST_BYTES, SMALLER
from tinytrain.data.labels import Raw
from tinytrain.errors import DataError, ToolError
from tinytrain.ir.types import Array
from tinytrain.reading import plain, read_limited, reading

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")            # no others: what is inside need not be what the name says
PLAIN = ("1", "L", "P", "RGB")
TRANSPARENT = ("LA", "RGBA", "PA")
OPAQUE = (255, 255)                                       # least and most
EXPECTED = f"an image: {', '.join(SUFFIXES[:3])} or the like"
MOST_IMAGE_BYTES = 50_000_000
SHOWN = 3


def class_folders(folder: Path) -> list[Path]:
    """The subfolders, in the order of their labels. Raises OSError."""
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def read_images(folder: Path, shape: tuple[int, ...], labelled: bool) -> Raw:
    """uint8 (n, C, H, W), and labels: subfolders in alphabetical order are the classes 0, 1, …, and have their names."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(
            f"{folder} is a folder of images, but the model takes samples of shape {shape}; expected (1, H, W) or (3, H, W) for images.",
            hint="Use an .npz file.",
        )
    with reading(folder, "a folder of images", DataError, "Check the path."):
        inside = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
        classes = class_folders(folder)
        found = [(file, index) for index, sub in enumerate(classes) for file in sorted(sub.iterdir()) if not file.name.startswith(".")]
    if labelled and not classes:
        raise DataError(f"{folder} has no subfolders; expected one subfolder with images for each class.", hint="Sort the images by class.")
    beside = [p for p in inside if p not in classes]
    if not classes:
        found, beside = [(file, 0) for file in inside], []
    images = [(file, index) for file, index in found if file.suffix.lower() in SUFFIXES]
    if not images:
        message = f"{folder} holds no images; expected files like {', '.join(SUFFIXES[:3])}."
        raise DataError(message, hint="Put images into it, or into one subfolder for each class.")
    if 4 * len(images) * math.prod(shape) > MOST_BYTES:
        message = f"{folder} holds {len(images):,} images of shape {shape}; expected at most {MOST_BYTES:,} bytes of them as fp32."
        raise DataError(message, hint=SMALLER)
    left = [file for file, _ in found if file.suffix.lower() not in SUFFIXES] + beside
    empty = [f"{i} ({plain(sub.name)})" for i, sub in enumerate(classes) if i not in {index for _, index in images}]
    notes = _note("left out", [plain(file.name) for file in left]) + _note("classes without images", empty)
    x = np.stack([_read_image(file, shape) for file, _ in images])
    y = np.array([index for _, index in images], np.int32) if classes else None
    return Raw(x, y, tuple(sub.name.encode(errors="replace").decode() for sub in classes), notes)


def _note(what: str, names: list[str]) -> tuple[str, ...]:
    return (f"{len(names):,} {what}: {', '.join(names[:SHOWN])}{' …' if len(names) > SHOWN else ''}",) if names else ()


def _read_image(file: Path, shape: tuple[int, ...]) -> Array:
    """uint8 (C, H, W), grey or RGB as the model takes it."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ToolError("Images are read by the package Pillow, which is not installed.", hint="Install it: pip install pillow") from None
    content = io.BytesIO(read_limited(file, MOST_IMAGE_BYTES, EXPECTED, DataError))     # of a file, lengths inside would be believed
    with reading(file, EXPECTED, DataError), warnings.catch_warnings():
        warnings.simplefilter("ignore")                   # of sizes and of damaged remarks: what matters is checked
        Image.init()
        try:
            image = Image.open(content, formats=[name for name in FORMATS if name in Image.OPEN])
        except UnidentifiedImageError:
            raise DataError(f"{file}: is no image that Pillow can read; expected {EXPECTED}.", hint="Make or download it again.") from None
        _check(file, image, shape)
        pixels = np.asarray(image.convert("L" if shape[0] == 1 else "RGB"), np.uint8)
    return pixels.reshape(*shape[1:], shape[0]).transpose(2, 0, 1)


def _check(file: Path, image: Picture, shape: tuple[int, ...]) -> None:
    width, height = image.size
    if (height, width) != shape[1:]:
        raise DataError(
            f"{file} is {width}x{height} pixels (width x height); expected {shape[2]}x{shape[1]}, as the model takes it.",
            hint="Resize the images.",
        )
    if getattr(image, "is_animated", False):
        raise DataError(f"{file} holds several pictures; expected one.", hint="Save each picture in a file of its own.")
    if image.mode not in PLAIN + TRANSPARENT:
        message = f"{file} has pixels of the kind {image.mode}; expected grey or RGB of 8 bits a channel."
        raise DataError(message, hint="Convert the images to 8-bit grey or RGB, or store their values in an .npz file.")
    if (image.mode in TRANSPARENT or "transparency" in image.info) and image.convert("RGBA").getchannel("A").getextrema() != OPAQUE:
        raise DataError(f"{file} has transparent pixels; expected opaque ones.", hint="Lay the images on a background first.")
