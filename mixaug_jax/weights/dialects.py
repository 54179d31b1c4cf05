"""The names that Keras and PyTorch give to the variables of a ResNet.

A dialect maps names and orders of axes, for loading and for export alike.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

Path = tuple[str, ...]
HEAD = "head"  # The top name of the variables that depend on the classes.


@dataclasses.dataclass(frozen=True)
class Dialect:
  """Names and layouts of one framework.

  Attributes:
    layers: names of layers by ours. A name of ours is that of a layer outside
      the stages, or that within a block; the fields of the latter's templates
      are `stage` and `block`, from one, and `stage_after` and `block_before`.
    conv: names of variables of convolutions and the head by ours.
    norm: the same of batch norms.
    template: puts `layer` and `variable` together.
    architecture: attributes of `ResNet` that its networks have.
    axes: of a convolution's kernel, HWIO seen from there.
    head_axes: of the head's kernel, likewise.
    head_aliases: other names that the head has had.
    ignored: a pattern of names that carry no weights.
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

# The dialects of each model, by the framework whose names they are. No weight
# file fits a model that is not listed.
DIALECTS: Mapping[str, Mapping[str, Dialect]] = {
  **{
    f"resnet{depth}": {"keras": KERAS, "torch": TORCH}
    for depth in (18, 34, 50, 101, 152)
  },
}


class Entry(NamedTuple):
  """A variable as a dialect knows it: its name, and our axes in its order."""

  name: str
  axes: tuple[int, ...]

  def export(self, array: np.ndarray) -> np.ndarray:
    return np.transpose(array, self.axes)

  def load(self, array: np.ndarray) -> np.ndarray:
    return np.transpose(array, np.argsort(self.axes))


def entries(dialect: Dialect, variables: Any) -> dict[Path, Entry]:
  """The entry of every variable.

  Args:
    dialect: the framework.
    variables: of a ResNet, `params` and `batch_stats`; arrays or their shapes.

  Returns:
    Entries by path: `("params", "stage1", "block1", "conv1", "kernel")`.
  """
  flat = traverse_util.flatten_dict(variables)
  return {path: _entry(dialect, path, x.ndim) for path, x in flat.items()}


def normalised_kernel(path: Path) -> Path | None:
  """Returns the path of the kernel whose outputs a variable normalises.

  In a ResNet, `bn1` follows `conv1` and `shortcut_bn` follows `shortcut_conv`.
  None for a variable of anything but a batch norm.
  """
  _, *modules, _ = path
  if "bn" not in modules[-1]:
    return None
  convolution = modules[-1].replace("bn", "conv")
  return ("params", *modules[:-1], convolution, "kernel")


def keras_layers(stage_sizes: Sequence[int]) -> list[str]:
  """The layers of Keras's ResNet that have variables, in its order."""
  layers = ["conv1_conv", "conv1_bn"]
  with_shortcut = ("1_conv", "1_bn", "2_conv", "2_bn")
  with_shortcut += ("0_conv", "3_conv", "0_bn", "3_bn")
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
  """Leaves out what carries no weights, and gives the head its usual name."""
  head = dialect.layers["head"]
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
