"""How fast do images come, beside tf.data and PyTorch's DataLoader?

    pip install torch tensorflow-cpu     # Measured only; either may be missing.
    python -m benchmarks.input_pipeline [--images=5000] [--dogs=DIR]

The photographs, about 420x320, are made once: noise of all scales under a few
shapes, as JPEG of some 40 kB. Every system makes shuffled batches of uint8
squares of them, the middle cut out and scaled with antialiasing, in a process
of its own, the systems in turns. The clock starts when the folder is opened,
after the imports; so the first epoch of `host` and `device` counts decoding,
writing the cache and reading it back. `device` counts the gather that its step
does. All read files that the system has in memory.

With `--dogs=DIR`, which holds train/<class>/<image>, it also trains on them
and tells which share of the loop's time is spent waiting for `next(batches)`.
"""

import argparse
import concurrent.futures
import contextlib
import importlib.util
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image, ImageDraw

ROOT = pathlib.Path(__file__).parent.parent
CLASSES, BATCH, WORKERS = 10, 64, 2
PLACEMENTS = ("device", "host", "stream")
PACKAGES = ("jax", "grain", "pillow", "numpy", "tensorflow-cpu", "torch")
PEERS = {"tf.data": "tensorflow", "DataLoader": "torch"}
LATER_SECONDS = 3.0  # Of later epochs, at least; always whole ones.
SAMPLE_SECONDS = 0.05

# Makes one epoch after another; an epoch is an iterator over its batch sizes.
Epochs = Callable[[], Iterator[int]]


def photograph(seed: int) -> bytes:
  """A JPEG with the spectrum of a photograph: noise at all scales, shapes."""
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


def make_folder(root: pathlib.Path, count: int) -> pathlib.Path:
  """`root/COUNT/train/<class>/<image>`, made unless it is there."""
  folder = root / str(count)
  paths = [
    folder / "train" / f"class_{k % CLASSES}" / f"{k:06}.jpg"
    for k in range(count)
  ]
  if all(path.exists() for path in paths):
    return folder
  print(f"making {count:,} photographs in {folder}, once", file=sys.stderr)
  for path in paths[:CLASSES]:
    path.parent.mkdir(parents=True, exist_ok=True)
  # Not forked: whoever calls may have started JAX's threads.
  spawn = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(mp_context=spawn) as pool:
    made = pool.map(photograph, range(count), chunksize=16)
    for path, encoded in zip(paths, made, strict=True):
      path.write_bytes(encoded)
  return folder


def ours(
  placement: str, folder: pathlib.Path, size: int, cache_dir: str
) -> Epochs:
  import jax

  from configs import default
  from mixaug_jax import data

  config = default.get_config("folder").data
  config.dir, config.cache_dir = str(folder), cache_dir
  config.image_size = config.cache_size = size
  config.placement, config.validation_fraction = placement, 0.0
  state = {}

  def epoch() -> Iterator[int]:
    if not state:  # The first time.
      with contextlib.redirect_stderr(io.StringIO()):
        split = data.load(config, seed=0).train
      state["arrays"] = jax.device_put(data.device_arrays(split))
      state["fetch"] = jax.jit(data.fetch)
      state["batches"] = data.train_batches(
        split, BATCH, seed=0, place=jax.device_put
      )
      state["steps"] = round(data.steps_per_epoch(split, BATCH))
    for batch in itertools.islice(state["batches"], state["steps"]):
      images, _ = state["fetch"](state["arrays"], batch)
      yield len(jax.block_until_ready(images))

  return epoch


def tf_data(folder: pathlib.Path, size: int) -> Epochs:
  import tensorflow as tf

  def example(path, label):
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    side = tf.minimum(height, width)
    image = tf.image.crop_to_bounding_box(
      image, (height - side) // 2, (width - side) // 2, side, side
    )
    image = tf.image.resize(image, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8), label

  def epoch() -> Iterator[int]:
    if "stream" not in state:
      paths, labels = listing(folder)
      stream = tf.data.Dataset.from_tensor_slices((paths, labels))
      stream = stream.shuffle(len(paths), reshuffle_each_iteration=True)
      stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE)
      state["stream"] = stream.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    for images, _ in state["stream"]:
      yield len(images)

  state = {}
  return epoch


def data_loader(folder: pathlib.Path, size: int) -> Epochs:
  import torch

  class Photographs(torch.utils.data.Dataset):
    def __init__(self):
      self.paths, self.labels = listing(folder)

    def __len__(self):
      return len(self.paths)

    def __getitem__(self, index):
      picture = Image.open(self.paths[index]).convert("RGB")
      width, height = picture.size
      side = min(width, height)
      left, top = (width - side) / 2, (height - side) / 2
      picture = picture.resize(
        (size, size), Image.BILINEAR, (left, top, left + side, top + side)
      )
      return torch.from_numpy(np.array(picture)), self.labels[index]

  def epoch() -> Iterator[int]:
    if "loader" not in state:
      state["loader"] = torch.utils.data.DataLoader(
        Photographs(),
        BATCH,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
      )
    for images, _ in state["loader"]:
      yield len(images)

  state = {}
  return epoch


def listing(folder: pathlib.Path) -> tuple[list[str], list[int]]:
  paths = sorted((folder / "train").glob("*/*.jpg"))
  return [str(p) for p in paths], [int(p.parent.name[-1]) for p in paths]


def measure(epoch: Epochs) -> dict[str, float]:
  """Images/s of the first epoch and of the later ones."""
  begin = time.perf_counter()
  first = sum(epoch()) / (time.perf_counter() - begin)
  count, begin = 0, time.perf_counter()
  while (seconds := time.perf_counter() - begin) < LATER_SECONDS:
    count += sum(epoch())
  return {"first": first, "later": count / seconds}


def measure_memory(epoch: Epochs) -> dict[str, float]:
  """Peaks in MB over two epochs: private memory, and all that is resident.

  The second holds pages of mapped files, which the system takes back as it
  needs them.
  """
  peaks = {"Anonymous": 0, "Rss": 0}
  over = threading.Event()

  def watch() -> None:
    while not over.wait(SAMPLE_SECONDS):
      text = pathlib.Path("/proc/self/smaps_rollup").read_text()
      for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in peaks:
          peaks[name] = max(peaks[name], int(value.split()[0]))

  watcher = threading.Thread(target=watch)
  watcher.start()
  for _ in range(2):
    sum(epoch())
  over.set()
  watcher.join()
  return {name: value * 1024 / 1e6 for name, value in peaks.items()}


def waiting(
  placement: str, folder: pathlib.Path, cache_dir: str
) -> dict[str, float]:
  """Share of the train loop's time spent in `next(batches)`."""
  from mixaug_jax import config as config_lib
  from mixaug_jax import data, train

  config = config_lib.load(
    str(ROOT / "configs" / "cutmix.py:folder"),
    {
      "data.dir": str(folder),
      "data.cache_dir": cache_dir,
      "data.placement": placement,
      "data.image_size": "64",
      "data.cache_size": "72",
      "model.name": "resnet18",
      "batch_size": "32",
      "epochs": "2",
      "optimizer.warmup_epochs": "0",
      "evaluate.every_epochs": "2",
    },
  )
  clock = time.perf_counter
  waits, marks = [], []
  batches = data.train_batches

  def timed(*args, **options):
    with contextlib.closing(batches(*args, **options)) as stream:
      while True:
        begin = clock()
        batch = next(stream)
        waits.append(clock() - begin)
        marks.append(clock())
        yield batch

  data.train_batches = timed
  with (
    tempfile.TemporaryDirectory() as workdir,
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
  ):
    train.train(config, pathlib.Path(workdir, "run"))
  # From the second batch on: the first step compiles.
  wall = marks[-1] - marks[1]
  return {
    "seconds": wall,
    "steps": len(marks) - 2,
    "waited": sum(waits[2:]),
  }


def work(arguments: argparse.Namespace) -> dict[str, float]:
  """What one process measures."""
  name, folder, size = arguments.work, arguments.folder, arguments.size
  with tempfile.TemporaryDirectory(dir=folder.parent) as cache_dir:
    if arguments.kind == "waiting":
      return waiting(name, folder, cache_dir)
    if name in PLACEMENTS:
      epoch = ours(name, folder, size, cache_dir)
    else:
      epoch = {"tf.data": tf_data, "DataLoader": data_loader}[name](
        folder, size
      )
    function = measure if arguments.kind == "speed" else measure_memory
    return function(epoch)


def elsewhere(
  kind: str, name: str, folder: pathlib.Path, size: int
) -> dict[str, float]:
  """`work` in a process of its own."""
  argv = [sys.executable, "-m", "benchmarks.input_pipeline", f"--kind={kind}"]
  argv += [f"--work={name}", f"--folder={folder}", f"--size={size}"]
  done = subprocess.run(
    argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
  )
  return json.loads(done.stdout.splitlines()[-1])


def machine(packages: Iterable[str] = PACKAGES) -> str:
  """What the figures were measured on, with the versions of `packages`."""
  model = platform.processor() or platform.machine()
  with contextlib.suppress(OSError, StopIteration):
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next(x for x in lines if x.startswith("model name"))
    model = model.partition(":")[2].strip()
  versions = []
  for name in packages:
    with contextlib.suppress(metadata.PackageNotFoundError):
      versions.append(f"{name} {metadata.version(name)}")
  cores = len(os.sched_getaffinity(0))
  return (
    f"{model}, {cores} CPU threads, Python {platform.python_version()}, "
    + ", ".join(versions)
  )


def speed_table(
  folder: pathlib.Path, count: int, size: int, rounds: int
) -> None:
  systems = [*PLACEMENTS]
  for name, package in PEERS.items():
    if importlib.util.find_spec(package):
      systems.append(name)
    else:
      print(f"{name}: left out, {package} is missing", file=sys.stderr)
  rates = {name: {"first": [], "later": []} for name in systems}
  for _ in range(rounds):
    for name in systems:
      for epoch, rate in elsewhere("speed", name, folder, size).items():
        rates[name][epoch].append(rate)
  median = {
    name: {epoch: statistics.median(x) for epoch, x in of.items()}
    for name, of in rates.items()
  }
  base = median.get("tf.data", {"first": np.nan, "later": np.nan})
  print(
    f"\n{count:,} JPEGs to {size}x{size}, batches of {BATCH}; images/s, "
    f"median of {rounds} rounds (lowest to highest)\n"
    "\n| | first epoch | over tf.data | later epochs | over tf.data |"
    "\n|---|---|---|---|---|"
  )
  for name in systems:
    cells = []
    for epoch in ("first", "later"):
      low, high = min(rates[name][epoch]), max(rates[name][epoch])
      value = median[name][epoch]
      cells.append(f"{value:,.0f} ({low:,.0f} to {high:,.0f})")
      cells.append(f"{value / base[epoch]:.2f}")
    print(f"| `{name}` | {' | '.join(cells)} |")


def memory_table(folders: list[pathlib.Path], size: int) -> None:
  print(
    "\nPeak memory over two epochs, MB\n"
    "\n| | images | private | resident, with pages of mapped files |"
    "\n|---|---|---|---|"
  )
  for name in ("host", "stream"):
    for folder in folders:
      peak = elsewhere("memory", name, folder, size)
      print(
        f"| `{name}` | {int(folder.name):,} | {peak['Anonymous']:,.0f} "
        f"| {peak['Rss']:,.0f} |"
      )


def waiting_table(folder: pathlib.Path) -> None:
  print(
    "\nWaiting for data in two epochs of training, ResNet-18, 64x64, "
    "batches of 32\n"
    "\n| | steps | seconds | of them waiting | share |"
    "\n|---|---|---|---|---|"
  )
  for name in ("host", "device"):
    taken = elsewhere("waiting", name, folder, 0)
    print(
      f"| `{name}` | {taken['steps']} | {taken['seconds']:.1f} "
      f"| {taken['waited']:.3f} | {taken['waited'] / taken['seconds']:.2%} |"
    )


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--images", type=int, default=5000)
  flags.add_argument("--size", type=int, default=224, help="pixels a side")
  flags.add_argument("--rounds", type=int, default=3)
  flags.add_argument(
    "--dogs", type=pathlib.Path, help="photographs to train on"
  )
  flags.add_argument(
    "--folder",
    type=pathlib.Path,
    default=pathlib.Path(tempfile.gettempdir(), "mixaug_jax-photographs"),
    help="where photographs are made",
  )
  # Of the processes that this one starts.
  flags.add_argument("--work", help=argparse.SUPPRESS)
  flags.add_argument("--kind", default="speed", help=argparse.SUPPRESS)
  arguments = flags.parse_args()
  if arguments.work:
    print(json.dumps(work(arguments)))
    return
  few = make_folder(arguments.folder, arguments.images // 5)
  many = make_folder(arguments.folder, arguments.images)
  print(machine())
  speed_table(many, arguments.images, arguments.size, arguments.rounds)
  memory_table([few, many], arguments.size)
  if arguments.dogs:
    waiting_table(arguments.dogs.resolve())


if __name__ == "__main__":
  main()
