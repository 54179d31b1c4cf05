"""Settings of a run that do not fit images with several labels or none."""

from typing import Any

from ml_collections import ConfigDict

from mixaug_jax import augment
from mixaug_jax.data import label_sets
from mixaug_jax.errors import UserError


def check(config: ConfigDict, mixer: Any) -> None:
  """Raises UserError for a setting that needs one class an image.

  Args:
    config: resolved and checked; without label sets, anything fits.
    mixer: the result of `make_mixer`.
  """
  if (key := label_sets.key(config.data)) is None:
    return
  here = f"with config.data.{key} an image may have several labels or none"
  if config.loss.name == "softmax":
    raise UserError(
      "config.loss.name=softmax makes probabilities that add up to 1, and "
      f"{here}; set config.loss.name=sigmoid"
    )
  if config.mix.name != "none" and config.mix.partner == "other_class":
    raise UserError(
      "config.mix.partner=other_class needs one class an image, and "
      f"{here}; set config.mix.partner=any"
    )
  one_class = (
    ("loss.class_weights", config.loss.class_weights),
    ("mix.remix_kappa", config.mix.remix_kappa),
  )
  for name, value in one_class:
    if value is not None:
      raise UserError(
        f"config.{name} needs one class an image, and {here}; leave it unset"
      )
  if config.evaluate.best_by != "accuracy":
    raise UserError(
      f"config.evaluate.best_by={config.evaluate.best_by} needs one class an "
      f"image, and {here}, whose best weights are those of the highest mean "
      "average precision; leave it unset"
    )
  if not augment.keeps_mass(mixer):
    raise UserError(
      f"config.mix.name={config.mix.name} may make labels above 1, and {here}; "
      "choose another mixer, such as cutmix"
    )
