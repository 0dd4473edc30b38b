"""A transformer block as somebody else's code would hold it; importable only by the process that pickles it."""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.randn(width))
        self.v_bias = nn.Parameter(torch.randn(width))
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        q, k, v = (part.unflatten(2, (self.num_heads, -1)) for part in self.qkv(x).chunk(3, dim=2))
        q = q + self.q_bias.view(self.num_heads, -1)
        v = v + self.v_bias.view(self.num_heads, -1)
        weights = torch.einsum("bihd,bjhd->bhij", q * self.scale, k).softmax(dim=3)
        return self.drop(self.proj(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2)))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class NormalCell(nn.Module):
    def __init__(self, width, heads, groups, grid):
        super().__init__()
        self.grid = grid
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, 3 * width)
        self.drop_path = nn.Identity()
        self.PCM = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 1, 1, 1, groups),
            nn.BatchNorm2d(2 * width),
            nn.SiLU(inplace=True),
            nn.Conv2d(2 * width, width, 3, 1, 1, 1, groups),
        )

    def forward(self, x):
        grid = x[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        local = self.PCM(grid).permute(0, 2, 3, 1).flatten(1, 2)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = torch.cat((x[:, :1], x[:, 1:] + local), dim=1)
        return x + self.drop_path(self.mlp(self.norm2(x)))
