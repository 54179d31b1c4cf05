"""The instructions of a compiled program, read from XLA's text of it.

The text is that of `jax.stages.Compiled.as_text`. An instruction is one kernel,
library call or transfer; the operations fused into it are not listed.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_CALL = re.compile(r"^([\w-]+)\(")
_ARRAY = re.compile(r"(\w+?)(\d+)?(?:e\dm\d\w*)?\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.-]+)")
_NAME = re.compile(r'op_name="([^"]*)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CALLED = re.compile(
  r"(?:body|condition|to_apply|calls|true_computation|false_computation)="
  r"%?([\w.-]+)|branch_computations=\{([^}]*)\}"
)
# The results of these repeat their operands.
_REPEATING = ("all-gather-start", "collective-permute-start")
# Instructions that move no bytes.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
# Instructions whose own cost is that of the computations that they run.
_CONTROL = {"while", "call", "conditional"}
_COLLECTIVES = (
  *("all-gather", "all-reduce", "all-to-all", "collective-broadcast"),
  *("collective-permute", "ragged-all-to-all", "reduce-scatter"),
)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """An instruction that a device executes.

  Attributes:
    opcode: XLA's name of it, such as `fusion` or `all-reduce`.
    path: the scopes and the operation of JAX that it computes, which is empty
      where XLA names none.
    result: the type of its result, such as `(f32[8,4], f32[8])`.
    received: the size of its result, in bytes.
    bytes: `received` and the sizes of its operands.
    cycles: XLA's estimate; None where it makes none.
  """

  opcode: str
  path: str
  result: str
  received: int
  bytes: int
  cycles: int | None

  @property
  def collective(self) -> str | None:
    """The kind of transfer between devices, or None."""
    kind = self.opcode.removesuffix("-start")
    return kind if kind in _COLLECTIVES else None


def size(text: str) -> int:
  """Returns the bytes of the arrays of a type."""
  return sum(
    math.prod(map(int, filter(None, shape.split(","))))
    * (int(bits or 8) if kind != "pred" else 8)
    // 8
    for kind, bits, shape in _ARRAY.findall(text)
    if kind != "token"
  )


def largest_array(text: str) -> str:
  """Returns the largest array of a type, such as `f32[8,4]`."""
  arrays = (match[0] for match in _ARRAY.finditer(text))
  return max(arrays, key=size, default="")


def instructions(text: str) -> list[Instruction]:
  """Returns the instructions of a program that cost something.

  The body of a loop is listed once. The end of an asynchronous instruction
  counts as part of its start.
  """
  computations = _computations(text)
  entry = next(name for name, (first, _) in computations.items() if first)
  return list(_executed(entry, computations))


def _computations(text: str) -> dict[str, tuple[bool, list[str]]]:
  """Returns by name whether a computation is the first, and its lines."""
  found: dict[str, tuple[bool, list[str]]] = {}
  lines: list[str] = []
  for line in text.splitlines():
    if match := _HEAD.match(line):
      lines = []
      found[match[2]] = bool(match[1]), lines
    else:
      lines.append(line)
  return found


def _executed(
  name: str, computations: dict[str, tuple[bool, list[str]]]
) -> Iterator[Instruction]:
  sizes: dict[str, int] = {}
  for line in computations[name][1]:
    if not (match := _LINE.match(line)):
      continue
    result, rest = _split_type(match[2])
    sizes[match[1]] = size(result)
    call = _CALL.match(rest)
    if call is None or call[1] in _FREE or call[1].endswith("-done"):
      continue
    operands, _, attributes = rest[call.end() :].partition(")")
    called = [
      other.strip().lstrip("%")
      for one, many in _CALLED.findall(attributes)
      for other in (one or many).split(",")
    ]
    if call[1] in _CONTROL:
      for other in called:
        yield from _executed(other, computations)
      continue
    cycles = _CYCLES.search(attributes)
    sent = sum(sizes.get(x, 0) for x in _OPERAND.findall(operands))
    received = sizes[match[1]] - (sent if call[1] in _REPEATING else 0)
    yield Instruction(
      opcode=call[1],
      path=_path(attributes, [computations[x][1] for x in called]),
      result=result,
      received=received,
      bytes=sent + received,
      cycles=int(cycles[1]) if cycles else None,
    )


def _split_type(text: str) -> tuple[str, str]:
  """Splits `TYPE opcode(...)`; the type may be a tuple, which has spaces."""
  if not text.startswith("("):
    kind, _, rest = text.partition(" ")
    return kind, rest
  depth = 0
  for end, letter in enumerate(text, 1):
    depth += (letter == "(") - (letter == ")")
    if not depth:
      break
  return text[:end], text[end:].lstrip()


def _path(attributes: str, bodies: Sequence[Sequence[str]]) -> str:
  """Returns the path of an instruction, or the commonest of what it fuses."""
  if match := _NAME.search(attributes):
    return match[1]
  paths = [
    match[1] for body in bodies for x in body if (match := _NAME.search(x))
  ]
  return max(paths, key=paths.count, default="")
