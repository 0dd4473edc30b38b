"""`skyfan model export`: a class of the user's own and its weights, as a program that Skyfan runs."""

import json
from typing import Annotated

import typer
from pydantic import ValidationError

from skyfan import store
from skyfan.cli import options
from skyfan.cli.console import print_json, say
from skyfan.errors import BadInput
from skyfan.units import format_size

_LISTED = 5

Factory = Annotated[
    str, typer.Argument(metavar="MODULE:CLASS", help="Your class or function, as my_package.my_module:MyModel.")
]
Weights = Annotated[
    str | None,
    typer.Option(help="State dict, Lightning .ckpt, .safetensors or Hugging Face folder; the class's own without."),
]
Example = Annotated[str, typer.Option(help="A dataset whose samples the model takes.")]
Arguments = Annotated[str, typer.Option(metavar="JSON", help="Keyword arguments of the class.")]
InputNames = Annotated[str, typer.Option(help="The example's columns, in the order of the model's call.")]
OutputNames = Annotated[str, typer.Option(help="Names of the outputs, in their order.")]


def export(
    factory: Factory,
    output: Annotated[str, typer.Argument(metavar="OUT.pt2", help="The file or URI to write.")],
    example: Example,
    weights: Weights = None,
    arguments: Arguments = "{}",
    input_names: InputNames = "",
    output_names: OutputNames = "",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.pt2.")] = False,
    as_json: options.Json = False,
) -> None:
    """Export your own model once, with a free number of samples. Runs your code, in a child process."""
    from skyfan.models.exporting.launching import export_program
    from skyfan.models.exporting.request import ExportRequest

    if not output.endswith(".pt2"):
        raise BadInput(f"the output {output} must end with .pt2.")
    if not force and store.exists(output):
        raise BadInput(f"{output} exists; name another file, or replace it with --force.")
    try:
        request = ExportRequest(
            factory=factory,
            example=example,
            weights=weights,
            arguments=_keywords(arguments),
            input_names=_names(input_names),
            output_names=_names(output_names),
        )
    except ValidationError as error:
        raise BadInput(f"{factory!r} names no class; write MODULE:CLASS, as my_package.my_module:MyModel.") from error
    say(f"running your code: {factory} is imported and called in a child process")
    data, report = export_program(request)
    store.put(output, data)
    if report.left_out:
        names = ", ".join(report.left_out[:_LISTED]) + (", …" if len(report.left_out) > _LISTED else "")
        say(f"left out {len(report.left_out)} weights that the class does not have: {names}")
    inputs = ", ".join(f"{name} {['B', *shape]}".replace("'", "") for name, shape in report.inputs.items())
    outputs = ", ".join(f"{name} {['B', *shape]}".replace("'", "") for name, shape in report.outputs.items())
    say(f"wrote {output} ({format_size(len(data))}): {inputs} → {outputs}, {report.parameters:,} parameters")
    worst = max(report.deviations.values())
    say(f"equal to the module within {worst:.1e} at {', '.join(map(str, report.deviations))} samples")
    if as_json:
        print_json({"model": output, **report.model_dump()})


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _keywords(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadInput(f"--arguments {text} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise BadInput(f'--arguments {text} is no JSON object; write {{"width": 64}}.')
    return found
