"""One Parquet file with a VOTable header in its metadata (VOParquet), which TOPCAT, STILTS and astropy read.

The convention: https://www.ivoa.net/documents/Notes/VOParquet/ ; a reader that does not know it sees plain Parquet.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from skyfan.runs.exports.results import Column, Results, plain_values

_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
_VERSION_KEY, _CONTENT_KEY = b"IVOA.VOTable-Parquet.version", b"IVOA.VOTable-Parquet.content"
# Types of VOTable 1.4, each large enough for the Parquet type. It has none for uint64: as `long` astropy would make
# floats of such IDs, so that the header leaves them out and the Parquet type counts.
_DATATYPES = {
    "bool": "boolean",
    "uint8": "unsignedByte",
    "int8": "short",
    "int16": "short",
    "uint16": "int",
    "int32": "int",
    "uint32": "long",
    "int64": "long",
    "halffloat": "float",
    "float": "float",
    "double": "double",
    "string": "unicodeChar",
}


def write_parquet(results: Results, path: Path) -> int:
    """Writes the file and returns its number of rows."""
    columns = results.columns
    _, widths = results.text_widths()
    header = votable_header(columns, widths, results.plan.run_id)
    lengths = {
        f"table::len::{name}".encode(): str(width).encode() for name, width in widths.items()
    }  # astropy's, of text
    schema = results.schema.with_metadata({_VERSION_KEY: b"1.0", _CONTENT_KEY: header, **lengths})
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in results.pieces():
            writer.write_table(_as_in_votables(table, columns).replace_schema_metadata(schema.metadata))
            rows += len(table)
    return rows


def _as_in_votables(table: pa.Table, columns: tuple[Column, ...]) -> pa.Table:
    """Text that is not there as empty text, vectors as NaN: VOTables know no other, and astropy reads no other."""
    for position, column in enumerate(columns):
        values = table[position].combine_chunks()
        if pa.types.is_string(column.kind):
            table = table.set_column(position, table.schema.field(position), values.fill_null(""))
        elif column.row_shape and values.null_count:
            flat = pa.array(plain_values(values, column).reshape(-1), values.type.value_type)
            vectors = pa.FixedSizeListArray.from_arrays(flat, values.type.list_size)
            table = table.set_column(position, table.schema.field(position), vectors)
    return table


def votable_header(columns: tuple[Column, ...], widths: Mapping[str, int], run_id: str) -> bytes:
    """A VOTable document without rows: the columns' types, units, UCDs and descriptions.

    `widths` are the longest texts; with `*` alone astropy takes a column of text for one of objects.
    """
    root = ElementTree.Element("VOTABLE", {"version": "1.4", "xmlns": _NAMESPACE})
    table = ElementTree.SubElement(
        ElementTree.SubElement(root, "RESOURCE", type="results"), "TABLE", name="predictions"
    )
    ElementTree.SubElement(table, "DESCRIPTION").text = f"Predictions of Skyfan run {run_id}"
    for column in columns:
        if str(column.kind) not in _DATATYPES:
            continue
        given = {"name": column.name, "datatype": _DATATYPES[str(column.kind)]}
        if column.row_shape:  # as the file has it: a list. The Arrow schema has shapes of more dimensions.
            given["arraysize"] = str(math.prod(column.row_shape))
        elif pa.types.is_string(column.kind):
            given["arraysize"] = f"{widths[column.name]}*"
        given |= {name: text for name, text in (("unit", column.unit), ("ucd", column.ucd)) if text}
        field = ElementTree.SubElement(table, "FIELD", given)
        if column.description:
            ElementTree.SubElement(field, "DESCRIPTION").text = column.description
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))
