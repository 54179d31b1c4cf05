"""The config of a comparison: its base, its arms, and what is tuned."""

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from mixaug_jax import augment, hints
from mixaug_jax import config as config_lib
from mixaug_jax.comparison import space
from mixaug_jax.errors import UserError

# Differences between arms are paired by seed and by test example, and weights
# are chosen alike, so the arms must agree in these keys.
_SHARED = (
  *("seed", "data.", "evaluate.checkpoint", "evaluate.best_by"),
  "evaluate.every_epochs",
)
DESIGNS = ("studies", "fixed")
_LENGTHS = {"steps", "epochs"}  # Setting one of them unsets the other.
_MOST_TRIALS = 10_000
_SPACE = "tune.space."


def load(spec: str, overrides: Mapping[str, str]) -> ConfigDict:
  """Reads `configs/compare.py` or a file like it, with overrides.

  Args:
    spec: `PATH` or `PATH:DATASET`.
    overrides: dotted keys and their values as text. `arms.ARM.KEY` sets any
      key of `base` for one arm, and `tune.space.KEY` the range of any key of
      `base`.

  Raises:
    UserError: a key or value that is wrong.
  """
  config = config_lib.read(spec)
  if {"base", "arms"} <= set(config):
    _check_keys(config)
  if missing := {"base", "arms", "baseline", "goal", "seeds"} - set(config):
    raise UserError(
      f"{spec} is not a comparison, because it has no {min(missing)!r}; name "
      "configs/compare.py or a file like it"
    )
  of_arms = {k: text for k, text in overrides.items() if k.startswith("arms.")}
  of_space = {k: text for k, text in overrides.items() if k.startswith(_SPACE)}
  rest = overrides.keys() - of_arms.keys() - of_space.keys()
  config_lib.override(config, {k: overrides[k] for k in overrides if k in rest})
  _override_space(config, of_space)
  _override_arms(config, of_arms)
  if config.seeds < 1:
    raise UserError(f"config.seeds must be at least 1, got {config.seeds}")
  if not 0 < config.goal < 1:
    raise UserError(
      f"config.goal must be a fraction above 0 and below 1, got {config.goal}"
    )
  if config.baseline not in config.arms:
    raise UserError(
      f"config.baseline must be an arm ({', '.join(config.arms)}), got "
      f"{config.baseline!r}"
    )
  if len(config.arms) < 2:
    raise UserError("config.arms must hold the baseline and another arm")
  pairs(config)
  return config.lock()


def _check_keys(config: ConfigDict) -> None:
  """Raises UserError at a key of a comparison that nothing reads."""
  from mixaug_jax.configs import compare

  known = compare.get_config()
  groups = [("config", config, known)]
  if isinstance(config.get("tune"), ConfigDict):
    groups.append(("config.tune", config.tune, known.tune))
  for name, group, keys in groups:
    for key in group:
      if key not in keys:
        near = hints.near(key, keys)
        hint = f"did you mean {name}.{near}?" if near else ""
        raise UserError(
          f"{name}.{key} is not a key of a comparison; "
          f"{hint or 'its keys are ' + ', '.join(keys)}"
        )


def pairs(config: ConfigDict) -> tuple[tuple[str, str], ...]:
  """Reads `config.pairs`, such as `basic+cutmix:basic,basic+mixup:basic`."""
  found = []
  texts = config.get("pairs") or ""
  if texts == "auto":
    texts = ",".join(
      f"{name}:{name.rpartition('+')[0]}"
      for name in config.arms
      if name.rpartition("+")[0] in set(config.arms) - {config.baseline}
    )
  for text in filter(None, texts.split(",")):
    arm, colon, other = (part.strip() for part in text.partition(":"))
    if not colon or arm == other or not {arm, other} <= set(config.arms):
      raise UserError(
        f"config.pairs must be pairs ARM:OTHER of two of the arms "
        f"{', '.join(config.arms)}, separated by commas, got {text!r}"
      )
    if other == config.baseline:
      raise UserError(
        f"config.pairs: every arm is compared with {other} already; leave out "
        f"{text}"
      )
    found.append((arm, other))
  return tuple(dict.fromkeys(found))


def of_arm(config: ConfigDict, name: str) -> ConfigDict:
  """The base config with the overrides of an arm, unchecked."""
  overrides = config.arms[name]
  if not isinstance(overrides, ConfigDict):
    raise UserError(
      f"config.arms.{name} must be a dict of the keys that it changes, such as "
      f"{{'mix': {{'alpha': 0.5}}}}, got {overrides!r}"
    )
  arm = copy.deepcopy(config.base)
  with arm.unlocked(), _naming(name):
    config_lib.update(arm, overrides)
  return arm


def resolved(
  config: ConfigDict, name: str, stored: int, values: Mapping[str, str]
) -> ConfigDict:
  """Returns the resolved config of an arm, for any seed.

  Args:
    config: what `load` returned.
    name: the arm.
    stored: the size of stored images, the same for all arms.
    values: the hyperparameters that were tuned, as text by key.

  Raises:
    UserError: naming the arm and the key that is wrong.
  """
  if not re.fullmatch(r"[\w+-]+", name):
    raise UserError(
      f"config.arms: {name!r} must be the name of a folder, of letters, digits "
      "and + - _"
    )
  arm = of_arm(config, name)
  for key in config_lib.leaves(config.arms[name]):
    if key.startswith(_SHARED):
      raise UserError(
        f"config.arms.{name}: {key} must be the same in all arms; set "
        f"config.base.{key} instead"
      )
  arm.data.cache_size = stored
  with _naming(name):
    config_lib.override(arm, values)
    config_lib.resolve(arm)
    try:
      augment.make_augment(arm.augment, arm.data.image_size)
      augment.make_mixer(arm.mix)
    except ValueError as error:
      raise UserError(f"config.{error}") from None
    return arm


@contextlib.contextmanager
def _naming(arm: str) -> Iterator[None]:
  """Puts the name of an arm before the sentence of a UserError."""
  try:
    yield
  except UserError as error:
    raise UserError(f"arm {arm}: {error}") from None


def tuned(config: ConfigDict) -> bool:
  """Returns whether recipes are tuned; files of the user's own may not."""
  return bool(config.get("tune") and config.tune.get("trials", True))


def studies(config: ConfigDict) -> int:
  """Returns the number of studies of a config that is tuned."""
  return config.seeds if config.tune.design == "studies" else 1


def space_texts(config: ConfigDict) -> dict[str, str]:
  """Returns `config.tune.space` as texts by dotted key."""
  everywhere = space.parse(config.tune.space, config.base)
  return {each.key: str(each) for each in everywhere}


def ranges(config: ConfigDict, name: str) -> tuple[space.Range, ...]:
  """Returns the ranges of the hyperparameters that are tuned in an arm.

  A key that the arm or its preset of mixing sets is not tuned there.

  Raises:
    UserError: a range, or a mixer of the arm, is wrong.
  """
  arm = of_arm(config, name)
  own = {*config_lib.leaves(config.arms[name]), *config_lib.of_preset(arm)}
  if own & _LENGTHS:
    own |= _LENGTHS
  everywhere = space.parse(config.tune.space, config.base)
  try:
    applying = space.applying(everywhere, arm)
  except ValueError as error:
    raise UserError(f"arm {name}: config.{error}") from None
  return tuple(each for each in applying if each.key not in own)


def check_tuning(config: ConfigDict) -> None:
  """Raises UserError if `config.tune` cannot be carried out."""
  if missing := {"trials", "design", "space"} - set(config.tune):
    raise UserError(
      f"config.tune has no {min(missing)!r}; it needs trials, design and "
      "space, as in configs/compare.py"
    )
  trials, design = config.tune.trials, config.tune.design
  if design not in DESIGNS:
    raise UserError(
      f"config.tune.design must be one of {', '.join(DESIGNS)}, got {design!r}"
    )
  parts = studies(config)
  if not 2 * parts <= trials <= _MOST_TRIALS or trials % parts:
    near = min(max(2, round(trials / parts)), _MOST_TRIALS // parts) * parts
    raise UserError(
      f"config.tune.trials must be a multiple of the number of studies, "
      f"{parts}, with 2 or more in each, and at most {_MOST_TRIALS:,}, got "
      f"{trials:,}; try {near:,}, or 0 for no tuning"
    )
  if not space.parse(config.tune.space, config.base):
    raise UserError(
      "config.tune.space is empty, so there is nothing to tune; set "
      "config.tune.trials=0"
    )
  for name in config.arms:
    for key in config_lib.leaves(config.arms[name]):
      if key.startswith("early_stopping."):
        raise UserError(
          f"config.arms.{name}: {key} must be the same in all arms that are "
          "tuned, because their trials have equal budgets; set "
          f"config.base.{key} instead, or config.tune.trials=0"
        )
  from mixaug_jax.training import experiment  # It imports Flax.

  unused = space_texts(config)
  for name in config.arms:
    of_this = ranges(config, name)
    for each in of_this:
      unused.pop(each.key, None)
    if not of_this:
      raise UserError(
        f"config.tune.space has no key that applies to the arm {name}, so all "
        "its trials would be equal; add one, such as optimizer.learning_rate"
      )
    stored = config_lib.stored_size(of_arm(config, name))
    resolved(config, name, stored, {})  # A mistake of the arm comes first.
    for each in of_this:
      for text in each.texts:
        try:
          arm = resolved(config, name, stored, {each.key: text})
          experiment.create_model(arm, num_classes=2)
        except UserError as error:
          raise UserError(
            f"config.tune.space.{each.key}: {error}; none leaves it untuned"
          ) from None
  for key in unused:
    raise UserError(
      f"config.tune.space.{key} has no effect: in every arm its operation is "
      f"off, or the arm sets {key} itself; set it to none"
    )


def _override_space(config: ConfigDict, overrides: Mapping[str, str]) -> None:
  """Sets ranges, `tune.space.KEY`, from text; `none` removes one."""
  for dotted, text in overrides.items():
    if "tune" not in config:
      raise UserError(f"config.{dotted}: this comparison has no config.tune")
    key = dotted.removeprefix(_SPACE)
    known = config_lib.leaves(config.base)
    if key not in known:
      raise UserError(f"config.{dotted}: {config_lib.unknown_key(key, known)}")
    *parents, leaf = key.split(".")
    node = config.tune.space
    for parent in parents:
      if parent not in node:
        node[parent] = ConfigDict()
      node = node[parent]
    if text.lower() != "none":
      node[leaf] = text
    elif leaf in node:
      del node[leaf]


def _override_arms(config: ConfigDict, overrides: Mapping[str, str]) -> None:
  """Sets keys of arms, `arms.ARM.KEY`, from text."""
  by_arm: dict[str, dict[str, str]] = {}
  for key, text in overrides.items():
    name, _, leaf = key.removeprefix("arms.").partition(".")
    if name not in config.arms:
      known = [f"arms.{arm}" for arm in config.arms]
      raise UserError(config_lib.unknown_key(f"arms.{name}", known))
    if not leaf:
      raise UserError(
        f"config.arms.{name} is a group; set its keys one by one, as in "
        f"config.arms.{name}.mix.alpha=0.5"
      )
    by_arm.setdefault(name, {})[leaf] = text
  for name, texts in by_arm.items():
    arm = of_arm(config, name)
    with _naming(name):
      config_lib.override(arm, texts)
    # Also what equals the base, because a key that an arm sets is not tuned.
    kept = {*config_lib.leaves(config.arms[name]), *texts}
    arm = config_lib.difference(config.base, arm, kept)
    config.arms[name] = ConfigDict(arm)
