"""Functions of images made of others: in turn, sometimes, or one of several.

A part is random, `(key, images) -> images`, or deterministic, `images ->
images`. Its other settings must have defaults or be bound:

    images = compose(
      random_apply([partial(random_hue, max_delta=0.1), invert], 0.5),
      random_flip_left_right,
    )(key, images)
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax.augment import check, draw
from mixaug_jax.augment.mesh import on_any_mesh

Random = Callable[[jax.Array, jax.Array], jax.Array]


def compose(*functions: Callable[..., jax.Array]) -> Random:
  """Returns a function that applies `functions` one after another.

  The key of each part is folded from the number of the part, so that a part
  added at the end does not change the draws of the others.

  Args:
    functions: the parts, `(key, images) -> images` or `images -> images`; the
      first required parameter of a random part must not be called `images`.

  Returns:
    A function `(key, images) -> images` of one image `[H, W, C]` or a batch
    `[B, H, W, C]`.

  Raises:
    ValueError: a part is no function or has other required parameters.
  """
  parts = [_with_key(function) for function in functions]

  @on_any_mesh
  def composed(key: jax.Array, images: jax.Array) -> jax.Array:
    check.key(key)
    check.image_or_batch(images)
    for number, part in enumerate(parts):
      images = part(jax.random.fold_in(key, number), images)
    return images

  return composed


def random_apply(
  functions: Sequence[Callable[..., jax.Array]],
  probability: jax.Array | float = 0.5,
) -> Random:
  """Returns a function that applies all or none of `functions`.

  Each example of a batch draws for itself. On GPUs and TPUs, every example
  computes the result and may discard it; on CPUs, only those that use it.

  Args:
    functions: as for `compose`; they keep shape and dtype.
    probability: probability of applying them, in [0, 1]; may be traced.

  Returns:
    A function as that of `compose`.

  Raises:
    ValueError: probability is out of range, a part has other required
      parameters, or, when it is called, changes the shape or the dtype.
  """
  check.within("probability", probability, 0, 1)
  functions = _sequence(functions)
  together = compose(*functions)

  def one(key, image):
    coin_key, key = jax.random.split(key)
    _check_kept("random_apply", functions, image)
    coin = draw.coin(coin_key, probability)
    return jax.lax.cond(coin, together, lambda _, image: image, key, image)

  return _for_each_example(one)


def random_choice(
  functions: Sequence[Callable[..., jax.Array]],
  weights: Sequence[float] | None = None,
) -> Random:
  """Returns a function that applies one of `functions`.

  Each example of a batch draws for itself. On GPUs and TPUs, every example
  computes all of them and keeps one; on CPUs, only the one that it has drawn.

  Args:
    functions: as for `compose`; they keep shape and dtype.
    weights: of the functions, not negative, not all zero; None: all equal.
      They cannot be traced.

  Returns:
    A function as that of `compose`.

  Raises:
    ValueError: there is no function, weights do not fit, a part has other
      required parameters, or, when it is called, changes the shape or the
      dtype.
  """
  functions = _sequence(functions)
  parts = [_with_key(function) for function in functions]
  if not parts:
    raise ValueError("random_choice needs at least one function")
  shares = np.ones(len(parts))
  if weights is not None:
    shares = check.numbers("weights", weights)
  if shares is None:
    raise ValueError("weights cannot be traced")
  if shares.shape != (len(parts),):
    raise ValueError(
      f"weights has {shares.size} numbers for {len(parts)} functions"
    )
  if not shares.min() >= 0 < shares.max():
    raise ValueError(
      f"weights must not be negative and not all zero, got {weights}"
    )
  bounds = (np.cumsum(shares) / np.sum(shares))[:-1].astype(np.float32)

  def one(key, image):
    choice_key, key = jax.random.split(key)
    _check_kept("random_choice", functions, image)
    above = draw.uniform(choice_key)[None] >= bounds
    return jax.lax.switch(jnp.sum(above, dtype=jnp.int32), parts, key, image)

  return _for_each_example(one)


def map_examples(
  function: Random, keys: jax.Array, images: jax.Array
) -> jax.Array:
  """Applies `function(key, image)` to each example with its own key.

  Examples are vmapped, but on CPUs mapped one after another, so that each one
  computes only the branch of its own.
  """
  return jax.lax.platform_dependent(
    keys,
    images,
    cpu=lambda *examples: jax.lax.map(lambda x: function(*x), examples),
    default=jax.vmap(function),
  )


def _for_each_example(one: Random) -> Random:
  @on_any_mesh
  def function(key: jax.Array, images: jax.Array) -> jax.Array:
    check.key(key)
    check.image_or_batch(images)
    if images.ndim == 3:
      return one(key, images)
    return map_examples(one, jax.random.split(key, len(images)), images)

  return function


def _sequence(functions: Any) -> Sequence[Callable[..., jax.Array]]:
  try:
    return tuple(functions)
  except TypeError:
    raise ValueError(
      f"functions must be a sequence of functions, got {functions!r}"
    ) from None


def _with_key(function: Callable[..., jax.Array]) -> Random:
  """Returns a part as a function `(key, images)`; raises ValueError."""
  if not callable(function):
    raise ValueError(f"each part must be a function, got {function!r}")
  parameters = inspect.signature(function).parameters.values()
  required = [
    x.name
    for x in parameters
    if x.default is x.empty and x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)
  ]
  if len(required) == 1:
    return lambda key, images: function(images)
  if len(required) == 2 and required[0] != "images":
    return function
  raise ValueError(
    f"{_name(function)} must have the required parameters (key, images) or "
    f"(images), got ({', '.join(required)}); bind others by functools.partial"
  )


def _check_kept(
  combinator: str,
  functions: Sequence[Callable[..., jax.Array]],
  image: jax.Array,
) -> None:
  """Raises ValueError if a function changes the shape or the dtype."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  for function in functions:
    result = jax.eval_shape(_with_key(function), key, image)
    if (result.shape, result.dtype) != (image.shape, image.dtype):
      raise ValueError(
        f"{combinator} needs functions that keep shape and dtype, but "
        f"{_name(function)} turns {image.dtype} {image.shape} into "
        f"{result.dtype} {result.shape}"
      )


def _name(function: Any) -> str:
  function = getattr(function, "func", function)
  return getattr(function, "__name__", repr(function))
