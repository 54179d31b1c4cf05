"""Train and compare image classifiers with mixing augmentations in JAX."""

__version__ = "0.2.0"
