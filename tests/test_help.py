"""`--help` lists config keys with their defaults and explanations."""

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax.command import (
  compare,
  config_help,
  evaluate,
  export,
  predict,
  report,
  train,
)


def _printed(main, flag, columns, monkeypatch, capsys):
  monkeypatch.setenv("COLUMNS", str(columns))
  with pytest.raises(SystemExit) as left:
    main.main([flag])
  assert not left.value.code
  return capsys.readouterr().out


@pytest.mark.parametrize("columns", [40, 80])
def test_help_lists_the_keys_that_are_used_most(columns, monkeypatch, capsys):
  text = _printed(train, "--help", columns, monkeypatch, capsys)
  assert "optimizer.learning_rate=0.1" in text
  assert "Pixels a side" in text
  assert "jpeg" not in text
  assert "train cutmix:folder --config.data.dir=photos" in text.replace(
    "mixaug_jax.main", "train"
  )
  # An example is one line, so that it can be copied.
  body = text.partition("examples:")[0].splitlines()
  long = [line for line in body if len(line) > columns and " " in line.strip()]
  assert not long
  assert len(body) < (80 if columns == 80 else 130)


@pytest.mark.parametrize("main", [compare, evaluate, export, predict, report])
def test_a_flag_that_must_be_given_is_explained(main, monkeypatch, capsys):
  text = _printed(main, "--help", 80, monkeypatch, capsys)
  (line,) = [x for x in text.splitlines() if x.startswith("  --workdir DIR")]
  assert line.endswith("; required")


def test_helpfull_lists_all_keys(monkeypatch, capsys):
  text = _printed(train, "--helpfull", 80, monkeypatch, capsys)
  for key in config_lib.leaves(config_lib.read("default")):
    assert f"  {key}=" in text
  assert "An operation is on if one of its leaves" in text
  assert "the position in the batch" not in text


def test_help_of_compare_has_the_keys_of_the_comparison(monkeypatch, capsys):
  text = _printed(compare, "--help", 80, monkeypatch, capsys)
  assert "goal=0.05" in text
  assert "tune.trials=20" in text
  assert "base.optimizer.learning_rate=0.1" in text


def test_most_used_keys_exist_and_are_explained():
  keys = config_lib.leaves(config_lib.read("default"))
  assert set(config_help._MOST_USED) <= keys.keys()
  comments = config_help.explanations("default")
  assert comments["data.dir"] == ("The folder, CSV file, packed or TFDS data.")
  assert comments["ema.decay"] == "Such as 0.999."
  assert comments["augment"].startswith("An operation is on if")
  assert comments["mix.group_size"].startswith("Partners come from groups")
  # Where two bounds stand together, one comment speaks for both.
  missing = [x for x in keys if x not in comments and x.count(".") < 2]
  assert len(missing) < 6
