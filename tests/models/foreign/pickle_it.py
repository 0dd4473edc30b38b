"""Pickles a whole model of these classes, wrapped in DataParallel, with its predictions: run in its own process."""

import sys
import warnings
from pathlib import Path

import torch
from blocks.model_vit_inception import ViT_Astro
from torch import nn

folder = Path(sys.argv[1])
torch.manual_seed(3)
model = ViT_Astro()
for name, buffer in model.named_buffers():
    if "running" in name:
        buffer.copy_(torch.rand_like(buffer) + 0.5)
model.eval()
image, magnitude = torch.randn(9, 5, 32, 32), 18 + torch.randn(9, 5)
with torch.inference_mode():
    predicted = model([image, magnitude])
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.save(nn.DataParallel(model), folder / "whole.pt")
torch.save({"epoch": 4, "state_dict": nn.DataParallel(model).state_dict()}, folder / "nested.pt")
torch.save(model.state_dict(), folder / "state.pth")
torch.save((image, magnitude, predicted), folder / "expected.pt")
