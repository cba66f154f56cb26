# SPDX-License-Identifier: Apache-2.0
"""What a page runs a compiled model with, and keeps what it learns in: the model as WebAssembly, and an ONNX file to write weights into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinytrain.errors import ToolError

if TYPE_CHECKING:
    import onnx

    from tinytrain.device.project import Project


@dataclass(frozen=True)
class Teaching:
    """`module` is the model as WebAssembly. `learned` is an ONNX file with the compiled weights; `places` say where in it each trained
    initializer stands, so that whoever has learned others writes them there. `why_not` is a sentence where there is none of this.
    """

    module: bytes = b""
    learned: bytes = b""
    places: tuple[dict[str, Any], ...] = ()
    why_not: str = ""

    @classmethod
    def of(cls, project: Project) -> Teaching:
        """Raises ModelError where the project's model is damaged; tools that are missing are a reason, and no error."""
        if project.manifest.target is None:
            return cls(why_not=f"{project.manifest.name} was compiled for inference only. Compile it with --loss and --scheme.")
        try:
            module = project.module().read_bytes()
        except ToolError as error:
            return cls(why_not=f"The model could not be made into WebAssembly: {' '.join(filter(None, [*error.sentences, error.hint]))}")
        trained = {p.name: project.initializers[p.name] for p in project.manifest.parameters}
        model = project.with_weights(trained)
        data = model.SerializeToString()
        return cls(module, data, tuple(_place(tensor, data) for tensor in model.graph.initializer if tensor.name in trained))


def _place(tensor: onnx.TensorProto, model: bytes) -> dict[str, Any]:
    """Of a tensor that is stored raw: which bytes of the model are its elements, little-endian, in ONNX layout."""
    import onnx

    whole = tensor.SerializeToString()                    # fields in order of their numbers: of those that are used, the elements come last
    assert whole.endswith(tensor.raw_data) and model.count(whole) == 1, f"{tensor.name} is not stored raw, or not once"
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    at = model.index(whole) + len(whole) - len(tensor.raw_data)
    return {"name": tensor.name, "at": at, "bytes": len(tensor.raw_data), "dtype": dtype.str, "shape": list(tensor.dims)}
