"""An ONNX model's first predictions, in a confined child: whether it runs, and gives rows their own outputs."""

from skyfan.errors import ModelError
from skyfan.models.programs.trial import ROWS, require_own_rows
from skyfan.models.reference_outputs import check_samples
from skyfan.sandbox import ChildDied, Limits, run_in_child

_MEMORY_PER_BYTE = 8


def try_onnx(data: bytes, where: str) -> None:
    """Lets a checked model predict in a child process; `ModelError` tells how that failed."""
    limits = Limits(memory_bytes=Limits().memory_bytes + _MEMORY_PER_BYTE * len(data))
    try:
        refused = run_in_child(f"{__name__}:tried", data, limits)
    except ChildDied as died:
        raise ModelError(f"{where} was tried in a child process and {died}; it was not run here.") from died
    if refused is not None:
        raise ModelError(f"{where}: {refused}")


def tried(data: bytes) -> str | None:
    """In the child: what is wrong with the model, or None."""
    from skyfan.models.onnx.reading import read_onnx
    from skyfan.models.onnx.session import OnnxSession

    try:
        model = read_onnx(data, "it")
        session = OnnxSession(model.data, model.inputs, threads=1)
        require_own_rows(check_samples(model.inputs, ROWS), session.predict)
    except ModelError as error:
        return str(error)
    return None
