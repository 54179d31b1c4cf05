"""`python -m mixaug_jax.export`: a run's weights for other frameworks."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from mixaug_jax import commandline
from mixaug_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
  flags = commandline.parser(
    "export",
    "Writes the chosen weights of a finished run for another framework.",
  )
  flags.add_argument("--workdir", type=pathlib.Path, required=True)
  flags.add_argument(
    "--format", required=True, help="torchvision, keras or safetensors"
  )
  flags.add_argument(
    "--output",
    type=pathlib.Path,
    help="the new file; default: weights.SUFFIX in the run directory",
  )
  arguments = commandline.parse(flags, argv)
  commandline.prepare_jax()

  from mixaug_jax.models import weight_export

  kind = arguments.format
  if kind not in weight_export.FORMATS:
    raise UserError(
      f"--format must be one of {', '.join(weight_export.FORMATS)}, got {kind}"
    )
  suffix = weight_export.FORMATS[kind].suffix
  output = arguments.output or arguments.workdir / f"weights{suffix}"
  if output.suffix != suffix or output.name.endswith(".weights.h5"):
    raise UserError(f"--output={output} must end in {suffix}, as in x{suffix}")
  name, model, preprocessing, variables = _load(arguments.workdir)
  loads = weight_export.export(output, kind, name, model, variables)
  order = "BGR" if preprocessing.bgr else "RGB"
  print(
    f"{output} is written; load it by\n  {loads}\nand feed it {order} images "
    f"in [0, 1] minus {preprocessing.mean}, over {preprocessing.std}"
  )


def _load(workdir: pathlib.Path) -> tuple[str, Any, Any, Any]:
  """Name, model, preprocessing and chosen variables of a finished run."""
  from ml_collections import ConfigDict

  from mixaug_jax import models, train
  from mixaug_jax.training import experiment

  try:
    config = ConfigDict(json.loads((workdir / train.CONFIG_FILE).read_text()))
    result = json.loads((workdir / train.RESULT_FILE).read_text())
  except (OSError, ValueError):
    raise UserError(
      f"--workdir={workdir} is not the directory of a finished run; train it "
      "to its end first"
    ) from None
  model = experiment.create_model(config, len(result["class_names"]))
  preprocessing = models.PREPROCESSING[config.model.preprocessing]
  variables = _variables(
    workdir / "checkpoints" / str(result["chosen_step"]),
    model,
    average=result["chosen"] == "ema",
  )
  return config.model.name, model, preprocessing, variables


def _variables(checkpoint: pathlib.Path, model: Any, average: bool) -> Any:
  """`params` and `batch_stats` of a checkpoint, or their moving averages."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  import orbax.checkpoint as ocp

  like = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False
    )
  )
  if average:
    like = {"ema": like}
  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  try:
    restored = ocp.PyTreeCheckpointer().restore(
      checkpoint.absolute() / "state",
      args=ocp.args.PyTreeRestore(
        like, jax.tree.map(lambda _: as_numpy, like), partial_restore=True
      ),
    )
  except Exception as error:  # Orbax raises whatever its readers raise.
    reason = str(error).partition("\n")[0][:200]
    raise UserError(
      f"the checkpoint {checkpoint} cannot be read: {reason}"
    ) from error
  return restored["ema"] if average else restored


if __name__ == "__main__":
  commandline.run(main)
