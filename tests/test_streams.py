"""Lost standard streams, other locales, and names that command a terminal."""

import io
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import names
from mixaug_jax.command import exits, start, streams

ROOT = pathlib.Path(__file__).parent.parent
HANG = 1200.0  # Seconds after which a process hangs, on any machine.
HOSTILE = "\x1b[31mred\x1b]0;title\x07"
CLASSES = (HOSTILE, "é", "개", "🐕")
# Python then takes file names and streams for ASCII.
ASCII = {
  "LC_ALL": "C",
  "PYTHONCOERCECLOCALE": "0",
  "PYTHONUTF8": "0",
  "PYTHONIOENCODING": "ascii",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A folder of photographs `data`, and the flags and the run on it."""
  root = tmp_path_factory.mktemp("streams")
  images = np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3), np.uint8)
  for name in CLASSES:
    (root / "data" / name).mkdir(parents=True)
    for number, image in enumerate(images):
      path = root / "data" / name / f"{number}\x1b[2J.png"
      Image.fromarray(image).save(path)
  flags = [
    f"--config={ROOT}/configs/cutmix.py:folder",
    f"--config.data.dir={root}/data",
    f"--config.data.cache_dir={root}/cache",
    "--config.data.image_size=16",
    "--config.model.name=small_resnet",
    "--config.optimizer.warmup_epochs=0",
    "--config.epochs=none",
    "--config.steps=2",
    "--config.batch_size=8",
    "--config.evaluate.batch_size=8",
  ]
  done = _command("main", *flags, f"--workdir={root}/run", **ASCII)
  assert done.returncode == 0, done.stderr
  return root, flags, done


def _command(*words, redirections="", **environment):
  """Runs a command of this package in a shell, with its redirections."""
  return subprocess.run(
    _shell(redirections, "-m", f"mixaug_jax.{words[0]}", *words[1:]),
    env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    capture_output=True,
    timeout=HANG,
    check=False,
  )


def _shell(redirections, *words):
  return ["bash", "-c", f'"$@" {redirections}', "bash", sys.executable, *words]


def _is_plain(done):
  """Returns whether a terminal obeys nothing in the output."""
  assert b"Traceback" not in done.stderr
  return not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", done.stdout + done.stderr)


@pytest.mark.parametrize(
  ("redirections", "printed"),
  [
    ("<&- >&- 2>&-", b""),
    (">/dev/full", b"mixaug_jax: the output cannot be written: No space left"),
    (">/dev/full 2>&1", b""),
    ("2>&1 | true; exit ${PIPESTATUS[0]}", b""),
  ],
)
def test_a_run_ends_well_without_its_streams(
  trained, tmp_path, redirections, printed
):
  _, flags, _ = trained
  words = ("main", *flags, f"--workdir={tmp_path}/run")
  done = _command(*words, redirections=redirections)
  assert done.returncode == 0
  assert b"Traceback" not in done.stderr
  assert printed in done.stderr
  assert done.stderr.count(b"cannot be written") == bool(printed)
  assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]


@pytest.mark.parametrize(
  ("redirections", "code", "sentence"),
  [
    ("| true; exit ${PIPESTATUS[0]}", 141, ""),
    (">/dev/full", 2, "No space left on device"),
    (">&-", 2, "Bad file descriptor"),
    (">/dev/full 2>&1", 2, ""),
    ("2>/dev/full", 0, ""),
  ],
)
def test_a_command_fails_without_its_output(redirections, code, sentence):
  program = (
    "import sys; from mixaug_jax.command import exits; "
    # More than the buffers hold, so that a write fails in the middle.
    "exits.run(lambda _: [print('x' * 99, file=f) for _ in range(9999) "
    "for f in (sys.stdout, sys.stderr)] and None)"
  )
  done = subprocess.run(
    _shell(redirections, "-c", program),
    capture_output=True,
    text=True,
    timeout=HANG,
  )
  assert done.returncode == code
  rest = [line for line in done.stderr.splitlines() if "xxx" not in line]
  assert len(rest) == bool(sentence)
  assert sentence in "".join(rest)


@pytest.mark.parametrize("name", ["main", "data"])
def test_help_that_cannot_be_printed_is_a_failure(name):
  done = _command(name, "--help", redirections=">/dev/full")
  assert done.returncode == 2
  assert b"the output cannot be written: No space left" in done.stderr


@pytest.mark.parametrize("folder", [b"w\xff", "lö ä".encode()])
def test_a_run_directory_that_is_not_utf8_is_refused(tmp_path, folder):
  workdir = os.fsencode(tmp_path) + b"/" + folder
  flags = (f"--config={ROOT}/configs/cutmix.py", b"--workdir=" + workdir)
  done = _command("main", *flags, **ASCII)
  assert done.returncode == 2
  assert done.stderr.count(b"\n") == 1
  assert b"is not UTF-8 in this locale, so no checkpoint" in done.stderr
  assert not os.path.exists(workdir)


def test_class_names_do_not_depend_on_the_locale(trained):
  root, _, done = trained
  assert _is_plain(done)
  result = json.loads((root / "run" / "result.json").read_text())
  assert set(result["class_names"]) == {*CLASSES[1:], names.printable(HOSTILE)}
  done = _command("evaluate", f"--workdir={root}/run", LC_ALL="C.UTF-8")
  assert done.returncode == 0
  assert b"the data changed" not in done.stderr


def test_no_command_prints_a_name_that_a_terminal_obeys(
  trained, tmp_path, monkeypatch, capsysbinary
):
  root, flags, _ = trained
  run = json.loads((root / "run" / "result.json").read_text())
  run["class_names"][0] = HOSTILE  # As in a run directory from elsewhere.
  (root / "run" / "result.json").write_text(json.dumps(run))
  photo = root / "data" / HOSTILE / "0\x1b[2J.png"
  workdir = f"--workdir={root}/run"
  for name, words, code in (
    ("predict", [workdir, str(photo)], 0),
    ("predict", [workdir, "--json", str(photo)], 0),
    ("predict", [workdir, str(root / HOSTILE)], 2),
    ("evaluate", [workdir], 0),
    ("report", [workdir], 0),
    ("preview", [*flags, f"--output={tmp_path}/{HOSTILE}.png"], 0),
    ("train", [*flags, f"--workdir={tmp_path}/{HOSTILE}"], 2),
    ("train", [*flags, f"--workdir={tmp_path}/{HOSTILE.replace('[', '')}"], 0),
    ("train", [*flags, f"--config.model.name={HOSTILE}"], 2),
  ):
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as left:
      exits.run(lambda argv, name=name: start.call(name, argv))
    printed = capsysbinary.readouterr()
    assert left.value.code == code, printed.err
    both = printed.out + printed.err
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", both.replace(b"\r", b""))
    if "--json" in words:
      assert "\\x1b" in json.loads(printed.out)[0]["image"]


def test_a_stream_escapes_all_but_what_moves_the_bar():
  inner = io.StringIO()
  stream = streams.Stream(inner)
  moves = ["\r", "\n\n", "\x1b[A\x1b[A", "\r|##| 1/2", "tab\there\n", "é개🐕"]
  stream.writelines(moves)
  assert inner.getvalue() == "".join(moves)
  for text, shown in (
    ("a\rb", r"a\rb"),
    ("\rb\x1b[2J", "\r" + r"b\x1b[2J"),
    ("\x1b[A!", r"\x1b[A!"),
    ("\x7f\x9b\u202e\u2066", r"\x7f\x9b\u202e\u2066"),
  ):
    inner.seek(0)
    inner.truncate()
    assert stream.write(text) == len(text)
    assert inner.getvalue() == shown


SIGNS = "1 \u2013 2\u00b0 \u2588 \u00d7 \uac1c \ufffd"


@pytest.mark.parametrize(
  ("environment", "printed"),
  [
    ({"PYTHONIOENCODING": "ascii"}, rb"1 - 2 deg # x \uac1c ?"),
    ({"PYTHONIOENCODING": "cp949"}, "1 - 2\u00b0 # \u00d7 \uac1c ?"),
    ({"LANG": "C"}, rb"1 - 2 deg # x \uac1c ?"),
    ({"LC_ALL": "POSIX", "LANG": "ko_KR.UTF-8"}, rb"1 - 2 deg # x \uac1c ?"),
    ({"LC_ALL": "C.UTF-8"}, SIGNS),
    ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, SIGNS),
    ({}, SIGNS),
  ],
)
def test_a_terminal_gets_letters_that_it_has(environment, printed):
  code = (
    "from mixaug_jax.command import streams; streams.protect(); "
    f"print({SIGNS!a})"
  )
  ours = ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8")
  rest = {name: x for name, x in os.environ.items() if name not in ours}
  done = subprocess.run(
    [sys.executable, "-c", code],
    env={**rest, "PYTHONPATH": str(ROOT), **environment},
    capture_output=True,
    check=True,
  )
  if isinstance(printed, str):
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    printed = printed.encode(encoding)
  assert done.stdout == printed + b"\n"
