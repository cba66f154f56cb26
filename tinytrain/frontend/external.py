# SPDX-License-Identifier: Apache-2.0
"""External data of an ONNX model: read only from inside the model's own folder.

A model file comes from elsewhere; it must not be able to make the compiler read another file of the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.frontend.limits import tensors
from tinytrain.reading import reading

if TYPE_CHECKING:
    import onnx


def load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Put the content of external files into the tensors. Raises ModelError for a missing, short or foreign file."""
    import onnx

    folder = path.resolve().parent
    for name, tensor in tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            with reading(path, f"the data of tensor {name} in a file beside the model", ModelError):
                _load(tensor, name, path, folder)


def _load(tensor: onnx.TensorProto, name: str, path: Path, folder: Path) -> None:
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    file = (folder / location).resolve()
    if not location or not file.is_relative_to(folder):
        raise ModelError(
            f"{path}: tensor {name} has its data in {location or 'no file'}, which lies outside the model's folder {folder}; "
            "expected a file inside it.",
            hint="Copy the data file next to the model and save the model with a relative location.",
        )
    if not file.is_file():
        raise ModelError(
            f"{path}: tensor {name} has its data in {location}, but {file} does not exist.",
            hint="Copy the data file next to the model, under that name.",
        )
    try:
        load_external_data_for_tensor(tensor, str(folder))
        onnx.numpy_helper.to_array(tensor)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path}: tensor {name} cannot be read from {location} ({file.stat().st_size:,} bytes): {error}.",
            hint="The data file may be truncated or belong to another model: copy it again.",
        ) from None
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
