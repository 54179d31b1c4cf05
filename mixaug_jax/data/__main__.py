"""`python -m mixaug_jax.data`, which is `mixaug data`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("data")
