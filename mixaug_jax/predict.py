"""`python -m mixaug_jax.predict`, which is `mixaug predict`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("predict")
