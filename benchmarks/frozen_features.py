"""A logistic regression on frozen features: what fine-tuning must beat.

    python -m benchmarks.frozen_features --weights=FILE --dogs=DIR \
        [--config.data.image_size=96] [--stage=stage3] [--divide_by_255]

`FILE` is whatever `config.model.pretrained` takes, and may be partial; `DIR`
holds train/<class>/* and test/<class>/*. The photographs are those on which a
run of `configs/baseline.py:folder` with the same overrides trains, chooses and
is tested. The features are the means over the image of a stage's output. The
regularisation is chosen on validation; test is read once.
"""

import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from mixaug_jax import data, jax_setup
from mixaug_jax.command import exits, flags
from mixaug_jax.errors import UserError
from mixaug_jax.training import experiment

BATCH = 50
INVERSE_REGULARISATIONS = 10.0 ** np.arange(-5, 1)


def main(argv: Sequence[str]) -> None:
  parser = flags.parser("frozen_features", __doc__.partition("\n")[0])
  parser.prog = "benchmarks.frozen_features"
  parser.add_argument("--weights", required=True)
  parser.add_argument("--dogs", required=True)
  parser.add_argument("--stage", default="stage3", help="conv4 is stage3")
  parser.add_argument(
    "--divide_by_255",
    action="store_true",
    help="feed RGB in [0, 1], not what the weights ask for",
  )
  rest, overrides = flags.split_overrides(argv)
  arguments = parser.parse_args(rest)
  jax_setup.prepare()
  settings = {
    "data.dir": arguments.dogs,
    "model.pretrained": arguments.weights,
    "model.allow_partial": True,
    "model.freeze_batch_norm": False,  # Nothing is trained.
    "model.dtype": "float32",
  }
  config = harness.config("baseline.py:folder", {**settings, **overrides})
  exp = experiment.build(config)
  extract = extractor(exp, arguments.stage, not arguments.divide_by_255)
  features, labels = {}, {}
  for name in ("train", "validation", "test"):
    split = getattr(exp.datasets, name)
    features[name], labels[name] = extract(split), split.labels
  for name, accuracy in regress(features, labels).items():
    print(f"{name}: {accuracy:.2%} of {len(labels[name]):,}")


def extractor(
  exp: experiment.Experiment, stage: str, preprocessed: bool
) -> Callable[[data.Split], np.ndarray]:
  """Returns `features(split) -> float32 [N, channels]`."""
  recipe = exp.recipe
  stages = recipe.model.stages[:-1]
  if stage not in stages:
    raise UserError(f"--stage must be one of {', '.join(stages)}")
  state, report = exp.initial_state()
  print(report, file=sys.stderr)

  @jax.jit
  def run(variables, images):
    images = recipe.resize(images).astype(jnp.float32) / 255
    if preprocessed:
      images = recipe.preprocess(images)
    maps = recipe.model.apply(variables, images, train=False, stop=stage)
    return jnp.mean(maps, axis=(1, 2))

  def features(split: data.Split) -> np.ndarray:
    # The last batch is filled up with the first photographs.
    padded = np.resize(np.arange(len(split)), -(-len(split) // BATCH) * BATCH)
    batches = padded.reshape(-1, BATCH)
    rows = [run(state.variables, split.images(batch)) for batch in batches]
    return np.concatenate(rows)[: len(split)]

  return features


def regress(
  features: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> dict[str, float]:
  """Returns validation and test accuracy of the best on validation."""
  from sklearn import linear_model, pipeline, preprocessing

  fitted = []
  for inverse in INVERSE_REGULARISATIONS:
    classifier = pipeline.make_pipeline(
      preprocessing.StandardScaler(),
      linear_model.LogisticRegression(C=inverse, max_iter=1000),
    )
    fitted.append(classifier.fit(features["train"], labels["train"]))
  score = lambda one, name: one.score(features[name], labels[name])
  best = max(fitted, key=lambda one: score(one, "validation"))
  return {name: score(best, name) for name in ("validation", "test")}


if __name__ == "__main__":
  exits.run(main)
