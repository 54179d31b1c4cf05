"""A trained network as one file that any program with JAX runs."""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import export

from mixaug_jax import files
from mixaug_jax.errors import UserError, first_line
from mixaug_jax.models import cpu

SUFFIX = ".stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")
_LOADS = """\
from jax import export
network = export.deserialize(open({path}, 'rb').read())
probabilities = network.call(images)  # uint8 {images} to float32 {outputs}"""


def write(
  path: pathlib.Path, function: Callable[[jax.Array], jax.Array], size: int
) -> str:
  """Writes a function of images, with the arrays that it holds.

  The file is an artifact of `jax.export`: StableHLO for any number of images
  and all of PLATFORMS. Its operations have the forms for accelerators, which
  every platform computes.

  Args:
    path: of the new file.
    function: from uint8 `[B, size, size, 3]` to `[B, C]`; it can be traced.
    size: pixels a side.

  Returns:
    The Python code that loads the file and calls it.

  Raises:
    UserError: the function cannot be traced for an unknown number of images.
    OSError: the file cannot be written.
  """
  (batch,) = export.symbolic_shape("b")
  images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
  try:
    # A new function, because JAX keeps the trace of one that it knows.
    with cpu.target("tpu"):
      exported = export.export(
        jax.jit(lambda x: function(x)), platforms=PLATFORMS
      )(images)
  except Exception as error:  # A model of the user's own may raise anything.
    raise UserError(
      "the model cannot be traced for any number of images: "
      f"{first_line(error)}; its shapes must not depend on that number"
    ) from error
  with files.replacing(path) as part:
    part.write_bytes(exported.serialize())
  return _LOADS.format(
    path=repr(str(path)),
    images=[*images.shape],
    outputs=[*exported.out_avals[0].shape],
  )
