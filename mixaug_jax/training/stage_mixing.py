"""The forward pass with mixing between the stages of a network."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from mixaug_jax import augment
from mixaug_jax.models import Model

# The number of stages after the stem, and `(place, activations=, labels=) ->
# (activations, labels)`.
Between = tuple[int, Callable[..., tuple[jax.Array, jax.Array]]]


def bound(
  mixer: Any, key: jax.Array, enabled: jax.Array, shard: augment.Shard
) -> Between | None:
  """Returns the mixing between stages of a train step, None without any.

  Args:
    mixer: the result of `make_mixer`.
    key: the one with which the input is mixed.
    enabled: as in `augment.mix`.
    shard: as in `augment.mix`.
  """
  between = augment.between_stages(mixer)
  if between is None:
    return None
  stages, mix = between
  return stages, functools.partial(mix, key=key, enabled=enabled, shard=shard)


def check(mixer: Any, model: Model, accumulate: int) -> None:
  """Raises ValueError if a mixer between stages does not fit the run.

  Args:
    mixer: the result of `make_mixer`.
    model: the network.
    accumulate: parts of a batch that are computed in turn.
  """
  between = augment.between_stages(mixer)
  if between is None:
    return
  most = len(model.stages) - 2
  if between[0] > most:
    raise ValueError(
      f"mix: the model has {most} stages between its stem and its head, got "
      f"stages={between[0]}; lower it"
    )
  if accumulate > 1:
    raise ValueError(
      "optimizer.accumulate must be 1 for a mixer between stages, whose "
      f"partners may be in another part of the batch, got {accumulate}"
    )


def apply(
  model: Model,
  variables: dict[str, Any],
  x: jax.Array,
  labels: jax.Array,
  between: Between,
  rngs: Any,
) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
  """Runs the network in training, with mixing after its first stages.

  Args:
    model: the network.
    variables: its `params` and `batch_stats`.
    x: preprocessed images `[B, H, W, 3]`.
    labels: `[B, C]`.
    between: the mixing, see `bound`.
    rngs: of dropout.

  Returns:
    Logits `[B, C]`, mixed labels, and the changed batch statistics.
  """
  stages, mix = between
  ends = [*range(1, stages + 1), len(model.stages) - 1]
  start = 0
  for end in ends:
    x, changed = model.apply(
      variables,
      x,
      train=True,
      mutable=["batch_stats"],
      rngs=rngs,
      start=model.stages[start],
      stop=model.stages[end],
    )
    variables = {**variables, **changed}
    if end <= stages:
      x, labels = mix(end, activations=x, labels=labels)
    start = end + 1
  return x, labels, {"batch_stats": variables["batch_stats"]}
