"""The door for ONNX files: a model is data until every part of it is known to be harmless.

`operators` lists what a model may call, `reading` holds a file against that list and writes another from what passed,
`external` fetches tensors that lie in files beside it, `session` runs a checked model on onnxruntime, and `trial` lets
it predict first in a confined child. torch is not needed.
"""

NEEDED = "ONNX models need the packages onnx and onnxruntime: pip install 'skyfan[onnx]'."


def is_onnx(data: bytes, uri: str) -> bool:
    """Whether these bytes are an ONNX file: by its name, or as no other format begins with the version of its form."""
    return uri.endswith(".onnx") or (data[:1] == b"\x08" and data[8:9] != b"{")
