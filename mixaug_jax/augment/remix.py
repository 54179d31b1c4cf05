"""Remix: a mixed image of a rare and a common class gets the rare label.

The rule of Chou et al., 2020, arXiv:2007.03943. It changes labels alone, so it
applies to every mixer that gives the labels of a pair the weights lam and
1 - lam.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Remix:
  """The settings of the rule, for the argument `remix` of `mix`.

      remix = Remix(np.bincount(training_labels, minlength=classes))
      mix(key, images, labels, [CutMix()], remix=remix)

  Attributes:
    class_counts: the number of training examples of each class, `[classes]`;
      None only until `dataclasses.replace` sets it.
    kappa: a class is rare beside one with at least kappa times its examples; at
      least 1, and 3 in the paper.
    tau: the common class loses its label where its weight is below tau, in
      [0, 1]; 0.5 in the paper.
  """

  class_counts: Any = None
  kappa: Any = 3.0
  tau: Any = 0.5

  def check(self, classes: int | None = None) -> None:
    """Raises ValueError for a value out of its range, unless it is traced.

    Args:
      classes: the number of classes of the labels; None: the counts may be
        unset.
    """
    kappa = check.scalar("remix_kappa", self.kappa)
    if kappa is not None and kappa < 1:
      raise ValueError(f"remix_kappa must be at least 1, got {self.kappa}")
    check.within("remix_tau", self.tau, 0, 1)
    if classes is None:
      return
    if self.class_counts is None:
      raise ValueError("remix needs class_counts, the examples of each class")
    if jnp.shape(self.class_counts) != (classes,):
      raise ValueError(
        f"remix.class_counts must have the shape [{classes}] of the labels, "
        f"got {jnp.shape(self.class_counts)}"
      )
    counts = check.numbers("remix.class_counts", self.class_counts)
    if counts is not None and (counts < 0).any():
      raise ValueError("remix.class_counts must not be negative")

  def lam(
    self, lam: jax.Array, classes: jax.Array, partners: jax.Array
  ) -> jax.Array:
    """Returns the weight of the first label.

    With n the counts of the first and n' of the second class, it is

        0    if n >= kappa n' and lam < tau,
        1    if n' >= kappa n and 1 - lam < tau,
        lam  otherwise,

    the first of them that holds. An example that is not mixed has lam = 1 and
    keeps it.

    Args:
      lam: the share of the first image, float32 `[B]`.
      classes: class ids of the first images, int32 `[B]`.
      partners: class ids of the second images, int32 `[B]`.

    Returns:
      float32 `[B]`.
    """
    counts = jnp.asarray(self.class_counts, jnp.float32)
    own, other = counts[classes], counts[partners]
    kappa, tau = jnp.float32(self.kappa), jnp.float32(self.tau)
    kept = jnp.where((other >= kappa * own) & (1 - lam < tau), 1, lam)
    return jnp.where((own >= kappa * other) & (lam < tau), 0, kept)


def check_mixers(mixers: Sequence[Any]) -> None:
  """Raises ValueError unless every pair has one lambda for both labels."""
  for mixer in mixers:
    if mixer.uses_partner and (mixer.partners > 1 or not mixer.keeps_mass):
      raise ValueError(
        "remix_kappa needs labels that weigh lambda and 1 - lambda, and "
        f"{type(mixer).__name__} weighs them otherwise; leave it unset"
      )
  if not any(mixer.uses_partner for mixer in mixers):
    raise ValueError(
      f"remix_kappa has no effect on {type(mixers[0]).__name__}, which mixes "
      "no two labels; leave it unset"
    )
