"""How fast is a whole training step, beside PyTorch and Keras?

    pip install torch keras     # Measured only; either may be missing.
    python -m benchmarks.train_step [--rounds=5] [--steps=N]
      [--systems=ours,pytorch] [--model=resnet50 --size=128 --batch=8]

A uint8 batch goes in; it is cropped at random out of 4 reflected pixels,
mirrored at random, mixed by CutMix, normalised, and sent forward and backward;
SGD with Nesterov momentum and weight decay updates the parameters, and batch
norm its statistics. On a CPU in float32; on a GPU in bfloat16, where each table
has more rows: without augmentation, and with real data.

A system runs in a process of its own, and the systems alternate; every round
starts a new process, with a compilation cache. "Compile" is the time of the
first step less that of a later one in the first round, when the cache was
empty. "Of the matrix rate" is model FLOP/s, three times those of the forward
pass, over what one large matrix product reaches. Peak memory is that of the
GPU, or what is resident on a CPU after the first steps.

PyTorch: channels_last, fused SGD, on a GPU autocast; with and without
`torch.compile`. Keras: `keras.applications.ResNet50` and Keras's layers in one
jitted function on the JAX backend. It is the v1 network, of fewer FLOPs.
"""

import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import harness, peers

FEW_PHOTOGRAPHS, PHOTOGRAPHS = 20, 5000
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
REAL = {"ours-host", "ours-device"}
GPU_ONLY = {"ours-plain", *REAL}  # Unless asked for by name.
PACKAGES = {"pytorch": "torch", "pytorch-compiled": "torch", "keras": "keras"}

Job = dict[str, Any]


def measure(name: str, job: Job) -> dict[str, float]:
  """Returns the figures of a system: after a few steps, those that count."""
  system, _, variant = name.partition("-")
  classes = CLASSES[job["model"]]
  images = (job["batch"], job["size"], classes)
  if system == "pytorch":
    run = peers.torch_steps(
      job["model"], *images, augment=True, compiled=variant == "compiled"
    )
  elif system == "keras":
    run = peers.keras_steps(*images)
  else:
    run = ours(job, variant, images)
  first = harness.seconds(lambda: run(1))
  run(2)
  harness.reset_peak_memory()
  step = harness.seconds(lambda: run(job["steps"])) / job["steps"]
  return {"step": step, "compile": first - step, "memory": peak_memory()}


def ours(
  job: Job, variant: str, images: tuple[int, int, int]
) -> Callable[[int], None]:
  """Returns our steps: `plain`, or on the real data of a placement."""
  real = variant in ("host", "device")
  overrides = settings(job, variant == "plain")
  overrides["data.placement"] = variant if real else "host"
  random = None if real else images
  return harness.our_steps("cutmix.py:folder", overrides, random)


def settings(job: Job, plain: bool) -> dict[str, Any]:
  """Returns overrides of a recipe; `plain` neither augments nor mixes."""
  return {
    "data.dir": job["folder"],
    "data.cache_dir": job["cache_dir"],
    "data.image_size": job["size"],
    "data.cache_size": job["size"],
    "augment.random_crop.padding": None if plain else harness.PADDING,
    "augment.random_flip_left_right.probability": None if plain else 0.5,
    "mix.name": "none" if plain else "cutmix",
    "mix.alpha": None if plain else 1.0,
    "model.name": job["model"],
    "model.pretrained": "none",
    "batch_size": job["batch"],
    "optimizer.learning_rate": peers.LEARNING_RATE,
    "optimizer.weight_decay": peers.WEIGHT_DECAY,
    "optimizer.warmup_epochs": 0,
  }


def peak_memory() -> float:
  """Returns bytes, of the GPU where one is in use."""
  if "torch" in sys.modules:
    import torch

    if torch.cuda.is_available():
      return torch.cuda.max_memory_allocated()
  if "jax" in sys.modules:
    import jax

    if jax.default_backend() == "gpu":
      return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
  return harness.memory("VmHWM")


def backend() -> str:
  import jax

  return jax.default_backend()


def machine_and_model(model: str, size: int) -> dict[str, float]:
  """Returns FLOP/s of a large matrix product, and FLOPs an image of a step."""
  import jax
  import jax.numpy as jnp

  gpu = jax.default_backend() == "gpu"
  side = 8192 if gpu else 2048
  x = jnp.ones((side, side), jnp.bfloat16 if gpu else jnp.float32)
  product = jax.jit(lambda x: x @ x)
  multiply = lambda: jax.block_until_ready(product(x))
  multiply()
  seconds = min(harness.seconds(multiply) for _ in range(10))
  flops = {v: 3 * forward_flops(model, size, v) for v in ("v1", "v1.5")}
  return {"matrix": 2 * side**3 / seconds, **flops}


def forward_flops(name: str, size: int, version: str) -> float:
  """Returns those of the convolutions and the head, for one image."""
  import jax
  import jax.numpy as jnp
  from flax import linen as nn

  from mixaug_jax import models

  model = models.create_model(name, CLASSES[name], version=version)
  images = jnp.zeros((1, size, size, 3))
  total = 0

  def count(call, args, kwargs, context):
    nonlocal total
    out = call(*args, **kwargs)
    kernel = context.module.get_variable("params", "kernel")
    if kernel is not None:  # [..., inputs, outputs]
      total += 2 * out.size * math.prod(kernel.shape[:-1])
    return out

  with nn.intercept_methods(count):
    jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
  return total


def elsewhere(name: str, job: Job) -> dict[str, float]:
  """Returns `measure` of a new process, which finds what others compiled."""
  caches = {
    "JAX_COMPILATION_CACHE_DIR": "jax",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
  }
  paths = {key: f"{job['cache_dir']}/{x}" for key, x in caches.items()}
  return harness.child(measure, name, job, **paths)


def table(job: Job, systems: list[str], rounds: int) -> None:
  """Measures a model, size and batch, and prints the figures.

  A system that fails is left out, with the reason on stderr.
  """
  taken = {name: [] for name in systems}

  def one(name: str) -> None:
    try:
      taken[name].append(elsewhere(name, job))
    except RuntimeError as error:
      print(error, file=sys.stderr)

  machine = harness.child(machine_and_model, job["model"], job["size"])
  with tempfile.TemporaryDirectory() as cache_dir:
    job = {**job, "cache_dir": cache_dir}
    harness.in_turns(rounds, systems, one)
  rates = {
    name: [job["batch"] / x["step"] for x in figures]
    for name, figures in taken.items()
    if figures
  }
  base = statistics.median(rates["ours"]) if "ours" in rates else None
  print(
    f"\n{job['model']}, {job['size']} px, batch {job['batch']}: images/s, "
    f"median of {rounds} rounds (lowest to highest); a matrix product reaches "
    f"{machine['matrix'] / 1e12:.3g} TFLOP/s"
  )
  harness.header(
    *("", "images/s", "ours is faster by", "of the matrix rate"),
    *("peak memory, GB", "compile, s"),
  )
  for name, values in rates.items():
    rate = statistics.median(values)
    flops = machine["v1" if name == "keras" else "v1.5"]
    harness.row(
      TITLES[name],
      harness.spread(values, ",.1f"),
      f"{base / rate:.2f}" if base else "",
      f"{flops * rate / machine['matrix']:.1%}",
      harness.cell(harness.medians(taken[name])["memory"], 1e9, ".2f"),
      f"{taken[name][0]['compile']:.0f}",
    )


def main() -> None:
  flags = harness.flags(__doc__, rounds=5, folder=True)
  flags.add_argument("--steps", type=int, help="a round")
  some = harness.some_of(TITLES)
  flags.add_argument("--systems", type=some, help=f"of {', '.join(TITLES)}")
  flags.add_argument("--model", choices=tuple(CLASSES))
  flags.add_argument("--size", type=int, help="pixels a side")
  flags.add_argument("--batch", type=int)
  arguments = flags.parse_args()
  # In a child process: this one must not take the GPU's memory.
  gpu = harness.child(backend) == "gpu"
  if not gpu:
    harness.use_cpu()
  print(harness.machine("jax", "flax", "optax", "torch", "keras", "numpy"))
  usual = [name for name in TITLES if gpu or name not in GPU_ONLY]
  systems = harness.installed(arguments.systems or usual, PACKAGES)
  count = PHOTOGRAPHS if REAL & set(systems) else FEW_PHOTOGRAPHS
  folder = harness.photographs(arguments.folder, count)
  for model, size, batch, steps in ON_GPU if gpu else ON_CPU:
    if arguments.model in (None, model):
      job = {
        "model": model,
        "size": arguments.size or size,
        "batch": arguments.batch or batch,
        "steps": arguments.steps or steps,
        "folder": str(folder),
      }
      # Keras has no small ResNet.
      chosen = [x for x in systems if x != "keras" or model == "resnet50"]
      table(job, chosen, arguments.rounds)


if __name__ == "__main__":
  main()
