"""Outputs of the module that a program was exported from, kept in the program's archive by `skyfan model export`.

The trial of a program compares its own outputs on the same rows with them: weights or outputs that were exchanged, and
a torch that computes something else than the one that exported, are found before anything is predicted.
"""

import json
import math

import numpy as np
from numpy.typing import NDArray

from skyfan.models.exporting.command import EXPORT_COMMAND
from skyfan.models.programs import fields
from skyfan.models.programs.archive import ProgramArchive
from skyfan.models.programs.fields import items, mapping, refuse

# torch.export.save writes its `extra_files` below `extra/`; torch.export.load leaves them alone.
REFERENCE_FILE = "skyfan_reference.json"
_ENTRY, _KEY = f"extra/{REFERENCE_FILE}", "reference_outputs"
MAX_COLUMNS = 256
"""Columns of wide outputs that are kept: any other weights show in them, too."""
# |exported here − eager there| ≤ this · max(1, |eager there|): other processors and versions of torch may differ by it.
TOLERANCE = 1e-4


def reference_json(outputs: NDArray[np.float64]) -> str:
    """What is kept of outputs [rows, columns]; values that are not finite are null."""
    rows = outputs[:, :MAX_COLUMNS].tolist()
    return json.dumps({_KEY: [[value if math.isfinite(value) else None for value in row] for row in rows]})


def check_reference(data: bytes, found: NDArray[np.float64]) -> None:
    """Holds the program's outputs [rows, columns] against those in its file, if it has any; raises `Refusal`."""
    archive = ProgramArchive.open(data)
    if f"{archive.folder}{_ENTRY}" not in archive.sizes:
        return
    held = mapping(fields.parse(archive.read(_ENTRY), "reference outputs"), "its reference outputs").get(_KEY)
    rows = [
        items(row, "its reference outputs", MAX_COLUMNS) for row in items(held, "its reference outputs", len(found))
    ]
    if any(not isinstance(value, float | None) for row in rows for value in row):
        refuse("is damaged: its reference outputs are no numbers")
    kept = found[:, :MAX_COLUMNS]
    if [len(row) for row in rows] != [kept.shape[1]] * len(kept):
        refuse(f"holds reference outputs of another shape than its outputs {list(kept.shape)}")
    expected = np.array(rows, np.float64)
    difference = np.abs(kept - expected) / np.maximum(1, np.abs(expected))
    worst = float(difference[np.isfinite(expected)].max(initial=0.0))
    if not worst <= TOLERANCE:
        refuse(
            f"gives other outputs here than the module that it was exported from: by {worst:.1e} · max(1, |y|), more "
            f"than {TOLERANCE:.0e}; its weights or its reference outputs were changed: export it again, "
            f"{EXPORT_COMMAND.format(weights='CKPT')}"
        )
