"""The files of a run directory: version, config, result, predictions.

Each file is written beside its place and renamed when it is complete. Later
damage is reported in one sentence by whatever reads the file.
"""

import json
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

import mixaug_jax
from mixaug_jax import config as config_lib
from mixaug_jax import files, progress
from mixaug_jax.data.identity import Identity, changes
from mixaug_jax.errors import Taken, UserError, first_line
from mixaug_jax.training.result import Result, from_json

VERSION_FILE = "version.json"
# The number goes up when an older version would misread a run directory.
FORMAT = 1
CONFIG_FILE = "config.json"
DATA_FILE = "data.json"
RESULT_FILE = "result.json"
DIVERGED_FILE = "diverged.json"
SKIPPED_FILE = "skipped_images.txt"


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file that is complete as soon as it exists."""
  with files.replacing(path) as part:
    part.write_text(text, "utf-8")


def write_version(workdir: pathlib.Path) -> None:
  """Writes version.json: the format of a run directory, and its writer."""
  content = {"format": FORMAT, "mixaug_jax": mixaug_jax.__version__}
  write_text(workdir / VERSION_FILE, json.dumps(content) + "\n")


def check_version(workdir: pathlib.Path) -> None:
  """Raises UserError if a newer version wrote a run directory.

  Directories without version.json were written before there was one.
  """
  path = workdir / VERSION_FILE
  content = _read(path)
  if content is None:
    return
  number = content.get("format") if isinstance(content, dict) else None
  if type(number) is not int:
    raise UserError(
      f"{path} is damaged; delete it, and {workdir} is read as a directory of "
      "this version"
    )
  if number > FORMAT:
    raise UserError(
      f"{workdir} has the format {number}, and mixaug_jax "
      f"{mixaug_jax.__version__} reads formats up to {FORMAT}; install the "
      f"version that wrote it, {content.get('mixaug_jax', 'a newer one')}"
    )


def write_result(workdir: pathlib.Path, result: Result) -> None:
  """Writes result.json."""
  text = json.dumps(result.to_json(), indent=2) + "\n"
  write_text(workdir / RESULT_FILE, text)


def write_data(workdir: pathlib.Path, identity: Identity) -> None:
  """Writes data.json."""
  text = json.dumps(identity.to_json(), indent=2) + "\n"
  write_text(workdir / DATA_FILE, text)


def read_data(workdir: pathlib.Path) -> Identity | None:
  """Reads data.json; returns None without one. Raises UserError."""
  path = workdir / DATA_FILE
  content = _read(path)
  if content is None:
    return None
  try:
    identity = from_json(Identity, content)
    for split in identity.splits.values():
      if len(split.per_class) != len(identity.class_names):
        raise ValueError("per_class is not of all classes")
    return identity
  except ValueError:
    raise UserError(
      f"{path} is damaged; delete it if the data are those of the run, and "
      "repeat the command"
    ) from None


def check_data(workdir: pathlib.Path, identity: Identity) -> None:
  """Raises UserError if a run was trained on other data than `identity`."""
  there = read_data(workdir)
  if there is None:
    progress.write(
      f"warning: {workdir} has no {DATA_FILE}, so it is unknown whether the "
      "data changed"
    )
  elif changed := changes(there, identity):
    raise UserError(
      f"the data changed since {workdir} was trained: {'; '.join(changed)}; "
      "restore them, or name another directory"
    )


def write_predictions(
  workdir: pathlib.Path,
  split: str,
  logits: np.ndarray,
  labels: np.ndarray,
  ids: Sequence[str],
) -> None:
  """Writes predictions_<split>.npz.

  Args:
    workdir: the run directory.
    split: `validation` or `test`.
    logits: float32 `[N, C]`.
    labels: int32 `[N]`, or label sets, uint8 `[N, C]`.
    ids: the name of each example.
  """
  with files.replacing(workdir / f"predictions_{split}.npz") as part:
    np.savez_compressed(part, logits=logits, labels=labels, ids=np.array(ids))


def write_skipped(workdir: pathlib.Path, skipped: Mapping[str, str]) -> None:
  """Lists the images that `data.on_error=skip` left out, and why."""
  if skipped:
    lines = (f"{name}\t{why}\n" for name, why in skipped.items())
    write_text(workdir / SKIPPED_FILE, "".join(lines))


def write_diverged(workdir: pathlib.Path, step: int) -> None:
  """Writes diverged.json, with the step after which it was noticed."""
  write_text(workdir / DIVERGED_FILE, json.dumps({"step": step}) + "\n")


def read_diverged(workdir: pathlib.Path) -> int | None:
  """Returns the step of diverged.json; None without one. Raises UserError."""
  path = workdir / DIVERGED_FILE
  content = _read(path)
  if content is None:
    return None
  try:
    return from_json(dict[str, int], content)["step"]
  except (ValueError, KeyError):
    raise UserError(
      f"{path} is damaged; delete it and repeat the command that trained the "
      "run"
    ) from None


def checksum(config: Mapping[str, Any]) -> int:
  """Returns the CRC-32 of a config, whatever the layout of its JSON."""
  return zlib.crc32(json.dumps(config, sort_keys=True).encode())


def finished_result(config: ConfigDict, workdir: pathlib.Path) -> Result | None:
  """Returns the result of a finished run, or None.

  Raises:
    Taken: the directory holds a run of another config.
    UserError: it is damaged.
  """
  if changed := differences(config, workdir):
    raise Taken(
      f"{workdir} holds a run of another config; it differs in "
      f"{', '.join(changed)}; name another directory"
    )
  return read_result(workdir) if (workdir / CONFIG_FILE).exists() else None


def differences(config: ConfigDict, workdir: pathlib.Path) -> list[str]:
  """Returns what makes the run in a directory another one; see `config`.

  Raises:
    UserError: the directory is damaged.
  """
  there = read_config(workdir)
  if there is None:
    return []
  return config_lib.differences(config, config_lib.completed(there))


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Reads config.json; returns None without one.

  Every command that reads a run directory reads this file first.

  Raises:
    UserError: it is damaged, or a newer version wrote the directory.
  """
  check_version(workdir)
  path = workdir / CONFIG_FILE
  config = _read(path)
  if config is not None and not isinstance(config, dict):
    raise UserError(
      f"{path} is damaged; delete it if this command started the run, which "
      "writes it again, or else delete the whole directory"
    )
  try:
    if config is not None:
      config_lib.check_stored(config_lib.completed(config))
  # A group that is none raises TypeError, and a deep one RecursionError.
  except (TypeError, RecursionError, UserError) as error:
    raise UserError(f"{path} is damaged: {first_line(error)}") from None
  return config


def read_result(workdir: pathlib.Path) -> Result | None:
  """Reads result.json; returns None without one. Raises UserError."""
  path = workdir / RESULT_FILE
  content = _read(path)
  if content is None:
    return None
  try:
    return Result.from_json(content)
  except ValueError:
    raise UserError(
      f"{path} is damaged; delete it and repeat the command that trained the "
      "run, which writes it again"
    ) from None


def _read(path: pathlib.Path) -> Any:
  """Reads JSON; returns None without a file, and False if it is not JSON."""
  try:
    return json.loads(files.read_text(path)) or False
  except (FileNotFoundError, NotADirectoryError):
    return None
  except OSError as error:
    raise UserError(f"cannot read {path}: {error.strerror}") from None
  except (ValueError, RecursionError):
    return False
