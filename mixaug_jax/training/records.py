"""What a run directory holds: written aside, and read back with suspicion.

A file that is there is whole; what a disk or a hand did to it afterwards is
told in a sentence, whoever reads it.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax.errors import UserError

CONFIG_FILE = "config.json"
RESULT_FILE = "result.json"
SKIPPED_FILE = "skipped_images.txt"
# Of config.json as read, in result.json.
CONFIG_CHECKSUM = "config_crc32"

_NUMBER = (int, float)
_MEASURED = {"accuracy": _NUMBER, "top5_accuracy": _NUMBER, "loss": _NUMBER}
_AT_STEP = {"step": int, **_MEASURED}
# What readers take from a result: types, or values; a tuple holds alternatives.
_RESULT = {
  "test": (None, _MEASURED),
  "validation": {"last": _AT_STEP, "best": _AT_STEP, "ema": (None, _AT_STEP)},
  "chosen": ("best", "last", "ema"),
  "chosen_step": int,
  "steps": int,
  "epochs": _NUMBER,
  "seconds": _NUMBER,
  "images_per_second": _NUMBER,
  "devices": int,
  "device_kind": str,
  "class_names": [str],
  "examples": {"train": int, "validation": int},
  "versions": dict,
  "xla_flags": str,
  "commit": (None, str),
  CONFIG_CHECKSUM: int,
}


def write_aside(path: pathlib.Path, text: str) -> None:
  """Writes a file that is not there before it is whole and on the disk."""
  aside = path.with_suffix(".tmp")
  with open(aside, "w", encoding="utf-8") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(aside, path)


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
    labels: int32 `[N]`.
    ids: a name for each example.
  """
  path = workdir / f"predictions_{split}.npz"
  aside = path.with_suffix(".tmp.npz")
  np.savez_compressed(aside, logits=logits, labels=labels, ids=np.array(ids))
  os.replace(aside, path)


def write_skipped(workdir: pathlib.Path, skipped: Mapping[str, str]) -> None:
  """Lists the images that `data.on_error=skip` left out, and why."""
  if skipped:
    lines = (f"{name}\t{why}\n" for name, why in skipped.items())
    (workdir / SKIPPED_FILE).write_text("".join(lines), "utf-8")


def checksum(config: Mapping[str, Any]) -> int:
  """CRC-32 of a config as JSON, however it is laid out."""
  return zlib.crc32(json.dumps(config, sort_keys=True).encode())


def finished_result(
  config: ConfigDict, workdir: pathlib.Path
) -> dict[str, Any] | None:
  """The result of a finished run, or None.

  Raises:
    UserError: the directory is of another config, or damaged.
  """
  there = read_config(workdir)
  if there is None:
    return None
  if changed := config_lib.differences(config, there):
    raise UserError(
      f"{workdir} holds a run of another config; it differs in "
      f"{', '.join(changed)}; name another --workdir"
    )
  return read_result(workdir)


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
  """What config.json holds; None where there is none. Raises UserError."""
  path = workdir / CONFIG_FILE
  config = _read(path)
  if config is not None and not isinstance(config, dict):
    raise UserError(
      f"{path} is damaged; delete it if this command is the one that the run "
      "was started by, which then writes it anew, and else the whole directory"
    )
  return config


def read_result(workdir: pathlib.Path) -> dict[str, Any] | None:
  """What result.json holds; None where there is none. Raises UserError."""
  path = workdir / RESULT_FILE
  result = _read(path)
  if result is not None and not _fits(result, _RESULT):
    raise UserError(
      f"{path} is damaged; delete it, and the command that trained the run "
      "writes it anew"
    )
  return result


def _read(path: pathlib.Path) -> Any:
  """The JSON of a file; None where there is no file, False if it holds none."""
  try:
    return json.loads(path.read_text("utf-8")) or False
  except (FileNotFoundError, NotADirectoryError):
    return None
  except OSError as error:
    raise UserError(f"cannot read {path}: {error.strerror}") from None
  except (ValueError, RecursionError):
    return False


def _fits(value: Any, like: Any) -> bool:
  """Whether JSON has the structure, and at its leaves the types, of `like`."""
  if isinstance(like, tuple):
    return any(_fits(value, one) for one in like)
  if isinstance(like, dict):
    return isinstance(value, dict) and all(
      name in value and _fits(value[name], of) for name, of in like.items()
    )
  if isinstance(like, list):
    return isinstance(value, list) and all(_fits(x, like[0]) for x in value)
  if like is None or isinstance(like, str):
    return value == like
  return isinstance(value, like)
