"""Validation errors as sentences."""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """One sentence of a validation error: where, and what is wrong there."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "value"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{more}."
