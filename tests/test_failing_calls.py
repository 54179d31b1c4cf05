"""Every system call of a run may fail: a sentence, and the run goes on.

SQLite is tested like this: the n-th call on the run directory fails, for every
n. The suite tries one call for each error; `FAULTS=all python -m pytest -n 0 -s
tests/test_failing_calls.py` tries all calls and prints what happened.
"""

import collections
import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import orbax.checkpoint as ocp
import pytest

TESTS = pathlib.Path(__file__).parent
RUNS = TESTS / "data" / "runs"
FAULTS = os.environ.get("FAULTS")
HANG = 600.0  # Seconds after which a command hangs, on any machine.
ERRORS = ("EIO", "EROFS", "EDQUOT", "EACCES", "EFBIG", "ENOSPC")
# Four steps, two evaluations, two checkpoints, and an event file.
RUN = (
  "train",
  "--config=configs/baseline.py",
  "--config.model.name=tiny_model:Tiny",
  "--config.steps=4",
  "--config.batch_size=8",
  "--config.data.classes=2",
  "--config.data.examples_per_class=8",
  "--config.data.image_size=8",
  "--config.evaluate.every_epochs=1",
  "--config.checkpoint.every_steps=2",
  "--config.log.every_steps=1",
)

pytestmark = pytest.mark.skipif(
  sys.platform != "linux" or shutil.which("cc") is None,
  reason="needs Linux and a C compiler",
)


class Server:
  """Runs commands in forks of one process; see failing_calls.py."""

  def __init__(self, folder):
    self._folder = folder
    shim = folder / "failing_calls.so"
    source = TESTS / "failing_calls.c"
    subprocess.run(
      ["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True
    )
    path = os.pathsep.join(map(str, (TESTS.parent, RUNS)))
    self._process = subprocess.Popen(
      [sys.executable, TESTS / "failing_calls.py"],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      cwd=TESTS.parent,
      env={
        **os.environ,
        "LD_PRELOAD": str(shim),
        "PYTHONPATH": path,
        "XLA_FLAGS": "",
      },
    )

  def run(self, *argv, directory=None, nth=0, error=0, onwards=False):
    """Runs a command, of which a call may fail.

    Returns:
      The exit code, None for a hang; what it printed; and the calls on
      `directory`, each a list of its name, path and second path.
    """
    log, output = self._folder / "log", self._folder / "output"
    log.write_text("")
    arm = directory and (str(directory), nth, error, onwards, str(log))
    request = {"argv": argv, "output": str(output), "seconds": HANG, "arm": arm}
    self._process.stdin.write(json.dumps(request) + "\n")
    self._process.stdin.flush()
    code = json.loads(self._process.stdout.readline())
    calls = [line.split("\t") for line in log.read_text().splitlines()]
    return code, output.read_text(errors="replace"), calls

  def close(self):
    self._process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
  server = Server(tmp_path_factory.mktemp("server"))
  yield server
  server.close()


def _content(workdir):
  """Returns what a failure must not change."""
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").open("rb")]
  for row in rows:
    row.pop("images_per_second", None)
  result = json.loads((workdir / "result.json").read_text())
  timings = ("seconds", "compile_seconds", "evaluation_seconds")
  for timing in (*timings, "images_per_second"):
    del result[timing]
  logits = []
  for split in ("validation", "test"):
    with np.load(workdir / f"predictions_{split}.npz") as file:
      logits.append(file["logits"].tobytes())
  saved = ocp.PyTreeCheckpointer().restore(workdir / "checkpoints" / "4/state")
  kernel = np.asarray(saved["params"]["head"]["kernel"]).tobytes()
  names = sorted(
    str(path.relative_to(workdir))
    for path in workdir.rglob("*")
    if path.parent.name not in ("d", "array_metadatas")
    and not path.name.startswith("events.out.tfevents")
  )
  return {
    "rows": rows,
    "result": result,
    "logits": logits,
    "kernel": kernel,
    "names": names,
  }


def _differences(content, expected):
  return [name for name in expected if content[name] != expected[name]]


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
  """Returns the content of a run, and the calls on its directory."""
  workdir = tmp_path_factory.mktemp("undisturbed") / "run"
  flag = f"--workdir={workdir}"
  server.run(*RUN, flag)  # Compiles, so that the next one need not.
  shutil.rmtree(workdir)
  code, output, calls = server.run(*RUN, flag, directory=workdir)
  assert code == 0, output
  return _content(workdir), calls


def _chosen(calls):
  """Returns the numbers of the calls that are made to fail."""
  if FAULTS == "all":
    return range(1, len(calls) + 1)
  names = [name for name, *_ in calls]
  chosen = {1 + names.index("mkdir"), 1 + names.index("write")}
  for name, share in {
    "fsync": 0.3,
    "open": 0.5,
    "rename": 0.7,
    "close": 1,
  }.items():
    numbers = [n for n, other in enumerate(names, 1) if other == name]
    chosen.add(numbers[int(share * (len(numbers) - 1))])
  return sorted(chosen)


def test_the_failure_of_any_call_is_a_sentence_and_the_run_goes_on(
  server, undisturbed, tmp_path, capsys
):
  expected, calls = undisturbed
  wrong, outcomes = [], collections.Counter()
  for turn, nth in enumerate(_chosen(calls)):
    name = ERRORS[turn % len(ERRORS)]
    workdir = tmp_path / "run"
    flag = f"--workdir={workdir}"
    code, output, seen = server.run(
      *RUN, flag, directory=workdir, nth=nth, error=getattr(errno, name)
    )
    failed = next((call for call in seen if call[0].startswith("!")), None)
    sentences = [x for x in output.splitlines() if x.startswith("mixaug_jax: ")]
    if failed is None:
      outcome = "the run had fewer calls"
    elif code == 0 and not sentences:
      outcome = "finished"
    elif code == 2 and len(sentences) == 1 and str(workdir) in sentences[0]:
      outcome = "one sentence"
    else:
      outcome = "WRONG end"
    if "Traceback" in output:
      outcome = "WRONG: a traceback"
    code_of_resumed, output_of_resumed, _ = server.run(*RUN, flag)
    if code_of_resumed:
      outcome = "WRONG: not resumed"
    elif different := _differences(_content(workdir), expected):
      outcome = f"WRONG: other {different}"
    outcomes[name, outcome] += 1
    if outcome.startswith("WRONG"):
      wrong.append((outcome, nth, name, failed, code, output))
      wrong[-1] += (output_of_resumed,)
    shutil.rmtree(workdir)
  with capsys.disabled():
    for (name, outcome), count in sorted(outcomes.items()):
      print(f"\n{name}: {outcome}, {count} times", end="")
  assert not wrong, wrong[:5]


def test_a_disk_that_stays_unwritable_ends_the_run(
  server, undisturbed, tmp_path
):
  _, calls = undisturbed
  # From here on, the first checkpoint has no folder, and its threads no work.
  folders = [x.endswith("/2.orbax-checkpoint-tmp") for _, x, _ in calls]
  nth = 1 + folders.index(True)
  workdir = tmp_path / "run"
  flag = f"--workdir={workdir}"
  code, output, _ = server.run(
    *RUN, flag, directory=workdir, nth=nth, error=errno.EROFS, onwards=True
  )
  assert code == 2, output
  assert "Traceback" not in output
  (sentence,) = [x for x in output.splitlines() if "mixaug_jax: " in x]
  assert "Read-only file system; make the file system writable" in sentence


class _Disk:
  """What is not on the disk yet, after calls of a log."""

  def __init__(self):
    self.content = set()  # Files.
    self.names = set()  # Folders.

  def after(self, name, path, other):
    if name in ("write", "writev", "pwrite64"):
      self.content.add(path)
    elif name in ("fsync", "fdatasync", "unlink", "rmdir"):
      self.content.discard(path)
      self.names.discard(path)
    elif name == "mkdir" and os.path.basename(path) != "run":
      self.names.add(os.path.dirname(path))  # Unless it is out of sight.
    elif name == "rename":
      inside = lambda x: f"{x}/".startswith(f"{path}/")
      moved = lambda x: other + x[len(path) :] if inside(x) else x
      self.content = set(map(moved, self.content))
      self.names = {*map(moved, self.names), os.path.dirname(other)}


def test_what_a_file_refers_to_is_on_the_disk_before_it(undisturbed):
  _, calls = undisturbed
  disk, seen = _Disk(), set()
  own = {"commit_success.txt", "_CHECKPOINT_METADATA"}  # Of Orbax; no content.
  for call in calls:
    if call[0] == "mkdir" and call[1].endswith("/2.orbax-checkpoint-tmp"):
      # The state of the loop holds the size of metrics.jsonl.
      seen.add("checkpoint")
      assert not [x for x in disk.content if x.endswith("metrics.jsonl")]
    if call[0] == "rename" and call[2].endswith("/checkpoints/2"):
      seen.add("name")
      left = [x for x in disk.content if x.startswith(call[1])]
      assert {os.path.basename(x) for x in left} <= own
    if call[0] == "rename" and call[2].endswith("checksums.json"):
      # The list of checksums marks a checkpoint that is whole on the disk.
      seen.add("checksums")
      part, checkpoint = call[1], os.path.dirname(call[2])
      left = disk.content | (disk.names - {checkpoint})
      assert not [x for x in left if x.startswith(checkpoint)], call
      assert os.path.dirname(checkpoint) not in disk.names
      assert part not in disk.content
    if call[0] == "rename" and call[2].endswith("result.json"):
      seen.add("result")
      assert not [x for x in disk.content if not x.endswith(".lock")]
      assert not disk.names
    disk.after(*call)
  assert seen == {"checkpoint", "name", "checksums", "result"}


def test_every_file_and_every_new_name_is_on_the_disk_at_the_end(undisturbed):
  _, calls = undisturbed
  disk, written = _Disk(), set()
  for call in calls:
    disk.after(*call)
    written |= {os.path.basename(x) for x in disk.content}
  assert {"metrics.jsonl", ".lock"} <= written
  assert any(re.fullmatch(r"\.\w{8}\.part\.json", name) for name in written)
  assert {os.path.basename(x) for x in disk.content} == {".lock"}
  assert not disk.names
