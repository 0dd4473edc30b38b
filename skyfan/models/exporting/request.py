"""What an export is asked for, and what it reports: JSON between the command and the child that it starts."""

from typing import Any

from pydantic import BaseModel, Field

from skyfan.validation import Frozen

CHECKED_BATCHES = (1, 7, 512)
"""Numbers of samples for which the program is compared with the module that it was exported from."""


class ExportRequest(Frozen):
    """A module of the user's own, as `package.module:name`, its weights, and a dataset that it takes.

    `arguments` are the keyword arguments with which the class or function is called. Without `weights` the module keeps
    those that it is made with. `input_names` are columns of the dataset in the order of the call, `output_names` names
    of the outputs in their order.
    """

    factory: str = Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$")
    example: str
    weights: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()


class ExportReport(Frozen):
    """What was exported; shapes are those of one sample, `deviations` the largest by number of samples.

    `prefix` stood before the weights' names in the file, `left_out` are names in it that the module does not have.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    parameters: int
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    deviations: dict[int, float] = Field(default_factory=dict)


class ChildReply(BaseModel):
    """The child's report, or the sentence and the name of the error that ended it."""

    report: ExportReport | None = None
    error: str = ""
    kind: str = ""
