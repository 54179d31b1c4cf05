"""A run that starts from the weights of another run."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import runs
from mixaug_jax.comparison import arms, plan
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment, loop, pretrained, records
from mixaug_jax.weights import dialects

ROOT = pathlib.Path(__file__).parent.parent
SETTINGS = {
  "batch_size": "48",
  "evaluate.batch_size": "200",
  "steps": "4",
  "evaluate.every_epochs": "1",
  "checkpoint.every_steps": "1",
  "checkpoint.keep": "9",
  "ema.decay": "0.5",
  "log.writers": "console",
}


def _config(recipe="baseline", **settings):
  settings = {key.replace("__", "."): str(x) for key, x in settings.items()}
  path = str(ROOT / "configs" / f"{recipe}.py")
  return config_lib.load(path, {**SETTINGS, **settings})


@pytest.fixture(scope="module", params=["small_resnet", "small_vit"])
def model(request):
  return request.param


@pytest.fixture(scope="module")
def old(model, tmp_path_factory):
  """A finished run of four steps, with weights that differ by kind."""
  workdir = tmp_path_factory.mktemp("old") / model
  loop.train(_config(model__name=model, evaluate__checkpoint="ema"), workdir)
  return workdir


def _start(config):
  """The variables before the first step, and what is printed about them."""
  state, report = experiment.build(config).initial_state()
  groups = jax.device_get(state.variables).items()
  return {name: group for name, group in groups if group}, report


def _assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_run_starts_with_the_chosen_weights_of_another(model, old):
  variables, report = _start(_config(model__name=model, model__pretrained=old))
  _assert_same(variables, runs.open_run(old).classifier().variables)
  count = len(jax.tree.leaves(variables))
  assert report == (
    f"{count} arrays loaded from {old} (step 4, moving average; its head is "
    "kept: the classes are the same)"
  )


@pytest.mark.parametrize("chosen", ["best", "last", "ema"])
def test_an_unfinished_run_gives_what_its_config_chooses(
  old, model, tmp_path, chosen
):
  workdir = tmp_path / "unfinished"
  shutil.copytree(old, workdir)
  (workdir / "result.json").unlink()
  content = json.loads((workdir / "config.json").read_text())
  content["evaluate"]["checkpoint"] = chosen
  (workdir / "config.json").write_text(json.dumps(content))
  result = records.read_result(old)
  step = result.validation.best.step if chosen == "best" else 4
  network = runs.open_run(old).classifier().model
  from mixaug_jax import classifier

  expected = classifier.read_variables(
    workdir / "checkpoints" / str(step), network, 16, chosen == "ema"
  )
  variables, report = _start(
    _config(model__name=model, model__pretrained=workdir)
  )
  _assert_same(variables, expected)
  assert f"(step {step}, " in report
  (workdir / "data.json").unlink()
  report = _start(_config(model__name=model, model__pretrained=workdir))[1]
  assert "new head: the run does not name its classes in data.json" in report


@pytest.mark.parametrize(
  ("names", "reason"),
  [
    ("1,0,2,3,4,5,6,7,8,9", "class 0 is '1' in the run and '0' in the data"),
    ("0,1,2", "the run has 3 classes, the data 10"),
  ],
)
def test_other_classes_get_a_new_head(old, model, tmp_path, names, reason):
  """The same number of classes is not enough, and neither are their names."""
  workdir = tmp_path / "other"
  shutil.copytree(old, workdir)
  content = json.loads((workdir / "result.json").read_text())
  content["class_names"] = names.split(",")
  (workdir / "result.json").write_text(json.dumps(content))
  config = _config(model__name=model, model__pretrained=workdir)
  variables, report = _start(config)
  assert f"new head: {reason}" in report
  assert "kept" not in report
  fresh = jax.device_get(experiment.build(config).init_variables())
  _assert_same(variables["params"].pop("head"), fresh["params"]["head"])
  expected = runs.open_run(old).classifier().variables
  del expected["params"]["head"]
  _assert_same(variables, expected)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
  """A run whose settings are those of Keras's weights."""
  workdir = tmp_path_factory.mktemp("resnet") / "old"
  settings = {"model__last_stage": "stage2", "model__version": "v1"}
  settings |= {"model__preprocessing": "caffe", "model__conv_bias": "true"}
  loop.train(_config(**settings, model__bn_epsilon="1.001e-5"), workdir)
  return workdir


def test_the_model_follows_the_run_and_outlives_it(resnet, tmp_path, capsys):
  old, new = tmp_path / "old", tmp_path / "new"
  shutil.copytree(resnet, old)
  settings = {"model__pretrained": old, "mix__name": "cutmix"}
  config = _config(**settings)
  theirs = json.loads((resnet / "config.json").read_text())["model"]
  for key in ("last_stage", "version", "preprocessing", "conv_bias"):
    assert config.model[key] == theirs[key] is not None
  assert config.model.bn_epsilon == 1.001e-5
  whole = loop.train(config, tmp_path / "whole")
  lines = capsys.readouterr().out.splitlines()
  assert any(f"loaded from {old} (step " in line for line in lines)
  shutil.copytree(tmp_path / "whole", new)
  (new / "result.json").unlink()
  shutil.rmtree(new / "checkpoints" / "4")
  shutil.rmtree(old)
  resumed = loop.train(_config(**settings), new)
  assert "resuming from step 3" in capsys.readouterr().out
  assert resumed.test == whole.test
  # Without a start to resume from, the run that is gone is missing.
  with pytest.raises(UserError, match=f"{old} is not a run directory with a"):
    loop.train(_config(**settings), tmp_path / "another")
  assert not (tmp_path / "another").exists()


def test_a_comparison_outlives_the_run_that_its_arms_started_from(
  resnet, tmp_path
):
  old = tmp_path / "old"
  shutil.copytree(resnet, old)

  def planned():
    overrides = {f"base.{key}": x for key, x in SETTINGS.items()}
    overrides |= {"base.model.pretrained": str(old), "seeds": "1"}
    overrides["tune.trials"] = "0"
    config = arms.load(str(ROOT / "configs" / "compare.py"), overrides)
    return plan.make(config, tmp_path / "runs")

  cell = planned().cells[0]
  loop.train(cell.config, cell.workdir)
  shutil.rmtree(old)
  again = planned()
  assert again.cells[0].config == cell.config
  assert cell not in again.unfinished
  assert again.cells[1].config.model.version is None


@pytest.mark.parametrize(
  ("settings", "sentence"),
  [
    (
      {"model__last_stage": "stage3"},
      "last_stage is stage3, but .* for stage2",
    ),
    ({"model__version": "v1.5"}, r"version is v1\.5, but .* for v1; leave it"),
    ({"model__preprocessing": "imagenet"}, "preprocessing is imagenet, but"),
    ({"model__name": "small_vit"}, "=small_resnet, not of small_vit; set"),
    ({"model__name": "resnet18"}, "a run of .*small_resnet, not of resnet18"),
  ],
)
def test_another_model_is_refused_in_one_sentence(resnet, settings, sentence):
  with pytest.raises(UserError, match=sentence):
    _config(model__pretrained=resnet, **settings)


def test_a_run_of_another_code_does_not_fit_and_is_named(resnet, monkeypatch):
  exp = experiment.build(_config(model__pretrained=resnet))
  variables = exp.init_variables()
  variables["params"]["more"] = {"bn_kernel": np.zeros(3, np.float32)}
  with pytest.raises(UserError, match=r"missing: params/more/bn_kernel"):
    exp.weights.load(variables)
  del variables["params"]["more"], variables["params"]["stem"]
  with pytest.raises(UserError, match=r"not used: .*params/stem/conv/kernel"):
    exp.weights.load(variables)


def _no_checkpoint(workdir):
  shutil.rmtree(workdir / "checkpoints")


def _no_config(workdir):
  (workdir / "config.json").unlink()


def _flipped(workdir):
  step = records.read_result(workdir).chosen_step
  path = next((workdir / "checkpoints" / str(step)).rglob("d/*"))
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def _no_chosen(workdir):
  step = records.read_result(workdir).chosen_step
  shutil.rmtree(workdir / "checkpoints" / str(step))


@pytest.mark.parametrize(
  ("damage", "sentence"),
  [
    (
      _no_checkpoint,
      "is not a run directory with a checkpoint; check its path",
    ),
    (_no_config, "is not a run directory with a checkpoint; check its path"),
    (shutil.rmtree, "is not a run directory with a checkpoint; check its path"),
    (_flipped, "is damaged: state/.* is not what was saved"),
    (_no_chosen, "is missing; trials"),
  ],
)
def test_a_run_without_its_weights_is_refused_before_anything_compiles(
  resnet, tmp_path, monkeypatch, damage, sentence
):
  workdir = tmp_path / "old"
  shutil.copytree(resnet, workdir)
  damage(workdir)
  monkeypatch.setattr(jax, "jit", None)
  with pytest.raises(UserError, match=sentence):
    loop.train(_config(model__pretrained=workdir), tmp_path / "new")
  assert not (tmp_path / "new").exists()


def test_a_damaged_config_of_the_old_run_is_named(resnet, tmp_path):
  workdir = tmp_path / "old"
  shutil.copytree(resnet, workdir)
  for text in ("rubbish", '{"model": 3}', '{"model": {"version": 3}}'):
    (workdir / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
      _config(model__pretrained=workdir)


def test_the_home_directory_is_expanded(resnet, monkeypatch):
  monkeypatch.setenv("HOME", str(resnet.parent))
  found = pretrained.resolve("~/old", "small_resnet")
  assert found.settings["version"] == "v1"
  assert found.fetch().checkpoint.is_dir()


def test_a_word_that_is_no_directory_is_a_source_that_is_unknown():
  with pytest.raises(UserError, match=r"run directory, got 'kearas'"):
    pretrained.resolve("kearas", "resnet50")
  assert "small_resnet" not in dialects.DIALECTS
