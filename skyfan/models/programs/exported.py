"""A checked program as torch's own `ExportedProgram`, for converters; predictions do not need it (see `module`)."""

import io
import json
import logging
import warnings

import torch
from torch.export import ExportedProgram

from skyfan.errors import ModelError
from skyfan.models.programs.archive import GRAPH, write_archive
from skyfan.models.programs.checked import CheckedProgram
from skyfan.models.programs.signature import program_json
from skyfan.models.programs.tensors import CONFIGS, FOLDERS
from skyfan.plain_text import first_line


def clean_archive(checked: CheckedProgram) -> bytes:
    """A `.pt2` file written from what was checked: the graph under new names, and raw bytes of tensors."""
    paths = {entry: f"weight_{at}" for at, entry in enumerate(checked.contents)}
    table = {
        weight.value: {
            "path_name": paths[checked.tensors[weight.value].entry],
            "is_param": weight.trained,
            "use_pickle": False,
            "tensor_meta": checked.tensors[weight.value].meta.json(),
        }
        for weight in checked.program.weights
    }
    entries = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"6\n",
        "byteorder": b"little",
        GRAPH: program_json(checked.program, torch.__version__),
        "data/sample_inputs/model.pt": b"",
        f"{FOLDERS[0]}{CONFIGS[0]}": json.dumps({"config": table}).encode(),
        f"{FOLDERS[1]}{CONFIGS[1]}": b'{"config": {}}',
    }
    return write_archive(entries | {f"{FOLDERS[0]}{paths[entry]}": data for entry, data in checked.contents.items()})


def exported_program(checked: CheckedProgram) -> ExportedProgram:
    """The program as torch has it, loaded from the clean archive; raises `ModelError` where torch cannot."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(io.BytesIO(clean_archive(checked)))
    # torch raises whatever its deserialiser trips over (AssertionError, KeyError, SerializeError, …).
    except Exception as error:
        reason = first_line(error)
        raise ModelError(f"the program cannot be loaded by torch {torch.__version__}: {reason!a}.") from error
    finally:
        log.setLevel(level)
