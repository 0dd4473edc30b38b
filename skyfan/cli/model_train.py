"""`skyfan model train`. torch is imported only when the command runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skyfan.cli import options
from skyfan.cli.console import print_json, progress_bar, say
from skyfan.engines.device import AUTO, CUDA, available_device, checked_device
from skyfan.errors import BadInput, Interrupted
from skyfan.models.sizes import SIZES, Size
from skyfan.serving.signals import on_signals
from skyfan.units import format_duration

if TYPE_CHECKING:
    from skyfan.models.astromae import AstroMAE
    from skyfan.models.config import AstroMAEConfig
    from skyfan.models.loading import LoadedModel
    from skyfan.training.samples import Samples
    from skyfan.training.saving import TrainingFiles
    from skyfan.training.training_settings import EpochResult, Loss, Trained, TrainingSettings


def train(
    dataset: Annotated[str, typer.Argument(metavar="DATASET.pt", help="Images, magnitudes, redshifts.")],
    output: Annotated[Path, typer.Option("--out", help="The model to write (.safetensors).")],
    start: Annotated[
        str | None, typer.Option("--from", help="Train this AstroMAE further (file, URI or demo); else a new one.")
    ] = None,
    size: Annotated[Size | None, typer.Option(help="Size of a new model; small by default.")] = None,
    loss: Annotated[str, typer.Option(help="What to learn: point, or mixture for p(z) too.")] = "point",
    components: Annotated[int, typer.Option(help="Normal distributions in p(z), with --loss mixture.")] = 3,
    head_only: Annotated[
        bool, typer.Option("--head-only", help="With --from: only the last layer, and with mixture only p(z).")
    ] = False,
    epochs: Annotated[int, typer.Option(help="Passes over the data, at most.")] = 40,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of the schedule.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="Decay of weights that are matrices.")] = 0.3,
    validation: Annotated[float, typer.Option(help="Share of the galaxies held out for early stopping.")] = 0.1,
    patience: Annotated[int, typer.Option(help="Epochs without gain before stopping.")] = 10,
    augment: Annotated[bool, typer.Option(help="Turn and mirror the images.")] = True,
    seed: Annotated[int, typer.Option(help="Same seed, same model (one machine, same threads).")] = 7,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto is the GPU if there is one.")] = AUTO,
    mixed_precision: Annotated[bool, typer.Option(help="On a GPU: products in bfloat16.")] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all by default.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted training with the same settings.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the model that --out names.")] = False,
    as_json: options.Json = False,
    quiet: options.NoProgress = False,
) -> None:
    """Train an AstroMAE, a new one or one of yours further; the result takes raw images and magnitudes.

    Ctrl-C stops within seconds and keeps a checkpoint in OUT.training/, where the curve (PNG, CSV) is, too; the same
    command continues from it, and reports when it is done.
    """
    from skyfan.training.samples import read_digest
    from skyfan.training.saving import TrainingFiles
    from skyfan.training.training_settings import TrainingSettings

    on = _device(device, threads)
    initial = _initial(start, size)
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        validation_fraction=validation,
        patience=patience,
        augment=augment,
        seed=seed,
        loss=_loss(loss),
        components=components,
        head_only=head_only,
        initial_sha256=initial.digest if initial else "",
        mixed_precision=mixed_precision and on == CUDA,
    )
    files, digest = TrainingFiles(output), read_digest(dataset)
    sizes = initial.config if initial and initial.config else SIZES[size or "small"]
    if not _is_done(files, settings, digest, sizes, force=force, resume=resume):
        samples = _samples(dataset)
        model = _module(initial) if initial else _config(size, samples)
        _tell(output, _run(files, settings, digest, samples, model, on, quiet=quiet), as_json=as_json)


def _device(device: str, threads: int | None) -> str:
    """The device to train on; the CPU with `threads` threads."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    return available_device(checked_device(device))


def _samples(dataset: str) -> "Samples":
    from skyfan.training.samples import read_samples

    samples = read_samples(dataset)
    if samples.dropped:
        say(f"left {samples.dropped:,} samples out: image, magnitude or redshift not finite or not measured")
    return samples


def _run(
    files: "TrainingFiles",
    settings: "TrainingSettings",
    digest: str,
    samples: "Samples",
    model: "AstroMAE | AstroMAEConfig",
    device: str,
    *,
    quiet: bool,
) -> "Trained":
    """Trains and leaves all files; Ctrl-C ends it between two steps.

    Raises:
        Interrupted: the sentence tells how to go on.
    """
    from skyfan.training.loop import train as train_model
    from skyfan.training.saving import trained_bytes

    if not quiet:
        say(f"{'continuing from' if files.state.exists() else 'checkpoints and the curve are in'} {files.folder}")
    with progress_bar("training", quiet) as advance, _stop_signal() as stopping:
        report = _reporter(files, settings, digest, quiet=quiet)
        try:
            trained = train_model(
                samples,
                model,
                settings,
                state_path=files.state,
                report=report,
                progress=advance,
                stopping=stopping,
                device=device,
            )
        except Interrupted as error:
            raise Interrupted(f"{error} The same command continues from {files.state}.") from error
    files.finish(trained, trained_bytes(trained, settings, digest))
    return trained


def _loss(name: str) -> "Loss":
    match name:
        case "point" | "mixture":
            return name
        case _:
            raise BadInput(f"--loss is {name!r}; choose one of point, mixture.")


def _initial(start: str | None, size: Size | None) -> "LoadedModel | None":
    """The model that `--from` names.

    Raises:
        BadInput: `--size` is given as well, or it is no AstroMAE.
    """
    from skyfan.models.loading import load_model
    from skyfan.models.locating import model_files

    if start is None:
        return None
    if size is not None:
        raise BadInput("--size is for new models; leave it out beside --from.")
    found = model_files(start)
    if len(found) > 1:
        raise BadInput(f"--from {start} holds {len(found)} model files; name one of them, such as {found[0]}.")
    model = load_model(found[0])
    if model.config is None:
        raise BadInput(f"--from {start} is an exported program; only AstroMAE checkpoints can be trained further.")
    return model


def _module(model: "LoadedModel") -> "AstroMAE":
    """The model with weights of its own, which training may change."""
    from skyfan.models.loading import astromae_module

    assert model.config is not None
    return astromae_module(model.config, {name: values.copy() for name, values in model.weights.items()})


def _config(size: Size | None, samples: "Samples") -> "AstroMAEConfig":
    channels, image_size = samples.image.shape[1:3]
    magnitudes = samples.magnitude.shape[1]
    return replace(SIZES[size or "small"], channels=channels, image_size=image_size, magnitudes=magnitudes)


def _is_done(
    files: "TrainingFiles",
    settings: "TrainingSettings",
    digest: str,
    sizes: "AstroMAEConfig",
    *,
    force: bool,
    resume: bool,
) -> bool:
    """Whether this very training wrote the model that is there; told to the user.

    If not, and it is not to be resumed, an earlier start's checkpoints are removed.

    Raises:
        BadInput: the model cannot be written, or another one is there and `force` is not given.
    """
    from skyfan.errors import ModelError
    from skyfan.models.loading import load_model
    from skyfan.training.saving import is_result_of

    output = files.model
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise BadInput(f"--out {output} must be a .safetensors file in a folder that exists.")
    if force or not output.exists():
        if not resume:
            files.discard()
        return False
    try:
        same = is_result_of(load_model(str(output)), settings, digest, sizes)
    except ModelError:
        same = False  # whatever it is, it is not ours to replace
    if not same:
        raise BadInput(
            f"--out {output} exists and is not of this data and these settings; name another file, or replace it with "
            "--force. Nothing was trained."
        )
    say(f"{output} is done: trained on this data with these settings; --force trains it again.")
    return True


@contextmanager
def _stop_signal() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came, so that the training can stop between two steps; a second one ends at once."""
    asked = threading.Event()

    def ask() -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    with on_signals(ask):
        yield asked.is_set


def _reporter(
    files: "TrainingFiles", settings: "TrainingSettings", digest: str, *, quiet: bool
) -> "Callable[[EpochResult, Trained], None]":
    """After every epoch: its files and its line."""
    from skyfan.training.saving import trained_bytes

    def report(result: "EpochResult", trained: "Trained") -> None:
        files.save_epoch(trained, trained_bytes(trained, settings, digest) if result.best else b"")
        if quiet:
            return
        mean_s = sum(one.seconds for one in trained.history) / len(trained.history)
        left = format_duration(mean_s * (settings.epochs - result.epoch))
        say(
            f"epoch {result.epoch}/{settings.epochs}: loss {result.training_loss:.4f}, validation "
            f"{result.validation_loss:.4f}, NMAD {result.validation_nmad:.5f}, R² {result.validation_r2:.4f}; "
            f"{format_duration(result.seconds)}, at most {left} left; best: epoch {trained.best.epoch}"
        )

    return report


def _tell(output: Path, trained: "Trained", *, as_json: bool) -> None:
    from skyfan.training.curve import verdict

    best = trained.best
    say(
        f"wrote {output}: epoch {best.epoch} of {trained.epochs}, on {trained.validation_samples:,} held-out samples "
        f"NMAD {best.validation_nmad:.5f}, R² {best.validation_r2:.4f}"
    )
    say(verdict(trained.history))
    if as_json:
        print_json({"model": str(output), "epochs": trained.epochs, "best": best})
