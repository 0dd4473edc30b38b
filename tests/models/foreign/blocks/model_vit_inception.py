"""The whole model as somebody else's code would hold it."""

import torch
from blocks.photoz import Input_Mix_Model
from NormalCell import NormalCell
from torch import nn

WIDTH, DEPTH, HEADS, GROUPS, GRID = 24, 2, 6, 4, 4


class PatchEmbed(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj, self.norm = nn.Conv2d(5, WIDTH, 8, 8), nn.Identity()

    def forward(self, x):
        return self.norm(self.proj(x).flatten(2).mT)


class ViT_Astro(nn.Module):  # noqa: N801
    def __init__(self):
        super().__init__()
        self.fc_norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, WIDTH)
        self.inception_model = Input_Mix_Model()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH), requires_grad=False)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + GRID**2, WIDTH), requires_grad=False)
        self.blocks = nn.ModuleList([NormalCell(WIDTH, HEADS, GROUPS, GRID) for _ in range(DEPTH)])
        self.patch_embed = PatchEmbed()
        self.vit_block = nn.Sequential(nn.Linear(WIDTH, 11), nn.ReLU(), nn.Linear(11, 10))
        self.concat_block = nn.Sequential(nn.Linear(41, 9), nn.ReLU(), nn.Linear(9, 1))

    def forward(self, x):
        tokens = self.patch_embed(x[0])
        tokens = torch.cat((self.cls_token.repeat(len(tokens), 1, 1), tokens), dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        vit = self.vit_block(self.head(self.fc_norm(tokens[:, 1:].mean(dim=1))))
        return self.concat_block(torch.cat((vit, self.inception_model(x)), dim=1))
