"""Lambda, the share of the first image, as most mixers draw it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.mixing import Mixer

DISTRIBUTIONS = ("beta", "random_alpha", "larger")
_LEAST_ALPHA = 1e-6


@dataclasses.dataclass(frozen=True)
class Beta(Mixer):
  """A mixer with lambda ~ min + (max - min) * Beta(alpha, alpha).

  Attributes:
    alpha: parameter of the distribution, above 0.
    min_lambda, max_lambda: bounds on lambda, the share of the first image.
  """

  alpha: float = 1.0
  min_lambda: float = 0.0
  max_lambda: float = 1.0

  def __post_init__(self):
    check.above("alpha", self.alpha, 0)
    check.interval(
      "min_lambda", self.min_lambda, "max_lambda", self.max_lambda, 0, 1
    )

  @property
  def bounded(self) -> bool | jax.Array:
    return (self.min_lambda != 0) | (self.max_lambda != 1)

  def draw_share(self, key: jax.Array) -> jax.Array:
    """Draws lambda before it is scaled to its bounds."""
    uniform = draw.uniform(key)  # Beta(1, 1).
    return jnp.where(self.alpha == 1, uniform, _symmetric_beta(key, self.alpha))

  def draw_lambda(self, key: jax.Array) -> jax.Array:
    lam = self.draw_share(key)
    low = float32_if_traced(self.min_lambda)
    return low + (float32_if_traced(self.max_lambda) - low) * lam


@dataclasses.dataclass(frozen=True)
class AnyLambda(Beta):
  """A mixer that can draw lambda as other libraries do.

  Attributes:
    distribution: of lambda before it is scaled to its bounds. `beta`:
      Beta(alpha, alpha). `random_alpha`: Beta(a, a) with a ~ U(0, alpha), which
      the examples of a batch share. `larger`: max(x, 1 - x) with x ~
      Beta(alpha, alpha), so that the first image has the larger share.
  """

  distribution: str = dataclasses.field(default="beta", kw_only=True)

  def __post_init__(self):
    super().__post_init__()
    check.choice("distribution", self.distribution, DISTRIBUTIONS)

  def for_batch(self, key: jax.Array) -> "AnyLambda":
    if self.distribution != "random_alpha":
      return self
    # No position has this number.
    alpha: Any = draw.uniform(
      jax.random.fold_in(key, 2**32 - 1), 0.0, self.alpha
    )
    alpha += _LEAST_ALPHA
    drawn: dict[str, Any] = {"alpha": alpha, "distribution": "beta"}
    return dataclasses.replace(self, **drawn)

  def draw_share(self, key: jax.Array) -> jax.Array:
    if self.distribution == "random_alpha":  # A draw that has no batch.
      return self.for_batch(key).draw_share(key)
    share = super().draw_share(key)
    larger = self.distribution == "larger"
    return jnp.maximum(share, 1 - share) if larger else share


def float32_if_traced(value: jax.Array | float) -> jax.Array | float:
  """Returns a Python number, or float32 if the value is traced."""
  if not check.known(value):
    return jnp.asarray(value, jnp.float32)
  return value if isinstance(value, int) else float(value)


def _symmetric_beta(key: jax.Array, alpha: jax.Array | float) -> jax.Array:
  """Draws from Beta(alpha, alpha), float32, without a loop of rejections.

  For uniform U and V, T = sqrt(2 alpha (U^(-1/alpha) - 1)) cos(pi V) has
  Student's t distribution with 2 alpha degrees of freedom (Bailey, 1994,
  Mathematics of Computation 62), and (1 + T / sqrt(2 alpha + T^2)) / 2 has the
  distribution Beta(alpha, alpha).
  """
  uniform = draw.uniform(key, shape=(2,))
  # XLA replaces a division by a constant by this product. With it, a traced
  # alpha gives the bits of a constant one.
  log_power = jnp.log1p(-uniform[0]) * (1 / jnp.asarray(alpha, jnp.float32))
  power, rest = jnp.exp(log_power), -jnp.expm1(log_power)
  cosine = jnp.cos(jnp.pi * uniform[1])
  # The smaller of the draw and its complement, without a difference of nearly
  # equal numbers.
  root = jnp.sqrt(power + rest * cosine**2)
  small = power / (2 * root * (root + jnp.abs(cosine) * jnp.sqrt(rest)))
  return jnp.where(cosine < 0, small, 1 - small)
