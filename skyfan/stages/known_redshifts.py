"""The redshifts that a dataset itself holds, by which predictions are measured."""

from collections.abc import Iterable

from skyfan.columns import REDSHIFT
from skyfan.dtypes import numpy_dtype
from skyfan.errors import DatasetError
from skyfan.layout import FileLayout


def require_real_redshifts(files: Iterable[FileLayout]) -> None:
    """Refuses redshifts that would lose a part of themselves when they are written as float32.

    Raises:
        DatasetError: a file's redshifts are complex numbers.
    """
    for file in files:
        for tensor in file.tensors:
            if tensor.name == REDSHIFT and numpy_dtype(tensor.dtype).kind == "c":
                raise DatasetError(
                    f"{file.uri}: {REDSHIFT} holds {tensor.dtype}, whose imaginary part would be dropped; store real "
                    "numbers, or give the tensor another name."
                )
