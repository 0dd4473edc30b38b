"""Standardised samples in batches: images in their eight orientations, or the features that a frozen model makes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from skyfan.models.astromae import AstroMAE
from skyfan.training.samples import Samples
from skyfan.training.standardise import Standardisation

ORIENTATIONS = 8
"""Of a square image: none of them changes a galaxy's redshift."""
_FEATURE_BATCH = 512


@dataclass(frozen=True)
class Pixels:
    """Standardised samples: image [N, C, H, W], magnitude [N, M], redshift [N]."""

    image: Tensor
    magnitude: Tensor
    redshift: Tensor

    @staticmethod
    def of(samples: Samples, standardisation: Standardisation, device: str) -> "Pixels":
        """The samples on a device."""
        image = standardisation.image(torch.from_numpy(samples.image))
        magnitude = standardisation.magnitude(torch.from_numpy(samples.magnitude).double()).float()
        return Pixels(*(part.to(device) for part in (image, magnitude, torch.from_numpy(samples.redshift))))

    def __len__(self) -> int:
        return len(self.redshift)

    def raw(self, model: AstroMAE, rows: Tensor, way: Tensor | None) -> Tensor:
        """The head's raw outputs [B, W] for these rows, each image turned its way [B]; None: as it is."""
        image = self.image[rows]
        return model.forward_raw(image if way is None else turned(image, way), self.magnitude[rows])

    def features(self, model: AstroMAE, *, augment: bool) -> "Features":
        """What all layers but the last make of every sample in every orientation, computed once."""
        model.eval()
        ways = [
            torch.cat([self._features(model, rows, number) for rows in batches_of(len(self), _FEATURE_BATCH)])
            for number in range(ORIENTATIONS if augment else 1)
        ]
        return Features(torch.stack(ways), self.redshift)

    def _features(self, model: AstroMAE, rows: Tensor, number: int) -> Tensor:
        rows = rows.to(self.redshift.device)
        with torch.inference_mode():
            found = model.forward_features(
                turned(self.image[rows], torch.full_like(rows, number)), self.magnitude[rows]
            )
            hidden: Tensor = model.concat_block[:-1](found)
        return hidden.clone()


@dataclass(frozen=True)
class Features:
    """Features [orientations, N, F] of samples whose redshifts are [N]."""

    values: Tensor
    redshift: Tensor

    def __len__(self) -> int:
        return len(self.redshift)

    def raw(self, model: AstroMAE, rows: Tensor, way: Tensor | None) -> Tensor:
        """As `Pixels.raw`."""
        found: Tensor = model.concat_block[-1](self.values[0 if way is None else way, rows])
        return found


def batches_of(count: int, size: int) -> Iterator[Tensor]:
    """All rows in order, `size` at once."""
    return (torch.arange(start, min(start + size, count)) for start in range(0, count, size))


def turned(image: Tensor, way: Tensor) -> Tensor:
    """Images [B, C, H, W] in the orientations `way` [B]: 0 as they are, to 3 in quarter turns, from 4 on mirrored."""
    out = torch.empty_like(image)
    for number in range(ORIENTATIONS):
        rows = (way == number).nonzero()[:, 0]
        part = torch.rot90(image[rows], number % 4, dims=(2, 3))
        out[rows] = part.flip(3) if number >= 4 else part
    return out
