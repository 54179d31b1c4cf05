"""Configs: reading a recipe, overriding its keys, checking every value."""

import json
import math
import runpy
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict, FieldReference

from mixaug_jax import hints, names, recipes, registry
from mixaug_jax.errors import UserError

_EXPANDED = "mix.expanded"
_CHOICES = {
  "data.resize": ("crop", "squash", "pad"),
  "data.placement": ("auto", "device", "host", "stream"),
  "data.on_error": ("raise", "skip"),
  "data.duplicates": ("report", "error"),
  "data.bits": (10, 12, 14, 16),
  "mix.partner": (
    *("any", "other_class", "flip", "roll", "shuffle", "replacement"),
  ),
  "model.dtype": ("auto", "float32", "bfloat16"),
  "loss.class_weights": ("inverse", "effective"),
  "evaluate.checkpoint": ("best", "last", "ema"),
  "evaluate.best_by": ("accuracy", "balanced_accuracy"),
}

_ABOVE_ZERO = math.nextafter(0.0, 1.0)
_BELOW_ONE = math.nextafter(1.0, 0.0)

_TYPES = {
  bool: "true or false",
  int: "a whole number",
  float: "a number",
  str: "a text",
}

# Closed ranges. The code that reads augment, mix and model checks their ranges,
# because it knows their meaning.
_RANGES = {
  "seed": (0, 2**31 - 1),
  "batch_size": (1, 10**6),
  "epochs": (_ABOVE_ZERO, 10**9),
  "steps": (1, 2**31 - 1),
  "data.image_size": (8, 4096),
  "data.cache_size": (8, 4096),
  "data.validation_fraction": (_ABOVE_ZERO, 0.9),
  "data.test_fraction": (_ABOVE_ZERO, 0.9),
  "data.test_seed": (0, 2**31 - 1),
  "data.examples_per_class": (1, math.inf),
  "data.imbalance_factor": (1.0, math.inf),
  "data.oversample_power": (0.0, 1.0),
  "mix.off_after_epoch": (0.0, math.inf),
  "model.dropout": (0.0, _BELOW_ONE),
  "optimizer.learning_rate": (0.0, math.inf),
  "optimizer.warmup_epochs": (0.0, math.inf),
  "optimizer.weight_decay": (0.0, math.inf),
  "optimizer.momentum": (0.0, _BELOW_ONE),
  "optimizer.clip_norm": (_ABOVE_ZERO, math.inf),
  "optimizer.accumulate": (1, math.inf),
  "optimizer.head_multiplier": (0.0, math.inf),
  "optimizer.layer_decay": (_ABOVE_ZERO, 1.0),
  "optimizer.head_warmup_epochs": (0.0, math.inf),
  "loss.label_smoothing": (0.0, _BELOW_ONE),
  "loss.effective_beta": (0.0, _BELOW_ONE),
  "ema.decay": (0.0, _BELOW_ONE),
  "early_stopping.patience": (1, 10**9),
  "early_stopping.min_delta": (0.0, _BELOW_ONE),
  "evaluate.every_epochs": (_ABOVE_ZERO, math.inf),
  "evaluate.batch_size": (1, 10**6),
  "checkpoint.every_epochs": (_ABOVE_ZERO, math.inf),
  "checkpoint.every_steps": (1, math.inf),
  "checkpoint.keep": (1, math.inf),
  "log.every_steps": (1, math.inf),
}

# With few blocks and few images, blocks that start as the identity learn too
# slowly: the tuning of configs/compare.py chooses against them.
_NO_ZERO_INIT = ("small_resnet",)
# A run can resume with other values of these keys and groups: they decide where
# and how a run is computed, but not what.
_MAY_CHANGE = (
  "checkpoint.keep",
  "data.cache_dir",
  "data.dir",
  "data.placement",
  "evaluate.batch_size",
  "log.",
  "model.remat",
)
_OLDER_KEYS = ("model.test_size",)  # Older runs have it; no code read it.


def load(spec: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
  """Reads a recipe, applies overrides, checks every value.

  Args:
    spec: `RECIPE` or `RECIPE:DATASET`, see `read`.
    overrides: as in `override`.

  Returns:
    The resolved, locked config.

  Raises:
    UserError: naming the file, key or value that is wrong.
  """
  config = read(spec)
  if "arms" in config:
    raise UserError(
      f"{spec} is a comparison; run it by the command compare or "
      "mixaug_jax.compare"
    )
  override(config, overrides or {})
  return resolve(config)


def resolve(config: ConfigDict) -> ConfigDict:
  """Checks every value, fills in those that follow others, locks the config.

  Raises:
    UserError: naming the key or value that is wrong.
  """
  _check_keys(config)
  check(config)
  _expand_written(config)
  settle_recipe(config)
  for key in ("dir", "cache_dir"):
    if config.data[key] is not None:
      path = names.local_path(f"config.data.{key}", config.data[key])
      config.data[key] = str(path)
  _settle_weights(config.model)
  if config.model.zero_init_residual is None:
    config.model.zero_init_residual = config.model.name not in _NO_ZERO_INIT
  config.data.cache_size = stored_size(config)
  _settle_groups(config)
  return config.lock()


def settle_recipe(config: ConfigDict) -> None:
  """Fills the unset keys that follow the weights that training starts from."""
  from mixaug_jax.configs import default
  from mixaug_jax.models import resnet
  from mixaug_jax.weights import sources

  model, optimizer = config.model, config.optimizer
  if model.pretrained == "auto":
    model.pretrained = sources.published(model.name)
  values = default.FINE_TUNING if model.pretrained else default.RANDOM_WEIGHTS
  if model.name not in resnet.MODELS:
    # Others may have no batch norm and no stage of this name.
    values = {
      **values,
      "model.freeze_batch_norm": False,
      "optimizer.freeze": None,
    }
  if optimizer.freeze == "auto":
    optimizer.freeze = values["optimizer.freeze"]
  unset = {key for key, value in leaves(config).items() if value is None}
  unset.discard("optimizer.freeze")
  _set(config, {key: x for key, x in values.items() if key in unset})


def stored_size(config: ConfigDict) -> int:
  """Returns `config.data.cache_size`, or what it is where it is unset."""
  from mixaug_jax import augment

  if config.data.cache_size is not None:
    return config.data.cache_size
  margin = 8 / 7 if augment.needs_margin(config.augment) else 1
  return round(config.data.image_size * margin)


def _settle_groups(config: ConfigDict) -> None:
  """Fills `config.mix.group_size`, so that a run records it."""
  from mixaug_jax import augment

  if config.mix.name != "none":
    try:
      config.mix.group_size = augment.partner_group_size(
        config.batch_size, config.mix.group_size
      )
    except ValueError as error:
      raise UserError(f"config.mix: {error}") from None


def _settle_weights(model: ConfigDict) -> None:
  """Fills the unset keys of `config.model` that follow the weights.

  The config of a run then describes its model and its input in full, so that
  the weight file is not needed again. A value that the user sets stays, unless
  it contradicts weights whose settings are known for certain.
  """
  from mixaug_jax.models.preprocessing import PREPROCESSING
  from mixaug_jax.training import pretrained
  from mixaug_jax.weights import sources

  source = pretrained.resolve(model.pretrained, model.name, model.allow_partial)
  for key, value in (source.settings if source else sources.DEFAULTS).items():
    if model[key] is None:
      model[key] = value
    elif model[key] != value and source and source.certain:
      raise UserError(
        f"config.model.{key} is {model[key]}, but the weights {source.name} "
        f"ask for {value}; leave it unset"
      )
  # It is None if the weights are those of a run that is gone.
  if model.preprocessing not in (None, *PREPROCESSING):
    raise UserError(
      "config.model.preprocessing must be one of "
      f"{', '.join(PREPROCESSING)}, got {model.preprocessing!r}"
    )


def read(spec: str) -> ConfigDict:
  """Returns what `get_config` of a recipe returns.

  Args:
    spec: `RECIPE` or `RECIPE:DATASET`; the recipe is a name or a path, as in
      `recipes.find`, and its file defines `get_config`.

  Raises:
    UserError: the file is missing, does not run, or returns no ConfigDict.
  """
  path, _, dataset = spec.partition(":")
  path = recipes.find(path)
  try:
    get_config = runpy.run_path(path)["get_config"]
  except KeyError:
    raise UserError(f"{path} defines no function get_config") from None
  except Exception as error:
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, ImportError) and error.name == "configs":
      reason += "; write `from mixaug_jax.configs import ...`"
    raise UserError(
      f"{path} does not run as a config file: {reason}"
    ) from error
  try:
    config = get_config(*([dataset] if dataset else []))
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(f"{spec}: {error}") from error
  if not isinstance(config, ConfigDict):
    raise UserError(f"{path}: get_config must return a ConfigDict")
  _expand_written(config.base if "base" in config else config)
  return config


def difference(
  base: ConfigDict, other: ConfigDict, kept: Iterable[str] = ()
) -> dict[str, Any]:
  """Returns leaves of `other`, nested as there.

  Args:
    base: a config with the same keys.
    other: the config.
    kept: keys to return; the others are returned if they differ from `base`.
  """
  ours, theirs, kept = leaves(base), leaves(other), set(kept)
  changed: dict[str, Any] = {}
  for key, value in theirs.items():
    if value != ours[key] or key in kept:
      *parents, name = key.split(".")
      node = changed
      for parent in parents:
        node = node.setdefault(parent, {})
      node[name] = value
  return changed


def override(config: ConfigDict, values: Mapping[str, Any]) -> None:
  """Sets dotted keys, from a value or from text of the type that a key has.

  Raises:
    UserError: an unknown key, or a text that is not of the key's type.
  """
  references = leaves(config, references=True)
  parsed = {}
  for key, text in values.items():
    if key not in references:
      raise UserError(unknown_key(key, references))
    parent, _, name = key.rpartition(".")
    kind = _node(config, parent).get_type(name)
    optional = isinstance(references[key], FieldReference)
    is_text = isinstance(text, str)
    parsed[key] = _parse(key, text, kind, optional) if is_text else text
  _set(config, parsed)


def update(config: ConfigDict, values: ConfigDict) -> None:
  """Sets the leaves of `values`, which is nested as `config`.

  Raises:
    UserError: an unknown key, or a value that is not of the key's type.
  """
  known, flat = leaves(config), leaves(values)
  if unknown := [key for key in flat if key not in known]:
    raise UserError(unknown_key(unknown[0], known))
  _set(config, flat)


def _set(config: ConfigDict, values: Mapping[str, Any]) -> None:
  """Sets known dotted keys, and what follows from a preset of mixing.

  Raises:
    UserError: a value of another type, or a preset that does not fit.
  """
  base = config.base if "base" in config else config
  prefix = "base." if "base" in config else ""
  given = [key.removeprefix(prefix) for key in values if key.startswith(prefix)]
  expanded = values.get(prefix + _EXPANDED)
  _expand_written(base)
  before = leaves(base) if "mix" in base else {}
  _set_alone(config, values)
  if not before:
    return
  if expanded is not None:  # The values are those of a run.
    if expanded != base.mix.preset:
      raise UserError(
        f"config.{prefix}{_EXPANDED} is filled in; set "
        f"config.{prefix}mix.preset"
      )
    return
  if prefix and base.mix.preset is not None and base.mix.name == "none":
    raise UserError(
      "config.base.mix.preset would mix in every arm, those without a mixer "
      "as well; set config.arms.ARM.mix.preset"
    )
  _follow_preset(base, before, given)


def _expand_written(config: ConfigDict) -> None:
  """Follows a preset that a recipe sets, changes or takes back in Python.

  The other values of a recipe that sets one are taken to be set with it if they
  are not the defaults.
  """
  mix = config.get("mix", {})
  if mix.get("preset") == mix.get("expanded"):
    return
  values, before = leaves(config), _plain(config)
  given = [key for key, x in before.items() if values[key] != x]
  if mix.expanded is not None:
    before = {**values, "mix.preset": mix.expanded}
    given = ["mix.preset"]
  _follow_preset(config, before, given)


def _follow_preset(
  config: ConfigDict, before: Mapping[str, Any], given: Iterable[str]
) -> None:
  """Sets what else changes with the keys `given`, see `presets.follow`."""
  after = leaves(config)
  if after.get("mix.preset") is None and before.get("mix.preset") is None:
    return
  from mixaug_jax.augment import presets

  try:
    wanted = presets.follow(before, after, set(given), _plain(config))
  except ValueError as error:
    raise UserError(f"config.{error}") from None
  _set_alone(config, {**wanted, _EXPANDED: after["mix.preset"]})


def of_preset(config: ConfigDict) -> Iterable[str]:
  """Returns the keys that the preset of mixing decides, if there is one."""
  if config.mix.preset is None:
    return ()
  from mixaug_jax.augment import presets

  name = config.mix.preset
  return presets.expand(name, config.mix.name, config.batch_size)


def _plain(config: ConfigDict) -> dict[str, Any]:
  """Returns the leaves of the default config for the data of `config`."""
  from mixaug_jax.configs import default

  name = config.data.name
  return leaves(default.get_config(name if name == "digits" else "folder"))


def _set_alone(config: ConfigDict, values: Mapping[str, Any]) -> None:
  """Sets known dotted keys; raises UserError for a value of another type."""
  for key, value in values.items():
    parent, _, name = key.rpartition(".")
    node = _node(config, parent)
    try:
      _refuse_bool(key, value, node.get_type(name))
      node[name] = value
    except TypeError:
      raise _wrong_type(key, value, node.get_type(name)) from None
  # A new length replaces the old one, in either unit.
  for given, other in (("steps", "epochs"), ("epochs", "steps")):
    for parent in ("", "base."):
      if parent + given in values and parent + other not in values:
        _node(config, parent.rstrip("."))[other] = None


def _refuse_bool(key: str, value: Any, kind: type) -> None:
  """Raises UserError for True as 1, which Python and ConfigDict accept."""
  if isinstance(value, bool) and kind is not bool:
    raise _wrong_type(key, value, kind)


def _wrong_type(key: str, value: Any, kind: type) -> UserError:
  plain = isinstance(value, str | int | float | None)
  got = repr(value) if plain else type(value).__name__
  return UserError(f"config.{key} must be {_TYPES[kind]}, got {got}")


def check_stored(content: Mapping[str, Any]) -> None:
  """Checks the types and ranges of a config that a run stored.

  Objects of registries are not looked up: that would import what they name.

  Args:
    content: as `completed` returns it.

  Raises:
    UserError: naming the key or value that is wrong.
  """
  from mixaug_jax.configs import default

  config = default.get_config()
  values = _flat(content)
  try:
    _set(config, {key: values[key] for key in leaves(config)})
  except KeyError as error:
    raise UserError(f"config.{error.args[0]} is missing") from None
  except OverflowError:  # A whole number as a float.
    raise UserError("a number is too large") from None
  _check_values(config)


def _check_keys(config: ConfigDict) -> None:
  """Raises UserError at a key that nothing reads, or a bool for a number.

  A mixer of the user's own may have a group in `config.mix`; `make_mixer`
  checks its keys.
  """
  from mixaug_jax.configs import default

  known = default.get_config()
  flat = leaves(known)
  for key, value in leaves(config).items():
    parent, _, name = key.rpartition(".")
    if key in flat:
      _refuse_bool(key, value, _node(known, parent).get_type(name))
    elif key not in _OLDER_KEYS and not (
      parent.startswith("mix.") and parent.split(".")[1] not in known.mix
    ):
      raise UserError(unknown_key(key, flat))


def check(config: ConfigDict) -> None:
  """Raises UserError at the first value that is out of its range."""
  from mixaug_jax.training import writers

  values = leaves(config)
  _check_values(config)
  try:
    for key, known in _registries().items():
      registry.find(f"config.{key}", values[key], known)
    writers.find(values["log.writers"])
  except ValueError as error:
    raise UserError(str(error)) from error
  if None not in (config.steps, config.epochs):
    raise UserError("set one of config.steps and config.epochs, not both")
  if None not in (
    config.checkpoint.every_epochs,
    config.checkpoint.every_steps,
  ):
    raise UserError(
      "set one of config.checkpoint.every_steps and "
      "config.checkpoint.every_epochs, not both"
    )
  size, stored = config.data.image_size, config.data.cache_size
  if stored is not None and stored < size:
    raise UserError(
      f"config.data.cache_size is {stored}, smaller than "
      f"config.data.image_size {size}; store at least what the network sees"
    )
  if config.batch_size % config.optimizer.accumulate:
    raise UserError(
      f"config.batch_size {config.batch_size} does not divide into "
      f"config.optimizer.accumulate {config.optimizer.accumulate} equal parts"
    )
  if config.loss.class_weights and config.data.oversample:
    raise UserError(
      "config.loss.class_weights and config.data.oversample would make up for "
      "rare classes twice; set one of them"
    )
  if config.evaluate.checkpoint == "ema" and config.ema.decay is None:
    raise UserError(
      "config.evaluate.checkpoint=ema needs an average: set config.ema.decay, "
      "for example 0.999"
    )


def _check_values(config: ConfigDict) -> None:
  """Raises UserError at the first value that is wrong on its own."""
  values = leaves(config)
  optional = {
    key
    for key, value in leaves(config, references=True).items()
    if isinstance(value, FieldReference)
  }
  for key, value in values.items():
    if value is None and key not in optional:
      raise UserError(f"config.{key} must be set")
    if isinstance(value, float) and not math.isfinite(value):
      raise UserError(f"config.{key} must be finite, got {value}")
  for key, choices in _CHOICES.items():
    if values[key] is not None and values[key] not in choices:
      raise UserError(
        f"config.{key} must be one of {', '.join(map(str, choices))}, "
        f"got {values[key]!r}{registry.hint(str(values[key]), choices)}"
      )
  for key, (low, high) in _RANGES.items():
    value = values[key]
    if value is not None and not low <= value <= high:
      raise UserError(f"config.{key} must be {_range(low, high)}, got {value}")


def _registries() -> dict[str, Mapping[str, Any]]:
  """Returns, by key, the objects that a value may name."""
  from mixaug_jax import models
  from mixaug_jax.training import losses, optim

  return {
    "loss.name": losses.LOSSES,
    "model.name": models.MODELS,
    "optimizer.name": optim.OPTIMIZERS,
    "optimizer.schedule": optim.SCHEDULES,
  }


def leaves(config: ConfigDict, references: bool = False) -> dict[str, Any]:
  """Returns all leaves by their dotted names, as references on request."""
  flat = {}
  for name, value in config.items(preserve_field_references=references):
    if isinstance(value, ConfigDict):
      for key, leaf in leaves(value, references).items():
        flat[f"{name}.{key}"] = leaf
    else:
      flat[name] = value
  return flat


def differences(
  ours: ConfigDict, theirs: Mapping[str, Any], *, harmless: bool = False
) -> list[str]:
  """Returns the leaves in which two configs differ, as one text each.

  Args:
    ours: the config of this command.
    theirs: the config that a run stored.
    harmless: whether to return those that a run can resume with, or the others.
  """
  here, there = leaves(ours), _flat(theirs)
  for key in _OLDER_KEYS:
    there.pop(key, None)
  missing = object()
  return [
    f"{key} (there {there.get(key, 'absent')}, here {here.get(key, 'absent')})"
    for key in sorted(here.keys() | there.keys())
    if here.get(key, missing) != there.get(key, missing)
    and key.startswith(_MAY_CHANGE) == harmless
  ]


def completed(content: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config that a run stored, with the keys that are newer than it.

  They have their defaults, which change nothing.
  """
  from mixaug_jax.configs import default

  config = _merged(default.get_config().to_dict(), content)
  if config["data"]["cache_size"] is None:  # Older runs did not settle it.
    config["data"]["cache_size"] = config["data"]["image_size"]
  if config["mix"]["group_size"] is None and config["mix"]["name"] != "none":
    # Older runs drew partners from the whole batch.
    config["mix"]["group_size"] = config["batch_size"]
  return config


def without_effect(config: ConfigDict) -> list[str]:
  """Reports the settings of what is off, a sentence each."""
  from mixaug_jax.augment import pipeline
  from mixaug_jax.configs import default

  names = pipeline.without_effect(config.augment, default.get_config().augment)
  reports = [
    f"config.augment.{name} has no effect, because the operation is off"
    for name in names
  ]
  of_others = (
    ("early_stopping.min_delta", "early_stopping.patience", None),
    ("data.oversample_power", "data.oversample", False),
    ("mix.remix_tau", "mix.remix_kappa", None),
    ("loss.effective_beta", "loss.class_weights", None),
    ("loss.effective_beta", "loss.class_weights", "inverse"),
    ("model.allow_partial", "model.pretrained", None),
    ("optimizer.momentum", "optimizer.name", "adamw"),
    ("optimizer.nesterov", "optimizer.momentum", 0.0),
    ("optimizer.nesterov", "optimizer.name", "adamw"),
  )
  values, unset = leaves(config), _plain(config)
  # Of two reasons for a key, the later one is given.
  off = {
    key: f"config.{key} has no effect, because config.{other} is "
    + str("unset" if value is None else value).lower()
    for key, other, value in of_others
    if values[key] != unset[key] and values[other] == value
  }
  reports += off.values()
  if config.mix.name == "none":
    reports += [
      f"config.{key} has no effect, because config.mix.name=none"
      for key, value in values.items()
      # A group of the user's own has no default.
      if key.startswith("mix.") and value != unset.get(key)
    ]
  return reports


def shares_without_effect(
  config: ConfigDict, splits: Collection[str]
) -> list[str]:
  """Reports the settings of shares that need not be held out.

  Args:
    config: of a run.
    splits: those that its data come with, as `Datasets.given`.
  """
  there = {
    "data.validation_fraction": "validation" in splits,
    "data.test_fraction": "all" not in splits,
    "data.test_seed": "all" not in splits,
  }
  values, unset = leaves(config), _plain(config)
  names = f"split{'s' * (len(splits) > 1)} {' and '.join(splits)}"
  return [
    f"config.{key} has no effect, because the data come with the {names}"
    for key, given in there.items()
    if given and values[key] not in (None, unset[key])
  ]


def _merged(old: Any, new: Any) -> Any:
  if not isinstance(old, dict) or not isinstance(new, Mapping):
    return new
  return {
    **old,
    **{name: _merged(old.get(name), value) for name, value in new.items()},
  }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = value
  return flat


def to_json(config: ConfigDict) -> str:
  return json.dumps(config.to_dict(), indent=2) + "\n"


def _node(config: ConfigDict, dotted: str) -> ConfigDict:
  for name in dotted.split(".") if dotted else ():
    config = config[name]
  return config


def _parse(key: str, text: str, kind: type, optional: bool) -> Any:
  if text.lower() == "none" and optional:
    return None
  try:
    if kind is bool:
      return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    if kind is int and float(text) == int(float(text)):
      return int(text) if text.lstrip("+-").isdigit() else int(float(text))
    if kind is float:
      return float(text)
    if kind is str and (text.lower() != "none" or key == "mix.name"):
      return text
  except (KeyError, ValueError, OverflowError):
    pass
  raise _wrong_type(key, text, kind)


def unknown_key(
  key: str, known: Iterable[str], prefix: str = "", value: str = ""
) -> str:
  """Returns the sentence about a key that is not in `known`.

  Args:
    key: a dotted name.
    known: all keys.
    prefix: of the suggestion as a flag with `value`; empty: a key alone.
    value: what the key was to be.
  """
  known = list(known)
  near = hints.key(key, known)
  shown = f"{prefix}{near}={value}" if prefix else near
  hint = f"; did you mean {shown}?" if near else ""
  start = f"{key}."
  if below := [x.removeprefix(start) for x in known if x.startswith(start)]:
    return (
      f"config.{key} is a group; set one of its keys: {', '.join(below)}{hint}"
    )
  return f"config.{key} is not a config key{hint}"


def nearest_value(key: str, value: str) -> str:
  """Returns the name that a key may hold and `value` may stand for.

  Returns:
    `value` itself where the key takes other values than names, or none is near.
  """
  from mixaug_jax.augment import MIXERS

  known = {**_CHOICES, **_registries(), "mix.name": MIXERS}.get(key, ())
  return hints.value(value, map(str, known)) or value


def _range(low: float, high: float) -> str:
  text = lambda x: f"{x:,}" if isinstance(x, int) else f"{x:g}"
  lower = "above 0" if low == _ABOVE_ZERO else f"at least {text(low)}"
  if high == math.inf:
    return lower
  upper = "below 1" if high == _BELOW_ONE else f"at most {text(high)}"
  return f"{lower} and {upper}"
