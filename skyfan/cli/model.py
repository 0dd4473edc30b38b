"""`skyfan model`: inspect, export, convert, train and compare models. torch is imported only when a command runs."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from skyfan import store
from skyfan.cli.console import out, print_json, progress_bar, say
from skyfan.cli.model_export import export
from skyfan.cli.model_train import train
from skyfan.cli.options import Json, NoProgress
from skyfan.errors import BadInput
from skyfan.science.metrics import ScienceMetrics
from skyfan.units import format_size

if TYPE_CHECKING:
    from skyfan.models.loading import LoadedModel
    from skyfan.training.comparison import Comparison

app = typer.Typer(no_args_is_help=True, help="Inspect, export, convert, train and compare models.")
app.command()(export)
app.command()(train)

ModelArgument = Annotated[str, typer.Argument(metavar="FILE|URI", help="A checkpoint, a .pt2 or .onnx file, or demo.")]
Heads = Annotated[int | None, typer.Option(min=1, help="Attention heads, where the file does not name them.")]


@app.command()
def inspect(model: ModelArgument, as_json: Json = False) -> None:
    """Show what a model takes, gives, calls and costs, and which engine would run it here and why.

    Nothing in the file is executed but tensor operations that are on Skyfan's lists, in a confined child process first.
    """
    from skyfan.engines.description import describe
    from skyfan.models.loading import load_model

    loaded = load_model(model)
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    if loaded.config is None:
        say("converting it and trying its engines")
    facts = _facts(loaded) | describe(loaded)
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        lines = [f"  {key}: {item}" for key, item in value.items()] if isinstance(value, dict) else []
        text = "\n".join([f"{name}:", *lines]) if lines else f"{name}: {value}"
        out.print(text)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A checkpoint: state dict or pickled module.")],
    output: Annotated[str, typer.Argument(metavar="OUT.safetensors", help="The file or URI to write.")],
    heads: Heads = None,
) -> None:
    """Write an AstroMAE checkpoint as safetensors, with its configuration and its source's digest."""
    from skyfan.models.safetensors_files import convert_checkpoint

    if not output.endswith(".safetensors"):
        raise BadInput(f"the output {output} must end with .safetensors.")
    data = convert_checkpoint(source, heads)
    store.put(output, data)
    say(f"wrote {output} ({format_size(len(data))})")


@app.command()
def compare(
    model: Annotated[str, typer.Option(help="A model's file or URI, or demo.")] = "demo",
    train_dataset: Annotated[
        str | None, typer.Option("--train", help="The dataset on which the trees are trained.")
    ] = None,
    test_dataset: Annotated[str | None, typer.Option("--test", help="The dataset on which both are measured.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the trees and of the rendered galaxies.")] = 7,
    as_json: Json = False,
    quiet: NoProgress = False,
) -> None:
    """Compare a model with extremely randomised trees, on galaxies that neither was trained on.

    Without datasets, the packaged catalogue's fixed split is rendered: 4,000 galaxies for training, 1,000 for testing.
    """
    from skyfan.models.loading import load_model
    from skyfan.training.comparison import TREES, rendered_split
    from skyfan.training.comparison import compare as compare_with_trees
    from skyfan.training.samples import read_samples

    if (train_dataset is None) != (test_dataset is None):
        raise BadInput("give both --train and --test, or neither for the packaged galaxies.")
    loaded = load_model(model)
    if train_dataset is not None and test_dataset is not None:
        training, test = read_samples(train_dataset), read_samples(test_dataset)
    else:
        with progress_bar("rendering galaxies", quiet) as advance:
            training, test = rendered_split(seed, advance)
    if not quiet:
        say(f"measuring {model} and {TREES} extremely randomised trees")
    result = compare_with_trees(loaded, training, test, seed)
    if as_json:
        print_json({**asdict(result), "nmad_ratio": result.model.nmad / result.trees.nmad})
    else:
        out.print(_comparison_table(result, model))


def _facts(model: "LoadedModel") -> dict[str, object]:
    facts: dict[str, object] = {
        "architecture": model.architecture,
        "format": model.format,
        "size": format_size(model.size_bytes),
        "sha256": model.digest,
        "parameters": f"{model.parameters:,}",
        "inputs": {wanted.name: _shape(wanted.shape, wanted.dtype) for wanted in model.inputs},
    }
    if model.config:
        sizes = model.config.to_dict()
        sizes["inception"] = "; ".join(" ".join(map(str, block.values())) for block in sizes["inception"])
        facts["configuration"] = {
            name: f"{value} (from {model.origins[name]})" if name in model.origins else value
            for name, value in sizes.items()
        }
    if model.metadata:
        facts["metadata"] = dict(model.metadata)
    return facts


def _shape(shape: tuple[int | None, ...], dtype: str) -> str:
    return f"{dtype} [" + ", ".join("any" if size is None else str(size) for size in shape) + "]"


def _comparison_table(result: "Comparison", name: str) -> Table:
    title = f"{result.test_samples:,} galaxies, never trained on; trees trained on {result.training_samples:,}"
    table = Table(title=title, title_justify="left")
    for heading in ("metric", name, "trees", "model / trees"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for label, get in _METRICS.items():
        of_model, of_trees = get(result.model), get(result.trees)
        ratio = f"{of_model / of_trees:.3f}" if label != "bias" and of_trees else ""
        table.add_row(label, f"{of_model:.6f}", f"{of_trees:.6f}", ratio)
    return table


_METRICS: dict[str, Callable[[ScienceMetrics], float]] = {
    "NMAD": lambda m: m.nmad,
    "R²": lambda m: m.r2,
    "MAE": lambda m: m.mae,
    "MSE": lambda m: m.mse,
    "bias": lambda m: m.bias,
    "|Δz| > 0.05": lambda m: m.outlier_fraction_005,
    "|Δz| > 0.15": lambda m: m.outlier_fraction_015,
}
