"""Packs the images of a folder or of CSV files into ArrayRecord shards.

The shards are written by several processes into the folder of the packed data
set, each with notes in `.unfinished/`. A packing that was interrupted continues
with the shards that are not whole. `packed.json` is written last.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL

import mixaug_jax
from mixaug_jax import files, progress
from mixaug_jax.data import (
  checked,
  datasets,
  label_sets,
  labelled,
  labelled_files,
  packed,
  shard_writer,
)
from mixaug_jax.data import ids as ids_lib
from mixaug_jax.data.class_names import composed
from mixaug_jax.data.csv_rows import SETS_ADVICE
from mixaug_jax.data.csv_source import CsvSource
from mixaug_jax.data.decode import BadImage, Settings
from mixaug_jax.data.decoding import reading
from mixaug_jax.data.folder import Folder
from mixaug_jax.data.packed import shown
from mixaug_jax.data.splits import check_classes
from mixaug_jax.errors import UserError, reason
from mixaug_jax.names import local_path

# Shards of about this size are fast to copy and few enough to keep open.
_SHARD_BYTES = 256 * 2**20
_USUAL_SHARDS = 256
_FEWEST_SHARDS, _FEWEST_IMAGES = 16, 256  # So that processes share the work.
_MARGIN_BYTES = 64 * 2**20  # Disk space that stays free.
_UNREADABLE = "unreadable.txt"


@dataclasses.dataclass(frozen=True)
class _Files:
  """A split to pack, and the files of its images."""

  source: checked.Checked
  files: Sequence[str]


Tasks = Mapping[str, Sequence[shard_writer.Shard]]


@dataclasses.dataclass(frozen=True)
class Packing:
  """What was packed.

  Attributes:
    examples: by split.
    shards: their number over all splits.
    bytes: their size.
    left_out: as in `Datasets`.
    notes: sentences about how the source was read.
  """

  examples: dict[str, int]
  shards: int
  bytes: int
  left_out: dict[str, dict[str, list[str]]]
  notes: list[str]


def pack(
  source: str,
  output: pathlib.Path,
  square: Settings,
  *,
  shards: int | None = None,
  workers: int = 1,
  skip_bad: bool = False,
) -> Packing:
  """Packs a folder of images, or the images that CSV files name.

  A folder with train.csv is packed by its lists, whatever its folders are.

  The files are stored as they are. Each is decoded once, to be checked and
  described, so that training on the packed data set starts without that.

  Args:
    source: the folder or CSV file, as `config.data.dir`.
    output: the folder to write. If an interrupted packing of the same data is
      there, it continues.
    square: the squares that are described.
    shards: of each split; None: by the size of the images.
    workers: the number of processes.
    skip_bad: whether to leave unreadable images out.

  Raises:
    UserError: a mistake in the source, an unreadable image without `skip_bad`,
      or an output that cannot be written or holds something else.
  """
  path = local_path("--source", source)
  sources, notes = _open(path)
  _prepare(path, output)
  work = output / packed.UNFINISHED
  try:
    work.mkdir(exist_ok=True)
    with files.locked(work / "lock", wait=False):
      # Another process may have finished since `_prepare` looked.
      if (output / packed.HEADER).exists():
        shutil.rmtree(work, ignore_errors=True)
        raise _packed_already(output)
      tasks = _plan(sources, output, square, shards)
      _write(tasks, workers)
      done = _finish(path, sources, tasks, output, square, skip_bad)
      return dataclasses.replace(done, notes=notes)
  except BlockingIOError:
    raise UserError(
      f"another process packs into {shown(output)}; wait for it, or name "
      "another --output"
    ) from None
  except OSError as error:
    raise UserError(
      f"cannot write {shown(output)}: {reason(error)}; repeat the command when "
      "there is room, and it continues"
    ) from None


def _open(path: pathlib.Path) -> tuple[dict[str, _Files], list[str]]:
  """Opens the splits of the source; raises UserError.

  Returns:
    The splits, and sentences about how they were read.
  """
  name = labelled.source_name("packed", str(path))
  if name == "packed":
    raise UserError(f"--source={shown(path)} is packed already")
  opener = CsvSource if name == "csv" else Folder
  try:
    opened: dict[str, Any] = {**opener.splits(str(path))}
    sources = checked.sources(opened)
  except UserError as error:
    text = str(error).replace("config.data.dir", "--source")
    text = text.replace(SETS_ADVICE, "; label sets cannot be packed")
    raise UserError(text) from None
  notes = []
  if name == "csv":
    notes = [
      f"{line} and train on the list itself: label sets cannot be packed"
      for line in label_sets.hidden(next(iter(sources.values())).class_names)
    ]
    if path.is_dir():
      notes.insert(0, f"the classes are those of the lists in {shown(path)}")
  found = {
    split: _Files(x, opened[split].files) for split, x in sources.items()
  }
  return found, notes


def _packed_already(output: pathlib.Path) -> UserError:
  return UserError(
    f"--output={shown(output)} is a packed data set already; delete it, or "
    "name another folder"
  )


def _prepare(source: pathlib.Path, output: pathlib.Path) -> None:
  """Makes the folder of the packed data set; raises UserError."""
  inside = os.path.realpath(source)
  if os.path.isdir(inside) and inside in (
    os.path.realpath(output),
    *map(str, pathlib.Path(os.path.realpath(output)).parents),
  ):
    raise UserError(
      f"--output={shown(output)} is inside of --source, where it would become "
      "part of the data; name another folder"
    )
  if (output / packed.HEADER).exists():
    raise _packed_already(output)
  files.make_folder("--output", output)
  with contextlib.suppress(OSError):
    if os.listdir(output) and not (output / packed.UNFINISHED).is_dir():
      raise UserError(
        f"--output={shown(output)} is not empty; name a new or empty folder"
      )


def _plan(
  sources: Mapping[str, _Files],
  output: pathlib.Path,
  square: Settings,
  shards: int | None,
) -> Tasks:
  """Divides the splits into shards; only whole ones keep their notes.

  Raises:
    UserError: an interrupted packing of something else is in the folder, the
      disk is too small, or the machine cannot read an image.
  """
  sizes = {split: _sizes(x.files) for split, x in sources.items()}
  tasks: dict[str, list[shard_writer.Shard]] = {}
  for split, size in sizes.items():
    count = min(shards or _usual(size), len(size))
    files_of = np.array_split(np.arange(len(size)), count)
    tasks[split] = []
    for number, rows in enumerate(files_of):
      name = f"{number:05}-of-{count:05}"
      images = sources[split].files[rows[0] : rows[-1] + 1]
      tasks[split].append(
        shard_writer.Shard(
          output / split / f"{name}.array_record",
          output / packed.UNFINISHED / f"{split}-{name}.npz",
          images,
          _hash([labelled_files.state(image) for image in images]),
          square,
        )
      )
  plan = {
    "format": packed.FORMAT,
    "pillow": PIL.__version__,
    "square": dataclasses.asdict(square),
    "shards": {split: len(x) for split, x in tasks.items()},
    "ids": {split: _hash(x.source.ids) for split, x in sources.items()},
  }
  path = output / packed.UNFINISHED / "plan.json"
  text = json.dumps(plan, sort_keys=True)
  if not path.exists():
    with files.replacing(path) as part:
      part.write_text(text)
  elif path.read_text() != text:
    raise UserError(
      f"{shown(output)} holds an interrupted packing of other images or with "
      "other settings; delete it, or repeat the command that began it"
    )
  missing = 0
  for split, size in sizes.items():
    parts = np.array_split(size, len(tasks[split]))
    for task, of_shard in zip(tasks[split], parts, strict=True):
      if not shard_writer.is_whole(task):
        task.notes.unlink(missing_ok=True)
        missing += int(of_shard.sum())
  free = shutil.disk_usage(output).free
  if free < missing + _MARGIN_BYTES:
    raise UserError(
      f"the images need {missing / 2**30:.1f} GiB in {shown(output)}, where "
      f"{free / 2**30:.1f} GiB are free; name an --output with more room"
    )
  return tasks


def _sizes(paths: Sequence[str]) -> np.ndarray:
  """Returns the sizes of files in bytes, int64 `[N]`; 0 for a missing one.

  Raises:
    UserError: the machine cannot read a folder.
  """
  sizes = np.zeros(len(paths), np.int64)
  for row, path in enumerate(paths):
    with contextlib.suppress(BadImage), reading(path):
      sizes[row] = os.stat(path).st_size
  return sizes


def _usual(sizes: np.ndarray) -> int:
  """Returns the number of shards of a split by the sizes of its images."""
  by_size = min(-(-int(sizes.sum()) // _SHARD_BYTES), _USUAL_SHARDS)
  by_images = min(-(-len(sizes) // _FEWEST_IMAGES), _FEWEST_SHARDS)
  return max(by_size, by_images)


def _hash(texts: Sequence[str]) -> str:
  digest = hashlib.sha256()
  for part in ids_lib.joined(texts):
    digest.update(part.encode())
  return digest.hexdigest()


def _write(tasks: Tasks, workers: int) -> None:
  """Writes the shards that are missing; raises UserError."""
  every = [task for some in tasks.values() for task in some]
  missing = [task for task in every if not task.notes.exists()]
  for task in missing:
    task.path.parent.mkdir(exist_ok=True)
  total = sum(len(task.images) for task in every)
  left = sum(len(task.images) for task in missing)
  with progress.Bar(total, None, total - left, note="packed") as bar:
    workers = min(workers, len(missing))
    if workers <= 1:
      for task in missing:
        bar.update(shard_writer.write(task))
      return
    with _processes(workers) as pool:
      futures = [pool.submit(shard_writer.write, task) for task in missing]
      for future in concurrent.futures.as_completed(futures):
        bar.update(future.result())


@contextlib.contextmanager
def _processes(count: int) -> Iterator[concurrent.futures.Executor]:
  """Gives processes, which are stopped at once by an exception."""
  context = multiprocessing.get_context("spawn")
  others = set(multiprocessing.active_children())
  pool = concurrent.futures.ProcessPoolExecutor(count, context, _begin)
  try:
    yield pool
  except concurrent.futures.process.BrokenProcessPool:
    raise UserError(
      "a process that packs was killed, perhaps because the memory is full; "
      "repeat the command with fewer --workers, and it continues"
    ) from None
  except BaseException:
    for process in set(multiprocessing.active_children()) - others:
      process.terminate()
    raise
  finally:
    pool.shutdown(cancel_futures=True)


def _begin() -> None:
  """Leaves Ctrl-C to the parent, and ends with it however it ends."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def wait() -> None:
    if parent is not None:
      parent.join()
      os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def _finish(
  source: pathlib.Path,
  sources: Mapping[str, _Files],
  tasks: Tasks,
  output: pathlib.Path,
  square: Settings,
  skip_bad: bool,
) -> Packing:
  """Writes the arrays and, last, the header."""
  written = {
    split: [shard_writer.read_notes(task.notes) for task in some]
    for split, some in tasks.items()
  }
  bad = {split: _bad(sources[split].source, x) for split, x in written.items()}
  _refuse(bad, sources, output, skip_bad)
  described = {
    split: _describe(
      output / split, sources[split], x, tasks[split], bad[split]
    )
    for split, x in written.items()
  }
  header: dict[str, Any] = {
    "format": packed.FORMAT,
    "mixaug_jax": mixaug_jax.__version__,
    "pillow": PIL.__version__,
    "source": os.path.abspath(source),
    "square": dataclasses.asdict(square),
    "class_names": next(iter(sources.values())).source.class_names,
    "splits": described,
  }
  # As it is read again: tuples are lists in JSON.
  header = json.loads(json.dumps(header))
  header["fingerprint"] = packed.fingerprint(header)
  with files.replacing(output / packed.HEADER) as part:
    part.write_text(json.dumps(header, indent=1))
  shutil.rmtree(output / packed.UNFINISHED, ignore_errors=True)
  every = [shard for x in described.values() for shard in x["shards"]]
  return Packing(
    {split: x["examples"] for split, x in described.items()},
    len(every),
    sum(shard["bytes"] for shard in every),
    {split: x["left_out"] for split, x in described.items()},
    [],
  )


def _bad(
  source: checked.Checked, written: Sequence[shard_writer.Written]
) -> dict[int, str]:
  """Returns the rows of a split that cannot be read, and the reasons."""
  firsts = np.cumsum([0, *(len(x.notes) for x in written)])
  return {
    int(first) + place: why
    for first, part in zip(firsts, written, strict=False)
    for place, why in part.bad.items()
  }


def _refuse(
  bad: Mapping[str, dict[int, str]],
  sources: Mapping[str, _Files],
  output: pathlib.Path,
  skip_bad: bool,
) -> None:
  """Raises UserError if images are bad and must not be, or a class is lost."""
  lines = [
    f"{sources[split].source.ids[row]}: {why}"
    for split, rows in bad.items()
    for row, why in rows.items()
  ]
  if lines and not skip_bad:
    path = output / packed.UNFINISHED / _UNREADABLE
    with files.replacing(path) as part:
      part.write_text("\n".join([*lines, ""]))
    total = sum(len(x.files) for x in sources.values())
    raise UserError(
      f"{len(lines):,} of {total:,} images cannot be read, the first is "
      f"{lines[0]}; {shown(path)} lists them; repair them and repeat the "
      "command, or repeat it with --on_error=skip to leave them out"
    )
  for split, rows in bad.items():
    source = sources[split].source
    good = np.delete(np.arange(len(source)), sorted(rows))
    check_classes(source, good, rows)


def _describe(
  folder: pathlib.Path,
  split: _Files,
  written: Sequence[shard_writer.Written],
  tasks: Sequence[shard_writer.Shard],
  bad: dict[int, str],
) -> dict[str, Any]:
  """Writes the arrays of a split and returns its part of the header."""
  source = split.source
  good = np.delete(np.arange(len(source)), sorted(bad))
  notes = np.concatenate([x.notes for x in written])[good]
  names = [source.ids[row] for row in good.tolist()]
  encoded = [name.encode() for name in names]
  arrays = {
    "labels": source.labels[good],
    "hashes": notes["hash"],
    "shares": notes["share"],
    "peaks": notes["peak"],
    "crcs": notes["crc"],
    "ends": np.cumsum([len(name) for name in encoded]),
    "ranks": _ranks(names),
    "ids": np.frombuffer(b"".join(encoded), np.uint8),
  }
  crcs = {}
  for name, kind in packed.ARRAYS.items():
    path = folder / f"{name}.npy"
    with files.replacing(path) as part:
      np.save(part, arrays[name].astype(kind))
    crcs[name] = packed.checksum(path)
  left_out = {**source.left_out}
  if bad:
    left_out[datasets.UNREADABLE] = [source.ids[row] for row in bad]
  return {
    "examples": len(good),
    "shards": [
      {"file": task.path.name, "examples": count, "bytes": x.bytes}
      for task, x in zip(tasks, written, strict=True)
      if (count := len(x.notes) - len(x.bad))
    ],
    "arrays": crcs,
    "left_out": left_out,
    "unreadable": {source.ids[row]: why for row, why in bad.items()},
  }


def _ranks(names: Sequence[str]) -> np.ndarray:
  """Returns `ids.StoredIds` ranks; raises UserError if two names are one."""
  keys = [composed(name) for name in names]
  order = sorted(range(len(keys)), key=keys.__getitem__)
  for one, other in itertools.pairwise(order):
    if keys[one] == keys[other]:
      raise UserError(
        f"two images have the name {keys[one]}, written with different "
        "Unicode characters; rename one of them"
      )
  ranks = np.empty(len(keys), np.int32)
  ranks[order] = np.arange(len(keys))
  return ranks
