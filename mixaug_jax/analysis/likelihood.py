"""The meaning of logits: what they predict, and the loss of a prediction."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from mixaug_jax.errors import UserError
from mixaug_jax.training import losses, metrics


@dataclasses.dataclass(frozen=True)
class Likelihood:
  """The meaning of a network's logits, which follows its loss.

  Attributes:
    kind: the function that makes probabilities, `softmax` or `sigmoid`.
    loss_name: `config.loss.name`.
    note: what a reader of the probabilities must know, or an empty text.
    probabilities: logits `[..., C]` to probabilities of that shape and dtype.
    of_mean: logits `[V, N, C]` to the logits `[N, C]` of the mean of their
      probabilities over V.
    cross_entropy: logits `[N, C]` and class ids `[N]` to the negative
      log-likelihood of the labels in nats, float64 `[N]`; nan for an id that is
      no class.
    own_loss: the training loss, where it is not the cross-entropy; it has the
      arguments and the result of `cross_entropy`.
  """

  kind: str
  loss_name: str
  note: str
  probabilities: Callable[[np.ndarray], np.ndarray]
  of_mean: Callable[[np.ndarray], np.ndarray]
  cross_entropy: Callable[[np.ndarray, np.ndarray], np.ndarray]
  own_loss: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

  def loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean training loss, without label smoothing.

    Args:
      logits: float `[N, C]`.
      labels: class ids, int `[N]`; the loss is nan if one is no class.

    Raises:
      UserError: the run has a loss of the user's own that cannot be imported.
    """
    loss = self.own_loss or self.cross_entropy
    return float(loss(logits, labels).mean())


def _nan_where_no_class(loss):
  """Decorates a loss of logits `[N, C]` and class ids `[N]`."""

  def masked(logits, labels):
    valid = metrics.is_class(labels, logits.shape[-1])
    return np.where(valid, loss(logits, np.where(valid, labels, 0)), np.nan)

  return masked


def _softmax_of_mean(logits: np.ndarray) -> np.ndarray:
  log = logits - special.logsumexp(logits, axis=-1, keepdims=True)
  return special.logsumexp(log, axis=0) - np.log(len(logits))


@_nan_where_no_class
def _softmax_cross_entropy(
  logits: np.ndarray, labels: np.ndarray
) -> np.ndarray:
  log = special.log_softmax(np.asarray(logits, np.float64), axis=-1)
  return -log[np.arange(len(labels)), labels]


def _sigmoid_of_mean(logits: np.ndarray) -> np.ndarray:
  yes, no = special.log_expit(logits), special.log_expit(-logits)
  return special.logsumexp(yes, axis=0) - special.logsumexp(no, axis=0)


@_nan_where_no_class
def _sigmoid_cross_entropy(
  logits: np.ndarray, labels: np.ndarray
) -> np.ndarray:
  """The sum of the binary cross-entropies of all classes."""
  wrong = np.array(logits, np.float64)  # A copy.
  wrong[np.arange(len(labels)), labels] *= -1
  with np.errstate(invalid="ignore"):  # Of a NaN.
    return np.logaddexp(0, wrong).sum(-1)


SOFTMAX = Likelihood(
  kind="softmax",
  loss_name="softmax",
  note="",
  probabilities=functools.partial(special.softmax, axis=-1),
  of_mean=_softmax_of_mean,
  cross_entropy=_softmax_cross_entropy,
)
SIGMOID = Likelihood(
  kind="sigmoid",
  loss_name="sigmoid",
  note="each probability is of one class alone (sigmoid); they need not sum to "
  "1",
  probabilities=special.expit,
  of_mean=_sigmoid_of_mean,
  cross_entropy=_sigmoid_cross_entropy,
)


def _set_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """The sum of the binary cross-entropies of all labels of a set."""
  logits = np.asarray(logits, np.float64)
  with np.errstate(invalid="ignore"):  # Of a NaN.
    return np.logaddexp(0, np.where(labels > 0, -logits, logits)).sum(-1)


# Of images with several labels or none: labels are 0 or 1, `[N, C]`.
SETS = dataclasses.replace(SIGMOID, cross_entropy=_set_cross_entropy)


def of_loss(name: str, sets: bool = False) -> Likelihood:
  """Returns the meaning of the logits of a run.

  A loss of the user's own does not define probabilities. Those of the softmax
  stand for them; the note names this. Label sets have those of the sigmoid.

  Args:
    name: `config.loss.name`; a loss of the user's own is imported when it is
      called.
    sets: whether labels are label sets, `[N, C]`, in place of class ids.
  """
  if sets and name == SETS.loss_name:
    return SETS
  if sets:
    own = functools.partial(_own_set_loss, name)
    return dataclasses.replace(SETS, loss_name=name, own_loss=own)
  for known in (SOFTMAX, SIGMOID):
    if known.loss_name == name:
      return known
  return dataclasses.replace(
    SOFTMAX,
    loss_name=name,
    note=f"the probabilities are a softmax, because {name} defines none",
    own_loss=_nan_where_no_class(functools.partial(_own_loss, name)),
  )


def _own_loss(name: str, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  return _own_set_loss(name, logits, jax.nn.one_hot(labels, logits.shape[-1]))


def _own_set_loss(name, logits, labels) -> np.ndarray:
  try:
    loss = losses.make(name)
  except ValueError as error:
    raise UserError(f"config.{error}") from error
  one_hot = jnp.asarray(labels, jnp.float32)
  return np.asarray(loss(jnp.asarray(logits, jnp.float32), one_hot), np.float64)
