"""The command `fit`: figures of compiled programs, and what fits."""

import dataclasses
import json
import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.command import fit, start
from mixaug_jax.costs import figures, fitting, hlo, program, table, topologies
from mixaug_jax.errors import UserError
from mixaug_jax.models import cpu

CPU = topologies.Topology("cpu:4", topologies.CHIPS["cpu"], 4, present=True)
SMALL = {"model.last_stage": "stage1", "data.image_size": "8"}
SIZES = [8, 16]

# A program of two fused reads of one array, a loop, and a collective.
TEXT = """HloModule m

%fused (p.0: f32[100,8], p.1: f32[4]) -> f32[4] {
  %p.0 = f32[100,8]{1,0} parameter(0)
  %p.1 = f32[4]{0} parameter(1)
  %s.1 = f32[4]{0} slice(%p.0), slice={[0:1], [0:4]}
  ROOT %a.1 = f32[4]{0} add(%s.1, %p.1), metadata={op_name="jit(f)/stem/add"}
}

%body (t: (f32[4])) -> (f32[4]) {
  %t = (f32[4]{0}) parameter(0)
  %g = f32[4]{0} get-tuple-element(%t), index=0
  %m = f32[4]{0} multiply(%g, %g), metadata={op_name="jit(f)/loss/mul"}, \
backend_config={"estimated_cycles":"7"}
  ROOT %r = (f32[4]{0}) tuple(%m)
}

%cond (t.1: (f32[4])) -> pred[] {
  %t.1 = (f32[4]{0}) parameter(0)
  ROOT %c = pred[] constant(true)
}

ENTRY %main (x: f32[100,8], y: f32[4]) -> f32[4] {
  %x = f32[100,8]{1,0:T(8,128)} parameter(0)
  %y = f32[4]{0} parameter(1)
  %f = f32[4]{0} fusion(%x, %y), kind=kLoop, calls=%fused, \
backend_config={"estimated_cycles":"5"}
  %start = (bf16[4]{0:T(128)S(1)}, /*index=1*/f32[4]{0}) \
all-reduce-start(%y, %f), to_apply=%cond
  %done = (bf16[4]{0}, f32[4]{0}) all-reduce-done(%start)
  %e = f32[4]{0} get-tuple-element(%done), index=1
  %u = (f32[4]{0}) tuple(%e)
  %w = (f32[4]{0}) while(%u), condition=%cond, body=%body
  ROOT %copy = f32[4]{0} copy(%e)
}
"""


def test_instructions_are_read_with_bytes_cycles_and_paths():
  fusion, reduce, multiply, copy = hlo.instructions(TEXT)
  # It reads four numbers of x, not 800.
  assert (fusion.opcode, fusion.bytes, fusion.cycles) == ("fusion", 48, 5)
  assert fusion.path == "jit(f)/stem/add"
  assert (reduce.collective, reduce.received) == ("all-reduce", 24)
  assert hlo.largest_array(reduce.result) == "f32[4]"
  assert (multiply.path, multiply.cycles) == ("jit(f)/loss/mul", 7)
  assert (copy.path, copy.bytes, copy.collective) == (
    "jit(f)/stem/add",
    32,
    None,
  )


@pytest.mark.parametrize(
  ("text", "bytes_"),
  [
    ("f32[8,4]{1,0:T(8,128)}", 128),
    ("(bf16[3], pred[5], s32[])", 15),
    ("f8e4m3fn[6]", 6),
    ("s4[6]", 3),
    ("(token[], u8[0]{0})", 0),
  ],
)
def test_the_size_of_a_type(text, bytes_):
  assert hlo.size(text) == bytes_


@pytest.mark.parametrize(
  ("path", "place", "part"),
  [
    (
      "jit(f)/shard_map/transpose(jvp(ResNet))/stage1/block2/conv1/conv",
      "stage1/block2/conv1/conv backward",
      "stage1 backward",
    ),
    ("jit(f)/jvp(ResNet)/stem/bn/mul", "stem/bn/mul forward", "stem forward"),
    ("jit(f)/transpose(jvp(loss))/mul", "loss/mul backward", "loss backward"),
    ("jit(f)/mixing/vmap(jit(_uniform))/add", "mixing/_uniform/add", "mixing"),
    ("jit(f)/add", "other", "other"),
  ],
)
def test_a_path_names_the_part_of_a_step(path, place, part):
  known = ["stem", "stage1", "loss", "mixing"]
  assert figures.place(path, known) == place
  assert figures.part(path, known) == part


def test_the_figures_of_a_product_are_those_of_arithmetic():
  """The chip does 1e6 operations and 1e3 bytes a second."""
  m, k, n = 32, 64, 16
  shapes = [jax.ShapeDtypeStruct(x, jnp.float32) for x in ((m, k), (k, n))]
  lowered = jax.jit(lambda x, y: x @ y).lower(*shapes)
  compiled = program.Compiled(lowered, lowered.compile(), 1.0)
  chip = topologies.Chip("cpu", "", 1e6, 1e3, memory=1e4)
  found = figures.read(
    compiled, topologies.Topology("cpu", chip, 1), 8, ["dot"], "float32"
  )
  inputs, result = 4 * (m * k + k * n), 4 * m * n
  assert found.flops == 2 * m * k * n
  assert found.arguments == inputs
  assert found.peak >= inputs + result
  assert found.bytes_accessed >= inputs + result
  assert found.arithmetic_seconds == found.flops / 1e6
  assert found.memory_seconds == found.bytes_accessed / 1e3
  assert found.bound_images_per_second == 8 / found.memory_seconds
  assert found.fits is False
  assert found.cycles is found.estimated_images_per_second is None


@pytest.fixture(scope="module")
def report():
  return fitting.report("cutmix", SMALL, SIZES, CPU)


def test_gradients_statistics_and_metrics_are_all_that_is_averaged(report):
  config = config_lib.load("cutmix", {**SMALL, "batch_size": "16"})
  data = program.data_size(config)
  state, *_ = program.build(config, CPU, data).arguments
  numbers = sum(x.size for x in jax.tree.leaves(state.variables))
  loss_and_accuracy = 2
  for step in report.steps:
    (reduce,) = (x for x in step.collectives if x.kind == "all-reduce")
    assert reduce.bytes == 4 * (numbers + loss_and_accuracy)


def test_the_cost_of_a_step_is_known_by_part(report):
  small, large = report.steps
  names = {x.name: x.share for x in large.parts}
  for part in ("stem forward", "stage1 backward", "mixing", "optimizer"):
    assert names[part] > 0
  assert sum(names.values()) == pytest.approx(1)
  assert names.get(figures.OTHER, 0) < 0.1
  assert len(large.operations) == 10
  assert small.flops < large.flops < 2 * small.flops
  assert small.temporaries < large.temporaries


def test_a_step_that_can_run_here_is_measured(report):
  for size, step in zip(SIZES, report.steps, strict=True):
    assert step.measured_seconds > 0
    rate = step.measured_images_per_second
    assert rate == pytest.approx(size / step.measured_seconds)


def test_the_table_has_a_column_for_each_size(report):
  text = "\n".join(table.lines(report, CPU))
  assert "batch size" in text
  assert "images/s, measured" in text
  assert text.splitlines()[0].split()[-2:] == ["8", "16"]
  heading = table.heading(report, CPU)
  assert "These are the compiler's figures" in heading
  assert "10 classes, on cpu:4, 4 devices" in heading
  absent = dataclasses.replace(CPU, present=False)
  assert "not measurements" in table.heading(report, absent)


def test_the_command_prints_the_report(report, monkeypatch, capsys):
  calls = []

  def made(*args, **kwargs):
    calls.append((args, kwargs))
    return report

  monkeypatch.setattr(fitting, "report", made)
  monkeypatch.setattr(topologies, "prepare", lambda _: CPU)
  monkeypatch.setattr(jax.config, "update", lambda *_: None)
  fit.main(["cutmix", "--topology=cpu:4", "--batch_size=8,16", "--json"])
  printed = json.loads(capsys.readouterr().out)
  assert printed == json.loads(json.dumps(dataclasses.asdict(report)))
  args, kwargs = calls[0]
  assert args == ("cutmix", {}, [8, 16], CPU)
  assert kwargs == {"classes": None, "verify": False}
  fit.main(["cutmix", "--topology=cpu:4"])
  assert "costs of a step of 16, in bytes, by part" in capsys.readouterr().out


def _figures(size, peak, arguments=100):
  report = dict.fromkeys(x.name for x in dataclasses.fields(figures.Figures))
  values = {"batch_size": size, "peak": peak, "arguments": arguments}
  return figures.Figures(**{**report, **values})


def test_the_largest_batch_is_where_memory_reaches_its_limit():
  one = [_figures(10, 200)]  # 10 bytes each, on 100 of arguments.
  assert fitting.estimate(one, 405, 1) == 30
  assert fitting.estimate(one, 405, 8) == 24
  two = [*one, _figures(20, 250)]  # In truth, 5 bytes each, on 150.
  assert fitting.estimate(two, 405, 1) == 51
  assert fitting.estimate(two, 154, 1) is None
  found = fitting.largest(two, 405, 1)
  assert found == fitting.Largest(51, False, [10, 20])


def test_the_largest_batch_is_compiled_at_most_three_times():
  def compile_size(size):
    if size > 40:  # The compiler knows better than a line.
      return fitting.TooLarge(size, "Used 3G of 2G")
    return _figures(size, 150 + 5 * size)

  found = fitting.largest([_figures(10, 200)], 405, 1, compile_size)
  # 30, then 51 by a line, then 42 by a line with a tenth less of memory.
  assert found == fitting.Largest(30, True, [10, 30, 51, 42])


@pytest.mark.parametrize(
  ("config", "classes", "expected"),
  [
    ("cutmix:digits", None, program.DataSize(10, 797)),
    ("cutmix:digits", 3, program.DataSize(3)),
    ("cutmix:folder", None, program.DataSize(1000, assumed=True)),
  ],
)
def test_the_number_of_classes_needs_no_image(config, classes, expected):
  assert program.data_size(config_lib.load(config), classes) == expected
  if config == "cutmix:digits" and classes is None:
    chosen = config_lib.load(config, {"data.classes": "4"})
    assert program.data_size(chosen).classes == 4


def test_a_device_that_can_hold_the_images_does():
  chip = topologies.Chip("cpu", memory=1e9)
  topology = topologies.Topology("cpu", chip, 4, present=True)
  config = config_lib.load("cutmix", SMALL)
  for data, keys in (
    (program.DataSize(10, 797), {"index"}),
    (program.DataSize(10), {"image", "label"}),
  ):
    *_, arrays, batch = program.build(config, topology, data).arguments
    assert batch.keys() == keys
    assert arrays.keys() == ({"image", "label"} if "index" in keys else set())
    assert next(iter(batch.values())).shape[:2] == (4, 12)


def test_forms_and_dtype_follow_the_target():
  chip = topologies.Chip("tpu")
  topology = topologies.Topology("cpu", chip, 4, present=True)
  config = config_lib.load("cutmix", SMALL)
  data = program.DataSize(10)
  assert program.build(config, topology, data).dtype == "bfloat16"
  assert program.build(config, CPU, data).dtype == "float32"
  with cpu.target("tpu"), cpu.target("cpu"):
    assert cpu.for_platform(cpu=1, default=2) == 1
  with cpu.target("tpu"):
    assert cpu.for_platform(cpu=1, default=2) == 2
  assert cpu.for_platform(cpu=1, default=2) == 1


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (["--topology=h10"], "did you mean h100?"),
    (["--topology=v5e"], "v5e takes one of the slices 1x1, 2x2, 2x4"),
    (["--topology=v6e:3x5"], "v6e takes one of the slices 1x1, 2x2, 2x4"),
    (["--topology=v5e:2x2x2"], "v5e takes one of the slices 1x1, 2x2, 2x4"),
    (["--topology=v5p:2x2"], "three sides of a slice, as in v5p:2x2x1"),
    (["--topology=h100:x"], "h100 takes a number of devices, as in h100:8"),
    ([], "--topology"),
    (["--topology=cpu", "--batch_size=8,x"], "'8,x' is not a size"),
    (["--topology=cpu", "--batch_size=0"], "'0' is not a size"),
    (["--topology=cpu", "--classes=1"], "--classes must be at least 2"),
    (["--topology=h100"], r"pip install 'jax\[cuda12\]'"),
    (["--topology=v5e:2x4"], r"pip install 'jax\[tpu\]'"),
  ],
)
def test_a_mistake_is_one_sentence(monkeypatch, words, sentence):
  monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
  with pytest.raises(UserError, match=sentence):
    start.call("fit", ["cutmix", *words])


@pytest.mark.parametrize(
  ("printed", "present"),
  [
    ("8 NVIDIA H100 80GB HBM3", True),
    ("2 NVIDIA H100 80GB HBM3", False),
    ("8 NVIDIA A100-SXM4-80GB", False),
    ("1 cpu", False),
    ("", False),
  ],
)
def test_devices_of_this_machine_are_used_if_they_suffice(
  monkeypatch, printed, present
):
  for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "XLA_FLAGS"):
    monkeypatch.setenv(name, "")
  monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
  monkeypatch.setattr(
    "subprocess.run",
    lambda *_, **__: subprocess.CompletedProcess([], 0, f"{printed}\n"),
  )
  topology = topologies.prepare(topologies.parse("h100:4"))
  assert topology.present is present
  assert (os.environ["CUDA_VISIBLE_DEVICES"] == "-1") is not present
  assert ("autotune_level=0" in os.environ["XLA_FLAGS"]) is not present
  assert (os.environ["JAX_PLATFORMS"] == "cpu") is not present


def test_a_batch_that_does_not_divide_is_reported_before_compiling():
  three = dataclasses.replace(CPU, count=3)
  with pytest.raises(UserError, match=r"batch_size 20 does not .* 3 devices"):
    fitting.report("cutmix", SMALL, [12, 20], three)


def test_only_devices_that_are_here_are_measured():
  absent = dataclasses.replace(CPU, present=False)
  step = program.Program(None, (np.zeros(3),), ("stem",), "float32")
  with pytest.raises(UserError, match="this machine has no cpu:4"):
    program.measure(step, absent)
