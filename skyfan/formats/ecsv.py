"""The header of ECSV tables: names and types of columns, as YAML behind `# `.

Source of the format: astropy's APE 6, https://github.com/astropy/astropy-APEs/blob/main/APE6.rst. Only the list of
columns and the delimiter are taken from it; objects that astropy would build are not.
"""

import importlib
from dataclasses import dataclass

import pyarrow as pa

from skyfan.errors import DatasetError
from skyfan.formats.base import refusal

_MAGIC = b"# %ECSV"
_MAX_HEADER_BYTES = 256 * 2**10
_TYPES = {
    **{name: getattr(pa, name)() for kind in ("int", "uint") for name in (f"{kind}{bits}" for bits in (8, 16, 32, 64))},
    "float16": pa.float32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "float128": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


def is_ecsv(content: bytes) -> bool:
    """Whether the table's first line is that of ECSV."""
    return content.startswith(_MAGIC)


@dataclass(frozen=True)
class EcsvHeader:
    """The delimiter, and the type of each column; vectors stay text, as they are written."""

    uri: str
    delimiter: str
    types: dict[str, pa.DataType]

    def column(self, name: str, texts: pa.Array) -> pa.Array:
        """The column's text as its type.

        Raises:
            DatasetError: a value is none of that type.
        """
        kind = self.types.get(name, pa.string())
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid as error:
            raise refusal(self.uri, f"has a value in column {name!r} that is no {kind}") from error


def declared_types(uri: str, content: bytes) -> EcsvHeader:
    """What the header tells.

    Raises:
        DatasetError: there is none that can be read, or a library for it is not installed.
    """
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        raise DatasetError("reading ECSV needs PyYAML: pip install 'skyfan[formats]'.") from error
    lines = []
    for line in content[:_MAX_HEADER_BYTES].split(b"\n")[1:]:
        if not line.startswith(b"#"):
            break
        lines.append(line[2:])
    try:
        header = yaml.safe_load(b"\n".join(lines).decode("utf-8", "replace").replace("!!omap", ""))
        types = {one["name"]: _type_of(one) for one in header["datatype"]}
        return EcsvHeader(uri, str(header.get("delimiter", " ")), types)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise refusal(uri, "has no header of ECSV that can be read; write the table again") from error


def _type_of(column: dict[str, object]) -> pa.DataType:
    return pa.string() if column.get("subtype") else _TYPES.get(str(column["datatype"]), pa.string())
