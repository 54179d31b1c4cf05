"""The head of a model: from activations to logits."""

import jax
import jax.numpy as jnp
from flax import linen as nn

INITS = {
  "lecun_normal": nn.initializers.lecun_normal(),
  "zeros": nn.initializers.zeros,
}


def linear_head(
  x: jax.Array, num_classes: int, *, init: str, dropout: float, train: bool
) -> jax.Array:
  """Takes the mean over the image, then dropout and one linear layer.

  To be called in the `__call__` of a module, which gets the parameters of the
  linear layer under the name `head`. All of it is computed in float32.

  Args:
    x: activations `[B, h, w, c]`.
    num_classes: C.
    init: initialiser of the kernel, a key of INITS.
    dropout: dropout rate.
    train: whether to apply dropout.

  Returns:
    Logits, float32 `[B, C]`.
  """
  x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
  x = nn.Dropout(dropout, deterministic=not train)(x)
  return nn.Dense(
    num_classes,
    kernel_init=INITS[init],
    precision=jax.lax.Precision.HIGHEST,
    name="head",
  )(x)


def check_init(init: str) -> None:
  """Raises ValueError if `init` is not a key of INITS."""
  if init not in INITS:
    raise ValueError(
      f"model.head_init must be one of {', '.join(INITS)}, got {init!r}"
    )
