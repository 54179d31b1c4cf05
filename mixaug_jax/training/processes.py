"""All processes of a run must have its config and its data.

Each process reads the config and the data for itself. With other ones than the
rest, it would train on other examples, or wait forever for a step or a batch
that the others do not have.
"""

import json
import zlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

import mixaug_jax
from mixaug_jax import config as config_lib
from mixaug_jax.data.identity import Identity
from mixaug_jax.errors import UserError

# Where a host finds and keeps its data is its own affair.
_OF_A_HOST = ("data.dir", "data.cache_dir")
_SPLITS = ("train", "validation", "test")


def check_equal(config: ConfigDict, identity: Identity) -> None:
  """Raises UserError in every process if one has another config or other data.

  Args:
    config: resolved and checked.
    identity: of the data that this process found.
  """
  if jax.process_count() == 1:
    return
  settings = _settings(config)
  # The keys decide how many texts follow, so they are compared first.
  for texts in (_program(settings), settings | _data(identity)):
    if found := first_difference(list(texts), _gathered(texts)):
      process, what = found
      raise UserError(
        f"process {process} of this run differs from process 0 in {what}; "
        "start all processes with the same program, flags and data"
      )


def first_difference(
  names: Sequence[str], digests: np.ndarray
) -> tuple[int, str] | None:
  """Returns the first process that differs from process 0, and in what.

  Args:
    names: what is compared.
    digests: of each process, `[processes, names]`.
  """
  rows, columns = np.nonzero(digests != digests[0])
  return (int(rows[0]), names[columns[0]]) if len(rows) else None


def _gathered(texts: Mapping[str, str]) -> np.ndarray:
  from jax.experimental import multihost_utils

  own = [zlib.crc32(text.encode()) for text in texts.values()]
  return multihost_utils.process_allgather(np.array(own, np.uint32))


def _program(settings: Mapping[str, str]) -> dict[str, str]:
  return {
    "the version of mixaug_jax": mixaug_jax.__version__,
    "the version of JAX": jax.__version__,
    "the keys of the config": " ".join(settings),
  }


def _settings(config: ConfigDict) -> dict[str, str]:
  return {
    f"config.{key}": repr(value)
    for key, value in config_lib.leaves(config).items()
    if key not in _OF_A_HOST
  }


def _data(identity: Identity) -> dict[str, str]:
  texts = {
    "the version of Pillow": identity.pillow,
    "the classes": json.dumps(identity.class_names),
  }
  for name in _SPLITS:
    split = identity.splits.get(name)
    texts[f"the images of {name}"] = split.ids if split else ""
    texts[f"the pixels of {name}"] = split.pixels if split else ""
  return texts
