"""`python -m mixaug_jax.compare`, which is `mixaug compare`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("compare")
