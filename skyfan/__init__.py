"""Skyfan fans PyTorch inference out over the sky."""

from skyfan._version import __version__

__all__ = ["__version__"]
