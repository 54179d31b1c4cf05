"""A run knows its data: what changed is refused or reported."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from mixaug_jax import config as config_lib
from mixaug_jax import data, runs
from mixaug_jax.command import evaluate, train
from mixaug_jax.comparison import plan, same_data
from mixaug_jax.data import identity, labelled
from mixaug_jax.errors import UserError
from mixaug_jax.training import loop, records

ROOT = pathlib.Path(__file__).parent.parent
COLOURS = {"cat": (220, 40, 40), "dog": (40, 220, 40), "ant": (40, 40, 220)}


def _images(folder, count, seed):
  """Noise around the colour of the class that the folder is named after."""
  folder.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng((seed, len(folder.name), ord(folder.name[0])))
  for number in range(count):
    noise = rng.integers(-30, 31, (12, 12, 3))
    pixels = (np.array(COLOURS[folder.name]) + noise).clip(0, 255)
    file = folder / f"{seed}{number:02}.png"
    Image.fromarray(pixels.astype(np.uint8)).save(file)


def _config(folder, **overrides):
  values = {
    "data.dir": folder,
    "data.cache_dir": folder.parent / "cache",
    "data.image_size": 8,
    "data.validation_fraction": 0.25,
    "model.name": "small_resnet",
    "batch_size": 8,
    "evaluate.batch_size": 8,
    "steps": 4,
    "optimizer.warmup_epochs": 0,
    "log.writers": "",
    **overrides,
  }
  values = {key: str(value) for key, value in values.items()}
  return config_lib.load(f"{ROOT}/configs/baseline.py:folder", values)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
  """A folder of images, and a run that was trained on it."""
  root = tmp_path_factory.mktemp("identity")
  for name in ("cat", "dog"):
    _images(root / "set" / "train" / name, 12, 1)
    _images(root / "set" / "test" / name, 6, 2)
  loop.train(_config(root / "set"), root / "run")
  return root


@pytest.fixture
def place(original, tmp_path):
  """A copy of the folder and of the run, which has not ended."""
  shutil.copytree(original / "set", tmp_path / "set")
  shutil.copytree(original / "run", tmp_path / "run")
  (tmp_path / "run" / "result.json").unlink()
  return tmp_path


def test_data_json_describes_every_split(original):
  content = json.loads((original / "run" / "data.json").read_text())
  assert content["class_names"] == ["cat", "dog"]
  examples = {name: x["examples"] for name, x in content["splits"].items()}
  assert examples == {"train": 18, "validation": 6, "test": 12}
  assert content["splits"]["validation"]["per_class"] == [3, 3]
  assert content["in_two_splits"] == {}


def _add_images(root):
  _images(root / "train" / "cat", 2, 3)


def _remove_a_test_image(root):
  (root / "test" / "dog" / "200.png").unlink()


def _rename_a_class(root):
  (root / "test" / "dog").rename(root / "test" / "ape")
  (root / "train" / "dog").rename(root / "train" / "ape")


def _add_a_class(root):
  _images(root / "train" / "ant", 4, 1)


def _rename_an_image(root):
  file = root / "test" / "cat" / "200.png"
  file.rename(file.with_name("000.png"))


def _replace_pixels(root):
  Image.new("RGB", (12, 12)).save(root / "test" / "cat" / "200.png")


def _swap_two_labels(root):
  cat, dog = root / "test" / "cat", root / "test" / "dog"
  (cat / "200.png").rename(root / "kept.png")
  (dog / "200.png").rename(cat / "200.png")
  (root / "kept.png").rename(dog / "200.png")


def _move_an_image(root):
  file = root / "test" / "cat" / "200.png"
  file.rename(root / "test" / "dog" / "299.png")


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    (_add_images, r"train has \d+ images instead of 18 \(cat \d+ instead of 9"),
    (_remove_a_test_image, r"test has 11 images.*\(dog 5 instead of 6\)"),
    (_rename_a_class, "the class dog is gone and the class ape is new"),
    (_add_a_class, "the class ant is new"),
    (_rename_an_image, "other images, or another order, are in test"),
    (_replace_pixels, "images of test have other pixels"),
    (_move_an_image, r"test has images of other classes \(cat 5 instead of 6"),
    (_swap_two_labels, "images of test have other pixels"),
  ],
)
def test_a_run_does_not_resume_on_other_data(place, change, sentence):
  change(place / "set")
  before = (place / "run" / "data.json").read_bytes()
  with pytest.raises(UserError, match=sentence):
    loop.train(_config(place / "set"), place / "run")
  assert (place / "run" / "data.json").read_bytes() == before
  assert not (place / "run" / "result.json").exists()


def test_a_run_resumes_on_moved_data_and_prints_what_differs(place, capsys):
  (place / "set").rename(place / "moved")
  loop.train(_config(place / "moved", **{"checkpoint.keep": 3}), place / "run")
  printed = capsys.readouterr().out
  assert "resuming with other values of checkpoint.keep (there 2, here 3)" in (
    printed
  )
  assert f"here {place / 'moved'}" in printed
  # The finished run is where the data are now.
  assert runs.open_run(place / "run").config.data.dir == str(place / "moved")


def test_the_draw_of_the_seed_is_from_the_same_images(original):
  sets = [data.load(_config(original / "set").data, seed) for seed in range(3)]
  assert len({x.identity.splits["validation"].ids for x in sets}) > 1
  assert len({x.identity.drawn_from for x in sets}) == 1


def test_a_run_without_data_json_resumes_with_a_warning(place, capsys):
  (place / "run" / "data.json").unlink()
  loop.train(_config(place / "set"), place / "run")
  assert "it is unknown whether the data changed" in capsys.readouterr().err
  assert (place / "run" / "data.json").exists()


def test_a_damaged_data_json_is_reported(place):
  content = json.loads((place / "run" / "data.json").read_text())
  content["splits"]["train"]["per_class"] = [18]
  (place / "run" / "data.json").write_text(json.dumps(content))
  with pytest.raises(UserError, match=r"data\.json is damaged"):
    loop.train(_config(place / "set"), place / "run")


def test_a_new_run_may_replace_one_that_saved_nothing(place):
  shutil.rmtree(place / "run" / "checkpoints")
  _add_images(place / "set")
  loop.train(_config(place / "set"), place / "run")
  there = records.read_data(place / "run")
  assert there.splits["train"].examples > 18


def test_pixels_of_another_pillow_are_not_compared():
  split = identity.SplitIdentity(1, [1, 0], "ids", "pixels")
  here = identity.Identity(["a", "b"], {"train": split}, "drawn", {}, {}, 0)
  other = dataclasses.replace(split, pixels="others")
  there = dataclasses.replace(here, splits={"train": other})
  assert identity.changes(there, here) == ["images of train have other pixels"]
  assert not identity.changes(dataclasses.replace(there, pillow="1"), here)


def _evaluate(workdir, *flags, capsys):
  evaluate.main([f"--workdir={workdir}", "--json", *map(str, flags)])
  captured = capsys.readouterr()
  return json.loads(captured.out), captured.err


def test_evaluation_maps_classes_by_name(original, tmp_path, capsys):
  """Class ids of another folder differ from those of the run."""
  _images(tmp_path / "other" / "dog", 5, 9)
  _images(tmp_path / "other" / "cat", 3, 9)
  shutil.copytree(tmp_path / "other", tmp_path / "less")
  shutil.rmtree(tmp_path / "less" / "cat")
  run = runs.open_run(original / "run")
  _, split, validation, _ = run.labelled("test", str(tmp_path / "other"))
  assert sorted(split.labels) == [0] * 3 + [1] * 5
  assert validation is None
  assert all(
    ("cat", "dog")[label] in name
    for label, name in zip(split.labels, split.ids, strict=True)
  )
  _, split, _, _ = run.labelled("test", str(tmp_path / "less"))
  assert split.labels.tolist() == [1] * 5
  (tmp_path / "val").mkdir()
  (tmp_path / "less").rename(tmp_path / "val" / "valid")
  name, split, _, _ = run.labelled("validation", str(tmp_path / "val"))
  assert (name, split.labels.tolist()) == ("validation", [1] * 5)
  with pytest.raises(UserError, match="--data_dir must contain"):
    run.labelled("test", str(tmp_path / "nowhere"))
  report, notes = _evaluate(
    original / "run", f"--data_dir={tmp_path / 'other'}", capsys=capsys
  )
  assert (report["split"], report["examples"]) == ("all", 8)
  measured = report["views"]["identity"]
  assert measured["temperature"] is measured["calibration_error_scaled"] is None
  assert "no temperature is fitted" in notes


@pytest.mark.parametrize("change", [_rename_a_class, _add_a_class])
def test_evaluation_refuses_classes_that_the_run_does_not_know(
  place, original, change, capsys
):
  shutil.copy(original / "run" / "result.json", place / "run")
  change(place / "set")
  if change is _add_a_class:
    _images(place / "set" / "test" / "ant", 2, 2)
  _move_data(place)
  with pytest.raises(UserError, match="a class that the run does not know"):
    _evaluate(place / "run", capsys=capsys)


def _move_data(place):
  """Makes the run of `place` one that was trained on the folder of `place`."""
  config = _config(place / "set")
  records.write_text(
    place / "run" / records.CONFIG_FILE, config_lib.to_json(config)
  )
  result = json.loads((place / "run" / "result.json").read_text())
  result["config_crc32"] = records.checksum(config.to_dict())
  (place / "run" / "result.json").write_text(json.dumps(result))


def test_evaluation_reports_changed_data(place, original, capsys):
  shutil.copy(original / "run" / "result.json", place / "run")
  _move_data(place)
  report, notes = _evaluate(place / "run", capsys=capsys)
  assert report["views"]["identity"]["temperature"] > 0
  assert "changed" not in notes
  _remove_a_test_image(place / "set")
  report, notes = _evaluate(place / "run", capsys=capsys)
  assert "the data changed since the run: test has 11 images" in notes
  assert report["views"]["identity"]["temperature"] > 0
  _add_images(place / "set")  # Validation now holds images of train.
  report, notes = _evaluate(place / "run", capsys=capsys)
  assert report["views"]["identity"]["temperature"] is None
  assert "no temperature is fitted" in notes
  # The predictions of an older run, without data.json, name its images.
  (place / "run" / "data.json").unlink()
  report, notes = _evaluate(place / "run", capsys=capsys)
  assert "other images, or another order, are in test" in notes
  assert report["views"]["identity"]["temperature"] is None
  (place / "set").rename(place / "moved")
  with pytest.raises(UserError, match="if the data moved, name"):
    _evaluate(place / "run", capsys=capsys)


def test_runs_of_a_comparison_have_the_same_data(original):
  mine = runs.open_run(original / "run").identity
  cell = lambda seed: plan.Cell("arm", seed, original / "run", lambda: None)
  same_data.check(cell(0), mine, [cell(0), cell(1)])
  other = dataclasses.replace(
    mine.splits["train"], ids="others", pixels="others"
  )
  changed = dataclasses.replace(mine, splits={**mine.splits, "train": other})
  with pytest.raises(UserError, match="arm/0 and arm/0 have different data"):
    same_data.check(cell(0), changed, [cell(0)])
  same_data.check(cell(0), changed, [cell(1)])  # Another draw of validation.
  grown = dataclasses.replace(mine, drawn_from="others")
  with pytest.raises(UserError, match="the images of train and validation"):
    same_data.check(cell(0), grown, [cell(1)])
  changed = dataclasses.replace(mine, splits={**mine.splits, "test": other})
  with pytest.raises(UserError, match=r"have different data.* test "):
    same_data.check(cell(0), changed, [cell(1)])


def test_a_comparison_refuses_to_train_on_other_data(original):
  def refuse(found):
    assert found == runs.open_run(original / "run").identity
    raise UserError("other data")

  with pytest.raises(UserError, match="other data"):
    loop.train(_config(original / "set", seed=0), original / "new", refuse)
  assert not (original / "new").exists()


def test_a_finished_run_prints_what_plays_no_part(original, capsys):
  config = _config(original / "set")
  keys = ("dir", "cache_dir", "image_size", "validation_fraction")
  flags = [f"--config.data.{key}={config.data[key]}" for key in keys]
  keys = ("batch_size", "steps", "evaluate.batch_size")
  flags += [f"--config.{key}={config_lib.leaves(config)[key]}" for key in keys]
  train.main(
    [
      f"--config={ROOT}/configs/baseline.py:folder",
      f"--workdir={original / 'run'}",
      *flags,
      "--config.model.name=small_resnet",
      "--config.optimizer.warmup_epochs=0",
      "--config.checkpoint.keep=7",
    ]
  )
  printed = capsys.readouterr().out
  assert "another checkpoint.keep (there 2, here 7), which plays no" in printed


def test_lost_rows_of_metrics_are_reported(place, capsys):
  metrics = place / "run" / "metrics.jsonl"
  metrics.write_bytes(metrics.read_bytes()[:30])
  loop.train(_config(place / "set"), place / "run")
  assert "rows of earlier steps are lost" in capsys.readouterr().err
  for line in metrics.read_text().splitlines():
    json.loads(line)


@pytest.mark.parametrize(
  ("name", "place", "source"),
  [
    ("digits", "photos", "folder"),
    ("tfds:x", "photos", "folder"),
    ("folder", "photos/list.csv", "csv"),
    ("csv", "photos", "folder"),
    ("csv", "lists", "csv"),
    ("mine:Source", "photos", "mine:Source"),
  ],
)
def test_other_labelled_data_are_read_by_what_they_are(
  tmp_path, name, place, source
):
  (tmp_path / "photos").mkdir()
  (tmp_path / "lists").mkdir()
  (tmp_path / "lists" / "test.csv").touch()
  assert labelled.source_name(name, str(tmp_path / place)) == source
