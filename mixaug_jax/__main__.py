"""`mixaug COMMAND ...` and `python -m mixaug_jax COMMAND ...`."""

import sys
from collections.abc import Sequence

import mixaug_jax
from mixaug_jax import hints
from mixaug_jax.command import exits, invocation, start
from mixaug_jax.command.invocation import COMMANDS
from mixaug_jax.errors import UserError

_HELP = """\
usage: {program} COMMAND ...

Train and compare image classifiers with mixing augmentations in JAX.

commands:
{commands}

`{program} COMMAND --help` lists the flags of a command,
`{program} --version` prints the version."""


def run() -> None:
  """Runs the command that the first word of the command line names."""
  # `python -m` finds modules of the user's own in the current folder. A script
  # gets it last, so that no file there replaces an installed module.
  if not sys.flags.safe_path:
    sys.path.append("")
  name = sys.argv[1] if len(sys.argv) > 1 else ""
  optional = name in COMMANDS and COMMANDS[name].output_is_optional
  exits.run(main, optional)


def main(argv: Sequence[str]) -> int | None:
  name, *rest = argv or [""]
  if name in COMMANDS:
    return start.call(name, rest)
  if name in ("-h", "--help"):
    lines = (f"  {name:10}{command.help}" for name, command in COMMANDS.items())
    print(
      _HELP.format(
        program=invocation.program() or "mixaug", commands="\n".join(lines)
      )
    )
  elif name == "--version":
    print(f"mixaug_jax {mixaug_jax.__version__}")
  else:
    raise UserError(_unknown(name))
  return 0


def _unknown(name: str) -> str:
  near = hints.near(name, COMMANDS)
  what = f"there is no command {name!r}" if name else "a command is missing"
  known = f"name one of {', '.join(COMMANDS)}"
  return f"{what}; {f'did you mean {near}?' if near else known}"


if __name__ == "__main__":
  run()
