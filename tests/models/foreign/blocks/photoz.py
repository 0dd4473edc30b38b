"""The local branches as somebody else's code would hold them."""

import torch
from torch import nn


class ConvBlock(nn.Module):
    def __init__(self, n_in, n_out, size):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, size, padding="same")
        self.bn = nn.BatchNorm2d(n_out)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class InceptionBlock(nn.Module):
    def __init__(self, n_in, width, is_custom=False):
        super().__init__()
        self.is_custom = is_custom
        self.branch1 = ConvBlock(n_in, width, 1)
        self.branch2 = nn.Sequential(ConvBlock(n_in, width, 1), ConvBlock(width, width, 3))
        self.branch3 = nn.Sequential(ConvBlock(n_in, width, 1), ConvBlock(width, width, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvBlock(n_in, width, 1))

    def forward(self, x):
        out = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(out[:2] + out[3:] if self.is_custom else out, dim=1)


class Input_Mix_Model(nn.Module):  # noqa: N801
    def __init__(self):
        super().__init__()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.conv2d_init = nn.Conv2d(5, 6, 1)
        self.avgpool = nn.AvgPool2d(2, 2)
        self.magnitude_block = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 18))
        self.vis_inception = nn.Sequential(
            self.conv2d_init,
            self.avgpool,
            InceptionBlock(6, 3),
            InceptionBlock(12, 4),
            nn.AvgPool2d(2),
            InceptionBlock(16, 2),
            InceptionBlock(8, 2),
            nn.AvgPool2d(2),
            InceptionBlock(8, 1, is_custom=True),
            nn.Flatten(),
            nn.Linear(48, 14),
            nn.ReLU(),
            nn.Linear(14, 13),
        )

    def forward(self, x):
        return torch.cat((self.vis_inception(x[0]), self.magnitude_block(x[1])), dim=1)
