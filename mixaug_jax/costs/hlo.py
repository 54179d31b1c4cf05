"""The instructions of a compiled program, read from XLA's text of it.

The text is that of `jax.stages.Compiled.as_text`. An instruction is one kernel,
library call or transfer; the operations fused into it are not listed.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_CALL = re.compile(r"^([\w-]+)\(")
_ARRAY = re.compile(r"([a-z]+)(\d+)?\w*\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.-]+)")
_NAME = re.compile(r'op_name="([^"]*)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CALLED = re.compile(
  r"(?:body|condition|to_apply|calls|true_computation|false_computation)="
  r"%?([\w.-]+)|branch_computations=\{([^}]*)\}"
)
# Instructions that move no bytes.
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast")
# Instructions whose own cost is that of the computations that they run.
_CONTROL = ("while", "call", "conditional")
# They read no more of their first operand than they return.
_SLICES = ("slice", "dynamic-slice", "gather")
# Their results repeat their operands.
_REPEATING = ("all-gather-start", "collective-permute-start")
_COLLECTIVES = (
  *("all-gather", "all-reduce", "all-to-all", "collective-broadcast"),
  *("collective-permute", "ragged-all-to-all", "reduce-scatter"),
)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """An instruction that a device executes.

  Attributes:
    opcode: XLA's name of it, such as `fusion` or `all-reduce`.
    path: the scopes and the operation of JAX that it computes. Where XLA names
      none, it is that of an operand, or empty.
    result: the type of its result, such as `(f32[8,4], f32[8])`.
    received: bytes of its result.
    bytes: `received`, and the bytes that it reads of its operands.
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


class _Line(NamedTuple):
  """A line of the text: `name = result opcode(operands), attributes`."""

  name: str
  result: str
  opcode: str
  operands: list[str]
  attributes: str

  @property
  def called(self) -> list[str]:
    """The computations that it runs."""
    found = _CALLED.findall(self.attributes)
    names = (name for one, many in found for name in (one or many).split(","))
    return [name.strip().lstrip("%") for name in names]


_Computations = Mapping[str, list[_Line]]


def size(text: str) -> int:
  """Returns the bytes of the arrays of a type.

  >>> size("(f32[8,4]{1,0}, pred[8])")
  136
  """
  return sum(
    math.prod(int(side) for side in shape.split(",") if side)
    * int(bits or 8 * (kind != "token"))
    // 8
    for kind, bits, shape in _ARRAY.findall(text)
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
  computations: dict[str, list[_Line]] = {}
  entry, lines = "", []
  for line in text.splitlines():
    if match := _HEAD.match(line):
      lines = computations[match[2]] = []
      entry = match[2] if match[1] else entry
    elif parsed := _parsed(line):
      lines.append(parsed)
  return list(_executed(entry, computations))


def _parsed(line: str) -> _Line | None:
  if not (match := _LINE.match(line)):
    return None
  result, rest = _split_type(match[2])
  if not (call := _CALL.match(rest)):
    return None
  operands, _, attributes = rest[call.end() :].partition(")")
  if call[1] == "parameter":
    attributes = operands
  names = _OPERAND.findall(operands)
  return _Line(match[1], result, call[1], names, attributes)


def _split_type(text: str) -> tuple[str, str]:
  """Splits `TYPE opcode(...)`; the type may be a tuple, which has spaces."""
  depth = 0
  for end, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if letter == " " and not depth:
      return text[:end], text[end + 1 :]
  return text, ""


def _executed(name: str, computations: _Computations) -> Iterator[Instruction]:
  sizes: dict[str, int] = {}
  paths: dict[str, str] = {}
  for line in computations[name]:
    sizes[line.name] = size(line.result)
    inherited = (paths[x] for x in line.operands if paths.get(x))
    path = _path(line, computations) or next(inherited, "")
    paths[line.name] = path
    if line.opcode in _CONTROL:
      for other in line.called:
        yield from _executed(other, computations)
    elif line.opcode not in _FREE and not line.opcode.endswith("-done"):
      operands = [sizes.get(x, 0) for x in line.operands]
      received = sizes[line.name]
      received -= sum(operands) if line.opcode in _REPEATING else 0
      if line.opcode == "fusion":
        operands = _read(operands, computations[line.called[0]])
      elif line.opcode in _SLICES:
        operands[0] = received
      cycles = _CYCLES.search(line.attributes)
      yield Instruction(
        opcode=line.opcode,
        path=path,
        result=line.result,
        received=received,
        bytes=received + sum(operands),
        cycles=int(cycles[1]) if cycles else None,
      )


def _read(operands: list[int], fused: list[_Line]) -> list[int]:
  """Returns the bytes that a fusion reads of each operand.

  Args:
    operands: the bytes of the operands.
    fused: the computation of the fusion.
  """
  read = list(operands)
  for parameter in fused:
    if parameter.opcode == "parameter":
      users = [line for line in fused if parameter.name in line.operands]
      if users and all(line.opcode in _SLICES for line in users):
        number = int(parameter.attributes)
        sliced = sum(size(line.result) for line in users)
        read[number] = min(read[number], sliced)
  return read


def _path(line: _Line, computations: _Computations) -> str:
  """Returns the path of an instruction, or the commonest of what it fuses."""
  paths = _NAME.findall(line.attributes)
  if not any(map(_is_scoped, paths)):
    bodies = (computations[name] for name in line.called)
    lines = (inner for body in bodies for inner in body)
    paths = [path for x in lines for path in _NAME.findall(x.attributes)]
  paths = [path for path in paths if _is_scoped(path)]
  return max(paths, key=paths.count, default="")


def _is_scoped(path: str) -> bool:
  """Returns whether a path names more than an operation."""
  return bool(path) and not re.fullmatch(
    r"(jit\([^/]*/|shard_map/)*[^/]*", path
  )
