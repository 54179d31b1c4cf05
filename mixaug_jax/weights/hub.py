"""Trained weights as a model repository of the Hugging Face hub."""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mixaug_jax.errors import UserError, first_line
from mixaug_jax.models.preprocessing import Preprocessing

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # Of a repository; no path.
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
# `crop_mode` of timm by `config.data.resize`.
_CROP_MODES = {"crop": "center", "squash": "squash", "pad": "border"}


def describe(
  model: str,
  class_names: Sequence[str],
  preprocessing: Preprocessing,
  *,
  size: int,
  stored: int,
  resize: str,
) -> str:
  """Returns config.json, with the keys that timm reads.

  Args:
    model: `config.model.name`.
    class_names: by class id.
    preprocessing: of the network.
    size: pixels a side that the network sees.
    stored: pixels a side of the image that they are the middle of.
    resize: `config.data.resize`.

  Raises:
    UserError: timm has no such preprocessing.
  """
  if preprocessing.bgr:
    raise UserError(
      "--push: timm has no networks of BGR images; train with "
      "config.model.preprocessing=imagenet"
    )
  described = {
    "architecture": model,
    "num_classes": len(class_names),
    "label_names": list(class_names),
    "pretrained_cfg": {
      "input_size": [3, size, size],
      "mean": preprocessing.mean,
      "std": preprocessing.std,
      "interpolation": "bilinear",
      "crop_pct": size / stored,
      "crop_mode": _CROP_MODES[resize],
      "num_classes": len(class_names),
      "first_conv": "conv1",
      "classifier": "fc",
    },
  }
  return json.dumps(described, indent=2) + "\n"


def check_token() -> None:
  """Raises UserError without a token of the hub."""
  import huggingface_hub

  if huggingface_hub.get_token() is None:
    raise UserError(
      "--push needs a token of the Hugging Face hub that may write; run `hf "
      "auth login`, or set HF_TOKEN"
    )


def push(name: str, contents: Mapping[str, str | pathlib.Path]) -> str:
  """Commits files to a model repository, which is made if there is none.

  Args:
    name: `USER/REPOSITORY`, or `REPOSITORY` of the owner of the token.
    contents: text, or a file, by the name in the repository.

  Returns:
    The address of the repository.

  Raises:
    UserError: the hub cannot be reached, or refuses the name or the token.
  """
  import huggingface_hub
  from huggingface_hub import errors, utils

  api = huggingface_hub.HfApi()
  operations = [
    huggingface_hub.CommitOperationAdd(
      path, content.encode() if isinstance(content, str) else content
    )
    for path, content in contents.items()
  ]
  utils.disable_progress_bars()
  try:
    address = api.create_repo(name, exist_ok=True)
    message = "Weights of mixaug_jax"
    api.create_commit(address.repo_id, operations, commit_message=message)
  except errors.HfHubHTTPError as error:
    raise UserError(
      f"--push={name}: the Hugging Face hub refuses it "
      f"({error.response.status_code}: {_reason(error)}); check the name, and "
      "that the token may write there"
    ) from error
  except errors.HFValidationError:
    raise UserError(
      f"--push={name} is not the name of a repository; name it as in "
      "user/my-model"
    ) from None
  except Exception as error:  # Those of its HTTP client have no common type.
    raise UserError(
      f"--push={name}: the Hugging Face hub cannot be reached "
      f"({type(error).__name__}); try again"
    ) from error
  return str(address)


def _reason(error: Any) -> str:
  return error.server_message or first_line(error)
