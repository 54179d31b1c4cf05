"""`python -m mixaug_jax.evaluate`: a trained run on any split and views."""

import json
import time
from collections.abc import Callable, Sequence

import numpy as np

from mixaug_jax.command import exits, flags, jax_setup
from mixaug_jax.errors import UserError

SPLITS = ("train", "validation", "test")


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "evaluate",
    "Evaluates the chosen weights of a finished run, on one or several views "
    "of each image.",
  )
  parser.add_argument("--workdir", type=flags.path, required=True)
  parser.add_argument("--split", default="test", choices=SPLITS)
  parser.add_argument(
    "--views",
    default="identity",
    help="identity, flip, five_crops, scales; several by commas",
  )
  parser.add_argument(
    "--average",
    default="logits",
    choices=("logits", "probabilities"),
    help="what is averaged over the views",
  )
  parser.add_argument("--json", action="store_true", help="print JSON")
  arguments = flags.parse(parser, argv)
  jax_setup.prepare()

  from mixaug_jax import runs

  run = runs.open_run(arguments.workdir)
  measured = evaluate(run, arguments.split, arguments.views, arguments.average)
  if arguments.json:
    print(json.dumps(measured, indent=2))
  else:
    print(table(measured))


def evaluate(run, split: str, views: str, average: str) -> dict:
  """Measures each named group of views, and all of them together.

  Args:
    run: a `runs.Run`.
    split: a name of SPLITS.
    views: as of `augment.make_views`.
    average: `logits` or `probabilities`.

  Returns:
    `split`, `examples`, `average` and `views`: for each name, and for their
    union where there are several, `views` (their number), `accuracy`,
    `top5_accuracy`, `loss`, `calibration_error` before and
    `calibration_error_scaled` after scaling by `temperature`, which is fitted
    on validation, and `milliseconds` an image.

  Raises:
    UserError: views or a split that there are not.
  """
  from mixaug_jax import classifier, data
  from mixaug_jax.analysis import calibration

  names = [name.strip() for name in views.split(",")]
  network = run.classifier()
  groups = {name: network.predictor(name) for name in names}
  network.predictor(views)  # Each name once; checked before anything is read.
  datasets = data.load(run.config.data, run.config.seed)
  size = run.config.evaluate.batch_size
  logits, seconds, labels = {}, {}, {}
  for part in dict.fromkeys(("validation", split)):
    images = getattr(datasets, part)
    if images is None:
      raise UserError(
        f"--split={part}: the data set of {run.workdir} has no such split"
      )
    labels[part] = images.labels
    for name, predict in groups.items():
      logits[part, name], seconds[name] = _over(predict, images, size)
  measured = {}
  for chosen in [[name] for name in names] + [names] * (len(names) > 1):
    at = lambda part, chosen=chosen: classifier.averaged(
      np.concatenate([logits[part, name] for name in chosen]), average
    )
    temperature = calibration.fit_temperature(
      at("validation"), labels["validation"]
    )
    ours, truth = at(split), labels[split]
    measured["+".join(chosen)] = {
      "views": sum(len(logits[split, name]) for name in chosen),
      "accuracy": calibration.top_k_accuracy(ours, truth, 1),
      "top5_accuracy": calibration.top_k_accuracy(ours, truth, 5),
      "loss": calibration.cross_entropy(ours, truth),
      "calibration_error": calibration.expected_calibration_error(ours, truth),
      "temperature": temperature,
      "calibration_error_scaled": calibration.expected_calibration_error(
        ours, truth, temperature=temperature
      ),
      "milliseconds": 1e3 * sum(seconds[n] for n in chosen) / len(truth),
    }
  return {
    "split": split,
    "examples": len(labels[split]),
    "average": average,
    "views": measured,
  }


def _over(
  predict: Callable[[np.ndarray], np.ndarray], split, size: int
) -> tuple[np.ndarray, float]:
  """Logits `[V, N, C]` of a split; seconds without the first compilation."""
  size = min(size, len(split))
  rows = np.arange(len(split))
  predict(split.images(rows[:size]))
  begin = time.monotonic()
  parts = []
  for first in range(0, len(rows), size):
    # The last batch is filled up, not of a shape of its own.
    padded = np.resize(rows[first : first + size], size)
    parts.append(predict(split.images(padded)))
  logits = np.concatenate(parts, axis=1)[:, : len(rows)]
  return logits, time.monotonic() - begin


def table(measured: dict) -> str:
  """The measures as aligned text."""
  labels = {
    name: f"{name} ({row['views']})" for name, row in measured["views"].items()
  }
  width = max(map(len, labels.values()))
  lines = [
    f"{measured['split']}, {measured['examples']:,} images; views averaged by "
    f"{measured['average']}; ECE: expected calibration error, scaled: by a "
    "temperature fitted on validation",
    f"{'views':{width}}{'top-1':>8}{'top-5':>8}{'loss':>8}{'ECE':>8}{'scaled':>8}"
    f"{'ms/image':>10}",
  ]
  for name, row in measured["views"].items():
    lines.append(
      f"{labels[name]:{width}}{row['accuracy']:8.2%}{row['top5_accuracy']:8.2%}"
      f"{row['loss']:8.3f}{row['calibration_error']:8.2%}"
      f"{row['calibration_error_scaled']:8.2%}{row['milliseconds']:10.2f}"
    )
  return "\n".join(lines)


if __name__ == "__main__":
  exits.run(main)
