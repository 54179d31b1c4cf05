"""Checkpoints, written by Orbax in the background.

A checkpoint `checkpoints/<step>/` holds the train state and, as JSON, the state
of the loop. The position in the data is not stored, because it is the step.
`checksums.json` is added when all other files are on disk. It reveals flipped
bits that the readers do not notice. Older checkpoints are deleted only then.

A disk that fails is an OSError with a path, whatever Orbax and TensorStore make
of it. What cannot be read for such a reason is not taken for damaged.
"""

import contextlib
import dataclasses
import errno
import glob
import json
import logging as std_logging
import os
import pathlib
import re
import stat
import sys
import zlib
from collections.abc import Callable, Container, Iterator
from typing import Any, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import traverse_util

from mixaug_jax import files
from mixaug_jax.errors import Diverged, Interrupted, UserError, first_line
from mixaug_jax.names import printable
from mixaug_jax.training import parallel, tensorstore_leak
from mixaug_jax.training.loop_state import LoopState
from mixaug_jax.training.result import from_json

State = TypeVar("State")
CHECKPOINTS = "checkpoints"  # In the run directory.
_CHECKSUMS = "checksums.json"


class Checkpoints:
  """The checkpoints of one run directory.

  The newest `keep` are kept, and the best on validation. A finished checkpoint
  is deleted only when a newer one is on disk.
  """

  def __init__(self, workdir: pathlib.Path, keep: int = 1):
    self._directory = workdir.absolute() / CHECKPOINTS
    self._keep = keep
    self._best: int | None = None
    self._unsealed: int | None = None
    self._saving: int | None = None
    self._on_disk: set[str] = set()  # Files of the checkpoint that is saved.
    _drop_echoes()
    tensorstore_leak.avoid()
    with _disk_errors(self._directory):
      self._manager = ocp.CheckpointManager(
        self._directory,
        item_names=("state", "loop"),
        options=ocp.CheckpointManagerOptions(
          cleanup_tmp_directories=True,
          enable_async_checkpointing=True,
          # The threads that write would wait 20 minutes for directories that
          # another thread could not create.
          async_options=ocp.AsyncOptions(
            create_directories_asynchronously=False,
            post_finalization_callback=self._before_the_name,
          ),
        ),
      )

  def steps(self) -> list[int]:
    """Returns the steps of all finished checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  def save(self, step: int, state: Any, loop: LoopState) -> None:
    """Copies the state and returns; Orbax writes it in the background.

    Args:
      step: the number of finished steps. If it is saved already, nothing
        happens.
      state: a tree of arrays, replicated over the devices of this process.
      loop: the state of the loop; the checkpoint of its best step is kept.
    """
    self.wait()
    # The best so far stays until this checkpoint is on the disk.
    self.prune()
    self._best = loop.best_step
    if step in self.steps():
      return
    self._saving, self._on_disk = step, set()
    with _disk_errors(self._directory):
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
    """Reads the newest checkpoint that is not damaged, or that of `step`.

    A warning names each damaged checkpoint, which is moved aside.

    Args:
      like: a state of the wanted shapes, dtypes and shardings.
      step: the only step to read, if given.

    Returns:
      The state and the state of the loop, or None without a checkpoint.

    Raises:
      UserError: there are checkpoints, but all are damaged.
      OSError: the disk fails or refuses to be read.
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
      except jax.errors.JaxRuntimeError:  # A lost process, or no memory.
        raise
      except Exception as error:  # Orbax passes on any error of its readers.
        if failure := _disk_error(error, self._directory / str(candidate)):
          raise failure from error
        damaged[candidate] = first_line(error)
        continue
      for bad, why in damaged.items():
        self._move_aside(bad, why)
      if step is None:
        if loop.best_step not in (None, *self.steps()):
          # It was deleted for a better one, which is damaged.
          logging.warning(
            "the weights of step %d, the best on validation so far, are "
            "missing; the best of the steps from %d on takes their place",
            *(loop.best_step, candidate),
          )
          loop.best = None
        self._best = loop.best_step
        newest = self._directory / str(candidate)
        if jax.process_index() == 0 and not (newest / _CHECKSUMS).exists():
          _seal(newest, ())  # The run was killed right after saving it.
      return parallel.to_local(restored["state"]), loop
    if damaged:
      first, why = next(iter(damaged.items()))
      what = f"checkpoint {first} in {self._directory} cannot be read ({why})"
      if step is None:
        what = f"no checkpoint can be read; the newest: {what}"
      raise UserError(f"{what}; delete the run directory to start again")
    return None

  def wait(self) -> None:
    """Waits until all saved checkpoints are on disk."""
    # Forgotten first: a checkpoint whose writing fails is not sealed later.
    unsealed, self._unsealed = self._unsealed, None
    with _disk_errors(self._directory):
      self._manager.wait_until_finished()
    if unsealed is not None and jax.process_index() == 0:
      _seal(self._directory / str(unsealed), self._on_disk)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    """Closes, unless this would wait for processes that do not.

    A run that diverges or is stopped ends at the same step in all processes.
    After any other error, the other processes may still be training.
    """
    together = kind is None or issubclass(kind, (Diverged, Interrupted))
    if together or jax.process_count() == 1:
      self.close()

  def close(self) -> None:
    """Waits, deletes what is not kept, and ends the threads."""
    try:
      self.wait()
      self.prune()
    finally:
      with _disk_errors(self._directory):
        # Orbax removes unfinished checkpoints on a thread that it only awaits
        # when it saves. At the interpreter's exit that thread would print a
        # traceback.
        if hasattr(self._manager, "_maybe_await_cleanup_tmp_directory"):
          self._manager._maybe_await_cleanup_tmp_directory()
        self._manager.close()

  def prune(self) -> None:
    """Deletes the checkpoints that are not kept, as `save` and `close` do."""
    steps = self.steps()
    for step in steps[: -self._keep]:
      if step != self._best:
        with _disk_errors(self._directory / str(step)):
          self._manager.delete(step)

  def _before_the_name(self) -> None:
    """Puts a checkpoint on the disk before it gets the name of a finished one.

    Orbax calls this on its thread, in process 0. TensorStore has synced the
    arrays, but nobody the JSON files.

    Raises:
      OSError: a file cannot be synced, or Orbax has not merged the arrays of
        the processes, which it skips if it cannot read their folder.
    """
    for part in self._directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
      arrays = part / "state"
      unmerged = any(arrays.glob("ocdbt.process_*"))
      if unmerged and not (arrays / "manifest.ocdbt").exists():
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(arrays))
      for path in _inside(part):
        files.sync(path)
        if path.parent != part:  # Orbax writes its own files once more.
          self._on_disk.add(str(path.relative_to(part)))

  def _verify(self, step: int) -> None:
    """Raises ValueError in all processes if a file is damaged."""
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
  try:
    names = os.listdir(workdir / CHECKPOINTS)
  except (FileNotFoundError, NotADirectoryError):
    return False
  return any(name[0].isdigit() for name in names)


def check_path(path: pathlib.Path, writing: bool = False) -> None:
  """Raises UserError for a path in which no checkpoint can be.

  TensorStore encodes all paths as UTF-8, which some bytes and some locales do
  not allow. Orbax takes a path for a pattern where it merges what it wrote: it
  finds nothing below a folder such as `runs[1]`, and the checkpoint that it
  leaves cannot be read.

  Args:
    path: a run directory or a checkpoint.
    writing: whether a checkpoint is to be written there.
  """
  shown = printable(str(path.absolute()))
  if writing and glob.escape(shown) != shown:
    raise UserError(
      f"{shown} has a [, * or ? in its name, and no checkpoint can be written "
      "there; name another directory"
    )
  try:
    str(path.absolute()).encode("utf-8")
  except UnicodeEncodeError:
    raise UserError(
      f"{shown} is not UTF-8 in this locale, so no checkpoint can be there; "
      "name another directory, or set PYTHONUTF8=1"
    ) from None


def damage(checkpoint: pathlib.Path) -> str:
  """Returns what is wrong with the files of a checkpoint, or an empty text.

  Raises:
    OSError: the disk fails or refuses to be read.
  """
  for path in _inside(checkpoint):
    kind = path.lstat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
      return f"{path.relative_to(checkpoint)} is not a regular file"
  try:
    expected = dict(json.loads(files.read_text(checkpoint / _CHECKSUMS)))
  except FileNotFoundError:  # Killed right after saving; Orbax still checks.
    return ""
  except (ValueError, TypeError):
    return f"{_CHECKSUMS} cannot be read"
  actual = _checksums(checkpoint)
  for name in sorted(expected.keys() | actual.keys()):
    if expected.get(name) != actual.get(name):
      return f"{name} is not what was saved"
  return ""


def verify(checkpoint: pathlib.Path) -> None:
  """Raises UserError if a checkpoint is missing or damaged."""
  check_path(checkpoint)
  if not checkpoint.is_dir():
    raise UserError(
      f"the checkpoint {checkpoint} is missing; trials of a comparison keep "
      "none"
    )
  if why := damage(checkpoint):
    raise UserError(f"the checkpoint {checkpoint} is damaged: {why}")


def read_variables(checkpoint: pathlib.Path, average: bool) -> Any:
  """Reads the variables of the model from a checkpoint.

  Args:
    checkpoint: directory of the checkpoint.
    average: whether to read the moving averages instead.

  Returns:
    `params`, and `batch_stats` if the model has any, as numpy arrays.

  Raises:
    UserError: the checkpoint is damaged, or holds no averages.
  """
  verify(checkpoint)
  directory = checkpoint.absolute() / "state"
  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  with _readable(checkpoint):
    metadata = ocp.PyTreeCheckpointHandler().metadata(directory)
    saved = getattr(metadata, "tree", metadata)
    wanted = ("ema",) if average else ("params", "batch_stats")
    like = {name: saved[name] for name in wanted if saved.get(name)}
    if not like:
      raise ValueError(f"it holds no {wanted[0]}")
    shapes = traverse_util.flatten_dict(like)
    like = traverse_util.unflatten_dict(dict.fromkeys(shapes, 0))
    restored = ocp.PyTreeCheckpointer().restore(
      directory,
      args=ocp.args.PyTreeRestore(
        like, jax.tree.map(lambda _: as_numpy, like), partial_restore=True
      ),
    )
  return restored["ema"] if average else restored


def read_loop(checkpoint: pathlib.Path) -> LoopState:
  """Reads the state of the loop from a checkpoint; raises UserError."""
  verify(checkpoint)
  with _readable(checkpoint):
    reader = ocp.Checkpointer(ocp.JsonCheckpointHandler())
    return from_json(LoopState, reader.restore(checkpoint.absolute() / "loop"))


@contextlib.contextmanager
def _readable(checkpoint: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except Exception as error:  # Orbax raises whatever its readers raise.
    if failure := _disk_error(error, checkpoint):
      raise failure from error
    raise UserError(
      f"the checkpoint {checkpoint} cannot be read: {first_line(error)}"
    ) from error


def _rename_aside(checkpoint: pathlib.Path) -> str:
  """Moves a checkpoint to where Orbax does not look; returns its new path."""
  name = f"damaged_checkpoint_{checkpoint.name}"
  aside = checkpoint.parent.parent / name
  number = 1
  while aside.exists():
    number += 1
    aside = aside.with_name(f"{name}_{number}")
  checkpoint.rename(aside)
  return str(aside)


def _inside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields everything below a folder; rglob would skip what it cannot read."""

  def fail(error: OSError) -> None:
    raise error

  for parent, folders, names in os.walk(folder, onerror=fail):
    for name in sorted(folders + names):
      yield pathlib.Path(parent, name)


def _seal(checkpoint: pathlib.Path, on_disk: Container[str]) -> None:
  """Puts a checkpoint on the disk, and then its list of checksums.

  Args:
    checkpoint: its directory.
    on_disk: the files and folders of it that are on the disk.
  """
  text = json.dumps(_checksums(checkpoint), indent=1)
  for path in _inside(checkpoint):
    if str(path.relative_to(checkpoint)) not in on_disk:
      files.sync(path)
  files.sync(checkpoint.parent)
  with files.replacing(checkpoint / _CHECKSUMS) as part:
    part.write_text(text)


def _checksums(directory: pathlib.Path) -> dict[str, int]:
  """Returns the CRC-32 of every file of a checkpoint except the list."""
  sums = {}
  for path in sorted(_inside(directory)):
    if path.is_file() and path.name != _CHECKSUMS:
      name = str(path.relative_to(directory))
      sums[name] = zlib.crc32(files.read_bytes(path))
  return sums


# Damage rather than a failing disk: a file or folder is missing, or is the
# other of both.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


def _disk_error(error: BaseException, path: pathlib.Path) -> OSError | None:
  """Returns the error of the operating system that caused `error`, or None.

  Args:
    error: of Orbax or TensorStore.
    path: names the error that has no name of its own.
  """
  cause: BaseException | None = error
  while cause is not None:
    number = getattr(cause, "errno", None) if isinstance(cause, OSError) else 0
    # TensorStore reports errors as text.
    if text := re.search(r"os_error_code='(\d+)'", str(cause)):
      number = int(text[1])
    if number and number not in _MISSING:
      name = getattr(cause, "filename", None) or str(path)
      return OSError(number, os.strerror(number), name)
    cause = cause.__cause__ or cause.__context__
  return None


class _Echo(std_logging.Filter):
  """Drops the errors that Orbax logs, because it raises them as well."""

  def filter(self, record: std_logging.LogRecord) -> bool:
    if record.name == "asyncio":
      return "exception was never retrieved" not in record.getMessage()
    ours = "orbax" not in pathlib.Path(record.pathname).parts
    return ours or record.levelno < std_logging.ERROR


_ECHO = _Echo()


def _drop_echoes() -> None:
  """Keeps Orbax and TensorStore from printing what they raise.

  When one array cannot be read or written, Orbax closes its event loop. A
  traceback is printed for each of the other arrays, which TensorStore, asyncio
  or the interpreter finds unfinished.
  """
  logging.get_absl_logger().addFilter(_ECHO)
  std_logging.getLogger("asyncio").addFilter(_ECHO)
  sys.unraisablehook = _print_unraisable


def _print_unraisable(
  found: Any, before: Callable[[Any], object] = sys.unraisablehook
) -> None:
  code = getattr(found.object, "cr_code", None)  # Of a coroutine.
  of_orbax = code and "orbax" in pathlib.Path(code.co_filename).parts
  if not of_orbax and str(found.exc_value) != "Event loop is closed":
    before(found)


@contextlib.contextmanager
def _disk_errors(path: pathlib.Path) -> Iterator[None]:
  """Turns errors of Orbax and TensorStore that a disk caused into OSErrors."""
  try:
    yield
  except Exception as error:
    if failure := _disk_error(error, path):
      raise failure from error
    raise
