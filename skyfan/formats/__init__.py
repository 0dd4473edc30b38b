"""Readers of dataset files: metadata and rows, nothing executed."""
