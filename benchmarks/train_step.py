"""How fast is a whole training step, beside PyTorch and Keras?

    pip install torch keras     # Measured only; either may be missing.
    python -m benchmarks.train_step [--rounds=3] [--steps=N]
      [--systems=ours,pytorch] [--model=resnet50 --size=128 --batch=8]

A uint8 batch goes in; it is cropped at random out of 4 reflected pixels,
mirrored at random, mixed by CutMix, normalised, and sent forward and backward;
SGD with Nesterov momentum and weight decay moves the parameters, and batch norm
its statistics. On a CPU in float32; on a GPU in bfloat16, and there two more
tables tell what augmentation costs and what real data do.

A system runs in a process of its own, all of them in turns, so that a busy
moment hits all; every round starts anew, from a compilation cache. "Compile" is
what the first step took over a later one in the first round, when the cache was
empty. "Of the matrix rate" is model FLOP/s, three times those of the forward
pass, over what one large matrix product reaches. Peak memory is that of the
GPU, or what is resident on a CPU after the first steps.

PyTorch: channels_last, fused SGD, on a GPU autocast; with and without
`torch.compile`. Keras: `keras.applications.ResNet50` and Keras's layers in one
jitted function on the JAX backend. It is the v1 network, of fewer FLOPs.
"""

import argparse
import importlib.util
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from unittest import mock

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np

from benchmarks import input_pipeline

PADDING, LEARNING_RATE, WEIGHT_DECAY = 4, 0.05, 5e-4
PHOTOGRAPHS = 5000
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CLASSES = {"resnet50": 1000, "small_resnet": 10}
# Model, pixels, batch, steps a round.
ON_CPU = (("resnet50", 128, 8, 10), ("small_resnet", 16, 50, 150))
ON_GPU = tuple(("resnet50", 224, batch, 60) for batch in (64, 256, 512))
TITLES = {
  "ours": "mixaug_jax",
  "pytorch": "PyTorch",
  "pytorch-compiled": "PyTorch, `torch.compile`",
  "keras": "Keras on JAX",
  "ours-plain": "no augmentation, no mixing",
  "ours-host": "real data, cache on `host`",
  "ours-device": "real data, cache on `device`",
}
PACKAGES = {"pytorch": "torch", "pytorch-compiled": "torch", "keras": "keras"}

Run = Callable[[int], None]


def ours(job: argparse.Namespace, variant: str) -> Run:
  """The project's step, as main.py and train.py build it."""
  from mixaug_jax.command import jax_setup

  jax_setup.prepare()

  import jax

  from mixaug_jax import config as config_lib
  from mixaug_jax import data
  from mixaug_jax.training import experiment, parallel
  from mixaug_jax.training.step import make_train_step

  plain = variant == "plain"
  real = variant in ("host", "device")
  config = config_lib.load(
    str(input_pipeline.ROOT / "configs" / "cutmix.py:folder"),
    {
      "data.dir": str(job.folder),
      "data.cache_dir": str(job.cache_dir),
      "data.placement": variant if real else "host",
      "data.image_size": str(job.size),
      "data.cache_size": str(job.size),
      "augment.random_crop.padding": "none" if plain else str(PADDING),
      "augment.random_flip_left_right.probability": "none" if plain else "0.5",
      "mix.name": "none" if plain else "cutmix",
      "mix.alpha": "none" if plain else "1.0",
      "model.name": job.model,
      "batch_size": str(job.batch),
      "optimizer.learning_rate": str(LEARNING_RATE),
      "optimizer.weight_decay": str(WEIGHT_DECAY),
      "optimizer.warmup_epochs": "0",
    },
  )
  images, classes = synthetic(job)
  if real:
    exp = experiment.build(config)
  else:
    names = tuple(str(k) for k in range(CLASSES[job.model]))
    count = len(images)
    split = data.Split(
      labels=classes,
      ids=names[:count],
      placement="host",
      rows=np.arange(count),
      store=images,
      source=None,
      size=job.size,
      resize="crop",
    )
    datasets = data.Datasets(split, split, None, names, {})
    with mock.patch.object(data, "load", return_value=datasets):
      exp = experiment.build(config)
  state, _ = exp.initial_state()
  step = parallel.train_step(make_train_step(exp.recipe, parallel.devices()))
  seed = parallel.replicate(np.uint32(0))
  arrays = {}
  if real:
    arrays = parallel.replicate(data.device_arrays(exp.datasets.train))
    batches = data.train_batches(
      exp.datasets.train, job.batch, seed=0, place=parallel.shard
    )
  else:
    batch = parallel.shard({"image": images, "label": classes})
    batches = itertools.repeat(batch)

  def run(steps: int) -> None:
    nonlocal state
    pending = None
    for _ in range(steps):
      state, measured = step(state, seed, arrays, next(batches))
      if pending:
        jax.device_get(pending)
      pending = measured
    jax.block_until_ready(state)

  return run


def pytorch(job: argparse.Namespace, compiled: bool) -> Run:
  import torch

  from tests import pytorch_resnet

  torch.set_flush_denormal(True)  # As XLA does.
  gpu = torch.cuda.is_available()
  device = "cuda" if gpu else "cpu"
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision("high")
  count = CLASSES[job.model]
  if job.model == "resnet50":
    net = pytorch_resnet.make((3, 4, 6, 3), True, count)
  else:
    net = pytorch_resnet.make((1, 1, 1), False, count, 16, small_images=True)
  net = net.train().to(device, memory_format=torch.channels_last)
  groups = [
    {
      "params": [p for p in net.parameters() if (p.ndim > 1) == decays],
      "weight_decay": WEIGHT_DECAY if decays else 0,
    }
    for decays in (True, False)
  ]
  optimizer = torch.optim.SGD(
    groups, LEARNING_RATE, momentum=0.9, nesterov=True, fused=True
  )
  mean, std = (
    torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (MEAN, STD)
  )
  images, classes = (torch.from_numpy(x).to(device) for x in synthetic(job))
  size, last = job.size, job.size - 1
  example = torch.arange(job.batch, device=device)[:, None, None]
  line = torch.arange(size, device=device)

  def shifted() -> torch.Tensor:
    shift = torch.randint(-PADDING, PADDING + 1, (job.batch, 1), device=device)
    return last - (last - (line + shift).abs()).abs()

  def augmented(images: torch.Tensor) -> torch.Tensor:
    rows, columns = shifted(), shifted()
    coins = torch.rand(job.batch, 1, device=device) < 0.5
    columns = torch.where(coins, columns.flip(1), columns)
    moved = images[example, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).float().div_(255)

  def cutmix(images, labels):
    """As torchvision's."""
    lam = np.random.beta(1.0, 1.0)
    centre = np.random.randint(0, size, 2)
    half = int(0.5 * (1 - lam) ** 0.5 * size)
    top, left = np.clip(centre - half, 0, size)
    bottom, right = np.clip(centre + half, 0, size)
    box = (..., slice(top, bottom), slice(left, right))
    images[box] = images.roll(1, 0)[box]
    lam = 1 - (bottom - top) * (right - left) / size**2
    return images, lam * labels + (1 - lam) * labels.roll(1, 0)

  def loss(images, labels):
    with torch.autocast(device, torch.bfloat16, enabled=gpu):
      logits = net(images)[-1]
    return torch.nn.functional.cross_entropy(logits.float(), labels)

  if compiled:
    loss = torch.compile(loss)

  def run(steps: int) -> None:
    for _ in range(steps):
      labels = torch.nn.functional.one_hot(classes, count).float()
      mixed, labels = cutmix(augmented(images), labels)
      loss(mixed.sub_(mean).div_(std), labels).backward()
      optimizer.step()
      optimizer.zero_grad()
    if gpu:
      torch.cuda.synchronize()

  return run


def keras_on_jax(job: argparse.Namespace) -> Run:
  """Layers that draw hold their seeds; the jitted function threads them."""
  import jax
  import jax.numpy as jnp
  import keras

  if jax.default_backend() != "cpu":
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
  count = CLASSES[job.model]
  net = keras.applications.ResNet50(
    weights=None,
    input_shape=(job.size, job.size, 3),
    classes=count,
    classifier_activation=None,
  )
  shift = PADDING / job.size
  layers = keras.layers
  translate = layers.RandomTranslation(shift, shift, interpolation="nearest")
  flip, mixer = layers.RandomFlip("horizontal"), layers.CutMix(1.0)
  normalise = layers.Normalization(
    mean=[255 * x for x in MEAN], variance=[(255 * x) ** 2 for x in STD]
  )
  drawing = [x.generator.state for x in (translate, flip, mixer)]
  optimizer = keras.optimizers.SGD(
    LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
  )
  optimizer.build(net.trainable_variables)
  loss_of = keras.losses.CategoricalCrossentropy(from_logits=True)

  def batch_of(seeds, images, classes):
    mapping = list(zip(drawing, seeds, strict=True))
    with keras.StatelessScope(state_mapping=mapping) as scope:
      x = translate(images.astype(jnp.float32), training=True)
      x = flip(x, training=True)
      labels = jax.nn.one_hot(classes, count)
      mixed = mixer({"images": x, "labels": labels}, training=True)
      x = normalise(mixed["images"])
    seeds = [scope.get_current_value(variable) for variable in drawing]
    return x, mixed["labels"], seeds

  def forward(params, others, images, labels):
    logits, others = net.stateless_call(params, others, images, training=True)
    return loss_of(labels, logits.astype(jnp.float32)), others

  @jax.jit(donate_argnums=0)
  def step(state, images, classes):
    params, others, moments, seeds = state
    images, labels, seeds = batch_of(seeds, images, classes)
    gradient = jax.grad(forward, has_aux=True)
    gradients, others = gradient(params, others, images, labels)
    params, moments = optimizer.stateless_apply(moments, gradients, params)
    return params, others, moments, seeds

  lists = (
    net.trainable_variables,
    net.non_trainable_variables,
    optimizer.variables,
    drawing,
  )
  state = jax.tree.map(jnp.copy, tuple([v.value for v in x] for x in lists))
  images, classes = (jnp.asarray(x) for x in synthetic(job))

  def run(steps: int) -> None:
    nonlocal state
    for _ in range(steps):
      state = step(state, images, classes)
    jax.block_until_ready(state)

  return run


def synthetic(job: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
  generator = np.random.default_rng(0)
  shape = (job.batch, job.size, job.size, 3)
  images = generator.integers(0, 256, shape, np.uint8)
  return images, np.arange(job.batch) % CLASSES[job.model]


def measure(job: argparse.Namespace) -> dict[str, float]:
  """What one process does: a few steps to get warm, and those that count."""
  if job.work == "matrix":
    return machine_and_model(job)
  system, _, variant = job.work.partition("-")
  if system == "pytorch":
    run = pytorch(job, variant == "compiled")
  elif system == "keras":
    run = keras_on_jax(job)
  else:
    run = ours(job, variant)
  begin = time.perf_counter()
  run(1)
  first = time.perf_counter() - begin
  run(2)
  peak = pathlib.Path("/proc/self/clear_refs")
  if peak.exists():
    peak.write_text("5")
  begin = time.perf_counter()
  run(job.steps)
  step = (time.perf_counter() - begin) / job.steps
  return {"step": step, "compile": first - step, "memory": peak_memory()}


def peak_memory() -> float:
  """In bytes; NaN where the system does not tell."""
  if "torch" in sys.modules:
    import torch

    if torch.cuda.is_available():
      return torch.cuda.max_memory_allocated()
  if "jax" in sys.modules:
    import jax

    if jax.default_backend() == "gpu":
      return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
  status = pathlib.Path("/proc/self/status")
  lines = status.read_text().splitlines() if status.exists() else []
  for line in lines:
    if line.startswith("VmHWM"):
      return 1024 * int(line.split()[1])
  return float("nan")


def machine_and_model(job: argparse.Namespace) -> dict[str, float]:
  """FLOP/s of a large matrix product, and FLOPs of a step for an image."""
  import jax
  import jax.numpy as jnp

  gpu = jax.default_backend() == "gpu"
  side = 8192 if gpu else 2048
  x = jnp.ones((side, side), jnp.bfloat16 if gpu else jnp.float32)
  product = jax.jit(lambda x: x @ x)
  jax.block_until_ready(product(x))
  seconds = []
  for _ in range(10):
    begin = time.perf_counter()
    jax.block_until_ready(product(x))
    seconds.append(time.perf_counter() - begin)
  return {
    "matrix": 2 * side**3 / min(seconds),
    "v1": 3 * forward_flops(job, "v1"),
    "v1.5": 3 * forward_flops(job, "v1.5"),
  }


def forward_flops(job: argparse.Namespace, version: str) -> float:
  """Of the convolutions and the head, for one image."""
  import jax
  import jax.numpy as jnp
  from flax import linen as nn

  from mixaug_jax import models
  from mixaug_jax.models import convolution

  model = models.create_model(job.model, CLASSES[job.model], version=version)
  total = 0

  def count(call, args, kwargs, context):
    nonlocal total
    out = call(*args, **kwargs)
    if isinstance(context.module, convolution.Conv):
      total += 2 * out.size * context.module.size**2 * args[0].shape[-1]
    elif isinstance(context.module, nn.Dense):
      total += 2 * out.size * args[0].shape[-1]
    return out

  def trace():
    images = jnp.zeros((1, job.size, job.size, 3))
    return model.init(jax.random.key(0), images, train=False)

  with nn.intercept_methods(count):
    jax.eval_shape(trace)
  return total


def elsewhere(work: str, job: dict[str, str | int]) -> dict[str, float] | None:
  """`measure` in a process of its own; None, and why on stderr, if it fails."""
  argv = [sys.executable, "-m", "benchmarks.train_step", f"--work={work}"]
  argv += [f"--{key}={value}" for key, value in job.items()]
  cache = pathlib.Path(job["cache_dir"])
  caches = {
    "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
    "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
    "TRITON_CACHE_DIR": str(cache / "triton"),
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }
  done = subprocess.run(
    argv,
    cwd=input_pipeline.ROOT,
    env={**os.environ, **caches},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    print(f"{work}: failed\n{done.stderr[-2000:]}", file=sys.stderr)
    return None
  return json.loads(done.stdout.splitlines()[-1])


def table(job: dict[str, str | int], systems: list[str], rounds: int) -> None:
  """Measures a model, size and batch, and prints what came of it."""
  with tempfile.TemporaryDirectory() as cache_dir:
    job = {**job, "cache_dir": cache_dir}
    machine = elsewhere("matrix", job)
    taken = {name: [] for name in systems}
    for _, name in itertools.product(range(rounds), systems):
      measured = elsewhere(name, job)
      if measured:
        taken[name].append(measured)
  taken = {name: of for name, of in taken.items() if of}
  rates = {
    name: sorted(job["batch"] / x["step"] for x in of)
    for name, of in taken.items()
  }
  median = {name: statistics.median(x) for name, x in rates.items()}
  base = median.get("ours", float("nan"))
  print(
    f"\n{job['model']}, {job['size']} px, batch {job['batch']}: images/s, "
    f"median of {rounds} rounds (lowest to highest); a matrix product reaches "
    f"{machine['matrix'] / 1e12:.3g} TFLOP/s\n"
    "\n| | images/s | ours is faster by | of the matrix rate | peak memory, GB "
    "| compile, s |\n|---|---|---|---|---|---|"
  )
  for name, of in taken.items():
    flops = machine["v1" if name == "keras" else "v1.5"]
    low, high = rates[name][0], rates[name][-1]
    memory = statistics.median(x["memory"] for x in of) / 1e9
    print(
      f"| {TITLES[name]} | {median[name]:,.1f} ({low:,.1f} to {high:,.1f}) "
      f"| {base / median[name]:.2f} "
      f"| {flops * median[name] / machine['matrix']:.1%} "
      f"| {memory:.2f} | {of[0]['compile']:.0f} |"
    )


def default_systems(model: str, gpu: bool) -> list[str]:
  """Those that can run here."""
  systems = list(TITLES) if gpu else list(TITLES)[:4]
  if model != "resnet50":
    systems.remove("keras")
  for name in list(systems):
    package = PACKAGES.get(name)
    if package and not importlib.util.find_spec(package):
      print(f"{name}: left out, {package} is missing", file=sys.stderr)
      systems.remove(name)
  return systems


def has_gpu() -> bool:
  """Asked in another process: this one must not take the GPU's memory."""
  code = "import jax; print(jax.default_backend())"
  told = subprocess.run(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
  )
  return told.stdout.strip() == "gpu"


def main() -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--rounds", type=int, default=5)
  flags.add_argument("--steps", type=int, help="a round")
  flags.add_argument("--systems", help=f"of {', '.join(TITLES)}")
  flags.add_argument("--model", choices=tuple(CLASSES))
  flags.add_argument("--size", type=int, help="pixels a side")
  flags.add_argument("--batch", type=int)
  flags.add_argument(
    "--folder",
    type=pathlib.Path,
    default=pathlib.Path(tempfile.gettempdir(), "mixaug_jax-photographs"),
    help="where photographs are made, on a GPU",
  )
  # Of the processes that this one starts.
  flags.add_argument("--work", help=argparse.SUPPRESS)
  flags.add_argument("--cache_dir", help=argparse.SUPPRESS)
  arguments = flags.parse_args()
  if arguments.work:
    print(json.dumps(measure(arguments)))
    return
  gpu = has_gpu()
  packages = ("jax", "flax", "optax", "torch", "keras", "numpy")
  print(input_pipeline.machine(packages))
  for model, size, batch, steps in ON_GPU if gpu else ON_CPU:
    if arguments.model not in (None, model):
      continue
    systems = default_systems(model, gpu)
    if arguments.systems:
      asked = arguments.systems.split(",")
      systems = [name for name in asked if name in systems or "-" in name]
    folder = arguments.folder
    if {"ours-host", "ours-device"} & set(systems):
      folder = input_pipeline.make_folder(folder, PHOTOGRAPHS)
    job = {
      "model": model,
      "size": arguments.size or size,
      "batch": arguments.batch or batch,
      "steps": arguments.steps or steps,
      "folder": folder,
    }
    table(job, systems, arguments.rounds)
    sys.stdout.flush()


if __name__ == "__main__":
  main()
