"""What mixers may look at in the network in training.

The network is in evaluation mode, so that its batch statistics are the running
ones and no example depends on another or on the number of devices. Its
parameters are those of the step. No gradient passes.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mixaug_jax.models import Model
from mixaug_jax.training.losses import Loss
from mixaug_jax.training.state import TrainState

# Functions `(images in [0, 1], labels) -> maps [B, h, w]`, by name.
Network = Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]]


def of(
  model: Model,
  preprocess: Callable[[jax.Array], jax.Array],
  state: TrainState,
  loss: Loss,
) -> Network:
  """Returns the functions of one network.

  A call costs one forward pass, and one of `saliency` a backward pass as well.

  Args:
    model: the network.
    preprocess: float images in [0, 1] to what the network expects.
    state: holds its parameters and running statistics.
    loss: of `(logits, labels)`.

  Returns:
    `attention`: the mean over the channels of the activations before the head.
    `class_map`: the class activation map of the labels, the sum of the maps of
    all classes by their weight in a label (Zhou et al., 2016,
    arXiv:1512.04150). It raises ValueError unless the head of the model is one
    linear layer over the mean of its activations.
    `saliency`: the root mean square over the channels of the gradient of the
    loss with respect to each pixel (Kim et al., 2020, arXiv:2009.06962).
  """
  variables = jax.lax.stop_gradient(
    {"params": state.params, "batch_stats": state.batch_stats}
  )

  def activations(images):
    x = model.apply(
      variables, preprocess(images), train=False, stop=model.stages[-2]
    )
    return x.astype(jnp.float32)

  def attention(images, labels):
    del labels
    return jnp.mean(activations(images), axis=-1)

  def class_map(images, labels):
    x = activations(images)
    head = state.params.get("head", {})
    if getattr(head.get("kernel"), "shape", None) != (
      x.shape[-1],
      model.num_classes,
    ):
      raise ValueError(
        "the mixer needs class activation maps, and the head of the model is "
        "not one linear layer over the mean of its activations"
      )
    # The precision of the head itself.
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum(
      "bhwc,cn,bn->bhw", x, head["kernel"], labels, precision=highest
    )

  def saliency(images, labels):
    def total(images):
      logits = model.apply(variables, preprocess(images), train=False)
      return jnp.sum(loss(logits.astype(jnp.float32), labels))

    gradient = jax.grad(total)(images)
    return jnp.sqrt(jnp.mean(gradient**2, axis=-1))

  return {
    "attention": attention,
    "class_map": class_map,
    "saliency": saliency,
  }
