"""The command that serves a page on which photos are classified."""

import importlib.util
from collections.abc import Sequence

from mixaug_jax import jax_setup
from mixaug_jax.command import flags
from mixaug_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
  parser = flags.parser(
    "demo",
    "Serves a page, on this machine only, that shows the classes and the "
    "activation map of a photo, until Ctrl-C.",
  )
  flags.add_workdir(parser, "the directory of a finished run")
  help_text = "the port of the page; default: the first free one from 7860 on"
  parser.add_argument("--port", type=int, help=help_text)
  arguments = flags.parse(parser, argv)
  if importlib.util.find_spec("gradio") is None:
    raise UserError(
      "demo needs the package gradio; pip install 'mixaug-jax[demo]'"
    )
  jax_setup.prepare()

  from mixaug_jax import runs
  from mixaug_jax.run_page import demo

  page = demo.make(runs.open_run(arguments.workdir))
  try:
    page.launch(server_name="127.0.0.1", server_port=arguments.port)
  except OSError as error:
    raise UserError(
      f"--port={arguments.port} is not free; name another one"
    ) from error
