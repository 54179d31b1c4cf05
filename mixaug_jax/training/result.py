"""The result of a finished run, as result.json holds it."""

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

from mixaug_jax.training.set_measured import (
  SetEvaluation,
  SetMeasured,
  Thresholds,
)

CHOSEN = ("best", "last", "ema")


def from_json(kind: Any, value: Any) -> Any:
  """Turns JSON into a value of a type, checking every part of it.

  Args:
    kind: a dataclass, `list[T]`, `tuple[T, ...]`, `dict[str, T]`, a union or
      a plain type; `float` takes whole numbers too, as JSON has one kind.
    value: what `json.loads` returned.

  Raises:
    ValueError: the value is not of that type; the text names the part.
  """
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if kind is Any:
    return value
  if origin in (types.UnionType, typing.Union):
    for option in arguments:
      try:
        return from_json(option, value)
      except ValueError:
        continue
  elif origin in (list, tuple) and isinstance(value, list):
    return origin(from_json(arguments[0], x) for x in value)
  elif origin is dict and isinstance(value, dict):
    return {name: from_json(arguments[1], x) for name, x in value.items()}
  elif dataclasses.is_dataclass(kind) and isinstance(value, dict):
    return _dataclass_from_json(kind, value)
  elif kind is float and type(value) in (int, float):
    if abs(value) > sys.float_info.max and type(value) is int:
      raise ValueError("a number is too large")
    return float(value)
  elif kind is types.NoneType and value is None:
    return None
  elif isinstance(kind, type) and type(value) is kind:
    return value
  raise ValueError(f"expected {getattr(kind, '__name__', kind)}, got {value!r}")


def _dataclass_from_json(kind: Any, value: Mapping[str, Any]) -> Any:
  hints = typing.get_type_hints(kind)
  content = {}
  for field in dataclasses.fields(kind):
    if field.name in value:
      try:
        content[field.name] = from_json(hints[field.name], value[field.name])
      except ValueError as error:
        raise ValueError(f"{field.name}: {error}") from None
    elif field.default is field.default_factory is dataclasses.MISSING:
      raise ValueError(f"{field.name} is missing")
  return kind(**content)


@dataclasses.dataclass(frozen=True)
class Measured:
  """Means over the examples of a split.

  Attributes:
    accuracy: top-1, in [0, 1].
    top5_accuracy: in [0, 1].
    loss: in nats, without label smoothing and class weights.
    examples: their number.
    balanced_accuracy: the mean accuracy over the classes with examples; older
      runs have none.
    class_accuracy: the accuracy on each class, by class id, None for one
      without examples; only of test.
  """

  accuracy: float
  top5_accuracy: float
  loss: float
  examples: int
  balanced_accuracy: float | None = dataclasses.field(
    default=None, kw_only=True
  )
  class_accuracy: list[float | None] | None = dataclasses.field(
    default=None, kw_only=True
  )

  @property
  def score(self) -> float:
    """The figure that is quoted first."""
    return self.accuracy


@dataclasses.dataclass(frozen=True)
class Evaluation(Measured):
  """A measurement on validation during training.

  Attributes:
    step: the number of finished training steps.
  """

  step: int


@dataclasses.dataclass(frozen=True)
class Validation:
  """The evaluations on validation that a run keeps.

  Attributes:
    last: at the last step.
    best: of the highest `evaluate.best_by`, or mean average precision; the
      earliest of equals.
    ema: of the moving average of the weights; None without one.
  """

  last: Evaluation | SetEvaluation
  best: Evaluation | SetEvaluation
  ema: Evaluation | SetEvaluation | None


@dataclasses.dataclass(frozen=True)
class Examples:
  """The number of examples of the splits; that of test is in `test`."""

  train: int
  validation: int


@dataclasses.dataclass(frozen=True)
class StoppedEarly:
  """Why a run ended before its planned length, see `early_stopping`.

  Attributes:
    planned_steps: the steps that it would have run.
    patience: evaluations without an improvement.
    min_delta: of an improvement.
    step: of the last improvement.
    score: on validation at that step, by which the best weights are chosen.
  """

  planned_steps: int
  patience: int
  min_delta: float
  step: int
  score: float


@dataclasses.dataclass(frozen=True)
class Result:
  """The figures and the circumstances of a finished run.

  Attributes:
    test: on test, with the chosen weights; None without a test split.
    validation: on validation, during training.
    chosen: which weights saw test, one of CHOSEN.
    chosen_step: the training step of these weights.
    steps: of the whole run; fewer than planned if it stopped early.
    epochs: passes over the training split.
    seconds: of training, without compilation, evaluation and saving.
    compile_seconds: of the first step of each start.
    images_per_second: training images over `seconds`.
    devices: their number, over all processes.
    device_kind: JAX's name of it.
    processes: their number.
    class_names: by class id.
    examples: of each split.
    versions: of this package and of those that compute.
    xla_flags: of the environment.
    commit: of this package's repository, where it is in one.
    config_crc32: of config.json.
    evaluation_seconds: of all evaluations, without compilation; older runs
      have none.
    thresholds: of a run with label sets; None of another one.
    stopped_early: why it ended before its planned length; None if it did not.
    class_counts: the training images of each class, without the repeats of
      `data.oversample`; older runs have none.
    class_weights: by class id, where training has some.
  """

  test: Measured | SetMeasured | None
  validation: Validation
  chosen: str
  chosen_step: int
  steps: int
  epochs: float
  seconds: float
  compile_seconds: float
  images_per_second: float
  devices: int
  device_kind: str
  processes: int
  class_names: list[str]
  examples: Examples
  versions: dict[str, str]
  xla_flags: str
  commit: str | None
  config_crc32: int
  evaluation_seconds: float = 0.0
  thresholds: Thresholds | None = None
  stopped_early: StoppedEarly | None = None
  class_counts: list[int] | None = None
  class_weights: list[float] | None = None

  @property
  def planned_steps(self) -> int:
    """The steps of the run if it had not stopped early."""
    return (
      self.stopped_early.planned_steps if self.stopped_early else self.steps
    )

  @classmethod
  def from_json(cls, value: Any) -> Self:
    """Reads the content of result.json; raises ValueError."""
    result = from_json(cls, value)
    if result.chosen not in CHOSEN:
      raise ValueError(f"chosen: expected one of {', '.join(CHOSEN)}")
    if not result.class_names:
      raise ValueError("class_names is empty")
    sets = isinstance(result.validation.last, SetMeasured)
    if sets != (result.thresholds is not None):
      raise ValueError("thresholds: they belong to label sets")
    if result.thresholds and (
      list(result.thresholds.by_class) != result.class_names
    ):
      raise ValueError("thresholds: they are of other classes")
    return result

  def to_json(self) -> dict[str, Any]:
    """Returns the content of result.json."""
    content = dataclasses.asdict(self)
    if self.thresholds is None:
      del content["thresholds"]
    return content
