"""The run directory of a command that names none."""

import pathlib

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import workdirs
from mixaug_jax.errors import Taken, UserError
from mixaug_jax.training import lock, parallel, records

RUNS = pathlib.Path("runs")
SMALL = {"batch_size": "4", "evaluate.batch_size": "4"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def _config(**values):
  return config_lib.load("cutmix", SMALL | values)


def _store(name, config, finished=False):
  (RUNS / name).mkdir(parents=True)
  records.write_version(RUNS / name)
  path = RUNS / name / records.CONFIG_FILE
  records.write_text(path, config_lib.to_json(config))
  if finished:
    (RUNS / name / records.RESULT_FILE).touch()


def test_a_free_directory_is_taken():
  assert workdirs.choose(_config(), "configs/cutmix.py") == (
    RUNS / "cutmix-digits",
    "runs/cutmix-digits: a new run",
  )


@pytest.mark.parametrize(
  ("finished", "state"), [(False, "resumed"), (True, "finished before")]
)
def test_a_directory_of_the_same_config_is_taken(finished, state):
  _store("cutmix-digits", _config(), finished)
  assert workdirs.choose(_config(), "cutmix") == (
    RUNS / "cutmix-digits",
    f"runs/cutmix-digits: {state}",
  )


def test_a_run_of_another_config_is_left_alone_and_named():
  _store("cutmix-digits", _config())
  _store("cutmix-digits-2", _config(seed="1"))
  other = _config(**{"mix.alpha": "0.3"})
  assert workdirs.choose(other, "cutmix") == (
    RUNS / "cutmix-digits-3",
    "runs/cutmix-digits-3: a new run; runs/cutmix-digits holds another config: "
    "it differs in mix.alpha (there 1.0, here 0.3)",
  )
  _store("cutmix-digits-3", other)
  folder, line = workdirs.choose(other, "cutmix")
  assert folder == RUNS / "cutmix-digits-3"
  assert line.startswith("runs/cutmix-digits-3: resumed; runs/cutmix-digits ")
  # The first one is found again, whatever stands beside it.
  assert workdirs.choose(_config(), "cutmix")[0] == RUNS / "cutmix-digits"


def test_two_commands_that_find_the_same_free_directory_take_two():
  """Another command's run gets the directory while this one loads its data."""
  ours, theirs = _config(), _config(seed="1")
  lines = []

  def train(folder):
    if folder.name == "cutmix-digits":
      with lock.claim(folder, theirs), lock.claim(folder, ours):
        pytest.fail("both trained in one directory")
    with lock.claim(folder, ours):
      return folder.name

  trained = workdirs.train_in(ours, "cutmix", (), lines.append, train)
  assert trained == ("cutmix-digits-2", RUNS / "cutmix-digits-2")
  assert lines == [
    "runs/cutmix-digits: a new run",
    "runs/cutmix-digits-2: a new run; runs/cutmix-digits holds another config: "
    "it differs in seed (there 1, here 0)",
  ]


def test_a_directory_of_another_config_is_not_written_to():
  """The other command may have ended before this one got the lock."""
  with lock.claim(RUNS / "x", _config(seed="1")):
    pass
  before = (RUNS / "x" / records.CONFIG_FILE).read_text()
  with (
    pytest.raises(Taken, match=r"differs in seed \(there 1, here 0\)"),
    lock.claim(RUNS / "x", _config()),
  ):
    pass
  assert (RUNS / "x" / records.CONFIG_FILE).read_text() == before


def test_a_second_command_of_the_same_config_is_refused():
  config, lines = _config(), []

  def train(folder):
    with lock.claim(folder, config), lock.claim(folder, config):
      pytest.fail("both trained in one directory")

  with pytest.raises(Taken, match="is in use by process"):
    workdirs.train_in(config, "cutmix", (), lines.append, train)
  assert lines == ["runs/cutmix-digits: a new run"]


def test_other_images_are_another_experiment():
  for photo in ("a/cats/1.png", "a/dogs/2.png", "b/cats/1.png", "b/dogs/2.png"):
    pathlib.Path(photo).parent.mkdir(parents=True)
    pathlib.Path(photo).touch()
  spec = "cutmix:folder"
  load = lambda folder: config_lib.load(spec, SMALL | {"data.dir": folder})
  _store("cutmix-folder", load("a"))
  same = load(f"{pathlib.Path.cwd()}/b/../a")
  assert workdirs.choose(same, spec)[0] == RUNS / "cutmix-folder"
  folder, line = workdirs.choose(load("b"), spec)
  assert folder == RUNS / "cutmix-folder-2"
  assert line.endswith("it differs in data.dir (there a, here b)")


def test_a_long_difference_is_cut():
  _store("cutmix-digits", _config())
  values = {"seed": "1", "steps": "3", "mix.alpha": "0.3", "ema.decay": "0.5"}
  _, line = workdirs.choose(_config(**values), "cutmix")
  assert line.count("(there") == 3
  assert line.endswith(" and 1 more")


def test_the_causes_of_a_difference_come_first():
  _store("cutmix-digits", _config())
  # Its model.zero_init_residual is another one as well.
  values = {"model.name": "resnet18", "seed": "1", "mix.alpha": "0.3"}
  config = _config(**values)
  order = lambda given: [
    word
    for word in workdirs.choose(config, "cutmix", given)[1].split()
    if word in config_lib.leaves(config)
  ]
  assert order(()) == ["model.name", "mix.alpha", "seed"]
  assert order(["seed"]) == ["seed", "model.name", "mix.alpha"]


@pytest.mark.parametrize("beside", [False, True])
def test_a_mistake_gets_no_directory(beside):
  if beside:
    _store("cutmix-digits", _config())
  for key, value, sentence in [
    ("mix.alpha", "-1", r"^config\.mix: alpha must be above 0"),
    ("mix.name", "cutmax", r"^config\.mix\.name must be one of"),
  ]:
    with pytest.raises(UserError, match=sentence):
      workdirs.choose(_config(**{key: value}), "cutmix")


def test_a_damaged_directory_is_reported():
  _store("cutmix-digits", _config())
  (RUNS / "cutmix-digits" / records.CONFIG_FILE).write_text("{")
  with pytest.raises(UserError, match=r"config.json is damaged"):
    workdirs.choose(_config(), "cutmix")


def test_all_processes_take_the_directory_of_the_first(monkeypatch):
  monkeypatch.setattr(parallel, "from_first", lambda choose: "runs/x\nwhy")
  chosen = workdirs.choose(_config(), "cutmix")
  assert chosen == (RUNS / "x", "why")
  monkeypatch.setattr(parallel, "from_first", lambda choose: "\na mistake")
  with pytest.raises(UserError, match="a mistake"):
    workdirs.choose(_config(), "cutmix")
