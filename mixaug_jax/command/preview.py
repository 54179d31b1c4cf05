"""The command that draws what the network is trained on."""

from collections.abc import Sequence

from mixaug_jax import config as config_lib
from mixaug_jax import jax_setup
from mixaug_jax.command import flags
from mixaug_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "preview",
    "Draws training images before and after augmentation and mixing.",
  )
  flags.add_config(
    parser,
    examples=["cutmix:folder --config.data.dir=photos --output=preview.png"],
  )
  parser.add_argument(
    "--output",
    type=flags.path,
    required=True,
    help="the picture, a .png file; required",
  )
  parser.add_argument(
    "--step", type=int, default=0, help="the training step; default: 0"
  )
  parser.add_argument(
    "--count", type=int, default=8, help="the number of images; default: 8"
  )
  arguments = flags.parse(parser, argv)
  for name, low in (("step", 0), ("count", 1)):
    if getattr(arguments, name) < low:
      raise UserError(f"--{name} must be at least {low}")
  if arguments.output.suffix.lower() != ".png":
    raise UserError("--output must end in .png")
  jax_setup.prepare()

  from mixaug_jax.analysis import contact_sheet, fonts, marked_png

  marked_png.refuse_another(arguments.output, "preview")
  batch = contact_sheet.training_batch(arguments.config, arguments.step)
  picture = contact_sheet.sheet(*batch, arguments.count)
  try:
    marked_png.save(picture, arguments.output, "preview")
  except OSError as error:
    raise UserError(
      f"cannot write --output={arguments.output}: {error.strerror or error}; "
      "name a file such as preview.png in a folder that exists"
    ) from None
  for text in config_lib.without_effect(arguments.config):
    print(f"warning: {text}")
  _, classes, _, labels = batch
  if missing := fonts.missing("".join([*classes, *labels])):
    print(
      f"warning: no font on this machine has {missing}; boxes stand for them"
    )
  print(f"{arguments.output} shows the batch of step {arguments.step}")
