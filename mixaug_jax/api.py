"""The commands as Python functions, for notebooks and scripts.

    import mixaug_jax as mx

    run = mx.train("cutmix:folder", data_dir="photos", workdir="runs/a")
    run.evaluate(views="identity,flip")
    run.predict("new_photos")

Each does what its command does, with the same bits. A mistake raises
`UserError` with the sentence that the command would print.
"""

import copy
import dataclasses
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import files, jax_setup, names, runs, workdirs
from mixaug_jax.errors import UserError

Path = str | os.PathLike[str]
SPLITS = ("train", "validation", "test")


class Run(runs.Run):
  """A finished run: its config, its result, and its network.

  Attributes:
    workdir: the run directory.
    config: the resolved config.
    result: the content of result.json, such as `result.test.accuracy`.
  """

  def predict(
    self,
    images: Path | Sequence[Path],
    *,
    views: str = "identity",
    output: Path | None = None,
    stage: str | None = None,
  ) -> list[dict[str, Any]]:
    """Predicts the five most likely classes of image files.

    Args:
      images: files, or folders of them.
      views: names of `augment.make_views`, whose logits are averaged.
      output: a folder for activation maps over the images, one PNG each.
      stage: draws the Grad-CAM of this stage; None: the CAM of the last one.

    Returns:
      A dict for each image, see `predictions.classify`. What cannot be read is
      reported on stderr and left out.

    Raises:
      UserError: there is no image that can be read.
    """
    rows, errors, _ = self.classify(
      images, views=views, output=output, stage=stage
    )
    if errors and not rows:
      raise errors[0]
    for error in errors:
      print(f"mixaug_jax: {error}", file=sys.stderr)
    return rows

  def classify(
    self,
    images: Path | Sequence[Path],
    *,
    views: str = "identity",
    output: Path | None = None,
    stage: str | None = None,
  ) -> tuple[list[dict[str, Any]], list[UserError], int]:
    """Predicts as `predict`; returns errors and the number of files as well."""
    from mixaug_jax.analysis import overlays, predictions
    from mixaug_jax.analysis import views as views_lib
    from mixaug_jax.data import decode, image_files

    if isinstance(images, str | os.PathLike):
      images = [images]
    given = [_path("images", each) for each in images]
    photos = image_files.find(given)
    draw = None
    if output is not None:
      folder = _path("output", output)
      places = overlays.plan(photos, given, folder)
    elif stage:
      raise UserError("--stage draws nothing without --output=DIR")
    network = self.classifier()
    predict = network.predictor(views)
    if output is not None:
      files.make_folder("--output", folder)
      draw = lambda images, classes, paths: overlays.write(
        *(places, paths),
        network.activation_maps(images, classes, stage),
        *(network.square, self.config.data.image_size),
      )
    rows, errors = predictions.classify(
      [photo.path for photo in photos],
      lambda path: decode.read(path, network.square),
      lambda x: views_lib.averaged(predict(x), "logits", self.likelihood),
      self.result.class_names,
      self.likelihood,
      draw,
    )
    return rows, errors, len(photos)

  def evaluate(
    self,
    split: str = "test",
    *,
    views: str = "identity",
    average: str = "logits",
    data_dir: Path | None = None,
  ) -> dict[str, Any]:
    """Measures the chosen weights on labelled images.

    Args:
      split: `train`, `validation` or `test`.
      views: names of `augment.make_views`; several are measured one by one and
        together.
      average: what is averaged over the views, `logits` or `probabilities`.
      data_dir: other images than those of the run, `data_dir/<class>/*` or a
        folder with splits.

    Returns:
      `split`, `examples`, `average`, `loss`, `probabilities`, `notes` on what
      differs from the run, and `views`, see `analysis.views.evaluate`.

    Raises:
      UserError: there are no such images, views or split.
    """
    from mixaug_jax.analysis import views as views_lib

    if split not in SPLITS:
      raise UserError(f"split must be one of {', '.join(SPLITS)}, got {split}")
    if average not in ("logits", "probabilities"):
      raise UserError(
        f"average must be logits or probabilities, got {average!r}"
      )
    network = self.classifier()
    network.predictor(views)  # Refuses a view that is named twice.
    predictors = {
      name: network.predictor(name)
      for name in (each.strip() for each in views.split(","))
    }
    directory = None if data_dir is None else str(_path("data_dir", data_dir))
    name, images, validation, notes = self.labelled(split, directory)
    measured = views_lib.evaluate(
      predictors,
      images,
      validation,
      batch_size=self.config.evaluate.batch_size,
      average=average,
      likelihood=self.likelihood,
    )
    return {
      "split": name,
      "examples": len(images),
      "average": average,
      "loss": self.likelihood.loss_name,
      "probabilities": self.likelihood.kind,
      "notes": notes,
      "views": measured,
    }

  def report(self) -> pathlib.Path:
    """Writes `report.html` into the run directory and returns its path.

    Raises:
      UserError: a file of the run is damaged, or the page cannot be written.
    """
    from mixaug_jax.run_page import page

    page.write(self)
    return self.workdir / "report.html"


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A comparison whose page is written.

  Attributes:
    workdir: its directory, with a run directory for each arm and seed.
    results: the numbers of the page, the content of results.json.
    page: the path of report.html.
  """

  workdir: pathlib.Path
  results: dict[str, Any]
  page: pathlib.Path


def train(
  config: str | ConfigDict,
  *,
  workdir: Path | None = None,
  data_dir: Path | None = None,
  epochs: float | None = None,
  overrides: Mapping[str, Any] | None = None,
) -> Run:
  """Trains a run, or resumes it, or opens it if it is finished.

  Args:
    config: a recipe as on the command line, such as `"cutmix:folder"`, or what
      its `get_config` returns; it is not changed.
    workdir: the run directory; None: the one that the command would take.
    data_dir: `config.data.dir`.
    epochs: `config.epochs`.
    overrides: other keys by their dotted names, such as
      `{"optimizer.learning_rate": 0.01}`.

  Raises:
    UserError: a mistake in the config or the data, in one sentence.
    Diverged: the loss or a parameter became NaN or infinite.
    Interrupted: the run was asked to stop; the same call goes on from there.
  """
  from mixaug_jax.training import loop

  given = {
    "data.dir": None if data_dir is None else os.fspath(data_dir),
    "epochs": epochs,
  }
  values = {key: x for key, x in given.items() if x is not None}
  values |= overrides or {}
  if isinstance(config, str):
    resolved = config_lib.load(config, values)
  else:
    resolved = copy.deepcopy(config).unlock()
    config_lib.override(resolved, values)
    resolved = config_lib.resolve(resolved)
  if late := jax_setup.prepare(resolved.deterministic):
    warnings.warn(
      f"JAX is in use already, so that {' '.join(late)} has no effect: this "
      "run has other bits than that of the command, and may take longer; call "
      "mixaug_jax.prepare() before anything else",
      stacklevel=2,
    )
  if workdir is not None:
    folder = _path("workdir", workdir)
  elif isinstance(config, str):
    folder, line = workdirs.choose(resolved, config)
    print(line, flush=True)
  else:
    raise UserError("a ConfigDict has no directory of its own; name a workdir")
  loop.train(resolved, folder)
  return open_run(folder)


def open_run(workdir: Path) -> Run:
  """Opens the directory of a finished run.

  Raises:
    UserError: it does not hold a finished run, or is damaged.
  """
  jax_setup.prepare()
  run = runs.open_run(_path("workdir", workdir))
  return Run(run.workdir, run.config, run.result)


def compare(
  config: str = "compare",
  *,
  workdir: Path,
  data_dir: Path | None = None,
  arms: Sequence[str] = (),
  jobs: int | None = None,
  overrides: Mapping[str, Any] | None = None,
) -> Comparison:
  """Trains the runs of a comparison that are missing, and writes its page.

  Args:
    config: a recipe as on the command line, such as `"compare:folder"`.
    workdir: the directory of the comparison.
    data_dir: `config.base.data.dir`.
    arms: compare only these with the baseline; empty: all.
    jobs: runs at a time; None: one for each GPU, or one on a CPU.
    overrides: keys by their dotted names, such as `{"seeds": 3}` or
      `{"base.epochs": 10}`.

  Raises:
    UserError: a mistake in the config or the data, in one sentence.
    RuntimeError: runs failed; their logs stand in `workdir`.
  """
  from mixaug_jax.command import compare as command

  given = {} if data_dir is None else {"base.data.dir": os.fspath(data_dir)}
  folder = _path("workdir", workdir)
  words = [f"--config={config}", f"--workdir={folder}"]
  words += [
    f"--config.{key}={_text(x)}"
    for key, x in (given | (overrides or {})).items()
  ]
  words += [f"--arms={','.join(arms)}"] if arms else []
  words += [] if jobs is None else [f"--jobs={jobs}"]
  if command.main(words):
    raise RuntimeError(f"some runs of {folder} failed; their logs give reasons")
  content = json.loads((folder / "results.json").read_text("utf-8"))
  return Comparison(folder, content, folder / "report.html")


def _text(value: Any) -> str:
  """Returns a value as the command line has it."""
  return str(value).lower() if value in (None, True, False) else str(value)


def _path(name: str, path: Path) -> pathlib.Path:
  return names.local_path(name, os.fspath(path))
