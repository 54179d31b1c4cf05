"""The hyperparameters that a comparison tunes: their ranges and their points.

A range is a text: `log 0.03 1` and `uniform 0.3 1` are intervals, on a
logarithmic and on a linear scale, and `choice 200 400` is a list of values.
`times 0.1 10` is the logarithmic interval from a tenth of the value in the base
config to ten times that value.
"""

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from scipy.stats import qmc

from mixaug_jax import config as config_lib
from mixaug_jax import registry
from mixaug_jax.augment import MIXERS, mixture, pipeline
from mixaug_jax.errors import UserError

_KINDS = ("log", "uniform", "times", "choice")
_FIXED = (
  *("seed", "data.", "evaluate.", "log.", "checkpoint.", "mix.name"),
  "early_stopping.",
)
_FORMS = "log LOW HIGH, uniform LOW HIGH, times LOW HIGH or choice VALUE ..."
_DIGITS = 3  # Of a value, or of its place in a linear range.


@dataclasses.dataclass(frozen=True)
class Range:
  """The range of a hyperparameter.

  Attributes:
    key: its dotted name in the config.
    kind: `log`, `uniform` or `choice`.
    texts: the two ends, or the values to choose from.
    whole: whether the values of an interval are whole numbers.
  """

  key: str
  kind: str
  texts: tuple[str, ...]
  whole: bool = False

  def __str__(self) -> str:
    return " ".join((self.kind, *self.texts))

  def at(self, place: float) -> str:
    """Returns the value at a place in [0, 1) of the range, as text."""
    if self.kind == "choice":
      return self.texts[int(place * len(self.texts))]
    low, high = map(float, self.texts)
    if self.kind == "log":
      value = low * (high / low) ** place
      value = float(f"{value:.{_DIGITS}g}")
    else:
      value = low + (high - low) * place
      value = round(value, _DIGITS - math.floor(math.log10(high - low)))
    value = min(max(value, low), high)
    return str(round(value)) if self.whole else f"{value:.12g}"


def parse(space: Mapping[str, Any], base: ConfigDict) -> tuple[Range, ...]:
  """Reads `config.tune.space`.

  Args:
    space: texts by key, nested as `base`; None leaves a key untuned.
    base: a config with every key.

  Raises:
    UserError: naming the key whose range is wrong.
  """
  known = config_lib.leaves(base)
  ranges = []
  for key, text in config_lib.leaves(space).items():
    if text is None:
      continue
    name = f"config.tune.space.{key}"
    if key not in known:
      raise UserError(f"{name}: {config_lib.unknown_key(key, known)}")
    if key.startswith(_FIXED):
      raise UserError(f"{name}: {key} is not a hyperparameter of a recipe")
    kind, *texts = str(text).split() or [""]
    wanted = f"{name} must be {_FORMS}, got {text!r}"
    if kind not in _KINDS or len(texts) < 2:
      raise UserError(wanted)
    if kind == "choice":
      if len(set(texts)) < len(texts):
        raise UserError(f"{name} has a value twice: {text}")
      ranges.append(Range(key, kind, tuple(texts)))
      continue
    parent, _, leaf = key.rpartition(".")
    node = base
    for part in filter(None, parent.split(".")):
      node = node[part]
    of_type = node.get_type(leaf)
    try:
      low, high = map(float, texts)
    except ValueError:
      raise UserError(wanted) from None
    if of_type not in (int, float):
      raise UserError(f"{name}: {key} is not a number; use choice")
    if not -math.inf < low < high < math.inf:
      raise UserError(f"{name}: the low end must be below the high end: {text}")
    if kind in ("log", "times") and low <= 0:
      raise UserError(f"{name}: a logarithmic range must be above 0: {text}")
    if kind == "times":
      value = _settled(base)[key]
      if value is None or value <= 0:
        raise UserError(f"{name}: {key} is {value} in the base; use log")
      kind, texts = "log", [f"{value * x:g}" for x in (low, high)]
    ranges.append(Range(key, kind, tuple(texts), of_type is int))
  keys = {each.key for each in ranges}
  if keys >= {"steps", "epochs"}:
    raise UserError(
      "config.tune.space holds steps and epochs; tune one of the two"
    )
  return tuple(ranges)


def _settled(base: ConfigDict) -> dict[str, Any]:
  """Returns the leaves of `base` with those that follow its weights."""
  settled = copy.deepcopy(base)
  with settled.unlocked():
    config_lib.settle_recipe(settled)
  return config_lib.leaves(settled)


def applying(ranges: Iterable[Range], arm: ConfigDict) -> tuple[Range, ...]:
  """Returns the ranges whose key has an effect in an arm, as it is written.

  A key of `mix` has one if the arm mixes and one of its mixers has such a
  setting, and a key of `augment` if the operation is on.

  Raises:
    ValueError: a mixer that is not found.
  """
  return tuple(each for each in ranges if _applies(each, arm))


def points(ranges: Sequence[Range], count: int) -> list[dict[str, float]]:
  """Returns quasi-random places in all ranges, the same for every call.

  They are those of a scrambled Halton sequence (Owen, 2017, arXiv:1706.02808).

  Returns:
    `count` mappings from a key to a place in [0, 1).
  """
  if not ranges:
    return [{} for _ in range(count)]
  sequence = qmc.Halton(len(ranges), scramble=True, rng=0).random(count)
  keys = [each.key for each in ranges]
  return [dict(zip(keys, map(float, row), strict=True)) for row in sequence]


def _applies(each: Range, arm: ConfigDict) -> bool:
  group, _, leaf = each.key.partition(".")
  if group == "mix":
    if arm.mix.name == "none":
      return False
    names = [name.strip() for name in arm.mix.name.split(",")]
    fields = {
      name.rpartition(":")[2]: {
        field.name
        for field in dataclasses.fields(registry.find("mix.name", name, MIXERS))
      }
      for name in names
    }
    if "." in leaf:
      mixer, _, leaf = leaf.partition(".")
      return leaf in fields.get(mixer, ())
    if leaf in mixture.SHARED:
      # A mixer's own setting takes the place of the shared one.
      return any(
        leaf in of_mixer and arm.mix.get(mixer, {}).get(leaf) is None
        for mixer, of_mixer in fields.items()
      )
  if group == "augment":
    return pipeline.is_on(arm.augment, leaf.partition(".")[0])
  return True
