"""Broken flags, files and run directories through the commands themselves.

`FUZZ=400 python -m pytest -n 0 -s tests/fuzz` prints the number of trials. Most
call the function of the command in this process; some start a process.
"""

import io
import json
import os
import pathlib
import pickle
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mixaug_jax.command import exits, start
from mixaug_jax.data.digits import Digits

ROOT = pathlib.Path(__file__).parent.parent.parent
COUNT = int(os.environ.get("FUZZ", "200"))
SECONDS = 60.0  # Processor time of a command, on a busy machine too.
CONFIG = f"--config={ROOT}/configs/cutmix.py"
SMALL = (
  "--config.steps=2",
  "--config.batch_size=48",
  "--config.evaluate.batch_size=252",
)
COMPARISON = """
from configs import compare

def get_config():
  config = compare.get_config()
  config.base.steps = 2
  config.base.epochs = None
  config.base.batch_size = 48
  config.base.evaluate.batch_size = 252
  config.seeds = 1
  config.tune.trials = 0
  config.arms = {"baseline": {}, "cut": {"mix": {"name": "cutmix"}}}
  return config
"""


class _Hostile:
  """Makes a file in the current directory when it is unpickled."""

  def __reduce__(self):
    return (pathlib.Path.touch, (pathlib.Path("code_was_run"),))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
  """A folder with a run, a comparison, images and broken configs."""
  root = tmp_path_factory.mktemp("good")
  (root / "compare.py").write_text(COMPARISON)
  for name, text in {
    "syntax": "def get_config(:",
    "raises": "1 / 0",
    "empty": "",
    "no_config": "get_config = dict",
    "none": "def get_config():\n  raise ValueError('no\\nway')",
    "binary": "\0\1",
  }.items():
    (root / f"{name}.py").write_text(text)
  Image.new("RGB", (9, 7), "red").save(root / "red.png")
  (root / "broken.png").write_bytes((root / "red.png").read_bytes()[:40])
  (root / "empty.jpg").write_bytes(b"")
  (root / "no_images").mkdir()
  (root / "folder.safetensors").mkdir()
  (root / "a_file").write_text("")
  (root / "kept.safetensors").write_text("of the user")
  (root / "link.safetensors").symlink_to("a_file")
  (root / "linked").symlink_to(".")
  for arguments in (
    ["train", CONFIG, *SMALL, f"--workdir={root}/run"],
    *(
      [
        *("compare", f"--config={root}/compare.py"),
        *(f"--workdir={root}/runs", f"--only={arm}/0"),
      ]
      for arm in ("baseline", "cut")
    ),
  ):
    start.call(arguments[0], arguments[1:])
  return root


@pytest.fixture
def here(good, tmp_path, monkeypatch):
  """A copy of `good` as the current directory."""
  shutil.copytree(good, tmp_path, symlinks=True, dirs_exist_ok=True)
  monkeypatch.chdir(tmp_path)
  return tmp_path


def _call(capsys, monkeypatch, command, *argv):
  """Returns the exit code and stderr of a command that raises nothing."""
  monkeypatch.setattr(sys, "argv", [command, *argv])
  begin = time.process_time()
  with pytest.raises(SystemExit) as left:
    exits.run(lambda argv: start.call(command, argv))
  assert time.process_time() - begin < SECONDS
  return left.value.code, capsys.readouterr().err


def _assert_one_sentence(stderr, *context):
  sentences = [x for x in stderr.splitlines() if x.startswith("mixaug_jax: ")]
  assert len(sentences) == 1, (context, stderr)
  assert len(sentences[0]) > 20, (context, stderr)
  assert "Traceback" not in stderr, (context, stderr)


def _files(root):
  return {
    str(path): path.stat().st_mtime_ns
    for path in root.rglob("*")
    if not path.is_dir()
  }


# The valid and the invalid values of the flags of each command.
FLAGS = {
  "train": {
    "--config": (
      [CONFIG.partition("=")[2]],
      [
        *("", "gone.py", "no_images", "a_file", "syntax.py", "raises.py"),
        *("empty.py", "no_config.py", "none.py", "binary.py", "/dev/null"),
        *(f"{ROOT}/configs/cutmix.py:nothing", "compare.py", "a" * 300),
      ],
    ),
    "--workdir": (
      ["new"],
      ["", "a_file", "a_file/run", "/proc/run", "a" * 300, "/dev/null/x"],
    ),
    "--config.batch_size": (["48"], ["0", "-4", "1e99", "ten", "", "47"]),
    "--config.steps": (["2"], ["0", "nan", "1.5", "1,5", "²"]),
    "--config.data.name": (
      ["digits"],
      ["folder", "tfds:no_such_set", "imagenet", ""],
    ),
    "--config.data.dir": (["no_images"], None),
    "--config.model.pretrained": (
      ["none"],
      [
        "gone.npz",
        "timm/../../x",
        "a_file",
        "torchvision",
        "folder.safetensors",
      ],
    ),
    "--config.mix.alpha": (["1"], ["0", "-1", "nan", "inf", "a"]),
    "--num_processes": (None, ["2", "0", "x", "-1"]),
    "--coordinator_address": (None, ["localhost", "localhost:1", ":", "::1"]),
    "--process_id": (None, ["1", "-1", "x"]),
    "--wrokdir": (None, ["x"]),
    "--config.batch_sze": (None, ["48"]),
    "--config.augment": (None, ["none"]),
  },
  "evaluate": {
    "--workdir": (["run"], ["gone", "a_file", "no_images", "runs", ""]),
    "--split": (["test"], ["tset", "", "train,test"]),
    "--views": (["identity"], ["", "flop", "flip,flip", "identity,", ","]),
    "--average": (["logits"], ["mean", ""]),
    "--config.seed": (None, ["1"]),
  },
  "predict": {
    "": (["red.png"], ["gone.png", "broken.png", "empty.jpg", "no_images"]),
    "--workdir": (["run"], ["gone", "a_file", "runs"]),
    "--output": (
      ["out"],
      ["a_file", "a_file/x", "/proc/x", ".", "linked"],
    ),
    "--stage": (["stage2"], ["stage9", "", "head"]),
    "--views": (["flip"], ["flop", "x" * 1000]),
  },
  "export": {
    "--workdir": (["run"], ["gone", "a_file", "runs"]),
    "--format": (["safetensors"], ["onnx", "", "keras", "torchvision"]),
    "--output": (
      ["w.safetensors"],
      [
        "w.pth",
        "gone/w.safetensors",
        "folder.safetensors",
        "/proc/w.safetensors",
        "kept.safetensors",
        "link.safetensors",
      ],
    ),
  },
  "preview": {
    "--config": ([f"{ROOT}/configs/mixup.py"], ["gone.py", "syntax.py"]),
    "--output": (
      ["p.png"],
      ["gone/p.png", "p", "p.xyz", "no_images", "/proc/p.png", "red.png"],
    ),
    "--step": (["0"], ["-1", "x", "1e3"]),
    "--count": (["2"], ["0", "-3", "x"]),
    "--config.mix.name": (["mixup"], ["cutmx", "", "mixup:x", "mixup,,"]),
  },
  "lr_range": {
    "--config": ([f"{ROOT}/configs/mixup.py"], ["gone.py", "syntax.py"]),
    "--output": (["l.png"], ["gone/l.png", "l", "l.csv", "red.png"]),
    "--steps": (["10"], ["9", "-1", "x", "1e3"]),
    "--min": (["1e-3"], ["0", "-1", "x", "nan", "2"]),
    "--max": (["1"], ["inf", "1e-4", ""]),
  },
  "report": {
    "--workdir": (["run"], ["gone", "a_file", "no_images", "runs", ""]),
    "--config.seed": (None, ["1"]),
  },
  "compare": {
    "--config": (["compare.py"], ["gone.py", f"{ROOT}/configs/mixup.py"]),
    "--workdir": (["runs"], ["a_file", "a_file/runs"]),
    "--report_only": ([None], ["--only=baseline/0", "--dry_run"]),
    "--only": (None, ["baseline", "none/0", "baseline/7", "../../x/0"]),
    "--config.seeds": (["1"], ["0", "x", "-1"]),
    "--config.goal": (["0.05"], ["0", "2", "nan"]),
    "--config.baseline": (["baseline"], ["none", "cutt"]),
    "--config.arms.cut": (None, ["x", "", "'", "mix.name=cutmix"]),
    "--config.arms.cut.mix.alpha": (["none"], ["x", "", "1,5"]),
    "--config.arms.cut.seed": (None, ["1", "x"]),
    "--config.arms.cut.a": (None, ["b"]),
    "--config.arms.cat.mix.alpha": (None, ["1"]),
  },
  "data": {
    "--info": ([None], None),
    "--cache_dir": (["no_images"], ["a_file", "a_file/x", "/proc/1/mem"]),
    "--clear": (None, [None]),
  },
}


def _broken_flags(rng):
  """Returns a command line with one or two invalid flags."""
  command = rng.choice(sorted(FLAGS))
  flags = FLAGS[command]
  wrong = [name for name, (_, bad) in flags.items() if bad]
  broken = set(rng.sample(wrong, rng.choice((1, 1, 2)) if wrong[1:] else 1))
  argv = []
  for name, (right, bad) in flags.items():
    if name in broken:
      value = rng.choice(bad)
    elif right:
      value = rng.choice(right)
    else:
      continue
    if value is None:
      argv.append(name)
    elif value.startswith("--"):
      argv += [name, value]  # Two that exclude each other.
    else:
      argv.append(f"{name}={value}" if name else value)
  return command, argv


def _always(command):
  return SMALL[2:] if command == "train" else ()


def test_broken_flags(here, capsys, monkeypatch):
  rng = random.Random(6)
  before = _files(here)
  tried = max(1, COUNT // 4)
  for number in range(tried):
    command, argv = _broken_flags(rng)
    code, stderr = _call(capsys, monkeypatch, command, *argv, *_always(command))
    assert code == 2, (number, command, argv, stderr)
    _assert_one_sentence(stderr, number, command, argv)
  assert _files(here) == before
  with capsys.disabled():
    print(f"\nfuzz: flags: {tried} tried, all refused")


def test_broken_flags_in_a_separate_process(here, capsys):
  rng = random.Random(7)
  before = _files(here)
  tried = max(2, COUNT // 40)
  for number in range(tried):
    command, argv = _broken_flags(rng)
    begin = os.times()
    done = subprocess.run(
      [
        *(sys.executable, "-m", f"mixaug_jax.{command}"),
        *(*argv, *_always(command)),
      ],
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
      timeout=1200,
    )
    end = os.times()
    assert end.children_user - begin.children_user < SECONDS
    assert done.returncode == 2, (number, command, argv, done.stderr)
    _assert_one_sentence(done.stderr, number, command, argv)
  assert _files(here) == before
  with capsys.disabled():
    print(f"\nfuzz: flags, own process: {tried} tried, all refused")


def _break_json(path, rng):
  """Removes or replaces one value, somewhere in the tree."""
  tree = json.loads(path.read_text())
  places = []

  def walk(node):
    for key in node if isinstance(node, dict) else range(len(node)):
      places.append((node, key))
      if isinstance(node[key], dict | list):
        walk(node[key])

  walk(tree)
  node, key = rng.choice(places)
  if rng.random() < 0.3:
    del node[key]
  else:
    node[key] = rng.choice([None, -1, 1e99, "", "a\nb", [], {}, [[1]], True])
  path.write_text(json.dumps(tree))


def _break_npz(path, rng):
  """Changes shapes, types or names; or writes an array that needs pickle."""
  with np.load(path) as file:
    arrays = {name: file[name] for name in file.files}
  name = rng.choice(sorted(arrays))
  kind = rng.randrange(6)
  if kind == 0:
    del arrays[name]
  elif kind == 1:
    arrays[name] = arrays[name][:-1]
  elif kind == 2:
    arrays[name] = arrays[name].astype(object)
  elif kind == 3:
    arrays[name] = np.float64(3)
  elif kind == 4:
    arrays["labels"] = arrays["labels"] + 9
  else:
    arrays[name] = np.array([_Hostile()], object)
  np.savez(path, **arrays)


def _break(path, rng):
  """Damages a file of a run in one of many ways."""
  kind = rng.randrange(8)
  if kind == 0:
    path.unlink()
  elif kind == 1:
    path.write_bytes(b"")
  elif kind == 2:
    path.unlink()
    path.mkdir()
  elif kind == 3:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
  elif kind == 4:
    path.write_bytes(pickle.dumps(_Hostile()))
  elif path.suffix == ".json" and path.parent.name != "checkpoints":
    _break_json(path, rng)
  elif path.suffix == ".npz":
    _break_npz(path, rng)
  else:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def _reading(command, run):
  """A command line that reads a run directory."""
  return {
    "train": [CONFIG, *SMALL, f"--workdir={run}"],
    "evaluate": [f"--workdir={run}"],
    "predict": [f"--workdir={run}", "red.png"],
    "export": [f"--workdir={run}", "--format=safetensors"],
    "report": [f"--workdir={run}"],
    "compare": ["--config=compare.py", "--workdir=runs", "--report_only"],
  }[command]


def test_broken_run_directories(here, capsys, monkeypatch):
  rng = random.Random(8)
  refused, tried = 0, max(2, COUNT // 20)
  for number in range(tried):
    command = rng.choice(
      ["train", "evaluate", "predict", "export", "report", "compare"]
    )
    whole = here / ("run" if command != "compare" else "runs/cut/seed_0")
    kept = here / "kept"
    shutil.copytree(whole, kept)
    files = [
      path
      for path in sorted(whole.rglob("*"))
      if path.is_file() and not path.name.startswith((".", "events"))
    ]
    top = [path for path in files if path.parent == whole]
    victim = rng.choice(top if rng.random() < 0.6 else files)
    _break(victim, rng)
    outside = _files(here).keys() - _files(whole).keys()
    code, stderr = _call(
      capsys, monkeypatch, command, *_reading(command, "run")
    )
    context = (number, command, str(victim), stderr)
    assert code in (0, 2), context
    if code == 2:
      refused += 1
      _assert_one_sentence(stderr, *context)
    assert not (here / "code_was_run").exists(), context
    if command != "compare":  # Which writes its page.
      assert _files(here).keys() - _files(whole).keys() == outside, context
    shutil.rmtree(whole)
    kept.rename(whole)
  with capsys.disabled():
    print(
      f"\nfuzz: run directories, by command: {tried} tried, {refused} refused"
    )


def test_readers_of_a_checkpoint_notice_a_flipped_bit(
  here, capsys, monkeypatch
):
  files = (x for x in (here / "run" / "checkpoints").rglob("*") if x.is_file())
  largest = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 4
  largest.write_bytes(content)
  for command in ("evaluate", "predict", "export"):
    code, stderr = _call(
      capsys, monkeypatch, command, *_reading(command, "run")
    )
    assert code == 2, stderr
    assert "checkpoints/2 is damaged" in stderr


def test_small_weight_files_that_claim_to_be_huge_are_refused(
  here, capsys, monkeypatch
):
  h5py = pytest.importorskip("h5py")
  with h5py.File("huge.h5", "w") as file:
    file.create_dataset(
      "conv1_conv/conv1_conv/kernel:0",
      shape=(2**40,),
      dtype="f4",
      chunks=(2**20,),
      compression="gzip",
    )
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    header, {"descr": "<f4", "fortran_order": False, "shape": (2**42,)}
  )
  import zipfile

  with zipfile.ZipFile("huge.npz", "w") as archive:
    archive.writestr("conv1_conv/kernel.npy", header.getvalue())
  with zipfile.ZipFile("bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("conv1_conv/kernel.npy", header.getvalue() + bytes(10**8))
  with zipfile.ZipFile("bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("archive/data.pkl", bytes(10**8))
  for name in ("huge.h5", "huge.npz", "bomb.npz", "bomb.pth"):
    code, stderr = _call(
      *(capsys, monkeypatch, "train", CONFIG, *SMALL, "--workdir=new"),
      *("--config.model.name=resnet18", f"--config.model.pretrained={name}"),
    )
    assert code == 2, stderr
    assert f"the weight file {name} cannot be read" in stderr
    assert not (here / "new").exists()
    assert len(stderr.splitlines()) == 1, stderr


def test_a_report_escapes_what_it_shows(here, capsys, monkeypatch):
  hostile = "<script>alert('x')</script>&\"<img src=x>$\\frac{$_^%"
  names = [*"012", hostile, *"456789"]
  monkeypatch.setattr(Digits, "class_names", tuple(names))
  for arm in ("baseline", "cut"):
    run = here / "runs" / arm / "seed_0"
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(data | {"class_names": names}))
    path = run / "result.json"
    result = json.loads(path.read_text())
    result["class_names"] = names
    result |= {"device_kind": hostile, "xla_flags": hostile, "commit": hostile}
    result["versions"][hostile] = hostile
    path.write_text(json.dumps(result))
  (here / "runs").rename(here / "<b>runs")
  code, stderr = _call(
    *(capsys, monkeypatch, "compare", "--config=compare.py"),
    *("--workdir=<b>runs", "--report_only"),
  )
  assert code == 0, stderr
  page = (here / "<b>runs" / "report.html").read_text("utf-8")
  assert "&lt;script&gt;alert" in page
  for raw in ("<script>alert", "<img src=x>", "<b>runs"):
    assert raw not in page
