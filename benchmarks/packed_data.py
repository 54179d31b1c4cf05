"""What do many images cost before the first batch, packed and as a folder?

    python -m benchmarks.packed_data [--counts=10000,100000,1300000]
    python -m benchmarks.packed_data --counts= --photos=DIR   # Throughput

Tiny images, of 8x8 random pixels in 1,000 classes at most, are made once in
`--folder`. Each folder is packed, and opened by processes of their own with the
placement `stream`: first alone, then as the hosts of one run at the same time.
The clock starts after the imports, and stops when 20 batches are there.

`private` memory is that of the process alone; `resident` includes the pages of
mapped files, which processes on a host share and the operating system takes
back as it needs them. Both are what the data add, without Python and JAX.

With `--photos=DIR`, which holds train/<class>/<image>, it also compares the
images/s of `stream` from the folder and from the same images packed.
"""

import concurrent.futures
import contextlib
import hashlib
import io
import itertools
import pathlib
import shutil
import tempfile
import threading
import time
from typing import Any

import numpy as np

from benchmarks import harness

BATCH, STEPS = 256, 20
HOSTS = 4
CLASSES = 1000
FOLDER_COUNTS = 100_000  # Larger folders are packed, but not read.
SAMPLE_SECONDS = 0.02
MB = 1e6


def tiny_images(root: pathlib.Path, count: int) -> pathlib.Path:
  """Makes `root/COUNT/train/<class>/<image>`, unless it is there already."""
  folder = root / str(count)
  done = folder / "done"
  if done.exists():
    return folder
  rng = np.random.default_rng(0)
  classes = min(CLASSES, count // 20)
  for label in range(classes):
    place = folder / "train" / f"class_{label:04}"
    place.mkdir(parents=True, exist_ok=True)
    for index in range(label, count, classes):
      pixels = rng.bytes(8 * 8 * 3)
      (place / f"{index:07}.ppm").write_bytes(b"P6\n8 8\n255\n" + pixels)
  done.touch()
  return folder


class Peak:
  """The growth of this process's memory while it is open, in bytes."""

  def __enter__(self) -> "Peak":
    self._begin = self._now()
    self._peak = self._begin
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._watch)
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._over.set()
    self._thread.join()
    self._peak = np.maximum(self._peak, self._now())
    self.private, self.resident = map(float, self._peak - self._begin)

  def _watch(self) -> None:
    while not self._over.wait(SAMPLE_SECONDS):
      self._peak = np.maximum(self._peak, self._now())

  def _now(self) -> np.ndarray:
    return np.array([harness.memory(x) for x in ("RssAnon", "VmRSS")])


def pack(source: str, output: str, size: int, workers: int) -> dict[str, float]:
  """Packs a folder; returns seconds, and the memory of this process."""
  from mixaug_jax.data import packing
  from mixaug_jax.data.decode import Settings

  shutil.rmtree(output, ignore_errors=True)
  begin = time.perf_counter()
  with Peak() as peak, contextlib.redirect_stderr(io.StringIO()):
    done = packing.pack(
      source, pathlib.Path(output), Settings(size), workers=workers
    )
  seconds = time.perf_counter() - begin
  return {"seconds": seconds, "private": peak.private, "shards": done.shards}


def start(
  name: str, directory: str, cache_dir: str, host: int, hosts: int
) -> dict[str, Any]:
  """Opens a data set and draws some batches, as one host of several."""
  from mixaug_jax import data

  config = _config(name, directory, cache_dir, 8)
  begin, cpu = time.perf_counter(), time.process_time()
  with Peak() as peak, contextlib.redirect_stderr(io.StringIO()):
    sets = data.load(config, seed=0)
    identity = sets.identity
    opened = time.perf_counter() - begin
    stream = data.train_batches(
      sets.train, BATCH, seed=0, process_index=host, process_count=hosts
    )
    batches = list(itertools.islice(stream, STEPS))
    stream.close()
    seconds = time.perf_counter() - begin
    cpu = time.process_time() - cpu
  rows = [
    hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest()
    for batch in batches
    for image, label in zip(batch["image"], batch["label"], strict=True)
  ]
  return {
    "opened": opened,
    "seconds": seconds,
    "cpu": cpu,
    "private": peak.private,
    "resident": peak.resident,
    "identity": identity.drawn_from + identity.splits["train"].ids,
    "rows": rows,
  }


def epoch(name: str, directory: str, cache_dir: str, size: int) -> float:
  """Returns the images/s of `stream` over one epoch, opening not included."""
  from mixaug_jax import data

  config = _config(name, directory, cache_dir, size)
  with contextlib.redirect_stderr(io.StringIO()):
    split = data.load(config, seed=0).train
  stream = data.train_batches(split, 64, seed=0)
  next(stream)
  steps = len(split) // 64 - 1
  begin = time.perf_counter()
  images = sum(len(x["label"]) for x in itertools.islice(stream, steps))
  seconds = time.perf_counter() - begin
  stream.close()
  return images / seconds


def _config(name: str, directory: str, cache_dir: str, size: int):
  return harness.config(
    "baseline.py:folder",
    {
      "data.name": name,
      "data.dir": directory,
      "data.cache_dir": cache_dir,
      "data.image_size": size,
      "data.cache_size": size,
      "data.placement": "stream",
      "batch_size": BATCH,
    },
  ).data


def start_table(root: pathlib.Path, counts: list[int], workers: int) -> None:
  harness.header(
    *("images", "read as", "start, s", "of it opening, s", "CPU, s"),
    *("private, MB", "resident, MB"),
  )
  packings = []
  for count in counts:
    folder = str(tiny_images(root, count))
    output = f"{folder}-packed"
    packings.append((count, harness.child(pack, folder, output, 8, workers)))
    with tempfile.TemporaryDirectory(dir=root) as cache:
      packed = harness.child(start, "packed", output, cache, 0, 1)
      _row(count, "packed", packed)
      with concurrent.futures.ThreadPoolExecutor(HOSTS) as pool:
        shares = list(
          pool.map(
            lambda host, output=output, cache=cache: harness.child(
              start, "packed", output, cache, host, HOSTS
            ),
            range(HOSTS),
          )
        )
      slowest = max(shares, key=lambda x: x["seconds"])
      _row(count, f"packed, {HOSTS} hosts at once", slowest)
      share = BATCH // HOSTS
      union = [
        row
        for step in range(STEPS)
        for host in shares
        for row in host["rows"][step * share : (step + 1) * share]
      ]
      assert union == packed["rows"], "the hosts do not make up the batches"
      if count <= FOLDER_COUNTS:
        for text in ("folder, first start", "folder, later start"):
          plain = harness.child(start, "folder", folder, cache, 0, 1)
          _row(count, text, plain)
        assert plain["rows"] == packed["rows"], "other batches"
        assert plain["identity"] == packed["identity"], "other data"
  harness.header("images", "packing, s", "shards", "private, MB")
  for count, done in packings:
    memory = harness.cell(done["private"], MB, ",.0f")
    harness.row(f"{count:,}", f"{done['seconds']:,.0f}", done["shards"], memory)


def _row(count: int, text: str, figures: dict[str, Any]) -> None:
  harness.row(
    *(f"{count:,}", text),
    *(f"{figures[x]:.1f}" for x in ("seconds", "opened", "cpu")),
    *(harness.cell(figures[x], MB, ",.0f") for x in ("private", "resident")),
  )


def photo_table(photos: str, size: int, rounds: int, workers: int) -> None:
  with tempfile.TemporaryDirectory() as place:
    packed = f"{place}/packed"
    done = harness.child(pack, photos, packed, size, workers)
    print(f"\npacked in {done['seconds']:.0f} s by {workers} processes")
    places = {"folder": photos, "packed": packed}
    for name, directory in places.items():  # The folder's checksums, once.
      harness.child(epoch, name, directory, place, size)
    rates = harness.in_turns(
      rounds,
      places,
      lambda name: harness.child(epoch, name, places[name], place, size),
    )
  harness.header(f"stream, {size}x{size}, {rounds} rounds", "images/s")
  for name, values in rates.items():
    harness.row(name, harness.spread(values, ",.0f"))


def main() -> None:
  flags = harness.flags(__doc__, rounds=5)
  default = pathlib.Path(tempfile.gettempdir(), "mixaug_jax-tiny-images")
  add = flags.add_argument
  add("--counts", default="10000,100000,1300000")
  add("--folder", type=pathlib.Path, default=default)
  add("--photos", type=pathlib.Path, help="also compare the throughput")
  add("--size", type=int, default=128, help="pixels a side of the photos")
  add("--workers", type=int, default=2)
  arguments = flags.parse_args()
  harness.use_cpu()
  print(harness.machine("jax", "pillow", "numpy", "array_record"))
  counts = [int(x) for x in arguments.counts.split(",") if x]
  if counts:
    start_table(arguments.folder, counts, arguments.workers)
  if arguments.photos:
    photos = str(arguments.photos.resolve())
    photo_table(photos, arguments.size, arguments.rounds, arguments.workers)


if __name__ == "__main__":
  main()
