"""Pretrained weights: where they come from, what they are called, loading."""
