"""How fast do images come, beside tf.data and PyTorch's DataLoader?

    pip install torch tensorflow-cpu     # Measured only; either may be missing.
    python -m benchmarks.input_pipeline [--images=5000] [--dogs=DIR]

The photographs, about 420x320, are made once: noise of all scales under a few
shapes, as JPEG of some 40 kB. Every system makes shuffled batches of uint8
squares of them, the middle cut out and scaled with antialiasing, in a process
of its own; the systems alternate. The clock starts when the folder is opened,
after the imports. So the first epoch of `host` and `device` includes decoding,
writing the cache and reading it back. `device` includes the gather that its
step does. All read files that the operating system has in memory.

With `--dogs=DIR`, which holds train/<class>/<image>, it also trains on them
and prints the share of the loop's time that is spent waiting for
`next(batches)`.
"""

import contextlib
import functools
import io
import itertools
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator

from benchmarks import harness, peers

BATCH = 64
PLACEMENTS = ("device", "host", "stream")
PACKAGES = {"tf.data": "tensorflow", "DataLoader": "torch"}
MACHINE = ("jax", "pillow", "numpy", "tensorflow-cpu", "torch")
LATER_SECONDS = 3.0  # Of later epochs, at least; always whole ones.
SAMPLE_SECONDS = 0.05


def ours(
  placement: str, folder: pathlib.Path, size: int, batch: int
) -> Iterator[int]:
  """Yields the images of each epoch; the first opens the folder."""
  import jax

  from configs import default
  from mixaug_jax import data

  config = default.get_config("folder").data
  config.dir, config.image_size, config.cache_size = str(folder), size, size
  config.placement, config.validation_fraction = placement, 0.0

  def epochs() -> Iterator[int]:
    with tempfile.TemporaryDirectory(dir=folder.parent) as cache_dir:
      config.cache_dir = cache_dir
      with contextlib.redirect_stderr(io.StringIO()):
        split = data.load(config, seed=0).train
      arrays = jax.device_put(data.device_arrays(split))
      fetch = jax.jit(data.fetch)
      batches = data.train_batches(split, batch, seed=0, place=jax.device_put)
      steps = round(data.steps_per_epoch(split, batch))
      while True:
        epoch = itertools.islice(batches, steps)
        fetched = (fetch(arrays, batch)[0] for batch in epoch)
        yield sum(len(jax.block_until_ready(images)) for images in fetched)

  return epochs()


SYSTEMS = {
  **{name: functools.partial(ours, name) for name in PLACEMENTS},
  "tf.data": peers.tf_data_epochs,
  "DataLoader": peers.data_loader_epochs,
}


def speed(system: str, folder: str, size: int) -> dict[str, float]:
  """Returns images/s of the first epoch and of the later ones."""
  epochs = SYSTEMS[system](pathlib.Path(folder), size, BATCH)
  begin = time.perf_counter()
  first = next(epochs) / (time.perf_counter() - begin)
  count, begin = 0, time.perf_counter()
  while (seconds := time.perf_counter() - begin) < LATER_SECONDS:
    count += next(epochs)
  return {"first": first, "later": count / seconds}


def memory(system: str, folder: str, size: int) -> dict[str, float]:
  """Returns the peaks over two epochs of private and of all resident memory.

  In bytes. The second includes pages of mapped files, which the operating
  system takes back as it needs them.
  """
  peaks = {"Anonymous": 0.0, "Rss": 0.0}
  over = threading.Event()

  def watch() -> None:
    while not over.wait(SAMPLE_SECONDS):
      for name, peak in peaks.items():
        peaks[name] = max(peak, harness.memory(name, "smaps_rollup"))

  watcher = threading.Thread(target=watch)
  epochs = SYSTEMS[system](pathlib.Path(folder), size, BATCH)
  watcher.start()
  for _ in range(2):
    next(epochs)
  over.set()
  watcher.join()
  return peaks


def waiting(
  placement: str, folder: str, cache_dir: str
) -> tuple[int, float, float]:
  """Returns steps, seconds and, of them, those spent in `next(batches)`."""
  from mixaug_jax import data
  from mixaug_jax.training import loop

  overrides = {
    "data.dir": folder,
    "data.cache_dir": cache_dir,
    "data.placement": placement,
    "data.image_size": 64,
    "data.cache_size": 72,
    "model.name": "resnet18",
    "model.pretrained": "none",
    "batch_size": 32,
    "epochs": 2,
    "optimizer.warmup_epochs": 0,
    "evaluate.every_epochs": 2,
  }
  waits = []  # Begin and end.
  batches = data.train_batches

  def timed(*args, **options):
    with contextlib.closing(batches(*args, **options)) as stream:
      while True:
        begin = time.perf_counter()
        batch = next(stream)
        waits.append((begin, time.perf_counter()))
        yield batch

  data.train_batches = timed
  config = harness.config("cutmix.py:folder", overrides)
  loop.train(config, pathlib.Path(cache_dir, "run"))
  # From the second batch on: the first step compiles.
  waited = sum(end - begin for begin, end in waits[2:])
  return len(waits) - 2, waits[-1][1] - waits[1][1], waited


def speed_table(folder: str, count: int, size: int, rounds: int) -> None:
  rates = harness.in_turns(
    rounds,
    harness.installed(SYSTEMS, PACKAGES),
    lambda name: harness.child(speed, name, folder, size),
  )
  print(
    f"\n{count:,} JPEGs to {size}x{size}, batches of {BATCH}; images/s, "
    f"median of {rounds} rounds (lowest to highest)"
  )
  over = "over tf.data"
  harness.header("", "first epoch", over, "later epochs", over)
  base = harness.medians(rates["tf.data"]) if "tf.data" in rates else {}
  for name, measured in rates.items():
    cells = []
    for epoch, median in harness.medians(measured).items():
      cells.append(harness.spread([x[epoch] for x in measured], ",.0f"))
      cells.append(f"{median / base[epoch]:.2f}" if base else "")
    harness.row(f"`{name}`", *cells)


def memory_table(folders: dict[int, str], size: int) -> None:
  print("\nPeak memory over two epochs, MB")
  resident = "resident, with pages of mapped files"
  harness.header("", "images", "private", resident)
  for name in ("host", "stream"):
    for count, folder in folders.items():
      peak = harness.child(memory, name, folder, size)
      cells = (harness.cell(x, 1e6, ",.0f") for x in peak.values())
      harness.row(f"`{name}`", f"{count:,}", *cells)


def waiting_table(folder: str) -> None:
  print(
    "\nWaiting for data in two epochs of training, ResNet-18, 64x64, "
    "batches of 32"
  )
  harness.header("", "steps", "seconds", "of them waiting", "share")
  for name in ("host", "device"):
    with tempfile.TemporaryDirectory() as cache_dir:
      steps, seconds, waited = harness.child(waiting, name, folder, cache_dir)
    share = f"{waited / seconds:.2%}"
    harness.row(f"`{name}`", steps, f"{seconds:.1f}", f"{waited:.3f}", share)


def main() -> None:
  flags = harness.flags(__doc__, rounds=3, folder=True)
  flags.add_argument("--images", type=int, default=5000)
  flags.add_argument("--size", type=int, default=224, help="pixels a side")
  flags.add_argument("--dogs", type=pathlib.Path, help="photos to train on")
  arguments = flags.parse_args()
  harness.use_cpu()
  count, size = arguments.images, arguments.size
  folders = {
    n: str(harness.photographs(arguments.folder, n))
    for n in (count // 5, count)
  }
  print(harness.machine(*MACHINE))
  speed_table(folders[count], count, size, arguments.rounds)
  memory_table(folders, size)
  if arguments.dogs:
    waiting_table(str(arguments.dogs.resolve()))


if __name__ == "__main__":
  main()
