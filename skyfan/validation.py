"""Values that are checked as they are made, and validation errors as sentences."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Frozen(BaseModel):
    """Base of values that never change, and that refuse a field which they do not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())


def first_problem(error: ValidationError) -> str:
    """One sentence of a validation error: where, and what is wrong there."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "value"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{more}."
