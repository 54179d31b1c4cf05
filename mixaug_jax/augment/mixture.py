"""From `config.mix` to the mixer of a train step."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from mixaug_jax import registry
from mixaug_jax.augment import mixing, stage_mixers
from mixaug_jax.augment.mixers import MIXERS
from mixaug_jax.augment.remix import Remix, check_mixers

_PACKAGE = mixing.__name__.rpartition(".")[0]
# Keys that apply to all mixers with such a setting, and their unset values.
SHARED = {
  "alpha": None,
  "min_lambda": 0.0,
  "max_lambda": 1.0,
  "min_aspect": 1.0,
  "max_aspect": 1.0,
}


def make_mixer(
  config: Any,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Builds the mixer of `config.mix`.

  A setting of a mixer is read from the group with the name of the mixer. If it
  is None there, the key that all mixers share applies, and then the default of
  the class. A mixer `package.module:Name` has the group `Name`, which is
  optional.

  Args:
    config: the keys of `mix` in configs/default.py.

  Returns:
    A function `(key, images, labels, *, enabled=True, shard=None, network=None)
    -> (images, labels)` like `augment.mix`; `enabled` may be traced, and False
    returns the batch unchanged. It is a pytree. Its arrays are the probability
    and the alpha of the mixers of this package, which may be replaced by traced
    values. If the mixer acts between the stages of a network, the function
    mixes only the input, and `between_stages` the rest. With `remix_kappa`, it
    needs the counts that `with_class_counts` sets.

  Raises:
    ValueError: a setting is out of range or belongs to no mixer; the message
      names its key.
  """
  names = [name.strip() for name in config.name.split(",")]
  if names == ["none"]:
    return _unmixed
  choices: dict[str, Any] = {"none": None, **MIXERS}
  classes = [registry.find("mix.name", name, choices) for name in names]
  if "none" in names:
    raise ValueError(
      "mix.name: none cannot be combined with a mixer; lower mix.probability"
    )
  for name, kind in zip(names, classes, strict=True):
    if not (isinstance(kind, type) and issubclass(kind, mixing.Mixer)):
      raise ValueError(
        f"mix.name={name} is not a class derived from mixaug_jax.augment.Mixer"
      )
  weights = None
  if config.weights is not None:
    try:
      weights = tuple(float(x) for x in str(config.weights).split(","))
    except ValueError:
      raise ValueError(
        f"mix.weights must be numbers such as 0.7,0.3, got {config.weights!r}"
      ) from None
  groups = [name.rpartition(":")[2] for name in names]
  mixers = _configured(config, groups, classes)
  try:
    mixing.check_settings(mixers, weights, config.probability, config.partner)
  except ValueError as error:
    raise ValueError(f"mix: {error}") from None
  mix = functools.partial(
    mixing.mix,
    weights=weights,
    per_example=config.per_example,
    partner=config.partner,
    group_size=config.group_size,
  )
  settings = {"mixers": mixers, "probability": np.float32(config.probability)}
  if config.remix_kappa is not None:
    remix = Remix(
      kappa=np.float32(config.remix_kappa), tau=np.float32(config.remix_tau)
    )
    try:
      check_mixers(mixers)
      remix.check()
    except ValueError as error:
      raise ValueError(f"mix.{error}") from None
    settings["remix"] = remix
  if not any(mixer.between_stages for mixer in mixers):
    return Partial(mix, **settings)
  if len(mixers) > 1:
    raise ValueError(
      f"mix.name={config.name} combines a mixer between the stages of the "
      "network with others; name it alone"
    )
  name = mixers[0].at_input
  at_input = MIXERS[name]() if name else mixers[0]
  return Partial(
    stage_mixers.mix_input, **mix.keywords, **settings, at_input=(at_input,)
  )


def with_class_counts(
  mixer: Callable[..., Any], class_counts: Sequence[int] | np.ndarray
) -> Callable[..., Any]:
  """Returns a result of `make_mixer` that knows the classes' sizes.

  Args:
    mixer: the result of `make_mixer`; without `remix_kappa` it is returned.
    class_counts: the number of training examples of each class, `[classes]`.
  """
  if not isinstance(mixer, Partial) or "remix" not in mixer.keywords:
    return mixer
  counts = np.asarray(class_counts, np.float32)
  remix = dataclasses.replace(mixer.keywords["remix"], class_counts=counts)
  return Partial(mixer.func, **{**mixer.keywords, "remix": remix})


def looks_at_network(mixer: Callable[..., Any]) -> bool:
  """Returns whether a result of `make_mixer` needs a network to mix."""
  return any(x.needs or x.between_stages for x in _mixers(mixer))


def keeps_mass(mixer: Callable[..., Any]) -> bool:
  """Returns whether a result of `make_mixer` returns probabilities."""
  return all(x.keeps_mass for x in _mixers(mixer))


def check_size(mixer: Callable[..., Any], side: int) -> None:
  """Raises ValueError if a result of `make_mixer` cannot mix square images.

  Args:
    mixer: the result of `make_mixer`.
    side: pixels of the images a side.
  """
  for each in _mixers(mixer):
    if not each.between_stages:
      jax.eval_shape(
        lambda key, each=each: each.for_batch(key).draw(key, side, side),
        jax.random.key(0),
      )


def _mixers(mixer: Callable[..., Any]) -> Sequence[mixing.Mixer]:
  return getattr(mixer, "keywords", {}).get("mixers", ())


def _configured(
  config: Any, groups: Sequence[str], classes: Sequence[type[mixing.Mixer]]
) -> tuple[mixing.Mixer, ...]:
  """Creates the mixers with their settings; raises ValueError."""
  fields = {
    group: [field.name for field in dataclasses.fields(kind)]
    for group, kind in zip(groups, classes, strict=True)
  }
  shared = {
    key: getattr(config, key)
    for key, unset in SHARED.items()
    if getattr(config, key) != unset
  }
  for key in shared:
    if not any(key in known for known in fields.values()):
      raise ValueError(
        f"mix.{key} is not a setting of {config.name}; leave it at "
        f"{SHARED[key]}"
      )
  own = {
    group: {key: value for key, value in leaves.items() if value is not None}
    for group, leaves in config.items()
    if hasattr(leaves, "items")
  }
  for group, values in own.items():
    for key in values:
      if group not in fields:
        raise ValueError(
          f"mix.{group}.{key} has no effect on {config.name}; add {group} to "
          f"mix.name or set mix.{group}.{key} to none"
        )
      if key not in fields[group]:
        raise ValueError(
          f"mix.{group}.{key} is not a setting of {group}, which has "
          f"{', '.join(fields[group])}"
        )
  mixers = []
  for group, kind in zip(groups, classes, strict=True):
    settings = {key: shared[key] for key in shared if key in fields[group]}
    settings |= own.get(group, {})
    try:
      mixer = kind(**settings)
      # Another mixer may branch on its alpha in Python.
      if kind.__module__.startswith(_PACKAGE) and "alpha" in fields[group]:
        alpha = np.float32(vars(mixer)["alpha"])
        mixer = dataclasses.replace(mixer, **{"alpha": alpha})
      mixers.append(mixer)
    except (TypeError, ValueError) as error:
      where = f"mix.{group}" if own.get(group) else "mix"
      raise ValueError(f"{where}: {error}") from None
  return tuple(mixers)


def _unmixed(key, images, labels, *, enabled=True, shard=None, network=None):
  del key, enabled, shard, network
  return images, labels
