"""Pretrained weights: sources, names and formats, loading and export."""
