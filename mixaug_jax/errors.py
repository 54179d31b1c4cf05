"""The exceptions that commands turn into one sentence and an exit code."""

import errno
import os
import signal

# What a sentence about a full disk or a used-up quota contains, in small
# letters.
_FULL = ("no space left", os.strerror(errno.EDQUOT).lower())


class UserError(Exception):
  """A mistake of the user, in one sentence that names the fix.

  Commands print the sentence on stderr and exit with code 2. The sentence
  names the thing that is wrong (a key, a path, a flag) and what to do.
  """

  code = 2

  def __str__(self) -> str:
    """Returns one line, whatever bytes the names and values in it hold."""
    text = super().__str__()
    return "".join(
      c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


class Taken(UserError):  # noqa: N818
  """A run directory holds, or is about to hold, a run of someone else."""


class NoActivationMaps(UserError):  # noqa: N818
  """The model has no activation maps of the wanted kind."""


class Diverged(Exception):  # noqa: N818
  """The loss or a parameter is no longer finite; exit code 1.

  Attributes:
    step: the number of finished steps, after which it was noticed.
  """

  code = 1

  def __init__(self, sentence: str, step: int):
    super().__init__(sentence)
    self.step = step


class Interrupted(Exception):  # noqa: N818
  """A signal came and the run was saved; exit code 128 plus its number.

  Args:
    sentence: what the command prints.
    number: the signal.
  """

  def __init__(self, sentence: str, number: int = signal.SIGTERM):
    super().__init__(sentence)
    self.code = 128 + number


def reason(error: OSError) -> str:
  """Returns why a file could not be read or written.

  The operating system states "File exists" where a folder is to be made and a
  link that leads nowhere is in its place.
  """
  path = error.filename or ""
  exists = error.errno == errno.EEXIST
  if exists and os.path.islink(path) and not os.path.exists(path):
    return f"it is a link to {os.readlink(path)}, which is missing"
  return error.strerror or type(error).__name__


def disk_is_full(sentence: str) -> bool:
  """Returns whether a command that printed this sentence met a full disk."""
  return any(text in sentence.lower() for text in _FULL)


def first_line(error: BaseException) -> str:
  """Returns the first line of an exception's text, or the name of its type.

  Libraries attach pages to their errors; a sentence has room for 200 letters.
  """
  text = str(error).strip() or type(error).__name__
  return text.partition("\n")[0][:200]
