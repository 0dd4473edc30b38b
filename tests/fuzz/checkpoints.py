"""Checkpoints: state dicts, training checkpoints and pickled modules, read as weights."""

import contextlib
from random import Random

from skyfan.errors import ModelError
from skyfan.models.loading import checked_config, is_program_file, read_checkpoint
from tests.fuzz.archives import archive
from tests.fuzz.pickles import PickleWriter, text
from tests.fuzz.runner import main

STORAGES = {"0": 80, "1": 16, "2": 4_000}
_WEIGHTS = ("patch_embed.proj.weight", "blocks.0.norm1.weight", "head.bias", "a.b", "weight")
_PREFIXES = ("", "", "module.", "net.encoder.", "_orig_mod.module.", "loss_fn.")


def contents(random: Random) -> dict[str, bytes]:
    """The entries of a file whose root is likely to be a checkpoint."""
    writer = PickleWriter(random, STORAGES)
    kind = random.randrange(4)
    if kind == 0:
        root = writer.value()
    elif kind == 1:
        root = _state_dict(random, writer)
    elif kind == 2:
        nested = [(text(random.choice(("state_dict", "model", "weights", "ema"))), _state_dict(random, writer))]
        root = writer.dictionary([(text("extra"), writer.value()), *nested])
    else:
        root = _module(random, writer, 0)
    return {"data.pkl": writer.pickle(root)} | {f"data/{key}": bytes(size) for key, size in STORAGES.items()}


def _state_dict(random: Random, writer: PickleWriter) -> bytes:
    prefix = random.choice(_PREFIXES)
    names = [text(prefix + random.choice(_WEIGHTS)) for _ in range(random.randrange(1, 5))]
    return writer.dictionary([(n, writer.tensor_value() if random.random() < 0.7 else writer.value()) for n in names])


def _weights_or_anything(random: Random, writer: PickleWriter) -> bytes:
    return _state_dict(random, writer) if random.random() < 0.7 else writer.value()


def _module(random: Random, writer: PickleWriter, depth: int) -> bytes:
    children = [_module(random, writer, depth + 1) for _ in range(random.randrange(3))] if depth < 4 else []
    modules = writer.dictionary([(text(random.choice(("module", "blocks", "0"))), child) for child in children])
    parts = [(text("_modules"), modules)]
    parts += [(text(part), _weights_or_anything(random, writer)) for part in ("_parameters", "_buffers")]
    if random.random() < 0.3:
        parts.append((text("_non_persistent_buffers_set"), writer.value()))
    name = "torch.nn.parallel.data_parallel DataParallel" if random.random() < 0.3 else "my.models Net"
    return writer.built(name, writer.dictionary(parts))


def load(random: Random) -> None:
    """One execution."""
    data = archive(random, contents(random))
    if not is_program_file(data, "case.ckpt"):
        checkpoint = read_checkpoint(data, "case.ckpt")
        with contextlib.suppress(ModelError):  # none has all the weights of an AstroMAE
            checked_config(checkpoint, "case.ckpt")


if __name__ == "__main__":
    main(load, ModelError)
