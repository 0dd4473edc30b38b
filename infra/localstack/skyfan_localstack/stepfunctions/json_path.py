"""JSONPath: an expression is parsed once.

Nothing that AWS documents: as shipped, LocalStack builds jsonpath-ng's grammar anew for every evaluation, which is
nine tenths of a child execution's time and makes a map of 1,200 items a matter of minutes.
"""

from functools import lru_cache

from localstack.services.stepfunctions.asl.component.common.path import result_path
from localstack.services.stepfunctions.asl.utils import json_path
from localstack.utils.patch import Patch

_EXPRESSIONS = 4096  # far more than the definitions of one session hold


def apply_patch() -> None:
    """Remember parsed expressions, which hold no state."""
    for module in (json_path, result_path):
        Patch(module, "parse", lru_cache(_EXPRESSIONS)(module.parse)).apply()
