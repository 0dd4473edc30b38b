"""`skyfan model`: inspect, export, convert, train and compare models. torch is imported only when a command runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from skyfan import store
from skyfan.cli.console import out, print_json, progress_bar, say
from skyfan.cli.model_export import export
from skyfan.errors import BadInput
from skyfan.models.sizes import SIZES, Size
from skyfan.science.metrics import ScienceMetrics
from skyfan.units import format_size

if TYPE_CHECKING:
    from skyfan.models.loading import LoadedModel
    from skyfan.training.comparison import Comparison
    from skyfan.training.loop import EpochResult

app = typer.Typer(no_args_is_help=True, help="Inspect, export, convert, train and compare models.")
app.command()(export)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
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
        out.print(text, markup=False, highlight=False)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A checkpoint: state dict or pickled module.")],
    output: Annotated[str, typer.Argument(metavar="OUT.safetensors", help="The file or URI to write.")],
    heads: Heads = None,
) -> None:
    """Write an AstroMAE checkpoint as safetensors, with its configuration and its source's digest."""
    from skyfan.models.conversion import convert_checkpoint

    if not output.endswith(".safetensors"):
        raise BadInput(f"the output {output} must end with .safetensors.")
    data = convert_checkpoint(source, heads)
    store.put(output, data)
    say(f"wrote {output} ({format_size(len(data))})")


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(metavar="DATASET.pt", help="Images, magnitudes, redshifts.")],
    output: Annotated[Path, typer.Option("--out", help="The model to write (.safetensors).")],
    size: Annotated[Size, typer.Option(help="Size of the architecture.")] = "small",
    epochs: Annotated[int, typer.Option(help="Passes over the data, at most.")] = 40,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of the schedule.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="Decay of weights that are matrices.")] = 0.3,
    validation: Annotated[float, typer.Option(help="Share of the galaxies held out for early stopping.")] = 0.1,
    patience: Annotated[int, typer.Option(help="Epochs without gain before stopping.")] = 10,
    augment: Annotated[bool, typer.Option(help="Turn and mirror the images.")] = True,
    seed: Annotated[int, typer.Option(help="Same seed, same model (one machine, same threads).")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all by default.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted training with the same settings.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the model that --out names.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train an AstroMAE from scratch; the result takes raw images and magnitudes.

    A checkpoint is written after every epoch; the same command continues an interrupted training from it.
    """
    import torch

    from skyfan.training.loop import TrainingSettings
    from skyfan.training.loop import train as train_model
    from skyfan.training.samples import read_digest, read_samples
    from skyfan.training.saving import trained_bytes

    state = _checkpoint(output, resume=resume, force=force, quiet=quiet)
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        validation_fraction=validation,
        patience=patience,
        augment=augment,
        seed=seed,
    )
    if threads:
        torch.set_num_threads(threads)
    samples = read_samples(dataset)
    if samples.dropped:
        say(f"left {samples.dropped:,} samples out: image, magnitude or redshift not finite or not measured")
    channels, image_size = samples.image.shape[1:3]
    config = replace(SIZES[size], channels=channels, image_size=image_size, magnitudes=samples.magnitude.shape[1])
    with _training_progress(quiet) as (advance, report):
        trained = train_model(samples, config, settings, state, report, advance)
    store.put(str(output), trained_bytes(trained, settings, read_digest(dataset)))
    state.unlink(missing_ok=True)
    best = trained.best
    say(
        f"wrote {output}: epoch {best.epoch} of {trained.epochs}, on {trained.validation_samples:,} held-out samples "
        f"NMAD {best.validation_nmad:.5f}, R² {best.validation_r2:.4f}"
    )
    if as_json:
        print_json({"model": str(output), "epochs": trained.epochs, "best": asdict(best)})


def _checkpoint(output: Path, *, resume: bool, force: bool, quiet: bool) -> Path:
    """The file in which the training keeps its state; removed without `resume`.

    Raises:
        BadInput: `output` cannot be written, or exists without `force`.
    """
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise BadInput(f"--out {output} must be a .safetensors file in a folder that exists.")
    if output.exists() and not force:
        raise BadInput(f"--out {output} exists; name another file, or replace it with --force. Nothing was trained.")
    state = output.with_suffix(".training.safetensors")
    if not resume:
        state.unlink(missing_ok=True)
    if not quiet:
        say(f"{'continuing from' if state.exists() else 'a checkpoint after every epoch is in'} {state}")
    return state


@app.command()
def compare(
    model: Annotated[str, typer.Option(help="A model's file or URI, or demo.")] = "demo",
    train_dataset: Annotated[
        str | None, typer.Option("--train", help="The dataset on which the trees are trained.")
    ] = None,
    test_dataset: Annotated[str | None, typer.Option("--test", help="The dataset on which both are measured.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the trees and of the rendered galaxies.")] = 7,
    as_json: Json = False,
    quiet: Quiet = False,
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
        print_json({**asdict(result), "nmad_ratio": result.nmad_ratio})
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


@contextmanager
def _training_progress(
    quiet: bool,
) -> Iterator[tuple[Callable[[int, int], None], "Callable[[EpochResult], None]"]]:
    """A bar of steps, and a line for every epoch."""

    def report(result: "EpochResult") -> None:
        if not quiet:
            say(
                f"epoch {result.epoch}: loss {result.training_loss:.5f}, validation {result.validation_loss:.5f}, "
                f"NMAD {result.validation_nmad:.5f}, R² {result.validation_r2:.4f}{' *' if result.best else ''}"
            )

    with progress_bar("training", quiet) as advance:
        yield advance, report


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
