"""Writes the directory of a run of ResNet-18 without training it."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from mixaug_jax import config as config_lib
from mixaug_jax import models
from mixaug_jax.training import experiment, optim, records, state
from mixaug_jax.training.checkpoint import Checkpoints
from mixaug_jax.training.loop_state import LoopState


def random_model(name, **attributes):
  """Returns a model of 5 classes and random variables of it."""
  model = models.create_model(name, 5, **attributes)
  shapes = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False
    )
  )
  rng = np.random.default_rng(0)

  def draw(path, x):
    if x.ndim == 1:
      low = 0.5 if path[-1].key in ("var", "scale") else -0.5
      return rng.uniform(low, low + 1, x.shape).astype(np.float32)
    scale = np.sqrt(2 * x.shape[-1] / x.size)
    return (rng.standard_normal(x.shape) * scale).astype(np.float32)

  return model, jax.tree_util.tree_map_with_path(draw, shapes)


def write(workdir, **overrides):
  """Writes the directory of a finished run of ResNet-18; step 10 is chosen.

  Returns:
    Its variables; the moving averages are larger by 1.
  """
  overrides = {"model.name": "resnet18", "ema.decay": "0.9", **overrides}
  config = config_lib.load("baseline", overrides)
  model, variables = random_model("resnet18")
  optimizer, _ = optim.make_optimizer(
    experiment.optimizer_settings(config.optimizer),
    total_steps=10,
    steps_per_epoch=1.0,
    params=variables["params"],
    stages=model.stages,
  )
  start = state.create(jax.tree.map(jnp.asarray, variables), optimizer, True)
  average = jax.tree.map(lambda x: x + 1, start.ema)
  checkpoints = Checkpoints(workdir, keep=2)
  checkpoints.save(5, start, LoopState())
  checkpoints.save(10, start.replace(ema=average), LoopState())
  checkpoints.close()
  recorded = config.to_dict()
  recorded["model"]["test_size"] = 224  # As older runs did.
  (workdir / "config.json").write_text(json.dumps(recorded))
  finish(workdir, "last")
  return variables


def finish(workdir, chosen):
  """Writes result.json."""
  measured = {"step": 10, "accuracy": 1.0, "top5_accuracy": 1.0, "loss": 0.0}
  measured["examples"] = 5
  config = json.loads((workdir / "config.json").read_text())
  result = {
    "test": None,
    "validation": {"last": measured, "best": measured, "ema": measured},
    "chosen": chosen,
    "chosen_step": 10,
    "steps": 10,
    "epochs": 10.0,
    "seconds": 1.0,
    "compile_seconds": 1.0,
    "processes": 1,
    "images_per_second": 1.0,
    "devices": 1,
    "device_kind": "cpu",
    "class_names": list("abcde"),
    "examples": {"train": 5, "validation": 5},
    "versions": {},
    "xla_flags": "",
    "commit": None,
    "config_crc32": records.checksum(config),
  }
  (workdir / "result.json").write_text(json.dumps(result))
