"""`python -m mixaug_jax.main`, which is `mixaug train`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("train")
