# SPDX-License-Identifier: Apache-2.0
"""Files of other kinds that people give as a model: named, with the way from them to ONNX."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from tinytrain.errors import ModelError

_EXPORT = "tinytrain.from_torch(module, example, 'model.onnx')"
_CHECKPOINT = ("a PyTorch checkpoint, which holds weights and no graph", f"Load it into its module in Python, and export that: {_EXPORT}.")
_PROGRAM = ("a PyTorch exported program", "Load it by torch.export.load(file), and export it: torch.onnx.export(program, f='model.onnx').")
_KERAS = ("a Keras model", "Load it in Keras and export it: model.export('model.onnx', format='onnx'), or use tf2onnx.")
# Beginning of the file → what it is, and what to do.
_BEGINNINGS = {
    b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19": _CHECKPOINT,               # of PyTorch before 1.6
    b"\x89HDF\r\n\x1a\n": _KERAS,
    b"\x93NUMPY": ("a NumPy array", "Give an .onnx file; data go to --data."),
}
# Ends of names in a zip file → the same.
_MEMBERS = {
    "/constants.pkl": ("a TorchScript model", f"Export the module that it was made of: {_EXPORT}."),
    "/data.pkl": _CHECKPOINT,
    "/archive_format": _PROGRAM,                                                         # since PyTorch 2.8
    "/serialized_exported_program.json": _PROGRAM,
    "model.weights.h5": _KERAS,
    ".npy": ("an .npz of arrays", "Give an .onnx file; data go to --data, and learned weights to `tinytrain push`."),
}


def refuse_foreign(content: bytes, path: Path) -> None:
    """Raise ModelError where the file is none of ONNX, and its kind is known."""
    if found := _kind(content):
        what, hint = found
        raise ModelError(f"{path} is {what}; expected an ONNX model.", hint=hint)


def refuse_folder(path: Path) -> None:
    """Raise ModelError for a folder of which is known what it is."""
    if (path / "saved_model.pb").is_file():
        hint = f"Convert it: python -m tf2onnx.convert --saved-model {path} --output model.onnx."
        raise ModelError(f"{path} is a TensorFlow SavedModel; expected an ONNX model.", hint=hint)
    if (path / "manifest.json").is_file() and (path / "model.onnx").is_file():
        hint = f"Give {path / 'model.onnx'}, or what it has learned, {path / 'learned.onnx'}."
        raise ModelError(f"{path} is a compiled project; expected an ONNX model.", hint=hint)


def _kind(content: bytes) -> tuple[str, str] | None:
    if beginning := next((start for start in _BEGINNINGS if content.startswith(start)), None):
        return _BEGINNINGS[beginning]
    if content[4:8] == b"TFL3":
        return "a TensorFlow Lite model", "Convert it, or what it was made of: python -m tf2onnx.convert --tflite FILE."
    if content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05":
        return "a Python pickle, as scikit-learn models are kept in", "Load it in Python, and export it: skl2onnx.to_onnx(model, x[:1])."
    length = int.from_bytes(content[:8], "little")
    if content[8:10] == b'{"' and 2 <= length <= len(content) - 8:
        return "a file of safetensors, which holds weights and no graph", f"Load it into its module in Python, and export that: {_EXPORT}."
    if not content.startswith(b"PK\x03\x04"):
        return None
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return "a damaged zip file, as PyTorch and Keras write them", "Export the model as ONNX."
    return next((_MEMBERS[end] for end in _MEMBERS if any(f"/{name}".endswith(end) for name in names)), ("a zip file", "Unpack it."))
