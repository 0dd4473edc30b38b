"""One Parquet file with a VOTable header in its metadata (VOParquet), which TOPCAT, STILTS and astropy read.

The convention: https://www.ivoa.net/documents/Notes/VOParquet/ ; a reader that does not know it sees plain Parquet.
"""

from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from skyfan.runs.exports.results import Column, Results

_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
_VERSION_KEY, _CONTENT_KEY = b"IVOA.VOTable-Parquet.version", b"IVOA.VOTable-Parquet.content"
# Types of VOTable 1.4, which has no unsigned ones beyond a byte: for those the Parquet file's own type counts.
_DATATYPES = {
    "bool": "boolean",
    "uint8": "unsignedByte",
    "int8": "short",
    "int16": "short",
    "uint16": "int",
    "int32": "int",
    "uint32": "long",
    "int64": "long",
    "uint64": "long",
    "halffloat": "float",
    "float": "float",
    "double": "double",
    "string": "unicodeChar",
}


def write_parquet(results: Results, path: Path) -> int:
    """Writes the file and returns its number of rows."""
    header = votable_header(results.columns, results.plan.run_id)
    schema = results.schema.with_metadata({_VERSION_KEY: b"1.0", _CONTENT_KEY: header})
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in results.pieces():
            writer.write_table(table.replace_schema_metadata(schema.metadata))
            rows += len(table)
    return rows


def votable_header(columns: tuple[Column, ...], run_id: str) -> bytes:
    """A VOTable document without rows: the columns' types, units, UCDs and descriptions."""
    root = ElementTree.Element("VOTABLE", {"version": "1.4", "xmlns": _NAMESPACE})
    table = ElementTree.SubElement(
        ElementTree.SubElement(root, "RESOURCE", type="results"), "TABLE", name="predictions"
    )
    ElementTree.SubElement(table, "DESCRIPTION").text = f"Predictions of Skyfan run {run_id}"
    for column in columns:
        given = {"name": column.name, "datatype": _DATATYPES[str(column.kind)]}
        if column.row_shape:  # a VOTable names the fastest dimension first
            given["arraysize"] = "x".join(str(size) for size in reversed(column.row_shape))
        elif pa.types.is_string(column.kind):
            given["arraysize"] = "*"
        given |= {name: text for name, text in (("unit", column.unit), ("ucd", column.ucd)) if text}
        field = ElementTree.SubElement(table, "FIELD", given)
        if column.description:
            ElementTree.SubElement(field, "DESCRIPTION").text = column.description
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))
