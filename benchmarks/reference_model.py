"""The model as the reference runs it: one list argument, inside `nn.DataParallel`'s module, pickled whole."""

import torch
from torch import Tensor, nn

from skyfan.models import AstroMAE


class ReferenceModel(nn.Module):
    """AstroMAE called with `[image, magnitude]`, its attention step by step as in timm 0.4.12."""

    def __init__(self, model: AstroMAE) -> None:
        super().__init__()
        self.model = model
        for block in model.blocks:
            block.attn = StepwiseAttention(block.attn)

    def forward(self, values: list[Tensor]) -> Tensor:
        image, magnitude = values
        out: Tensor = self.model(image, magnitude)
        return out


class StepwiseAttention(nn.Module):
    """softmax(q·kᵀ)·v as separate operations."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.qkv, self.proj = attention.qkv, attention.proj
        self.q_bias, self.v_bias = attention.q_bias, attention.v_bias

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = nn.functional.linear(tokens, self.qkv.weight, bias).reshape(batch, count, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = ((q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        out: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(batch, count, width))
        return out
