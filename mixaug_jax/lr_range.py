"""`python -m mixaug_jax.lr_range`, which is `mixaug lr_range`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("lr_range")
