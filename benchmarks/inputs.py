"""The files that all variants read: one partition, the reference-size model in both formats, reference outputs."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.measure import SAMPLES_OF_100_MB
from benchmarks.reference_model import ReferenceModel
from skyfan.models import AstroMAE
from skyfan.models.safetensors_files import model_bytes


def reference_size_model() -> AstroMAE:
    """The published sizes with random weights, and batch norms as after training instead of identities."""
    torch.manual_seed(0)
    model = AstroMAE().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def make_inputs(folder: Path, samples: int) -> None:
    """`data.pt`, `model.safetensors`, `model.pickle`, and `expected.npy`: what float32 torch predicts."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.gamma(0.5, 0.2, (samples, 5, 32, 32)).astype(np.float32))
    magnitude = torch.from_numpy(rng.normal(18, 1.5, (samples, 5)).astype(np.float32))
    redshift = torch.from_numpy(rng.uniform(0, 0.4, samples).astype(np.float32))
    torch.save(TensorDataset(image, magnitude, redshift), folder / "data.pt")
    model = reference_size_model()
    (folder / "model.safetensors").write_bytes(model_bytes(model, {}))
    with torch.inference_mode():
        parts = zip(image.split(256), magnitude.split(256), strict=True)
        np.save(folder / "expected.npy", torch.cat([model(*part) for part in parts])[:, 0].numpy())
    torch.save(ReferenceModel(model), folder / "model.pickle")


def main() -> None:
    """`python -m benchmarks.inputs FOLDER [--samples N]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=SAMPLES_OF_100_MB)
    arguments = parser.parse_args()
    make_inputs(arguments.folder, arguments.samples)


if __name__ == "__main__":
    main()
