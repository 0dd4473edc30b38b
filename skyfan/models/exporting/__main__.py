"""The child of `export_program`: `python -P -m skyfan.models.exporting FOLDER MODULES`; the request comes on stdin.

It leaves the program and a reply in FOLDER. MODULES, the folder in which the command was given, is put first on the
path of modules: here alone, so that no other process of Skyfan's imports what lies beside the data.
"""

import sys
from pathlib import Path

from skyfan.errors import SkyfanError
from skyfan.models.exporting.launching import PROGRAM, REPLY
from skyfan.models.exporting.request import ChildReply, ExportRequest


def main() -> None:
    """Exports, and writes down how it went."""
    from skyfan.models.exporting.tracing import export

    folder, modules = map(Path, sys.argv[1:])
    request = ExportRequest.model_validate_json(sys.stdin.buffer.read())
    sys.path.insert(0, str(modules))
    try:
        data, report = export(request)
        (folder / PROGRAM).write_bytes(data)
        reply = ChildReply(report=report)
    except SkyfanError as error:
        reply = ChildReply(error=str(error), kind=error.error_name())
    (folder / REPLY).write_text(reply.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
