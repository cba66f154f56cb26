# SPDX-License-Identifier: Apache-2.0
"""External data of an ONNX model: read only from inside the model's own folder.

A model file comes from elsewhere; it must not be able to make the compiler read another file of the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.frontend.limits import MAX_BYTES, tensors
from tinytrain.reading import first_line, reading

if TYPE_CHECKING:
    import onnx


def load_external_data(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Put the content of external files into the tensors; which files. Raises ModelError for a missing, short or foreign one."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    folder = path.resolve().parent
    read: dict[Path, None] = {}
    for name, tensor in tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = {e.key: e.value for e in tensor.external_data}.get("location", "")
        with reading(path, f"the data of tensor {name} in a file beside it", ModelError, hint="Copy the data file next to the model."):
            size = _size(path, folder, name, location)
        try:
            load_external_data_for_tensor(tensor, str(folder))
            onnx.numpy_helper.to_array(tensor)
        except Exception as error:
            raise ModelError(
                f"{path}: tensor {name} cannot be read from {location} ({size:,} bytes): {first_line(error)}.",
                hint="The data file may be truncated or belong to another model: copy it again.",
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
        read[folder / location] = None
    return [*read]


def _size(path: Path, folder: Path, name: str, location: str) -> int:
    """Bytes of a data file that may be read."""
    file = (folder / location).resolve()
    if not location or not file.is_relative_to(folder):
        raise ModelError(
            f"{path}: tensor {name} has its data in {location or 'no file'}, which lies outside the model's folder {folder}; "
            "expected a file inside it.",
            hint="Copy the data file next to the model and save the model with a relative location.",
        )
    if not file.is_file():
        found = "is no file" if file.exists() else "does not exist"
        raise ModelError(
            f"{path}: tensor {name} has its data in {location}, but {file} {found}.",
            hint="Copy the data file next to the model, under that name.",
        )
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(
            f"{path}: tensor {name} has its data in {location} of {size:,} bytes; at most {MAX_BYTES:,} are read.",
            hint="Is it the right file? No microcontroller holds such a tensor.",
        )
    return size
