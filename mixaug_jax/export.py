"""`python -m mixaug_jax.export`, which is `mixaug export`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("export")
