"""`python -m mixaug_jax.fit`, which is `mixaug fit`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("fit")
