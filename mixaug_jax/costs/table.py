"""The figures of train steps as a text."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from mixaug_jax.costs.figures import Cost, Figures
from mixaug_jax.costs.fitting import Report, TooLarge
from mixaug_jax.costs.topologies import Topology

_TERA = 1e12


def heading(report: Report, topology: Topology) -> str:
  """Returns what the figures are of, and where they come from."""
  data = report.data
  guess = " (a guess; --classes sets it)" if data.assumed else ""
  origin = "These are the compiler's figures for one device"
  if topology.present:
    origin += ", and measurements here where a line says so."
  else:
    origin += ", not measurements."
  if topology.chip.platform == "cuda" and not topology.present:
    origin += (
      " Without the GPU, the compiler tries no algorithms of cuDNN and cuBLAS "
      "and takes the default ones."
    )
  return (
    f"{report.recipe}: {report.model} at {report.image_size} px, "
    f"{data.classes:,} classes{guess}, on {topology.name}, {topology.count} "
    f"device{'s' * (topology.count > 1)}. {origin}"
  )


def lines(report: Report, topology: Topology) -> list[str]:
  """Returns the lines of the tables of a report.

  The costs by part and by operation are those of the last batch size that fits.
  """
  fitted = [x for x in report.steps if isinstance(x, Figures)]
  text = _aligned(_rows(topology, fitted)) if fitted else []
  text += [
    f"batch {x.batch_size:,} does not fit: {x.reason}"
    for x in report.steps
    if isinstance(x, TooLarge)
  ]
  if largest := report.largest:
    sizes = ", ".join(f"{size:,}" for size in largest.compiled)
    how = "compiled" if largest.verified else "estimated, not compiled"
    text.append(
      f"largest batch that fits: {largest.batch_size:,}, {how}; compiled: "
      f"{sizes}, with memory linear in the batch"
    )
  if fitted:
    last = fitted[-1]
    where = f"of a step of {last.batch_size:,}, in {last.unit}"
    text += ["", f"costs {where}, by part", *_costs(last.parts)]
    text += ["", f"the costliest instructions {where}"]
    text += _costs(last.operations)
  return text


def _rows(topology: Topology, found: Sequence[Figures]) -> list[list[str]]:
  """Returns the rows of the table, each a name and a cell for each size."""
  chip, rows = topology.chip, []

  def add(name: str, cell: Callable[[Any], str], key: str) -> None:
    values = [getattr(x, key) for x in found]
    if any(value is not None for value in values):
      rows.append([name, *("" if v is None else cell(v) for v in values)])

  whole = lambda n: f"{n:,.0f}"
  milliseconds = lambda s: f"{1000 * s:.4g} ms"
  add("batch size", whole, "batch_size")
  add("memory: arguments", _bytes, "arguments")
  add("memory: temporaries", _bytes, "temporaries")
  add("memory: peak", _bytes, "peak")
  if chip.memory:
    fits = lambda x: "fits" if x else "does not fit"
    add(f"  of {_bytes(chip.memory)}", fits, "fits")
  add("arithmetic", lambda n: f"{n / 1e9:,.1f} GFLOP", "flops")
  add("bytes accessed", _bytes, "bytes_accessed")
  add("XLA's estimate", lambda n: f"{n / 1e6:.1f} M cycles", "cycles")
  if chip.flops and chip.bandwidth:
    add(
      f"time by arithmetic, {chip.flops / _TERA:.0f} TFLOP/s",
      milliseconds,
      "arithmetic_seconds",
    )
    add(
      f"time by memory, {_bytes(chip.bandwidth)}/s",
      milliseconds,
      "memory_seconds",
    )
    rows.append(["bound by", *map(_bound, found)])
  add("images/s by that bound", whole, "bound_images_per_second")
  if chip.clock:
    add(
      f"time by cycles, {chip.clock / 1e9:g} GHz",
      milliseconds,
      "cycles_seconds",
    )
  add("images/s by cycles", whole, "estimated_images_per_second")
  add("time, measured", milliseconds, "measured_seconds")
  add("images/s, measured", whole, "measured_images_per_second")
  kinds = sorted({t.kind for x in found for t in x.collectives})
  for kind in kinds:
    rows.append([f"{kind}: number, bytes, largest"])
    for x in found:
      cells = (
        f"{t.count}, {_bytes(t.bytes)}, {t.largest}"
        for t in x.collectives
        if t.kind == kind
      )
      rows[-1].append(next(cells, ""))
  if topology.count > 1 and not kinds:
    rows.append(["collectives", *["none"] * len(found)])
  add("time to compile", lambda s: f"{s:.0f} s", "compile_seconds")
  return rows


def _bytes(number: float) -> str:
  """Returns a number of bytes with three digits and a unit."""
  power = min(max(int(math.log10(number or 1)) // 3, 0), 4)
  return f"{number / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _bound(figures: Figures) -> str:
  arithmetic = figures.arithmetic_seconds or 0
  return (
    "memory" if arithmetic < (figures.memory_seconds or 0) else "arithmetic"
  )


def _costs(costs: Sequence[Cost]) -> list[str]:
  return _aligned(
    [[x.name, f"{x.cost:,}", f"{100 * x.share:.1f} %"] for x in costs]
  )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    "  ".join(
      cell.rjust(width) if n else cell.ljust(width)
      for n, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
