"""Functions of images made of others: in turn, sometimes, or one of several.

A part is random, `(key, images) -> images`, or deterministic, `images ->
images`. Its other settings must have defaults or be bound:

    images = compose(
      random_apply([partial(random_hue, max_delta=0.1), invert], 0.5),
      random_flip_left_right,
    )(key, images)
"""

import functools
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
  return functools.partial(_composed, functions=_parts(functions))


@on_any_mesh
def _composed(key, images, functions):
  check.key(key)
  check.image_or_batch(images)
  for number, function in enumerate(functions):
    own = jax.random.fold_in(key, number)
    images = _with_key(function)(own, images)
  return images


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
  parts = _parts(_sequence(functions))

  def one(key, image, settings):
    functions, probability = settings
    _check_kept("random_apply", functions, image)
    together = functools.partial(_composed, functions=functions)
    coin_key, key = jax.random.split(key)
    coin = draw.coin(coin_key, probability)
    return jax.lax.cond(coin, together, lambda _, image: image, key, image)

  settings = parts, probability
  return functools.partial(_for_each_example, one=one, settings=settings)


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
  functions = _parts(_sequence(functions))
  if not functions:
    raise ValueError("random_choice needs at least one function")
  equal = [1.0] * len(functions)
  shares = check.numbers("weights", equal if weights is None else weights)
  if shares is None:
    raise ValueError("weights cannot be traced")
  if shares.shape != (len(functions),):
    raise ValueError(
      f"weights has {shares.size} numbers for {len(functions)} functions"
    )
  if not shares.min() >= 0 < shares.max():
    raise ValueError(
      f"weights must not be negative and not all zero, got {weights}"
    )
  bounds = (np.cumsum(shares) / np.sum(shares))[:-1].astype(np.float32)

  def one(key, image, functions):
    choice_key, key = jax.random.split(key)
    _check_kept("random_choice", functions, image)
    above = draw.uniform(choice_key)[None] >= bounds
    parts = [_with_key(function) for function in functions]
    return jax.lax.switch(jnp.sum(above, dtype=jnp.int32), parts, key, image)

  return functools.partial(_for_each_example, one=one, settings=functions)


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


@on_any_mesh
def _for_each_example(key, images, one, settings):
  """Applies `one(key, image, settings)` to an image or to each of a batch."""
  check.key(key)
  check.image_or_batch(images)
  bound = lambda key, image: one(key, image, settings)
  if images.ndim == 3:
    return bound(key, images)
  return map_examples(bound, jax.random.split(key, len(images)), images)


def _parts(
  functions: Sequence[Callable[..., jax.Array]],
) -> tuple[Callable[..., jax.Array], ...]:
  """Turns bound settings, which may be traced, into leaves of a pytree.

  Raises:
    ValueError: a part is no function or has other required parameters.
  """
  for function in functions:
    _with_key(function)
  return tuple(
    jax.tree_util.Partial(x.func, *x.args, **x.keywords)
    if isinstance(x, functools.partial)
    else x
    for x in functions
  )


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
