"""`python -m mixaug_jax.evaluate`, which is `mixaug evaluate`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("evaluate")
