"""Functions of images on any mesh.

`jax.make_mesh` makes axes of the type `Explicit`, where every operation must
fix the sharding of its result. The functions of this package leave that to the
compiler, as on axes of the type `Auto`, and fix only the sharding of the
images that they return: the examples stay on their devices.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

import jax
from jax.sharding import AxisType, PartitionSpec

P = ParamSpec("P")
R = TypeVar("R")


@overload
def on_any_mesh(function: Callable[P, R]) -> Callable[P, R]: ...


@overload
def on_any_mesh(
  *, batch_axis: int
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def on_any_mesh(
  function: Callable[..., Any] | None = None, *, batch_axis: int = 0
) -> Callable[..., Any]:
  """Decorates a function of images so that it takes explicitly sharded arrays.

  A batch of images is returned with its examples sharded as they were given,
  and with the other axes replicated.

  Args:
    function: has an argument `images`, `[H, W, C]` or `[B, H, W, C]`, and
      returns arrays with an axis of the examples if the images are a batch.
    batch_axis: that axis in all results.
  """
  if function is None:
    return functools.partial(on_any_mesh, batch_axis=batch_axis)
  signature = inspect.signature(function)

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    leaves, tree = jax.tree.flatten((args, kwargs))
    places = [n for n, x in enumerate(leaves) if _is_explicit(x)]
    if not places:
      return function(*args, **kwargs)
    images = signature.bind(*args, **kwargs).arguments["images"]
    sharding = jax.typeof(images).sharding
    axes = (None,) * batch_axis + sharding.spec[:1]
    spec = PartitionSpec(*axes) if images.ndim == 4 else PartitionSpec()

    def of_arrays(*arrays):
      filled = list(leaves)
      for place, array in zip(places, arrays, strict=True):
        filled[place] = array
      args, kwargs = jax.tree.unflatten(tree, filled)
      return function(*args, **kwargs)

    mesh = jax.typeof(leaves[places[0]]).sharding.mesh
    automatic = jax.sharding.auto_axes(
      of_arrays, out_sharding=jax.sharding.NamedSharding(mesh, spec)
    )
    return automatic(*(leaves[place] for place in places))

  return wrapped


def _is_explicit(x: Any) -> bool:
  """Returns whether `x` is an array on a mesh with an explicit axis."""
  if not isinstance(x, jax.Array):
    return False
  return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types
