"""A network's graph as an ONNX file beside its safetensors file, which keeps the numbers.

ONNX may take tensors from places in another file, and a safetensors file is such places: so the graph is a
few kilobytes, the weights stand on the disk once, and the two cannot differ. What calls this names the inputs
and which of their sides are free.

Exported U-Nets take their input in two parts: what bfloat16 keeps of it, and the rest. Nearly all the error
of bfloat16 in these networks comes from rounding what they see (air, at -1 in their units, in steps of 4 HU);
in two parts it is exact.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import replace_when_done

#: Version of the ONNX operators; what torch exports by default, and what OpenVINO and onnxruntime read.
OPSET = 20
#: Tensors shorter than this stay in the graph: shapes and the like.
_SHORT = 1024


@dataclass(frozen=True)
class ExportForm:
    """A module to export: an example of each of its `inputs` by name, which axes of each are `free`
    (`torch.export.Dim`), and what stands before the parameter names where it wraps the network that the
    weights belong to."""

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    free: Sequence[Mapping[int, Any]]
    prefix: str = ""


class InTwoParts(nn.Module):
    """MONAI's BasicUNet on pixel-unshuffled images whose input comes in two parts that add up to it
    (`engines.in_two_parts`)."""

    def __init__(self, body: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.body, self.scale = body, scale

    def forward(self, upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
        body: Any = self.body
        first = body.conv_0.conv_0
        convolved = first.conv(F.pixel_unshuffle(upper, 2))
        convolved = convolved + F.conv2d(
            F.pixel_unshuffle(lower, 2), first.conv.weight, padding=first.conv.padding
        )
        levels = [body.conv_0.conv_1(first.adn(convolved))]
        for down in (body.down_1, body.down_2, body.down_3, body.down_4):
            levels.append(down(levels[-1]))
        up = levels.pop()
        for join in (body.upcat_4, body.upcat_3, body.upcat_2, body.upcat_1):
            up = join(up, levels.pop())
        return self.scale * F.pixel_shuffle(body.final_conv(up), 2)


def export(form: ExportForm, weights: Path, target: Path) -> None:
    """Write the graph to `target`, in the folder of its safetensors file `weights`.

    Raises InputError where the packages that export are missing.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise InputError(
            f"Exporting needs the package '{error.name}': pip install 'ctenhance[export]'."
        ) from error
    program = torch.onnx.export(
        form.module.eval(),
        tuple(form.inputs.values()),
        dynamo=True,
        dynamic_shapes=tuple(dict(axes) for axes in form.free),
        input_names=list(form.inputs),
        output_names=["output"],
        opset_version=OPSET,
        verbose=False,
    )
    model = program.model_proto  # type: ignore[union-attr]
    places = _places(weights)
    for tensor in model.graph.initializer:
        place = places.get(tensor.name.removeprefix(form.prefix))
        if place is None:
            if len(tensor.raw_data) > _SHORT:
                raise InputError(
                    f"'{tensor.name}' of the network is not in '{weights.name}': export the network itself."
                )
            continue
        shape, offset, length = place
        if list(tensor.dims) != shape or len(tensor.raw_data) != length:
            raise InputError(f"'{tensor.name}' has another form in the graph than in '{weights.name}'.")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", offset), ("length", length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
    _without_traces(model)
    with replace_when_done(target) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _places(weights: Path) -> dict[str, tuple[list[int], int, int]]:
    """Shape, offset in the file and length in bytes of each tensor in a safetensors file."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {
        name: (
            tensor["shape"],
            8 + length + tensor["data_offsets"][0],
            tensor["data_offsets"][1] - tensor["data_offsets"][0],
        )
        for name, tensor in header.items()
        if name != "__metadata__"
    }


def _without_traces(model: Any) -> None:
    """Take out what the exporter says of the source files, whose paths name this computer's folders."""
    model.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
