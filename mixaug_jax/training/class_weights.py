"""Class weights: losses of rare classes that count for more."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from mixaug_jax.training import losses
from mixaug_jax.training.losses import Loss


def inverse(counts: np.ndarray, beta: float) -> np.ndarray:
  """Returns `1 / n_c` for the counts n, float64 `[C]`."""
  del beta
  return 1 / counts


def effective(counts: np.ndarray, beta: float) -> np.ndarray:
  """Returns the inverse of the effective numbers, float64 `[C]`.

  The effective number of n_c examples is `(1 - beta^n_c) / (1 - beta)` (Cui et
  al., 2019, arXiv:1901.05555). With beta = 0 all classes weigh the same; the
  nearer beta is to 1, the nearer are the weights to those of `inverse`.
  """
  with np.errstate(divide="ignore"):  # Of beta = 0.
    return (1 - beta) / -np.expm1(counts * np.log(beta))


# By the value of `config.loss.class_weights`.
METHODS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
  "inverse": inverse,
  "effective": effective,
}


def of_counts(counts: Sequence[int], method: str, beta: float) -> np.ndarray:
  """Returns the weight of each class.

  They are scaled to a mean of 1 over the training examples,
  `sum_c n_c w_c = sum_c n_c`, so that the learning rate keeps its meaning. A
  class without examples has the weight 0.

  Args:
    counts: the number of training examples of each class, `[C]`.
    method: a name in METHODS.
    beta: of `effective`.

  Returns:
    float32 `[C]`.

  Raises:
    ValueError: the counts are not one number for each class.
  """
  numbers = np.asarray(counts, np.float64)
  if numbers.ndim != 1 or not (numbers >= 0).all() or not numbers.any():
    raise ValueError(
      f"class weights need the number of examples of each class, got {counts}"
    )
  some = numbers > 0
  weights = np.zeros(len(numbers))
  weights[some] = METHODS[method](numbers[some], beta)
  return (weights * (numbers.sum() / (numbers @ weights))).astype(np.float32)


def _target(
  labels: jax.Array, weights: jax.Array, smoothing: jax.Array
) -> jax.Array:
  """Weighs labels, and smooths them without a change of their mass."""
  mass = weights * labels
  total = jnp.sum(mass, axis=-1, keepdims=True)
  return (1 - smoothing) * mass + smoothing / labels.shape[-1] * total


def _softmax(
  logits: jax.Array,
  labels: jax.Array,
  weights: jax.Array,
  smoothing: jax.Array,
) -> jax.Array:
  target = _target(labels, weights, smoothing)
  return losses.softmax_cross_entropy(logits, target)


def _sigmoid(
  logits: jax.Array,
  labels: jax.Array,
  weights: jax.Array,
  smoothing: jax.Array,
) -> jax.Array:
  yes = _target(labels, weights, smoothing)
  no = jnp.sum(yes, axis=-1, keepdims=True) - yes
  each = yes * jax.nn.log_sigmoid(logits) + no * jax.nn.log_sigmoid(-logits)
  return -jnp.sum(each, axis=-1)


_WEIGHTED = {"softmax": _softmax, "sigmoid": _sigmoid}


def check(loss_name: str) -> None:
  """Raises ValueError if a loss has no form with class weights."""
  if loss_name not in _WEIGHTED:
    raise ValueError(
      f"loss.class_weights is defined for {' and '.join(_WEIGHTED)}, and not "
      f"for loss.name={loss_name}; leave it unset"
    )


def weighted(
  loss_name: str, weights: np.ndarray, smoothing: float | np.float32 = 0.0
) -> Loss:
  """Returns a loss with class weights, a pytree whose leaves are the numbers.

  A soft label stands for its classes by their mass. Its loss is the sum of the
  losses of these classes, each by its mass and its weight,

      sum_c w_c y_c loss(logits, one_hot(c)),

  so that a mixed image has the mixed loss of its two labels. For the softmax
  this is `-sum_c w_c y_c log softmax(logits)_c`, as in PyTorch's
  CrossEntropyLoss for class probabilities. For the sigmoid it is

      -sum_k (w_k y_k log p_k + (sum_c w_c y_c - w_k y_k) log(1 - p_k))

  with p = sigmoid(logits): the weight of an image's class applies to all C
  binary losses of the image, as in Cui et al., 2019. A weight on each binary
  loss would scale whole problems and balance none, and one on its positive part
  alone would raise the probability of a rare class on every image.

  Label smoothing comes after the weights and keeps their sum. Smoothing first
  would weigh the share of the rare classes, which may then outweigh the class
  of the image.

  Args:
    loss_name: `softmax` or `sigmoid`.
    weights: float32 `[C]`.
    smoothing: the label smoothing s, in [0, 1).
  """
  return Partial(
    _WEIGHTED[loss_name], weights=weights, smoothing=np.float32(smoothing)
  )
