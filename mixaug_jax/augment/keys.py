"""The random streams of a training step."""

from typing import NamedTuple

import jax


class StepKeys(NamedTuple):
  """The keys of one training step.

  Attributes:
    augment: one key for each example, `[B]`; for `make_augment`.
    mix: one key for the whole global batch; for `mix` and `make_mixer`.
    dropout: one key for the whole global batch.
  """

  augment: jax.Array
  mix: jax.Array
  dropout: jax.Array


def step_keys(
  seed: jax.Array | int,
  step: jax.Array | int,
  positions: jax.Array,
) -> StepKeys:
  """Returns the keys of all random streams of a training step.

  Every stream is folded from (seed, step): with 0 and the position for
  augmentation, with 1 for mixing, with 2 for dropout.

  Args:
    seed: the seed of the run, uint32 scalar.
    step: the number of the step, int32 scalar.
    positions: places of this device's examples in the global batch, int32
      `[B]`.
  """
  seed_key = jax.random.key(seed)
  step_key = jax.random.fold_in(seed_key, step)
  return StepKeys(
    augment=example_keys(seed_key, step, positions),
    mix=jax.random.fold_in(step_key, 1),
    dropout=jax.random.fold_in(step_key, 2),
  )


def example_keys(
  seed_key: jax.Array, step: jax.Array | int, positions: jax.Array
) -> jax.Array:
  """Returns one augmentation key for each example of a global batch.

  Args:
    seed_key: the key of the run.
    step: the number of the step, int32 scalar.
    positions: places in the global batch, int32 `[B]`.

  Returns:
    Keys `[B]`. A key depends only on seed, step and position.
  """
  step_key = jax.random.fold_in(jax.random.fold_in(seed_key, step), 0)
  return jax.vmap(jax.random.fold_in, (None, 0))(step_key, positions)
