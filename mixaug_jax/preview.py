"""`python -m mixaug_jax.preview`, which is `mixaug preview`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("preview")
