"""`python -m mixaug_jax.report`, which is `mixaug report`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("report")
