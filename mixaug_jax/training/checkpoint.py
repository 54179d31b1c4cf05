"""Checkpoints by Orbax: state and position together, saved in the background.

A checkpoint `checkpoints/<step>/` holds the train state and, as JSON, what the
loop knows besides it (the best evaluation, the running means of the log). The
data position needs no place of its own: it is the step. `checksums.json`, added
when all else is on disk, tells a flipped bit that the readers would let pass.
"""

import copy
import json
import pathlib
import zlib
from typing import Any, Self, TypeVar

import jax
import orbax.checkpoint as ocp
from absl import logging

from mixaug_jax.errors import Diverged, Interrupted, UserError
from mixaug_jax.training import parallel

State = TypeVar("State")
CHECKPOINTS = "checkpoints"  # In the run directory.
_CHECKSUMS = "checksums.json"


class Checkpoints:
  """The checkpoints of one run directory.

  Keeps the newest `keep` and one more, the best on validation. The newest
  finished one is never deleted before the one after it is safe on disk.
  """

  def __init__(self, workdir: pathlib.Path, keep: int = 1):
    self._directory = workdir.absolute() / CHECKPOINTS
    self._keep = keep
    self._best: int | None = None
    self._unsealed: int | None = None
    self._manager = ocp.CheckpointManager(
      self._directory,
      item_names=("state", "loop"),
      options=ocp.CheckpointManagerOptions(
        cleanup_tmp_directories=True,
        enable_async_checkpointing=True,
      ),
    )

  def steps(self) -> list[int]:
    """The steps of all finished checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  def save(
    self, step: int, state: Any, loop: dict[str, Any], best: int | None
  ) -> None:
    """Copies the state and returns; the writing goes on in the background.

    Args:
      step: the number of finished steps; saved already, nothing happens.
      state: a tree of arrays.
      loop: JSON values.
      best: the step whose checkpoint is the best so far, to be kept.
    """
    self._best = best
    self.wait()
    if step in self.steps():
      return
    self.prune()
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        # A copy of its own: it is written while the caller's goes on changing.
        loop=ocp.args.JsonSave(copy.deepcopy(loop)),
      ),
    )
    self._unsealed = step

  def restore(
    self, like: State, step: int | None = None
  ) -> tuple[State, dict[str, Any]] | None:
    """Reads the newest checkpoint that is whole, or the one of `step`.

    A damaged one is named in a warning and moved aside, and the one before
    it is taken.

    Args:
      like: a state of the wanted shapes, dtypes and shardings.
      step: only this one.

    Returns:
      State and loop, or None where there is no checkpoint.

    Raises:
      UserError: where there are checkpoints but none can be read.
    """
    steps = self.steps() if step is None else [step]
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    damaged = {}
    for candidate in reversed(steps):
      try:
        self._verify(candidate)
        restored = self._manager.restore(
          candidate,
          args=ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract),
            loop=ocp.args.JsonRestore(),
          ),
        )
      except jax.errors.JaxRuntimeError:  # Another process gone, no memory.
        raise
      except Exception as error:  # Orbax raises whatever its readers raise.
        damaged[candidate] = _first_line(error)
        continue
      for bad, why in damaged.items():
        self._move_aside(bad, why)
      return restored["state"], restored["loop"]
    if damaged:
      newest, why = next(iter(damaged.items()))
      what = f"checkpoint {newest} in {self._directory} cannot be read ({why})"
      if step is None:
        what = f"no checkpoint can be read; the newest: {what}"
      raise UserError(f"{what}; delete the run directory to start anew")
    return None

  def wait(self) -> None:
    """Waits until what was saved is on disk."""
    self._manager.wait_until_finished()
    if self._unsealed is not None and jax.process_index() == 0:
      directory = self._directory / str(self._unsealed)
      aside = directory / f"{_CHECKSUMS}.tmp"
      aside.write_text(json.dumps(_checksums(directory), indent=1))
      aside.rename(directory / _CHECKSUMS)
    self._unsealed = None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    """Closes, unless that would be waiting for processes that are gone.

    A run that diverges or is stopped ends in all processes at the same step;
    of any other fault the others may know nothing.
    """
    together = kind is None or issubclass(kind, (Diverged, Interrupted))
    if together or jax.process_count() == 1:
      self.close()

  def close(self) -> None:
    """Waits, deletes what need not be kept, and ends the threads."""
    self.wait()
    self.prune()
    self._manager.close()

  def prune(self) -> None:
    """Deletes what need not be kept; the next `save` and `close` do too."""
    steps = self.steps()
    for step in steps[: -self._keep]:
      if step != self._best:
        self._manager.delete(step)

  def _verify(self, step: int) -> None:
    """Raises ValueError, in all processes, where a file is not as written."""
    if why := parallel.from_first(lambda: damage(self._directory / str(step))):
      raise ValueError(why)

  def _move_aside(self, step: int, why: str) -> None:
    moved = parallel.from_first(
      lambda: _rename_aside(self._directory / str(step))
    )
    self._manager.reload()
    logging.warning(
      "checkpoint %d is damaged (%s) and was moved to %s", step, why, moved
    )


def damage(checkpoint: pathlib.Path) -> str:
  """What is wrong with the files of a checkpoint, or nothing."""
  path = checkpoint / _CHECKSUMS
  if not path.exists():  # Killed right after saving; Orbax has its say.
    return ""
  try:
    expected = dict(json.loads(path.read_text()))
  except (OSError, ValueError, TypeError):
    return f"{_CHECKSUMS} cannot be read"
  actual = _checksums(checkpoint)
  for name in sorted(expected.keys() | actual.keys()):
    if expected.get(name) != actual.get(name):
      return f"{name} is not what was saved"
  return ""


def _rename_aside(checkpoint: pathlib.Path) -> str:
  """Moves a checkpoint out of Orbax's sight; returns where to."""
  name = f"damaged_checkpoint_{checkpoint.name}"
  aside = checkpoint.parent.parent / name
  number = 1
  while aside.exists():
    number += 1
    aside = aside.with_name(f"{name}_{number}")
  checkpoint.rename(aside)
  return str(aside)


def _checksums(directory: pathlib.Path) -> dict[str, int]:
  """CRC-32 of every file below a checkpoint but the list itself."""
  sums = {}
  for path in sorted(directory.rglob("*")):
    if path.is_file() and not path.name.startswith(_CHECKSUMS):
      name = str(path.relative_to(directory))
      sums[name] = zlib.crc32(path.read_bytes())
  return sums


def _first_line(error: Exception) -> str:
  text = str(error).strip() or type(error).__name__
  return text.partition("\n")[0][:200]
