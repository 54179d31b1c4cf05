"""Published files of weights, downloaded once and kept."""

import pathlib
import sys
import tempfile
from collections.abc import Iterable

import platformdirs

from mixaug_jax.errors import UserError

_HUB_URL = "https://huggingface.co/{}/resolve/main/{}"


def directory() -> pathlib.Path:
  """Returns the folder of downloaded weights, in the user's cache."""
  return platformdirs.user_cache_path("mixaug_jax") / "weights"


def from_url(url: str, algorithm: str, digest: str) -> pathlib.Path:
  """Returns the local copy of a file, after a check of its hash.

  A file that the user puts at `directory() / NAME` serves as well.

  Args:
    url: ends in the file's name.
    algorithm: a name that hashlib knows.
    digest: the hash in hexadecimal, or its beginning.

  Raises:
    UserError: no network, a damaged file, or a folder that cannot be written.
  """
  import pooch

  path = directory() / url.rpartition("/")[2]
  matches = lambda file: pooch.file_hash(file, algorithm).startswith(digest)
  if path.exists():
    if not matches(path):
      raise UserError(
        f"{path} is damaged: its {algorithm} is not {digest}; delete it and "
        f"run again, or fetch {url}"
      )
    return path

  # pooch compares whole hashes only, so the comparison is part of the download.
  def download(url: str, part: str, _: None) -> None:
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30)
    fetch(url, part, None)
    if not matches(part):
      raise UserError(
        f"the {algorithm} of {url} is not {digest}; try again, or fetch it by "
        f"other means and put it at {path}"
      )

  _make_writable(path.parent)
  print(f"downloading {url}", file=sys.stderr)
  pooch.get_logger().setLevel("WARNING")  # It advises to note the hash.
  try:
    pooch.retrieve(url, None, path.name, path.parent, downloader=download)
  except (OSError, ValueError) as error:  # OSError includes those of requests.
    raise _offline([(url, path)], error) from error
  return path


def from_hub(
  repository: str, name: str, wanted: Iterable[str], newest: bool = False
) -> pathlib.Path:
  """Returns the local copy of a file of the Hugging Face hub.

  A file that the user puts at `directory() / REPOSITORY / NAME` serves as well.

  Args:
    repository: `timm/resnet50.a1_in1k`, say.
    name: the file in it.
    wanted: all files of the repository that the caller needs; without a
      network, the error names those that are not there yet.
    newest: whether to ask the hub for a newer version of a file that is there;
      without a network, it is used as it is.

  Raises:
    UserError: no network, no such repository or file, or a folder that cannot
      be written.
  """
  folder = directory() / repository
  if (folder / name).exists() and not newest:
    return folder / name
  import huggingface_hub
  from huggingface_hub import errors

  _make_writable(folder)
  if not (folder / name).exists():
    place = f"{repository} on the Hugging Face hub"
    print(f"downloading {name} of {place}", file=sys.stderr)
  huggingface_hub.logging.set_verbosity_error()  # It warns at every attempt.
  try:
    huggingface_hub.hf_hub_download(repository, name, local_dir=folder)
  except errors.RepositoryNotFoundError:
    fix = "see https://huggingface.co/timm"
    if not repository.startswith("timm/"):
      fix = "check its name, and run `hf auth login` if it is private"
    raise UserError(
      f"there is no model {repository} on the Hugging Face hub; {fix}"
    ) from None
  except errors.EntryNotFoundError as error:
    if isinstance(error, errors.LocalEntryNotFoundError):
      raise _not_there(folder, repository, wanted, error) from error
    raise UserError(
      f"the model {repository} on the Hugging Face hub has no file {name}; "
      "choose one with weights in the layout of timm"
    ) from None
  except Exception as error:  # Those of its HTTP client have no common type.
    raise _not_there(folder, repository, wanted, error) from error
  return folder / name


def _not_there(
  folder: pathlib.Path, repository: str, wanted: Iterable[str], error: Exception
) -> UserError:
  """Names the files of a repository that are not in its folder."""
  return _offline(
    [
      (_HUB_URL.format(repository, file), folder / file)
      for file in wanted
      if not (folder / file).exists()
    ],
    error,
  )


def _offline(
  wanted: Iterable[tuple[str, pathlib.Path]], error: Exception
) -> UserError:
  """Names what to fetch from where, where to put it, and the other ways."""
  each = " and ".join(f"{url} to {path}" for url, path in wanted)
  return UserError(
    f"cannot download the weights ({type(error).__name__}); fetch by other "
    f"means {each}, or set config.model.pretrained=none (random weights) or "
    "config.model.pretrained=FILE"
  )


def _make_writable(folder: pathlib.Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as error:
    raise UserError(
      f"cannot keep downloaded weights in {folder}: {error.strerror}; set "
      "XDG_CACHE_HOME to a directory that can be written"
    ) from None
