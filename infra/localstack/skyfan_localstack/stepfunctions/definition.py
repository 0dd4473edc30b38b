"""Definitions: a whole number as ToleratedFailurePercentage is accepted.

As shipped, LocalStack's grammar wants a decimal point. AWS's own examples write whole numbers:
"Setting failure thresholds for Distributed Map states",
https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html (as of 2026-11).
"""

import re
from typing import Any

from localstack.services.stepfunctions.asl.parse.asl_parser import AmazonStateLanguageParser
from localstack.utils.patch import Patch

# Inside a string value the quotes would be escaped, so that this only matches a field.
_WHOLE_PERCENTAGE = re.compile(r'("ToleratedFailurePercentage"\s*:\s*\d+)(?=\s*[,}])')


def with_decimal_points(definition: str) -> str:
    """`"ToleratedFailurePercentage": 5` → `"ToleratedFailurePercentage": 5.0`."""
    return _WHOLE_PERCENTAGE.sub(r"\1.0", definition)


def apply_patch() -> None:
    """Widen the parser."""
    as_shipped = AmazonStateLanguageParser.parse

    def parse(definition: str) -> Any:
        return as_shipped(with_decimal_points(definition))

    Patch(AmazonStateLanguageParser, "parse", staticmethod(parse)).apply()
