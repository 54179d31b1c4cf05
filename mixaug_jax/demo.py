"""`python -m mixaug_jax.demo`, which is `mixaug demo`."""

from mixaug_jax.command import start

if __name__ == "__main__":
  start.run("demo")
