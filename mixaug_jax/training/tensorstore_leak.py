"""Keeps the memory of a long run flat in spite of a leak in TensorStore.

Where TensorStore converts JSON to Python, it never frees the keys and values of
a dictionary (`JsonToPyObject` in python/tensorstore/json_type_caster.cc; seen
in release 0.1.86). At every checkpoint, Orbax asks for JSON twice for its
statistics and once for each array: 624 objects of some 100 bytes for the small
ResNet.
"""

import copy
import sys
from collections.abc import Callable
from typing import Any

import orbax.checkpoint  # noqa: F401 (it loads the module below)
import tensorstore


def avoid() -> None:
  """Makes Orbax ask for less JSON in this process, if TensorStore leaks it."""
  spec = tensorstore.KvStore.Spec
  if not _leaks(spec):
    return
  to_json = _remembering(spec.to_json)
  # The checker is right that a method is replaced: Orbax calls it by its name.
  spec.to_json = to_json  # type: ignore[method-assign]
  # Its only use is a log line of the bytes that were written.
  module = sys.modules.get(
    "orbax.checkpoint._src.serialization.tensorstore_utils"
  )
  if hasattr(module, "get_tensorstore_raw_bytes"):
    vars(module)["get_tensorstore_raw_bytes"] = lambda *_, **__: 0


def _leaks(spec: type) -> bool:
  value = spec({"driver": "memory", "path": "a longer text"}).to_json()["path"]
  # `value` and the argument of the call refer to it.
  return sys.getrefcount(value) > 2


def _remembering(to_json: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `to_json`, which keeps its last result for an equal spec.

  All arrays of a checkpoint have equal specs, those of their folder.
  """
  last: tuple[str, Any] = "", None

  def remembered(self: Any, *args: Any, **kwargs: Any) -> Any:
    nonlocal last
    if args or kwargs:
      return to_json(self, *args, **kwargs)
    text, known = repr(self), last
    if known[0] != text:
      known = last = text, to_json(self)
    return copy.deepcopy(known[1])

  return remembered
