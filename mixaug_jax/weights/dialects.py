"""The names that Keras and PyTorch give to the variables of a model.

A dialect maps names and orders of axes, for loading and for export alike. The
functions here rely on these names of `ResNet`'s variables:

- `stageN/blockM/LAYER` is a layer of a block; others stand outside the blocks.
- A batch norm has `bn` in its name, and its convolution `conv` in that place.
- `head` is the only layer that depends on the number of classes.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

Path = tuple[str, ...]
HEAD = "head"


@dataclasses.dataclass(frozen=True)
class Dialect:
  """Names and layouts of one framework.

  Attributes:
    layers: the framework's name of each of our layers. A layer of a block is
      listed once, by its name in the block, with a template whose fields are
      `stage` and `block`, counted from one, `stage_after` (`stage` + 1) and
      `block_before` (`block` - 1).
    conv: the names of the variables of convolutions and of the head, by ours.
    norm: the names of the variables of batch norms, by ours.
    template: joins the fields `layer` and `variable` to a name.
    architecture: the attributes of the model that the framework's networks
      have, as keys of `config.model`.
    axes: our axes (HWIO) of a convolution's kernel, in the framework's order.
    head_axes: our axes of the head's kernel, in the framework's order.
    head_aliases: other names of the head in published files.
    ignored: a pattern of names of arrays that are not weights.
  """

  layers: Mapping[str, str]
  conv: Mapping[str, str]
  norm: Mapping[str, str]
  template: str
  architecture: Mapping[str, Any]
  axes: tuple[int, ...] = (0, 1, 2, 3)
  head_axes: tuple[int, ...] = (0, 1)
  head_aliases: tuple[str, ...] = ()
  ignored: str = r"(?!)"


KERAS = Dialect(
  layers={
    "stem/conv": "conv1_conv",
    "stem/bn": "conv1_bn",
    "shortcut_conv": "conv{stage_after}_block{block}_0_conv",
    "shortcut_bn": "conv{stage_after}_block{block}_0_bn",
    "conv1": "conv{stage_after}_block{block}_1_conv",
    "bn1": "conv{stage_after}_block{block}_1_bn",
    "conv2": "conv{stage_after}_block{block}_2_conv",
    "bn2": "conv{stage_after}_block{block}_2_bn",
    "conv3": "conv{stage_after}_block{block}_3_conv",
    "bn3": "conv{stage_after}_block{block}_3_bn",
    "head": "predictions",
  },
  conv={"kernel": "kernel", "bias": "bias"},
  norm={"scale": "gamma", "bias": "beta", "mean": "mean", "var": "var"},
  template="{layer}/{variable}",
  architecture={"version": "v1", "conv_bias": True, "bn_epsilon": 1.001e-5},
  head_aliases=("probs", "fc1000"),
)

TORCH = Dialect(
  layers={
    "stem/conv": "conv1",
    "stem/bn": "bn1",
    "shortcut_conv": "layer{stage}.{block_before}.downsample.0",
    "shortcut_bn": "layer{stage}.{block_before}.downsample.1",
    "conv1": "layer{stage}.{block_before}.conv1",
    "bn1": "layer{stage}.{block_before}.bn1",
    "conv2": "layer{stage}.{block_before}.conv2",
    "bn2": "layer{stage}.{block_before}.bn2",
    "conv3": "layer{stage}.{block_before}.conv3",
    "bn3": "layer{stage}.{block_before}.bn3",
    "head": "fc",
  },
  conv={"kernel": "weight", "bias": "bias"},
  norm={
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
  },
  template="{layer}.{variable}",
  architecture={"version": "v1.5", "conv_bias": False, "bn_epsilon": 1e-5},
  axes=(3, 2, 0, 1),
  head_axes=(1, 0),
  ignored=r".*\.num_batches_tracked",
)

# The dialects of each model by framework. A model that is not listed cannot
# load weights.
DIALECTS: Mapping[str, Mapping[str, Dialect]] = {
  **{
    f"resnet{depth}": {"keras": KERAS, "torch": TORCH}
    for depth in (18, 34, 50, 101, 152)
  },
}


class Entry(NamedTuple):
  """A variable in a dialect.

  Attributes:
    name: of the variable.
    axes: our axes in the dialect's order.
  """

  name: str
  axes: tuple[int, ...]

  def export(self, array: np.ndarray) -> np.ndarray:
    return np.transpose(array, self.axes)

  def load(self, array: np.ndarray) -> np.ndarray:
    return np.transpose(array, np.argsort(self.axes))


def entries(dialect: Dialect, variables: Any) -> dict[Path, Entry]:
  """Returns the entry of every variable.

  Args:
    dialect: the framework.
    variables: `params` and `batch_stats` of a model, as arrays or shapes.

  Returns:
    Entries by path, such as `("params", "stage1", "block1", "conv1",
    "kernel")`.
  """
  flat: dict[Any, Any] = traverse_util.flatten_dict(variables)
  return {path: _entry(dialect, path, x.ndim) for path, x in flat.items()}


def normalised_kernel(path: Path) -> Path | None:
  """Returns the path of the kernel whose outputs a batch norm normalises.

  Args:
    path: of a variable; `bn1` normalises `conv1`, and `shortcut_bn`
      `shortcut_conv`.

  Returns:
    The path, or None if the variable is not a batch norm's.
  """
  _, *modules, _ = path
  if "bn" not in modules[-1]:
    return None
  convolution = modules[-1].replace("bn", "conv")
  return ("params", *modules[:-1], convolution, "kernel")


def keras_layers(stage_sizes: Sequence[int]) -> list[str]:
  """Returns the layers of Keras's ResNet that have variables, in its order."""
  layers = ["conv1_conv", "conv1_bn"]
  with_shortcut = ["1_conv", "1_bn", "2_conv", "2_bn"]
  with_shortcut += ["0_conv", "3_conv", "0_bn", "3_bn"]
  for stage, blocks in enumerate(stage_sizes):
    for block in range(1, blocks + 1):
      prefix = f"conv{stage + 2}_block{block}"
      layers += [
        f"{prefix}_{layer}"
        for layer in with_shortcut
        if block == 1 or not layer.startswith("0")
      ]
  return [*layers, "predictions"]


def translate_aliases(
  dialect: Dialect, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Removes ignored arrays and gives the head its usual name."""
  head = dialect.layers[HEAD]
  renamed = {}
  for name, array in arrays.items():
    if re.fullmatch(dialect.ignored, name):
      continue
    for alias in dialect.head_aliases:
      for variable in dialect.conv.values():
        if name == dialect.template.format(layer=alias, variable=variable):
          name = dialect.template.format(layer=head, variable=variable)
    renamed[name] = array
  return renamed


def _entry(dialect: Dialect, path: Path, ndim: int) -> Entry:
  _, *modules, variable = path
  stage = re.fullmatch(r"stage(\d+)", modules[0])
  if stage:
    block = int(modules[1].removeprefix("block"))
    layer = dialect.layers[modules[2]].format(
      stage=int(stage[1]),
      stage_after=int(stage[1]) + 1,
      block=block,
      block_before=block - 1,
    )
  else:
    layer = dialect.layers["/".join(modules)]
  of = dialect.norm if "bn" in modules[-1] else dialect.conv
  name = dialect.template.format(layer=layer, variable=of[variable])
  axes = {4: dialect.axes, 2: dialect.head_axes}.get(ndim, (0,))
  return Entry(name, axes)
