"""The page of one run: its numbers, its pictures, and what is missing."""

import base64
import html
import io
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import special

from mixaug_jax import config as config_lib
from mixaug_jax.analysis import calibration, mistakes, statistics
from mixaug_jax.analysis.likelihood import SIGMOID, SOFTMAX
from mixaug_jax.command import flags, report, train
from mixaug_jax.data.class_names import readable
from mixaug_jax.errors import NoActivationMaps, UserError
from mixaug_jax.run_page import numbers, words
from mixaug_jax.runs import Predictions, Run, open_run
from mixaug_jax.training import records

ROOT = pathlib.Path(__file__).parent.parent
RUNS = ROOT / "tests" / "data" / "runs"
# In any script, and hostile to HTML, to a terminal and to matplotlib.
CLASSES = ("강아지 🐕", "<b>x&y</b>", "$1 \x1b[31mred")


def _page(workdir):
  """Writes the page of a run; returns its text without tags, and its HTML."""
  report.main([f"--workdir={workdir}"])
  page = (workdir / "report.html").read_text("utf-8")
  body = page[page.index("<body>") :]
  return html.unescape(re.sub(r"<[^>]*>", "", body)), page


def _images(page):
  """Returns the embedded pictures, uint8 `[H, W, 3]`."""
  found = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
  files = (io.BytesIO(base64.b64decode(text)) for text in found)
  return [np.asarray(Image.open(file).convert("RGB")) for file in files]


@pytest.fixture
def stored(tmp_path, monkeypatch):
  """A copy of the stored run of three digits."""
  monkeypatch.syspath_prepend(RUNS)
  monkeypatch.chdir(ROOT)
  run = RUNS / "0.1.0" / "finished"
  return pathlib.Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A folder of pictures and a run on it."""
  root = tmp_path_factory.mktemp("report")
  rng = np.random.default_rng(0)
  for label, name in enumerate(CLASSES):
    folder = root / "photos" / name.replace("/", "-")
    folder.mkdir(parents=True)
    for number in range(12):
      pixels = rng.integers(0, 120, (8, 8, 3), np.uint8)
      pixels[..., label] += 20
      Image.fromarray(pixels).save(folder / f"{number}.png")
  (folder / "notes.txt").write_text("not a picture")
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(RUNS)
    patch.chdir(ROOT)
    train.main(
      [
        "--config=configs/default.py:folder",
        "--config.model.name=tiny_model:Tiny",
        f"--config.data.dir={root / 'photos'}",
        "--config.data.image_size=8",
        "--config.augment.random_crop.padding=1",
        "--config.batch_size=8",
        "--config.epochs=none",
        "--config.steps=4",
        "--config.optimizer.warmup_epochs=0",
        "--config.mix.name=mixup",
        "--config.log.every_steps=1",
        f"--workdir={root / 'run'}",
      ]
    )
  return root


@pytest.fixture
def photos(trained, tmp_path, monkeypatch):
  """A copy of the run on the folder, whose data may be changed."""
  monkeypatch.syspath_prepend(RUNS)
  monkeypatch.chdir(ROOT)
  shutil.copytree(trained / "photos", tmp_path / "kept")
  yield pathlib.Path(shutil.copytree(trained / "run", tmp_path / "run"))
  shutil.rmtree(trained / "photos", ignore_errors=True)
  shutil.copytree(tmp_path / "kept", trained / "photos")


def _section(page, name):
  """Returns the part of a page from one heading to the next."""
  rest = page[page.index(f'<h2 id="{name}">') + 1 :]
  return rest[: rest.find("<h2")]


def _cells(page, label):
  """Returns the texts of the table in a region, by row."""
  table = page[page.index(f'aria-label="{label}"') :]
  table = table[: table.index("</table>")]
  return [
    [
      html.unescape(" ".join(re.sub(r"<[^>]*>", "", cell).split()))
      for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
    ]
    for row in table.split("<tr")[1:]
  ]


def _predicting(stored, change):
  """Changes the stored predictions."""
  for split in ("test", "validation"):
    path = stored / f"predictions_{split}.npz"
    with np.load(path) as file:
      content = dict(file)
    change(content)
    np.savez(path, **content)


def test_the_figures_are_those_of_the_predictions(stored, capsys):
  rng = np.random.default_rng(0)

  def change(content):  # The run itself predicts one class.
    logits = rng.normal(size=content["logits"].shape)
    logits += 1.5 * np.eye(3)[content["labels"]]
    content["logits"] = np.float32(logits)

  _predicting(stored, change)
  text, page = _page(stored)
  with np.load(stored / "predictions_test.npz") as file:
    logits, labels = file["logits"], file["labels"]
  predicted = logits.argmax(-1)
  right = predicted == labels
  interval = statistics.accuracy(right[None]).interval(0.95, 0, 1)
  mean, low, high = (f"{100 * x:.1f}" for x in interval)
  printed = capsys.readouterr().out
  for shown in (text, printed):
    assert f"Test accuracy {mean} %, 95 % interval {low} to {high} %" in shown
    assert "about the images only" in shown
  assert str(stored / "report.html") in printed
  rows = _cells(page, "Accuracies")
  assert rows[0][:4] == ["evaluation", "step", "images", "accuracy, %"]
  assert rows[1][1:4] == ["3", "288", f"{mean} ({low} to {high})"]

  counts = np.zeros((3, 3), int)
  for true, other in zip(labels, predicted, strict=True):
    counts[true, other] += 1
  matrix = [row[1:] for row in _cells(page, "Confusion matrix")[1:]]
  assert np.array_equal(np.array(matrix, int), counts)
  share = 100 * counts[2, 1] / counts[2].sum()
  assert f'title="2, predicted 1: {counts[2, 1]} ({share:.1f} %)"' in page

  accuracy = np.diag(counts) / counts.sum(1)
  rows = _cells(page, "Classes")[1:]
  order = sorted(range(3), key=lambda i: (accuracy[i], -counts[i].sum()))
  assert [int(row[0]) for row in rows] == order
  for name, count, training, share, taken_for in rows:
    wrong = counts[int(name)].copy()
    wrong[int(name)] = 0
    assert int(count) == counts[int(name)].sum()
    assert training == "12"
    assert share == f"{100 * accuracy[int(name)]:.1f}"
    assert taken_for == f"{wrong.argmax()} ({wrong.max()})"
  mean = f"{100 * accuracy.mean():.1f}"
  assert f"mean over the classes, on the test set {mean}" in " ".join(
    text.split()
  )


def test_the_calibration_is_that_of_the_predictions(stored):
  text = " ".join(_page(stored)[0].split())
  run = open_run(stored)
  test, validation = run.predictions("test"), run.predictions("validation")
  error = calibration.expected_calibration_error(test.logits, test.labels)
  assert f"error in 15 bins is {100 * error:.1f} %" in text
  chance = calibration.calibration_error_by_chance(test.logits)
  assert f"confidences shows {100 * chance:.1f} % by chance" in text
  heat = calibration.fit_temperature(validation.logits, validation.labels)
  assert f"temperature {heat:.2f}, fitted on validation" in text


def test_the_gallery_shows_the_most_confident_mistakes(stored):
  _, page = _page(stored)
  run = open_run(stored)
  shown = run.predictions("test")
  p = special.softmax(np.float64(shown.logits), -1)
  order = np.argsort(-p.max(-1))
  wrong = [i for i in order if p[i].argmax() != shown.labels[i]][:12]
  gallery = _section(page, "mistakes")
  figures = re.findall("<figure>(.*?)</figure>", gallery, re.DOTALL)
  split = run.datasets()[0].test
  assert list(split.ids) == list(shown.ids)
  for figure, i in zip(figures, wrong, strict=True):
    caption = " ".join(re.sub("<[^>]*>", "", figure).split())
    true, predicted = shown.labels[i], p[i].argmax()
    assert caption == (
      f"{true}, predicted {predicted} with {100 * p[i].max():.1f}&nbsp;% "
      f"{shown.ids[i]}"
    )
    (picture,) = _images(figure)
    # The stored images are what the network sees, 8 pixels a side.
    assert np.array_equal(picture[6::12, 6::12], split.images(np.array([i]))[0])


def test_the_maps_lie_beside_their_images(stored):
  _, page = _page(stored)
  maps, wrong = (_images(_section(page, x)) for x in ("maps", "mistakes"))
  assert len(maps) == 6
  for both, mistake in zip(maps, wrong[:3], strict=False):
    side = both.shape[0]
    assert both.shape == (side, 2 * side, 3)
    assert np.array_equal(both[:, :side], mistake)
    assert not np.array_equal(both[:, side:], mistake)


def test_the_page_loads_nothing_and_escapes_names(photos, capsys):
  text, page = _page(photos)
  assert "\x1b" not in page
  assert "\x1b" not in capsys.readouterr().out
  assert "<b>x" not in page
  for name in open_run(photos).result.class_names:
    assert name in text
  assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
  assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)


def test_what_was_left_out_is_listed(photos):
  text = _page(photos)[0]
  assert "Left out of the data: files with the suffix .txt (1)." in text


@pytest.mark.parametrize("fixture", ["photos", "stored"])
def test_the_command_trains_the_same_run(fixture, request):
  run = open_run(request.getfixturevalue(fixture))
  command = shlex.split(words.command(run))
  assert command[:3] == ["python", "-m", "mixaug_jax.main"]
  rest, overrides = flags.split_overrides(command[3:])
  workdir = f"--workdir={run.workdir}_again"
  assert rest == ["--config=configs/default.py", workdir]
  again = config_lib.load("configs/default.py", overrides)
  assert again.to_dict() == run.config.to_dict()


def test_a_second_report_replaces_the_first(photos):
  _, page = _page(photos)
  (photos / "report.html").write_text("old")
  assert len(_page(photos)[1]) == len(page)


def test_without_its_data_the_numbers_remain(photos, trained):
  _, before = _page(photos)
  shutil.rmtree(trained / "photos")
  text, page = _page(photos)
  assert not _images(page)
  reason = "No pictures of mistakes, activation maps or training images: "
  assert text.count(reason + f"there is no folder {trained}/photos") == 1
  assert 'id="maps"' not in page
  for name in ("accuracy", "curves", "classes", "confusion", "calibration"):
    assert _section(page, name).split() == _section(before, name).split()
  # The mistakes are listed with their ids.
  captions = [
    re.findall("<figcaption>.*?</figcaption>", _section(x, "mistakes"), re.S)
    for x in (before, page)
  ]
  assert captions[0] == captions[1] != []


def test_changed_data_are_reported(photos, trained):
  victim = next(iter(sorted((trained / "photos").rglob("*.png"))))
  Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(victim)
  text, page = _page(photos)
  assert not _images(page)
  assert "images: the data changed since the run was trained: " in text


def test_predictions_on_other_images_get_no_pictures(stored):
  def change(content):
    content["ids"] = content["ids"][::-1]

  _predicting(stored, change)
  text, page = _page(stored)
  assert not _images(page)
  assert "the predictions on test are those of other images" in text


def test_without_weights_the_pictures_remain(photos):
  shutil.rmtree(photos / "checkpoints")
  text, page = _page(photos)
  assert "No activation maps: " in text
  assert str(photos / "checkpoints") in text
  wrong = _images(_section(page, "mistakes"))
  assert wrong
  assert _images(_section(page, "inputs"))


def test_a_model_without_maps_gives_its_reason(stored, monkeypatch):
  def refuse(self):
    raise NoActivationMaps("the head is not linear")

  monkeypatch.setattr(Run, "classifier", refuse)
  assert "No activation maps: the head is not linear." in _page(stored)[0]


def test_a_run_without_test_shows_validation_and_warns(stored, capsys):
  result = json.loads((stored / "result.json").read_text())
  (stored / "result.json").write_text(json.dumps({**result, "test": None}))
  (stored / "predictions_test.npz").unlink()
  text, _ = _page(stored)
  accuracy = result["validation"]["best"]["accuracy"]
  assert f"Validation accuracy {100 * accuracy:.1f} %" in text
  caveat = "may be too good, because the epoch was chosen on it"
  assert caveat in text
  assert caveat in capsys.readouterr().out


def test_a_run_of_an_older_version_has_a_page(stored):
  (stored / "data.json").unlink()
  text, page = _page(stored)
  assert "It is unknown what was left out: this run has no data.json." in text
  assert {row[2] for row in _cells(page, "Classes")[1:]} == {"—"}
  assert _images(page)


def test_logits_that_are_not_numbers_are_counted(stored):
  def change(content):
    content["logits"][0] = np.nan

  _predicting(stored, change)
  text, _ = _page(stored)
  assert "The logits of 1 of 288 images are not numbers." in text
  assert "error in 15 bins is\n—" in text


def test_a_run_whose_logits_are_no_numbers_has_a_page(stored):
  def change(content):
    content["logits"][:] = np.nan

  _predicting(stored, change)
  text, _ = _page(stored)
  assert "Test accuracy 0.0 %" in text
  assert "none on the test set, apart from images whose logits are not" in text
  assert "No activation maps: " in text


def test_a_run_without_mistakes_has_a_page(stored):
  def change(content):
    content["logits"] = np.float32(9 * np.eye(3)[content["labels"]])

  _predicting(stored, change)
  text, page = _page(stored)
  assert "There are none on the test set." in text
  assert len(_images(_section(page, "maps"))) == 3  # Of images that are right.


@pytest.mark.parametrize(("classes", "matrix"), [(20, True), (21, False)])
def test_with_many_classes_the_page_lists_confused_pairs(
  stored, classes, matrix
):
  rng = np.random.default_rng(0)

  def change(content):
    n = len(content["labels"])
    content["labels"] = rng.integers(0, classes, n).astype(np.int32)
    content["logits"] = rng.normal(size=(n, classes)).astype(np.float32)
    content["labels"][:5], content["logits"][:5] = 3, 8 * np.eye(classes)[4]

  _predicting(stored, change)
  result = json.loads((stored / "result.json").read_text())
  result["class_names"] = [f"class {i}" for i in range(classes)]
  (stored / "result.json").write_text(json.dumps(result))
  (stored / "data.json").unlink()
  _, page = _page(stored)
  assert ('aria-label="Confusion matrix"' in page) == matrix
  if not matrix:
    pairs = _cells(page, "Confused classes")
    assert pairs[1][:2] == ["class 3", "class 4"]
    assert len(pairs) == 1 + 20
    times = [int(row[2]) for row in pairs[1:]]
    assert times == sorted(times, reverse=True)
    assert times[0] >= 5


@pytest.mark.parametrize(
  "name",
  ["predictions_test.npz", "predictions_validation.npz", "metrics.jsonl"],
)
def test_a_damaged_run_is_refused(stored, name):
  (stored / name).write_bytes((stored / name).read_bytes()[:-20])
  with pytest.raises(UserError, match=f"{name} is missing or damaged"):
    report.main([f"--workdir={stored}"])
  assert not (stored / "report.html").exists()


def test_an_unfinished_run_ends_in_one_sentence():
  workdir = RUNS / "0.1.0" / "unfinished"
  done = subprocess.run(
    [sys.executable, "-m", "mixaug_jax.report", f"--workdir={workdir}"],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 2
  assert done.stderr == (
    f"mixaug_jax: {workdir} is not the directory of a finished run; train it "
    "to its end first\n"
  )
  assert not (workdir / "report.html").exists()


def test_a_run_that_diverged_is_named_with_its_step(stored):
  (stored / "result.json").unlink()
  records.write_diverged(stored, 17)
  with pytest.raises(UserError, match="diverged at step 17, so it has no"):
    report.main([f"--workdir={stored}"])


def test_of_a_comparison_a_run_is_proposed():
  workdir = RUNS / "0.1.0" / "comparison"
  with pytest.raises(UserError, match=f"such as {workdir}/baseline/seed_0"):
    open_run(workdir)


def test_a_page_that_cannot_be_written_is_named(stored):
  (stored / "report.html").mkdir()
  with pytest.raises(
    UserError, match=f"cannot write {stored}/report.html: Is a directory;"
  ):
    report.main([f"--workdir={stored}"])


def test_settings_that_the_command_leaves_out_are_named(stored):
  run = open_run(stored)
  assert not words.beyond_command(run)
  with run.config.unlocked():
    run.config.mix.mine = {"strength": 0.3}
  assert words.beyond_command(run) == "config.mix.mine.strength=0.3"


def test_a_test_set_that_was_not_read_is_not_called_missing(stored):
  run = open_run(stored)
  with run.config.unlocked():
    run.config.data.test = False
  (text, *_) = words.warnings(run, {"undefined": 0}, "validation")
  assert text.startswith("The test set was not read")


def test_confident_mistakes_follow_the_probabilities():
  logits = np.array(
    [[2, 0, 0], [0, 3, 0], [0, 1, 0], [0, 3, 0], [np.nan, 9, 0], [8, 9, 9]]
  )
  labels = np.array([0, 0, 0, 2, 0, 0])
  found = mistakes.most_confident(logits, labels, SOFTMAX, 9)
  assert found.tolist() == [1, 3, 2, 5]  # Of equals, the earlier one.
  found = mistakes.most_confident(logits, labels, SIGMOID, 2)
  assert found.tolist() == [5, 1]


def test_classes_are_ordered_by_accuracy_and_size():
  predictions = Predictions(
    np.eye(5, dtype=np.float32)[[1, 1, 0, 0, 2, 3]],
    np.array([0, 1, 1, 1, 2, 2], np.int32),
    np.arange(6),
  )
  weights = [1.0, 0.5, 1.0, 1.0, 1.0]
  rows = numbers.by_class(predictions, "abcde", [1, 2, 3, 4, 5], weights)
  assert [row["name"] for row in rows] == ["a", "b", "c", "d", "e"]
  assert rows[1] == {
    **{
      "name": "b",
      "count": 3,
      "training": 2,
      "weight": 0.5,
      "accuracy": pytest.approx(1 / 3),
    },
    **{"taken_for": "a", "times": 2},
  }
  assert rows[3]["accuracy"] is None
  assert rows[3]["taken_for"] is None


def test_names_are_shown_without_the_number_of_imagenet(stored):
  names = ["n02085620-Chihuahua", "n02085782-Japanese_spaniel", "2"]
  result = json.loads((stored / "result.json").read_text())
  result["class_names"] = names
  (stored / "result.json").write_text(json.dumps(result))
  page = _page(stored)[1]
  shown = [row[0] for row in _cells(page, "Confusion matrix")[1:]]
  assert shown == readable(names) == ["Chihuahua", "Japanese_spaniel", "2"]
