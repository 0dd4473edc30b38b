"""An ONNX model's first predictions, in a confined child: whether it runs, and gives rows their own outputs."""

from skyfan.errors import ModelError
from skyfan.models.programs.trial import ROWS, require_own_rows, try_in_child
from skyfan.models.reference_outputs import check_samples


def try_onnx(data: bytes, where: str) -> None:
    """Lets a checked model predict in a child process; `ModelError` tells how that failed."""
    try_in_child(f"{__name__}:tried", data, where)


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
