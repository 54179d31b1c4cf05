"""An executor trains the cells of a comparison, each in a process."""

import abc
import dataclasses
import pathlib
import signal
from collections.abc import Sequence
from typing import Protocol

from mixaug_jax.comparison.plan import Cell

# The exit codes of a run that a signal stopped.
STOPPED = [128 + n for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]


class Watcher(Protocol):
  """Follows the cells that an executor trains; threads may call it."""

  def started(self, cell: Cell) -> None:
    """A cell runs."""

  def requeued(self, cell: Cell) -> None:
    """A cell that ran waits in the queue of the cluster again."""

  def ended(self, cell: Cell, code: int) -> None:
    """A cell that ran has ended with this exit code.

    An exception ends `train`, which raises it.
    """


@dataclasses.dataclass
class Executor(abc.ABC):
  """Trains cells in processes, on this machine or on others.

  A subclass is a dataclass; its fields are flags of the command.

  Attributes:
    over: whether no cell is to start any more.
    shares_cpu: whether cells that are trained at the same time share a CPU.
  """

  over = False
  shares_cpu = False

  @abc.abstractmethod
  def at_once(self, count: int) -> int:
    """Returns how many of `count` cells are trained at the same time.

    Raises:
      UserError: there are fewer GPUs than are asked for.
    """

  @abc.abstractmethod
  def train(
    self,
    workdir: pathlib.Path,
    cells: Sequence[Cell],
    command: Sequence[str],
    watcher: Watcher,
  ) -> None:
    """Trains cells, and returns when all of them have ended.

    Args:
      workdir: the directory of the comparison.
      cells: what to train, in this order.
      command: the words after `python` that run the comparison.
      watcher: is called as cells start and end.

    Raises:
      UserError: a package or a program is missing, or the cluster refuses.
    """

  @abc.abstractmethod
  def stop(self) -> None:
    """Makes the cells of `train` save and end, and waits until they have."""

  def script(
    self, workdir: pathlib.Path, cells: Sequence[Cell], command: Sequence[str]
  ) -> str | None:
    """Returns the text that `train` would hand to a cluster.

    Args:
      workdir, cells, command: as in `train`.

    Returns:
      The text; None if the cells are trained on this machine.

    Raises:
      UserError: as in `train`.
    """
    return None


def only(command: Sequence[str], cell: Cell) -> list[str]:
  """Returns the words after `python` that train one cell of a comparison."""
  return [*command, f"--only={cell.name}"]
