"""Every recipe's train step lowers for GPUs and TPUs, as it should there."""

import re

import jax
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.costs import program, topologies
from mixaug_jax.models import cpu

CLASSES = 7
FORMS = {
  "digits": {},
  "folder": {
    "data.image_size": "24",
    "model.name": "resnet18",
    "model.last_stage": "stage2",
    "model.pretrained": "none",
  },
}
# A device's share of the batch is one group of mixing partners.
DEVICES, BATCH = 4, 128


def _lowered(recipe, form, **overrides):
  """The text of a step for both platforms, and its arguments."""
  values = {"batch_size": str(BATCH), **FORMS[form], **overrides}
  config = config_lib.load(f"{recipe}:{form}", values)
  chip = topologies.Chip("tpu")
  topology = topologies.Topology("cpu", chip, DEVICES, present=True)
  step = program.build(config, topology, program.DataSize(CLASSES))
  with cpu.target("tpu"):
    exported = jax.export.export(jax.jit(step.step), platforms=["cuda", "tpu"])(
      *step.arguments
    )
  return exported.mlir_module(), step.arguments


def _mistakes(text, arguments):
  """What a step must not do on an accelerator.

  A callback to the host does not lower for several platforms at all.
  """
  found = []
  if re.search(r"\bf64\b|xf64>", text):
    found.append("float64")
  convolutions = re.findall(r"stablehlo\.convolution\(.*", text)
  assert convolutions
  if any("xf32>" in line for line in convolutions):
    found.append("float32 convolution")
  state, *_ = arguments
  known = {x.shape for x in jax.tree.leaves(state)}
  if any(shape not in known for shape in _transferred(text)):
    found.append("transfer of images")
  return found


def _transferred(text):
  """The shapes that collective operations return."""
  names = r"all_gather|all_reduce|all_to_all|collective_permute|reduce_scatter"
  for start in re.finditer(rf'"stablehlo\.(?:{names})"', text):
    # An all-reduce has a body, which ends before its type.
    end = re.compile(r"\) -> (.*)").search(text, start.end())
    for shape in re.findall(r"tensor<((?:\d+x)*)\w+>", end[1]):
      yield tuple(int(side) for side in shape.split("x") if side)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recipe", ["baseline", "basic", "cutmix", "mixup"])
def test_a_step_is_made_for_accelerators(recipe, form):
  text, arguments = _lowered(recipe, form)
  assert _mistakes(text, arguments) == []
  assert list(_transferred(text))  # At least the gradients.


@pytest.mark.parametrize(
  ("key", "value", "mistake"),
  [
    ("model.dtype", "float32", "float32 convolution"),
    ("mix.group_size", str(BATCH), "transfer of images"),
  ],
)
def test_a_mistake_in_a_step_is_noticed(key, value, mistake):
  found = _mistakes(*_lowered("cutmix", "digits", **{key: value}))
  assert found == [mistake]


def _exported(extra):
  def function(x, kernel):
    return jax.lax.conv(extra(x).astype("bfloat16"), kernel, (1, 1), "SAME")

  return jax.export.export(jax.jit(function), platforms=["cuda", "tpu"])(
    jax.ShapeDtypeStruct((1, 3, 8, 8), "float32"),
    jax.ShapeDtypeStruct((4, 3, 3, 3), "bfloat16"),
  ).mlir_module()


def test_float64_is_noticed():
  assert _mistakes(_exported(lambda x: x), ({},)) == []
  with jax.enable_x64(True):
    text = _exported(lambda x: x.astype("float64").astype("float32"))
  assert _mistakes(text, ({},)) == ["float64"]


def test_a_callback_to_the_host_does_not_lower():
  with pytest.raises(NotImplementedError, match="callback"):
    _exported(lambda x: jax.pure_callback(lambda x: x, x, x))
