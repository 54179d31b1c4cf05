"""Class activation maps: the places in an image that speak for a class."""

import functools

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from mixaug_jax.models import Model


@functools.partial(jax.jit, static_argnames=("model", "stage"))
def class_activation_map(
  model: Model,
  variables: dict,
  images: jax.Array,
  class_ids: jax.Array,
  stage: str | None = None,
) -> jax.Array:
  """Maps how much each place in an image speaks for a class.

  Without a stage, the map is CAM (Zhou et al., 2016, arXiv:1512.04150) of the
  activations `a` before the head, whose kernel is `w` and bias `b`:

    map[y, x] = sum_k w[k, class] a[y, x, k]

  Its mean over y and x plus `b[class]` is the logit of the class.

  With a stage, it is Grad-CAM (Selvaraju et al., 2017, arXiv:1610.02391) of the
  activations of that stage:

    map[y, x] = relu(sum_k mean_yx(d logit[class] / d a[y, x, k]) a[y, x, k])

  At the last stage, Grad-CAM is the positive part of CAM over the number of
  cells.

  Args:
    model: a model; it runs as in evaluation.
    variables: the variables of the model.
    images: preprocessed images `[B, H, W, 3]`.
    class_ids: the class of each map, int `[B]`; may be traced.
    stage: None, or a name in `model.stages` other than the head.

  Returns:
    float32 `[B, h, w]`, of the resolution of the stage.

  Raises:
    ValueError: a stage that the model does not have, or one whose activations
      are not maps; or no stage, for a model without a linear head.
  """
  stages = model.stages[:-1]
  if stage is not None and stage not in stages:
    raise ValueError(
      f"there is no activation map of stage {stage!r}; the stages that have "
      f"one are {', '.join(stages)}"
    )
  # Frozen stages would stop the gradient of Grad-CAM.
  model = model.clone(frozen=())
  activations = model.apply(
    variables, images, train=False, stop=stage or stages[-1]
  )
  if activations.ndim != 4:
    raise ValueError(
      f"stage {stage or stages[-1]} has no activation map: its output has the "
      f"shape {activations.shape}, not [B, h, w, c]"
    )
  if stage is None:
    head = variables["params"].get("head", {})
    shape = (activations.shape[-1], model.num_classes)
    if (
      not {"kernel"} <= head.keys() <= {"kernel", "bias"}
      or head["kernel"].shape != shape
    ):
      raise ValueError(
        "the head of the model is not one linear layer over the mean of its "
        f"activations; choose one of {', '.join(stages)} for Grad-CAM"
      )
    return _weighted_sum(activations, head["kernel"][:, class_ids].T)

  def logit_sum(activations: jax.Array) -> jax.Array:
    # In evaluation no example depends on another, so the gradient of the sum
    # consists of the gradients of the single logits.
    start = model.stages[model.stages.index(stage) + 1]
    logits = model.apply(variables, activations, train=False, start=start)
    return jnp.take_along_axis(logits, class_ids[:, None], axis=1).sum()

  gradients = jax.grad(logit_sum)(activations)
  weights = gradients.astype(jnp.float32).mean(axis=(1, 2))
  return jax.nn.relu(_weighted_sum(activations, weights))


@functools.partial(jax.jit, static_argnames="size")
def heatmap(maps: jax.Array, size: int) -> jax.Array:
  """Upsamples maps to lay them over images, each over its own maximum.

  Args:
    maps: float `[B, h, w]`; negative values count as zero.
    size: pixels a side, at least h and w.

  Returns:
    float32 `[B, size, size]` in [0, 1], interpolated bilinearly between the
    centres of the cells. A map without positive values becomes zeros.
  """
  shape = (len(maps), size, size)
  return _over_maximum(jax.image.resize(_over_maximum(maps), shape, "bilinear"))


@jax.jit
def energy_inside(maps: jax.Array, boxes: jax.Array) -> jax.Array:
  """Returns the share of a map's energy inside a box.

  This is the "energy-based pointing game" of Score-CAM (Wang et al., 2020,
  arXiv:1910.01279). A cell that the box covers in part counts by the covered
  area.

  Args:
    maps: float `[B, h, w]`; negative values count as zero.
    boxes: float `[B, 4]`, (ymin, xmin, ymax, xmax) in fractions of the image.

  Returns:
    float32 `[B]` in [0, 1]; 0 for a map without positive values.
  """
  energy = _over_maximum(maps)
  ymin, xmin, ymax, xmax = jnp.asarray(boxes, jnp.float32).T
  rows = _covered(ymin, ymax, energy.shape[1])
  columns = _covered(xmin, xmax, energy.shape[2])
  inside = (energy * rows[:, :, None] * columns[:, None, :]).sum(axis=(1, 2))
  total = energy.sum(axis=(1, 2))
  return inside / jnp.where(total > 0, total, 1)


def overlay(
  images: np.ndarray, heatmaps: np.ndarray, alpha: float = 0.5
) -> np.ndarray:
  """Lays heat maps over images in the colours of matplotlib's "inferno".

  Args:
    images: uint8 `[..., 3]`.
    heatmaps: float `[...]` in [0, 1].
    alpha: weight of the colours; 0 gives the images.

  Returns:
    uint8 `[..., 3]`.
  """
  colours = matplotlib.colormaps["inferno"](np.asarray(heatmaps))[..., :3]
  blended = (1 - alpha) * np.asarray(images) + alpha * 255 * colours
  return np.round(blended).astype(np.uint8)


def _weighted_sum(activations: jax.Array, weights: jax.Array) -> jax.Array:
  """Sums activations `[B, h, w, c]` by channel weights `[B, c]`."""
  return jnp.einsum(
    "bhwc,bc->bhw",
    activations.astype(jnp.float32),
    weights,
    precision=jax.lax.Precision.HIGHEST,
  )


def _over_maximum(maps: jax.Array) -> jax.Array:
  """Divides the positive part of each map by its maximum, if that is not 0."""
  positive = jax.nn.relu(jnp.asarray(maps, jnp.float32))
  maximum = positive.max(axis=(1, 2), keepdims=True)
  return positive / jnp.where(maximum > 0, maximum, 1)


def _covered(low: jax.Array, high: jax.Array, cells: int) -> jax.Array:
  """Returns the share of each cell from `low` to `high`, `[B, cells]`."""
  edges = jnp.arange(cells)
  low, high = low[:, None] * cells, high[:, None] * cells
  return jnp.clip(jnp.minimum(high, edges + 1) - jnp.maximum(low, edges), 0, 1)
