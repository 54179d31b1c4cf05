"""The upload of exported weights to the Hugging Face hub."""

import pathlib

from mixaug_jax.classifier import Classifier
from mixaug_jax.errors import UserError
from mixaug_jax.run_page import model_card
from mixaug_jax.runs import Run
from mixaug_jax.weights import hub

LOADS = "network = timm.create_model('hf_hub:{name}', pretrained=True)"


def check(name: str, kind: str) -> None:
  """Raises UserError for what is known to fail before anything is read."""
  if kind != "safetensors":
    raise UserError(f"--push takes --format=safetensors only, got {kind}")
  if not hub.NAME.fullmatch(name):
    raise UserError(f"--push={name} must be USER/NAME, as in me/my-model")
  hub.check_token()


def check_run(run: Run, name: str | None) -> None:
  """Raises UserError if timm would misread a network that is to be pushed."""
  if name and run.has_label_sets:
    raise UserError(
      "--push is for runs with one class an image, because timm takes the "
      "softmax of the logits; write a file by --format=stablehlo, which gives "
      "the probability of each label"
    )


def push(
  run: Run, network: Classifier, name: str, weights: pathlib.Path
) -> str:
  """Uploads weights with their description and model card.

  Returns:
    The address of the repository.

  Raises:
    UserError: the network cannot be described, or the hub refuses it.
  """
  described = hub.describe(
    run.config.model.name,
    run.result.class_names,
    network.preprocessing,
    size=run.config.data.image_size,
    stored=network.square.size,
    resize=network.square.resize,
  )
  card = model_card.write(run, name, network.describe_input())
  return hub.push(
    name, {hub.WEIGHTS: weights, hub.CONFIG: described, hub.CARD: card}
  )
