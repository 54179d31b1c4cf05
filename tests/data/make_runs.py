"""Makes the stored runs of the current version, tests/data/runs/<version>/.

    PYTHONPATH=tests/data/runs python tests/data/make_runs.py

`finished` is a finished run. `unfinished` is the same run, killed right after
its first checkpoint. `comparison` has two arms and one seed. commands.json
holds the commands that made them, to be run in the folder of the repository.
The files stay as they are: later versions must read them.
"""

import json
import pathlib
import shutil

import mixaug_jax
from mixaug_jax.command import compare, train

RUNS = pathlib.Path(__file__).parent / "runs"
TRAIN = (
  "--config=configs/cutmix.py",
  "--config.model.name=tiny_model:Tiny",
  "--config.model.sync_batch_norm=True",  # Equal on any number of devices.
  "--config.data.classes=3",
  "--config.data.examples_per_class=12",
  "--config.data.image_size=8",
  "--config.batch_size=12",
  "--config.epochs=none",
  "--config.steps=6",
  "--config.evaluate.every_epochs=1",
  "--config.checkpoint.every_steps=3",
  "--config.checkpoint.keep=9",
  "--config.log.every_steps=1",
  "--config.ema.decay=0.5",
  # What the recipe sets for the digits; it may change.
  "--config.data.validation_fraction=0.5",
  "--config.evaluate.checkpoint=best",
  "--config.optimizer.learning_rate=0.3",
  "--config.mix.per_example=true",
  "--config.mix.probability=0.5",
  "--config.model.zero_init_residual=true",
)
COMPARE = ("--config=tests/data/runs/tiny_comparison.py",)


def make(root: pathlib.Path) -> None:
  """Writes the runs into an empty folder."""
  finished, unfinished = root / "finished", root / "unfinished"
  train.main([*TRAIN, f"--workdir={finished}"])
  shutil.copytree(finished, unfinished)
  shutil.rmtree(unfinished / "checkpoints" / "6")
  for path in [unfinished / "result.json", *unfinished.glob("*.npz")]:
    path.unlink()
  comparison = root / "comparison"
  compare.main([*COMPARE, f"--workdir={comparison}"])
  shutil.rmtree(comparison / "figures")
  for path in [comparison / "report.html", *root.rglob("*.log")]:
    path.unlink()
  for lock in root.rglob(".lock"):
    lock.unlink()
  commands = {"main": TRAIN, "compare": COMPARE}
  (root / "commands.json").write_text(json.dumps(commands, indent=1) + "\n")


if __name__ == "__main__":
  make(RUNS / mixaug_jax.__version__)
