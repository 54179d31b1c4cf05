"""What every command shares: flags, overrides, exit codes."""

import argparse
import errno
import os
import pathlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from ml_collections import ConfigDict

from mixaug_jax import config as config_lib
from mixaug_jax import processes
from mixaug_jax.errors import Diverged, Interrupted, UserError

_PREFIX = "--config."
# How long one that failed waits for the others to say so too.
_GOODBYE_SECONDS = 10.0


# On a CPU these versions of jaxlib hand convolutions to YNNPACK, which takes
# longer for a train step than Eigen. Versions in which that was not measured
# are left as they come; XLA aborts at a flag that it does not know.
_WITH_YNNPACK = ((0, 10), (0, 11), (0, 12))
_YNNPACK_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_CONVOLUTIONS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


class _Parser(argparse.ArgumentParser):
  """An argument parser whose mistakes are one sentence."""

  def error(self, message: str):
    raise UserError(f"{message}; see python -m {self.prog} --help")


def parser(command: str, description: str) -> argparse.ArgumentParser:
  """A parser for `python -m mixaug_jax.COMMAND`."""
  return _Parser(
    prog=f"mixaug_jax.{command}", description=description, allow_abbrev=False
  )


def path(text: str) -> pathlib.Path:
  """The type of flags that name a file or folder.

  An empty one, of a shell variable that is not set, is not the current folder.
  """
  if not text:
    raise argparse.ArgumentTypeError("it is empty; name a path")
  try:
    os.lstat(text)
  except OSError as error:
    if error.errno == errno.ENAMETOOLONG:
      raise argparse.ArgumentTypeError("its name is too long") from None
  return pathlib.Path(text)


def add_config(
  flags: argparse.ArgumentParser,
  load: Callable[[str, dict[str, str]], ConfigDict] = config_lib.load,
) -> None:
  """Adds `--config`, for `parse` to `load` together with overrides."""
  flags.set_defaults(load_config=load)
  flags.add_argument(
    "--config",
    required=True,
    metavar="FILE[:DATASET]",
    help="a recipe, e.g. configs/cutmix.py:digits; --config.KEY=VALUE sets "
    "any of its keys",
  )


def parse(
  flags: argparse.ArgumentParser, argv: Sequence[str]
) -> argparse.Namespace:
  """Parses `argv`; `--config` and its overrides become one ConfigDict.

  `spec` keeps the text of `--config`, `overrides` those of its keys. Raises
  UserError.
  """
  rest, overrides = split_overrides(argv)
  arguments = flags.parse_args(rest)
  if hasattr(arguments, "config"):
    arguments.spec, arguments.overrides = arguments.config, overrides
    arguments.config = arguments.load_config(arguments.config, overrides)
  elif overrides:
    raise UserError(f"{flags.prog} takes no --config.KEY overrides")
  return arguments


def split_overrides(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
  """Takes `--config.KEY=VALUE` and `--config.KEY VALUE` out of `argv`."""
  rest, overrides = [], {}
  words = iter(argv)
  for word in words:
    if not word.startswith(_PREFIX):
      rest.append(word)
      continue
    key, equals, value = word[len(_PREFIX) :].partition("=")
    if not equals:
      value = next(words, None)
      if value is None:
        raise UserError(f"{word} needs a value: {word}=VALUE")
    overrides[key] = value
  return rest, overrides


def prepare_jax(
  deterministic: bool = False, flags: argparse.Namespace | None = None
) -> None:
  """Settings that must stand before JAX meets its devices.

  Compiled programs are kept under the user's cache directory, or where
  JAX_COMPILATION_CACHE_DIR says. With the `flags` of `processes.add_flags`,
  the processes of a run find each other.
  """
  if deterministic:
    _add_xla_flag("--xla_gpu_deterministic_ops=true")
  import jax
  import jaxlib.version
  import platformdirs

  chosen = _YNNPACK_FLAG in os.environ.get("XLA_FLAGS", "")
  if jaxlib.version.__version_info__[:2] in _WITH_YNNPACK and not chosen:
    _add_xla_flag(f"{_YNNPACK_FLAG}=-{_CONVOLUTIONS}")

  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = platformdirs.user_cache_path("mixaug_jax") / "compilation"
    jax.config.update("jax_compilation_cache_dir", str(cache))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  if flags is not None:
    processes.join(flags)


def _add_xla_flag(flag: str) -> None:
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def run(command: Callable[[Sequence[str]], int | None]) -> None:
  """Runs a command and leaves with its exit code.

  0 done, 2 the user's mistake, 1 a run that diverged or lost one of its
  processes, 143 after SIGTERM, each told in one sentence on stderr; 130 after
  Ctrl-C.
  """
  try:
    code = command(sys.argv[1:]) or 0
    sys.stdout.flush()
  except (UserError, Diverged, Interrupted) as error:
    print(f"mixaug_jax: {error}", file=sys.stderr)
    code = error.code
  except KeyboardInterrupt:
    code = 128 + signal.SIGINT
  except BrokenPipeError:  # The reader, `head` say, has what it wanted.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 128 + signal.SIGPIPE
  except Exception as error:
    if _out_of_memory(error):
      reason = str(error).partition("\n")[0][:200] or type(error).__name__
      print(
        "mixaug_jax: there is not enough memory; lower config.batch_size or "
        f"config.data.image_size ({reason})",
        file=sys.stderr,
      )
      code = UserError.code
    elif _disk_full(error):
      print(
        "mixaug_jax: there is no space left on the disk; make room, and the "
        "same command goes on from the newest checkpoint",
        file=sys.stderr,
      )
      code = UserError.code
    elif not _several_processes():
      raise
    elif _lost_another(error):
      print(
        "mixaug_jax: another process of this run died or cannot be reached, "
        "and its own output says why; start all of them again, and they go on "
        "from the newest checkpoint",
        file=sys.stderr,
      )
      code = 1
      _leave(code, 0)
    else:
      traceback.print_exc()
      code = 1
  if code and _several_processes():
    _leave(code, _GOODBYE_SECONDS)
  sys.exit(code)


def _several_processes() -> bool:
  jax = sys.modules.get("jax")
  return jax is not None and jax.distributed.is_initialized()


def _leave(code: int, seconds: float) -> NoReturn:
  """Leaves a run of several processes that has failed in this one.

  At a normal exit JAX waits 5 minutes for the others to come to theirs. They
  do at once if they failed alike, and may never if they did not: they wait
  for this one in a collective, and end when it is gone.
  """
  import jax

  goodbye = threading.Thread(target=jax.distributed.shutdown, daemon=True)
  goodbye.start()
  goodbye.join(seconds)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _lost_another(error: BaseException | None) -> bool:
  """Whether `error` comes of another process's end."""
  signs = ("Gloo", "NCCL", "Barrier failed", "heartbeat", "coordination")
  return any(sign in str(e) for e in _chain(error) for sign in signs)


def _out_of_memory(error: BaseException | None) -> bool:
  """Whether NumPy or XLA could not get the memory that it asked for."""
  return any(
    isinstance(e, MemoryError) or "RESOURCE_EXHAUSTED" in str(e)
    for e in _chain(error)
  )


def _disk_full(error: BaseException | None) -> bool:
  """Whether a full disk stands anywhere behind `error`."""
  text = os.strerror(errno.ENOSPC)  # TensorStore's errors have no errno.
  return any(
    getattr(e, "errno", None) == errno.ENOSPC or text in str(e)
    for e in _chain(error)
  )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  """An exception and those that it came of."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__
