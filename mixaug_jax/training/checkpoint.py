"""Checkpoints by Orbax: state and position together, saved in the background.

A checkpoint `checkpoints/<step>/` holds the train state and, as JSON, what the
loop knows besides it (the best evaluation, the running means of the log). The
data position needs no place of its own: it is the step. `checksums.json`, added
when all else is on disk, tells a flipped bit that the readers would let pass.
"""

import dataclasses
import json
import pathlib
import zlib
from typing import Any, Self, TypeVar

import jax
import orbax.checkpoint as ocp
from absl import logging

from mixaug_jax import files
from mixaug_jax.errors import Diverged, Interrupted, UserError, first_line
from mixaug_jax.training import parallel
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.result import from_json

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

  def save(self, step: int, state: Any, loop: LoopState) -> None:
    """Copies the state and returns; the writing goes on in the background.

    Args:
      step: the number of finished steps; if it is saved, nothing happens.
      state: a tree of arrays, replicated over the devices of this process.
      loop: the state of the loop; the checkpoint of its best step is kept.
    """
    self._best = loop.best_step
    self.wait()
    if step in self.steps():
      return
    self.prune()
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(parallel.to_global(state)),
        # A copy, because the loop goes on changing while it is written.
        loop=ocp.args.JsonSave(dataclasses.asdict(loop)),
      ),
    )
    self._unsealed = step

  def restore(
    self, like: State, step: int | None = None
  ) -> tuple[State, LoopState] | None:
    """Reads the newest checkpoint that is whole, or the one of `step`.

    A damaged one is named in a warning and moved aside, and the one before
    it is taken.

    Args:
      like: a state of the wanted shapes, dtypes and shardings.
      step: reads only the checkpoint of this step.

    Returns:
      State and loop, or None where there is no checkpoint.

    Raises:
      UserError: where there are checkpoints but none can be read.
    """
    steps = self.steps() if step is None else [step]
    abstract = jax.tree.map(
      ocp.utils.to_shape_dtype_struct, parallel.to_global(like)
    )
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
        loop = from_json(LoopState, restored["loop"])
      except jax.errors.JaxRuntimeError:  # Another process gone, no memory.
        raise
      except Exception as error:  # Orbax raises whatever its readers raise.
        damaged[candidate] = first_line(error)
        continue
      for bad, why in damaged.items():
        self._move_aside(bad, why)
      if step is None:
        self._best = loop.best_step
      return parallel.to_local(restored["state"]), loop
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
      text = json.dumps(_checksums(directory), indent=1)
      with files.replacing(directory / _CHECKSUMS) as part:
        part.write_text(text)
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


def saved_in(workdir: pathlib.Path) -> bool:
  """Returns whether a run directory holds a checkpoint."""
  return any((workdir / CHECKPOINTS).glob("[0-9]*"))


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
    if path.is_file() and path.name != _CHECKSUMS:
      name = str(path.relative_to(directory))
      sums[name] = zlib.crc32(path.read_bytes())
  return sums
