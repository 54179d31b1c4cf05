"""The head of a model: from activations to logits."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixaug_jax import registry

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
    num_classes: the number of classes, C.
    init: initialiser of the kernel, a key of INITS or `package.module:Name`.
    dropout: dropout rate.
    train: whether to apply dropout.

  Returns:
    Logits, float32 `[B, C]`.

  Raises:
    ValueError: the initialiser is unknown.
  """
  x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
  x = nn.Dropout(dropout, deterministic=not train)(x)
  return nn.Dense(
    num_classes,
    kernel_init=registry.find("model.head_init", init, INITS),
    precision=jax.lax.Precision.HIGHEST,
    name="head",
  )(x)
