"""The commands as Python functions, for notebooks and scripts.

    import mixaug_jax as mx

    run = mx.train("cutmix:folder", data_dir="photos", workdir="runs/a")
    run.evaluate(views="identity,flip")
    run.predict("new_photos")

Each function does what its command does, with the same bits if `prepare()`
comes before any other use of JAX. A mistake raises `UserError` with the
sentence that the command would print.
"""

import contextlib
import copy
import dataclasses
import json
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import (
  files,
  jax_setup,
  names,
  root_logger,
  runs,
  workdirs,
)
from mixaug_jax.errors import NoActivationMaps, UserError
from mixaug_jax.training.set_measured import SetMeasured

Path = str | os.PathLike[str]
# Of a config key: typed, or text as on the command line.
Value = Path | bool | int | float | np.generic | None
Split = Literal["train", "validation", "test"]
Average = Literal["logits", "probabilities"]
SPLITS: tuple[Split, ...] = get_args(Split)
AVERAGES: tuple[Average, ...] = get_args(Average)
_FLAGS = re.compile(r"--(?=(?:arms|config|data_dir|output|stage)\b)")


@contextlib.contextmanager
def _entry() -> Iterator[None]:
  """Keeps the root logger, and names arguments where a sentence names flags."""
  with root_logger.kept():
    try:
      yield
    except UserError as error:
      error.args = (_FLAGS.sub("", str(error)),)
      raise


class Run(runs.Run):
  """A finished run: its config, its result, and its network.

      run = mixaug_jax.open_run("runs/a")
      run.accuracy
      run.predictions("test").logits

  Attributes:
    workdir: the run directory.
    config: the resolved config.
    result: the content of result.json. `result.test` is None without a test
      split.
  """

  def __repr__(self) -> str:
    split = "test" if self.result.test else "validation"
    figure = "mean average precision" if self.has_label_sets else "accuracy"
    score = (self.result.test or self.result.validation.last).score
    return f"<Run {self.workdir}: {split} {figure} {score:.2%}>"

  @property
  def accuracy(self) -> float:
    """The top-1 accuracy in [0, 1].

    It is that of the chosen weights on test. Without a test split, it is that
    on validation at the last step.

    Raises:
      UserError: the run has label sets.
    """
    measured = self.result.test or self.result.validation.last
    if isinstance(measured, SetMeasured):
      raise UserError(
        f"the run in {self.workdir} has several labels an image and no "
        "accuracy; see mean_average_precision"
      )
    return measured.accuracy

  @property
  def mean_average_precision(self) -> float:
    """The mean average precision in [0, 1] of a run with label sets.

    It is that of the weights of `accuracy`.

    Raises:
      UserError: an image has one class.
    """
    measured = self.result.test or self.result.validation.last
    if not isinstance(measured, SetMeasured):
      raise UserError(
        f"the run in {self.workdir} has one class an image and no mean average "
        "precision; see accuracy"
      )
    return measured.mean_average_precision

  @_entry()
  def predict(
    self,
    images: Path | Iterable[Path],
    *,
    views: str | Sequence[str] = "identity",
    output: Path | None = None,
    stage: str | None = None,
  ) -> list[dict[str, Any]]:
    """Predicts the five most likely classes of image files.

        run.predict("new_photos")[0]["top"][0]["class"]

    Args:
      images: files, or folders of them.
      views: names of `augment.make_views`, in a sequence or a text with commas;
        their logits are averaged.
      output: a folder for activation maps over the images, one PNG each.
      stage: draws the Grad-CAM of this stage; None: the CAM of the last one.

    Returns:
      A dict for each image. It has `image`, the path; `top`, dicts of `class`
      and `probability`, the most likely one first; `probabilities`, `softmax`
      or `sigmoid`; and `overlay`, the path of its PNG, if one was asked for.
      With label sets, it also has `labels`, the classes whose probability
      reaches the threshold of the run, and `by_class`, all probabilities;
      `output` then gets predictions.csv as well.
      What cannot be read is reported on stderr and left out.

    Raises:
      UserError: no image can be read, or an overlay cannot be written.
    """
    rows, errors, _ = self.classify(
      images, views=views, output=output, stage=stage
    )
    if errors and not rows:
      raise errors[0]
    for error in errors:
      print(f"mixaug_jax: {_FLAGS.sub('', str(error))}", file=sys.stderr)
    return rows

  @root_logger.kept()
  def classify(
    self,
    images: Path | Iterable[Path],
    *,
    views: str | Sequence[str] = "identity",
    output: Path | None = None,
    stage: str | None = None,
  ) -> tuple[list[dict[str, Any]], list[UserError], int]:
    """Predicts as `predict`, for the command, whose flags it names.

    Returns:
      What `predict` returns, the errors, and the number of files.
    """
    from mixaug_jax.analysis import overlays, predictions, set_predictions
    from mixaug_jax.analysis import views as views_lib
    from mixaug_jax.data import decode, image_files

    if isinstance(images, str | os.PathLike):
      images = [images]
    elif not isinstance(images, Iterable):
      raise UserError(
        "images must be a path, or several in a list, got "
        f"{type(images).__name__}"
      )
    given = [_path("images", each) for each in images]
    photos = image_files.find(given)
    if not photos:
      raise UserError("images is empty; name image files or folders")
    if stage and output is None:
      raise UserError("--stage draws nothing without --output=DIR")
    folder = None if output is None else _path("output", output)
    thresholds = self.result.thresholds
    if thresholds and folder:
      set_predictions.check(folder)
    places = overlays.plan(photos, given, folder) if folder else {}
    network = self.classifier()
    predict = network.predictor(",".join(_names("views", views)))
    draw: predictions.Draw | None = None
    if folder:
      files.make_folder("--output", folder)
      draw = lambda images, classes, paths: overlays.write(
        places,
        paths,
        network.activation_maps(images, classes, stage),
        network.square,
        self.config.data.image_size,
      )
    classify = lambda draw: predictions.classify(
      [photo.path for photo in photos],
      lambda path: decode.read(path, network.square),
      lambda x: views_lib.averaged(predict(x), "logits", self.likelihood),
      self.result.class_names,
      self.likelihood,
      draw,
      thresholds,
    )
    try:
      rows, errors = classify(draw)
    except NoActivationMaps as error:
      if not thresholds or stage:
        raise
      # The table of the labels needs no maps.
      text = f"{error}; --output gets {set_predictions.FILE} alone"
      print(f"mixaug_jax: {text}", file=sys.stderr)
      rows, errors = classify(None)
    if thresholds and folder and rows:
      separator = self.config.data.label_separator or ";"
      set_predictions.write(folder, rows, separator)
    return rows, errors, len(photos)

  @_entry()
  def evaluate(
    self,
    split: Split | str = "test",
    *,
    views: str | Sequence[str] = "identity",
    average: Average | str = "logits",
    data_dir: Path | None = None,
  ) -> dict[str, Any]:
    """Measures the chosen weights on labelled images.

        found = run.evaluate(views="identity,flip")
        found["views"]["identity+flip"]["accuracy"]

    Args:
      split: `train`, `validation` or `test`.
      views: names of `augment.make_views`, in a sequence or a text with commas;
        several are measured one by one and together.
      average: what is averaged over the views, `logits` or `probabilities`.
      data_dir: other images than those of the run, `data_dir/<class>/*` or a
        folder with splits.

    Returns:
      A dict of `split`, `examples` (their number), `average`, `loss` and
      `probabilities` (their names), `classes` (the class names), `notes` on
      what differs from the run, and `views`: a dict for each name, such as
      `identity`, `flip` and, for both together, `identity+flip`. Each has
      `accuracy`, `balanced_accuracy` (the mean over the classes) and
      `top5_accuracy` in [0, 1], `class_accuracy` (a list by class, None for one
      without images), `loss` in nats, `calibration_error`,
      `calibration_error_by_chance` and, after scaling by `temperature`,
      `calibration_error_scaled`; `views` (their number), `undefined` (the
      images whose logits are not finite), and `milliseconds` for an image. With
      label sets, `mean_average_precision`, `classes_left_out`, `micro_f1`,
      `macro_f1` and `exact_match` stand in place of accuracy and calibration.

    Raises:
      UserError: there are no such images, views or split.
    """
    return self.measure(split, views, average, data_dir)

  @root_logger.kept()
  def measure(
    self,
    split: str,
    views: str | Sequence[str],
    average: str,
    data_dir: Path | None,
  ) -> dict[str, Any]:
    """Measures as `evaluate`, for the command, whose flags it names."""
    from mixaug_jax.analysis import views as views_lib

    _choice("split", split, SPLITS)
    _choice("average", average, AVERAGES)
    names = _names("views", views)
    network = self.classifier()
    network.predictor(",".join(names))  # Refuses a view that is named twice.
    predictors = {name: network.predictor(name) for name in names}
    directory = None if data_dir is None else str(_path("data_dir", data_dir))
    name, images, validation, notes = self.labelled(split, directory)
    thresholds = self.result.thresholds
    if thresholds and not images.labels.any():
      raise UserError(f"no image of {name} has a label, so nothing is measured")
    measured = views_lib.evaluate(
      predictors,
      images,
      None if thresholds else validation,
      batch_size=self.config.evaluate.batch_size,
      average=average,
      likelihood=self.likelihood,
      thresholds=thresholds.array() if thresholds else None,
    )
    return {
      "split": name,
      "examples": len(images),
      "average": average,
      "loss": self.likelihood.loss_name,
      "probabilities": self.likelihood.kind,
      "classes": list(self.result.class_names),
      "notes": notes,
      "views": measured,
    }

  @_entry()
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

  def __repr__(self) -> str:
    return f"<Comparison {self.workdir}: {', '.join(self.results['arms'])}>"


@_entry()
def train(
  config: Path | ConfigDict,
  *,
  workdir: Path | None = None,
  data_dir: Path | None = None,
  epochs: float | None = None,
  overrides: Mapping[str, Value] | None = None,
) -> Run:
  """Trains a run, or resumes it, or opens it if it is finished.

      run = mixaug_jax.train("cutmix", overrides={"steps": 100, "seed": 1})

  An interrupt (Ctrl-C, or the stop button of a notebook) saves the run and
  raises Interrupted; a second one raises KeyboardInterrupt at once. While the
  run starts or compiles, there is nothing to save, and the first one raises
  KeyboardInterrupt. On other threads than the main one, Python delivers no
  signals, so that a run there cannot be interrupted.

  Args:
    config: a recipe as on the command line, such as `"cutmix:folder"`, or what
      its `get_config` returns, or the config of a `Run`; it is not changed.
    workdir: the run directory; None: the one that the command would take.
    data_dir: `config.data.dir`, the folder of the images.
    epochs: `config.epochs`, passes over the training images.
    overrides: other keys by their dotted names, such as
      `{"optimizer.learning_rate": 0.01}`.

  Raises:
    UserError: a mistake in the config or the data, in one sentence.
    Diverged: the loss or a parameter became NaN or infinite.
    Interrupted: the run was asked to stop, and is saved; the same call goes on
      from there.
  """
  from mixaug_jax.training import loop

  values = _overrides({"data.dir": data_dir, "epochs": epochs}, overrides)
  if isinstance(config, ConfigDict):
    if workdir is None:
      raise UserError("a ConfigDict has no directory; name a workdir")
    resolved = _resolved(config, values)
  else:
    spec = _text("config", config, "a text, a path or a ConfigDict")
    resolved = config_lib.load(spec, values)
  if late := jax_setup.prepare(resolved.deterministic):
    warnings.warn(
      f"JAX is in use already, so that {' '.join(late)} has no effect: this "
      "run has other bits than that of the command, and may take longer; "
      "start Python again and call mixaug_jax.prepare() first",
      stacklevel=3,  # The decorator is between.
    )
  if workdir is None:
    _, folder = workdirs.train_in(
      *(resolved, str(config), values),
      lambda line: print(line, flush=True),
      lambda folder: loop.train(resolved, folder),
    )
  else:
    folder = _path("workdir", workdir)
    loop.train(resolved, folder)
  return open_run(folder)


@_entry()
def open_run(workdir: Path) -> Run:
  """Opens the directory of a finished run.

      mixaug_jax.open_run("runs/a").report()

  Raises:
    UserError: it does not hold a finished run, or is damaged.
  """
  jax_setup.prepare()
  run = runs.open_run(_path("workdir", workdir))
  return Run(run.workdir, run.config, run.result)


@_entry()
def compare(
  config: Path = "compare",
  *,
  workdir: Path,
  data_dir: Path | None = None,
  arms: str | Sequence[str] = (),
  jobs: int | None = None,
  overrides: Mapping[str, Value] | None = None,
) -> Comparison:
  """Trains the runs of a comparison that are missing, and writes its page.

      found = mixaug_jax.compare(
        workdir="runs/compare", arms=["cutmix"], overrides={"tune.trials": 0}
      )
      found.results["arms"]["cutmix"]["accuracy"]["mean"]

  Every run is trained in a process of its own. On a GPU, call it in a process
  that has not used JAX, because JAX holds the memory of the GPU.

  Args:
    config: a recipe as on the command line, such as `"compare:folder"`.
    workdir: the directory of the comparison.
    data_dir: `config.base.data.dir`, the folder of the images.
    arms: compare only these with the baseline, in a sequence or a text with
      commas; empty: all.
    jobs: runs at a time; None: one for each GPU, or one on a CPU.
    overrides: keys by their dotted names, such as `{"seeds": 3}` or
      `{"base.epochs": 10}`.

  Raises:
    UserError: a mistake in the config or the data, in one sentence.
    Interrupted: Ctrl-C; the runs are saved, and the same call goes on.
    RuntimeError: runs failed; their logs are in `workdir`.
  """
  from mixaug_jax.command import compare as command

  spec = _text("config", config, "the name or the file of a recipe")
  values = _overrides({"base.data.dir": data_dir}, overrides)
  folder = _path("workdir", workdir)
  words = [f"--config={spec}", f"--workdir={folder}"]
  words += [f"--config.{key}={_word(x)}" for key, x in values.items()]
  if arms not in (None, "", (), []):
    words += [f"--arms={','.join(_names('arms', arms))}"]
  if jobs is not None:
    words += [f"--jobs={_jobs(jobs)}"]
  if command.main(words):
    raise RuntimeError(f"some runs of {folder} failed; their logs give reasons")
  content = json.loads((folder / "results.json").read_text("utf-8"))
  return Comparison(folder, content, folder / "report.html")


def _overrides(
  arguments: Mapping[str, Value], overrides: Mapping[str, Value] | None
) -> dict[str, Value]:
  """Joins the keys that have an argument with the others.

  Raises:
    UserError: a key has two values or is not a text, or `overrides` is no dict.
  """
  if not isinstance(overrides, Mapping | None):
    raise UserError(
      'overrides must be a dict, such as {"steps": 100}, got '
      f"{type(overrides).__name__}"
    )
  values: dict[str, Value] = {
    key: x for key, x in arguments.items() if x is not None
  }
  for key, value in (overrides or {}).items():
    if not isinstance(key, str):
      raise UserError(
        f"a key of overrides must be a text, got {type(key).__name__}"
      )
    if key in values:
      raise UserError(f"config.{key} is given twice; leave it out of overrides")
    values[key] = value
  return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
  """Turns paths into text, and NumPy's numbers into those of Python."""
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  return value.item() if isinstance(value, np.generic) else value


def _resolved(config: ConfigDict, values: Mapping[str, Value]) -> ConfigDict:
  """Returns a copy of a raw or resolved config, with overrides and resolved.

  Raises:
    UserError: naming the key or value that is wrong.
  """
  from mixaug_jax.configs import default

  if "arms" in config:
    raise UserError("the ConfigDict is a comparison, which is a recipe's file")
  frozen = isinstance(config, FrozenConfigDict)
  own = ConfigDict(config) if frozen else copy.deepcopy(config).unlock()
  given = config_lib.leaves(own)
  fields = config_lib.leaves(default.get_config(), references=True)
  if missing := fields.keys() - given.keys():
    raise UserError(
      f"the ConfigDict lacks {min(missing)}; start from a recipe's get_config"
    )
  # The config of a `Run` does not know which keys may be None.
  for key, field in fields.items():
    parent, _, name = key.rpartition(".")
    node = own[parent] if parent else own
    del node[name]
    node[name] = field
  config_lib.override(own, {key: given[key] for key in fields})
  config_lib.override(own, values)
  return config_lib.resolve(own)


def _word(value: Value) -> str:
  """Returns a value as the command line has it."""
  return str(value).lower() if isinstance(value, bool | None) else str(value)


def _text(name: str, value: Path, kind: str = "a text or a path") -> str:
  """Returns a text or a path as text; raises UserError for another value."""
  text = os.fspath(value) if isinstance(value, os.PathLike) else value
  if not isinstance(text, str):
    raise UserError(f"{name} must be {kind}, got {type(text).__name__}")
  return text


def _path(name: str, path: Path) -> pathlib.Path:
  return names.local_path(name, _text(name, path))


def _names(argument: str, value: str | Sequence[str]) -> list[str]:
  """Splits a text at its commas; raises UserError for what holds no texts."""
  kind = type(value).__name__
  if isinstance(value, Iterable):
    each = value.split(",") if isinstance(value, str) else list(value)
    if all(isinstance(name, str) for name in each):
      return [name.strip() for name in each]
    kind += " of other values"
  raise UserError(f"{argument} must be a text or a list of texts, got {kind}")


def _choice(argument: str, value: str, choices: Sequence[str]) -> None:
  """Raises UserError unless the value is one of the choices."""
  if not isinstance(value, str) or value not in choices:
    got = value if isinstance(value, str) else type(value).__name__
    raise UserError(
      f"{argument} must be one of {', '.join(choices)}, got {got}"
    )


def _jobs(jobs: int) -> int:
  """Returns the number of jobs; raises UserError unless it is one."""
  number = _plain(jobs)
  if type(number) is not int or number < 1:
    got = number if isinstance(number, int) else type(number).__name__
    raise UserError(f"jobs must be a whole number from 1 on, got {got}")
  return number
