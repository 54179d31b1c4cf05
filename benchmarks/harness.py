"""Shared by the benchmarks: child processes, alternating rounds, tables.

A figure is a median over rounds in which the systems alternate, so that a busy
moment slows all of them. `python -m benchmarks.harness MODULE:FUNCTION
ARGUMENTS` is what `child` runs.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import io
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw

ROOT = pathlib.Path(__file__).parent.parent
PADDING = 4  # Reflected pixels, out of which images are cropped at random.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # Of ImageNet, in [0, 1].
STD = np.array([0.229, 0.224, 0.225], np.float32)

Name = TypeVar("Name")
Result = TypeVar("Result")


def flags(
  doc: str, rounds: int | None = None, folder: bool = False
) -> argparse.ArgumentParser:
  """Returns a parser with a description, and with the common flags if set."""
  parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
  if rounds:
    parser.add_argument("--rounds", type=int, default=rounds)
  if folder:
    default = pathlib.Path(tempfile.gettempdir(), "mixaug_jax-photographs")
    text = "where photographs are made"
    parser.add_argument(
      "--folder", type=pathlib.Path, default=default, help=text
    )
  return parser


def some_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
  """Returns the type of a flag that takes some of `choices`, e.g. `a,b`."""

  def parse(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(choices):
      known = ", ".join(choices)
      raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {known}")
    return names

  return parse


def use_cpu() -> None:
  """Keeps all systems on the CPU, unless JAX_PLATFORMS names another one."""
  if os.environ.setdefault("JAX_PLATFORMS", "cpu") == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def installed(systems: Iterable[str], packages: Mapping[str, str]) -> list[str]:
  """Returns the systems whose package is installed; reports the others."""
  found = []
  for name in systems:
    if name in packages and not importlib.util.find_spec(packages[name]):
      print(f"{name}: left out, {packages[name]} is missing", file=sys.stderr)
    else:
      found.append(name)
  return found


def in_turns(
  rounds: int, names: Iterable[Name], measure: Callable[[Name], Result]
) -> dict[Name, list[Result]]:
  """Returns the results of `measure(name)` in `rounds` alternating rounds."""
  taken = {name: [] for name in names}
  for _ in range(rounds):
    for name, results in taken.items():
      results.append(measure(name))
  return taken


def seconds(run: Callable[[], Any], calls: int = 1) -> float:
  """Returns the seconds of a call, the mean of `calls` consecutive ones."""
  begin = time.perf_counter()
  for _ in range(calls):
    run()
  return (time.perf_counter() - begin) / calls


def medians(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
  """Returns the median of each figure over the rounds."""
  return {
    name: statistics.median(figure[name] for figure in figures)
    for name in figures[0]
  }


def spread(values: Sequence[float], form: str) -> str:
  """Returns `median (lowest to highest)`, each formatted by `form`."""
  middle = statistics.median(values)
  return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"


def cell(value: float | None, unit: float, form: str) -> str:
  """Returns a figure in a unit, or nothing where it was not measured."""
  missing = value is None or math.isnan(value)
  return "" if missing else f"{value / unit:{form}}"


def row(*cells: object) -> None:
  """Prints a row of a Markdown table, at once."""
  print("|" + "".join(f" {cell}".rstrip() + " |" for cell in cells), flush=True)


def header(*titles: str) -> None:
  """Prints the first two rows of a Markdown table."""
  print()
  row(*titles)
  print("|" + "---|" * len(titles))


def command(function: Callable[..., Any], *arguments: Any) -> list[str]:
  """Returns the command that calls a module's function with JSON arguments."""
  module = function.__module__
  if module == "__main__":
    module = sys.modules[module].__spec__.name
  target = f"{module}:{function.__name__}"
  run = [sys.executable, "-m", "benchmarks.harness"]
  return [*run, target, json.dumps(arguments)]


def child(
  function: Callable[..., Result], *arguments: Any, **environment: str
) -> Result:
  """Calls a function in a process of its own.

  Args:
    function: at the top level of a module; its result can be written as JSON.
    *arguments: those of the function, likewise.
    **environment: variables that the process gets as well.

  Raises:
    RuntimeError: the process failed; with the end of its stderr.
  """
  done = subprocess.run(
    command(function, *arguments),
    cwd=ROOT,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    call = f"{function.__name__}{arguments}"
    raise RuntimeError(f"{call} failed\n{done.stderr[-2000:]}")
  return json.loads(done.stdout.splitlines()[-1])


def memory(name: str, file: str = "status") -> float:
  """Returns this process's figure `name` in /proc/self/FILE, in bytes.

  NaN where there is no such file.
  """
  path = pathlib.Path("/proc/self", file)
  if not path.exists():
    return float("nan")
  return 1024 * int(path.read_text().partition(f"{name}:")[2].split()[0])


def reset_peak_memory() -> None:
  """Sets `VmHWM` to what is resident now, where there is /proc."""
  path = pathlib.Path("/proc/self/clear_refs")
  if path.exists():
    path.write_text("5")


def instruction_set(cpuinfo: str) -> str:
  """Returns the widest vectors or the matrices of an x86 CPU, or nothing.

  Args:
    cpuinfo: the text of /proc/cpuinfo.
  """
  _, _, line = cpuinfo.partition("\nflags")
  names = line.partition("\n")[0].split()
  widest = [x for x in ("amx_tile", "avx512f", "avx2") if x in names]
  return widest[0].removesuffix("_tile") if widest else ""


def machine(*packages: str) -> str:
  """Returns the processor and the versions of Python and of `packages`.

  On Linux the processor's instruction set follows its name.
  """
  model, cpuinfo = platform.processor() or platform.machine(), ""
  with contextlib.suppress(OSError, StopIteration):
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    lines = cpuinfo.splitlines()
    model = next(x for x in lines if x.startswith("model name"))
    model = model.partition(":")[2].strip()
  cores = len(os.sched_getaffinity(0))
  parts = [model, instruction_set(cpuinfo), f"{cores} CPU threads"]
  parts += [f"Python {platform.python_version()}", versions(*packages)]
  return ", ".join(filter(None, parts))


def versions(*packages: str) -> str:
  """Returns the versions of those of the packages that are installed."""
  parts = []
  for name in packages:
    with contextlib.suppress(metadata.PackageNotFoundError):
      parts.append(f"{name} {metadata.version(name)}")
  return ", ".join(parts)


def random_images(
  count: int, size: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns uint8 `[count, size, size, 3]` and int32 class ids `[count]`."""
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (count, size, size, 3), np.uint8)
  return images, (np.arange(count) % classes).astype(np.int32)


def photographs(root: pathlib.Path, count: int) -> pathlib.Path:
  """Makes `root/COUNT/train/<class>/<image>`, unless it is there already."""
  folder = root / str(count)
  paths = [
    folder / "train" / f"class_{k % 10}" / f"{k:06}.jpg" for k in range(count)
  ]
  if all(path.exists() for path in paths):
    return folder
  print(f"making {count:,} photographs in {folder}, once", file=sys.stderr)
  for path in paths[:10]:
    path.parent.mkdir(parents=True, exist_ok=True)
  # Not forked: the caller may have started JAX's threads.
  spawn = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(mp_context=spawn) as pool:
    made = pool.map(_photograph, range(count), chunksize=16)
    for path, encoded in zip(paths, made, strict=True):
      path.write_bytes(encoded)
  return folder


def _photograph(seed: int) -> bytes:
  """Returns a JPEG with a photograph's spectrum: noise at all scales."""
  rng = np.random.default_rng(seed)
  width, height = (int(x) for x in rng.integers((400, 300), (441, 341)))
  pixels = np.full((height, width, 3), 128, np.float32)
  for cells in (3, 6, 12, 24, 48, 96):  # Amplitudes fall as frequencies rise.
    noise = rng.normal(0, 60 / cells**0.5, (3, cells, cells))
    for channel, plane in enumerate(noise.astype(np.float32)):
      plane = Image.fromarray(plane).resize((width, height), Image.BICUBIC)
      pixels[..., channel] += np.asarray(plane)
  pixels += rng.normal(0, 4, (height, width, 1))  # Grain.
  picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
  draw = ImageDraw.Draw(picture)
  for _ in range(4):
    corner = rng.integers(0, (width, height))
    box = np.concatenate([corner, corner + rng.integers(20, 120, 2)])
    draw.ellipse(box.tolist(), tuple(rng.integers(0, 256, 3)))
  file = io.BytesIO()
  picture.save(file, "JPEG", quality=90)
  return file.getvalue()


def config(recipe: str, overrides: Mapping[str, Any]):
  """Returns the config of `configs/RECIPE` with some of its keys changed."""
  from mixaug_jax import config as config_lib

  texts = {key: str(value) for key, value in overrides.items()}
  return config_lib.load(f"{ROOT}/configs/{recipe}", texts)


def our_steps(
  recipe: str,
  overrides: Mapping[str, Any],
  random: tuple[int, int, int] | None = None,
) -> Callable[[int], None]:
  """Returns `run(steps)` of training, built as by main.py and train.py.

  Args:
    recipe: as for `config`, like `overrides`.
    random: batch size, pixels a side and classes of random images, which stay
      on the devices; None: the data of the config.
  """
  from mixaug_jax import jax_setup

  jax_setup.prepare()

  import jax

  from mixaug_jax import data
  from mixaug_jax.training import experiment, parallel
  from mixaug_jax.training.step import make_train_step

  exp = experiment.build(config(recipe, overrides))
  if random:
    model = experiment.create_model(exp.config, random[2])
    parts = dataclasses.replace(exp.recipe, model=model, num_classes=random[2])
    exp = dataclasses.replace(exp, recipe=parts)
    images, classes = random_images(*random)
    batch = parallel.shard({"image": images, "label": classes})
    arrays, batches = {}, itertools.repeat(batch)
  else:
    train, batch_size = exp.datasets.train, exp.config.batch_size
    arrays = parallel.replicate(data.device_arrays(train))
    batches = data.train_batches(
      train, batch_size, seed=0, place=parallel.shard
    )
  state, _ = exp.initial_state()
  step = parallel.train_step(make_train_step(exp.recipe, parallel.devices()))
  seed = parallel.replicate(np.uint32(0))
  values = parallel.replicate(exp.recipe.hyperparameters())

  def run(steps: int) -> None:
    nonlocal state
    pending = None
    for _ in range(steps):
      state, measured = step(state, seed, values, arrays, next(batches))
      if pending:
        jax.device_get(pending)
      pending = measured
    jax.block_until_ready((state, pending))

  return run


if __name__ == "__main__":
  module_name, _, function_name = sys.argv[1].partition(":")
  called = getattr(importlib.import_module(module_name), function_name)
  print(json.dumps(called(*json.loads(sys.argv[2]))), flush=True)
