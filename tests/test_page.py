"""The page of a comparison, and what pages share."""

import base64
import csv
import html.parser
import io
import json
import pathlib
import re
import shutil
import subprocess
import types
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import mixaug_jax
from configs import default
from mixaug_jax.analysis import contact_sheet, fonts
from mixaug_jax.comparison import arms, drawings, figures, page, plan, words
from mixaug_jax.errors import UserError
from mixaug_jax.pages import drawing, render, tiles
from mixaug_jax.pages import figures as shared
from mixaug_jax.pages import words as page_words
from mixaug_jax.training import records

ROOT = pathlib.Path(__file__).parent.parent
RUNS = ROOT / "tests" / "data" / "runs"
NAMES = ["고양이", "<b>猫</b> & 🐱", "n" * 90]
CHECK = "\N{CHECK MARK}"


class _Elements(html.parser.HTMLParser):
  """The elements of a page, each with its attributes and its text."""

  _EMPTY = ("meta", "link", "img", "br")

  def __init__(self, text):
    super().__init__()
    self.all, self._open = [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    element = types.SimpleNamespace(
      tag=tag, attributes=dict(attributes), text="", inside=list(self._open)
    )
    self.all.append(element)
    if tag not in self._EMPTY:
      self._open.append(element)

  def handle_startendtag(self, tag, attributes):
    self.handle_starttag(tag, attributes)
    if tag not in self._EMPTY:
      self._open.pop()

  def handle_endtag(self, tag):
    assert self._open.pop().tag == tag

  def handle_data(self, text):
    for element in self._open:
      element.text += text

  def named(self, tag):
    return [element for element in self.all if element.tag == tag]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """The page of two stored runs whose classes have unusual names."""
  root = tmp_path_factory.mktemp("page") / "comparison"
  shutil.copytree(RUNS / "0.1.0" / "comparison", root)
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(RUNS)
    patch.syspath_prepend(ROOT)
    for module in (page, contact_sheet):
      patch.setattr(module, "readable", lambda _: NAMES)
    config = arms.load(str(RUNS / "tiny_comparison.py"), {})
    page.write(plan.make(config, root), "the command")
  return root


@pytest.fixture(scope="module")
def elements(written):
  return _Elements((written / "report.html").read_text("utf-8"))


def test_landmarks_and_contents(elements):
  for tag in ("header", "main", "nav", "footer", "h1"):
    assert len(elements.named(tag)) == 1, tag
  ids = [x.attributes["id"] for x in elements.all if "id" in x.attributes]
  headings = [x.attributes["id"] for x in elements.named("h2")]
  links = [
    x.attributes["href"].removeprefix("#")
    for x in elements.named("a")
    if x.inside[-1].tag == "li"
  ]
  assert links == headings
  assert len(headings) >= 8
  assert all(ids.count(name) == 1 for name in headings)


def test_tables_scroll_by_keys_and_name_their_rows_and_columns(elements):
  labels = []
  for table in elements.named("table"):
    region = table.inside[-1].attributes
    assert (region["role"], region["tabindex"]) == ("region", "0")
    labels.append(region["aria-label"])
  assert len(set(labels)) == len(labels) >= 8
  scopes = {x.attributes.get("scope") for x in elements.named("th")}
  assert scopes == {"row", "col"}
  for row in elements.named("tr"):
    cells = [x for x in elements.all if x.inside and x.inside[-1] is row]
    assert cells[0].tag == "th"


def test_the_page_loads_nothing_and_escapes_names(elements):
  assert not elements.named("script")
  assert not elements.named("b")
  for element in elements.all:
    for key in ("src", "href", "xlink:href"):
      target = element.attributes.get(key, "#")
      assert target.startswith(("#", "data:")), target
  for name in NAMES:
    assert any(name in x.text for x in elements.named("div"))


def test_the_numbers_can_be_saved(written, elements):
  saved = {
    x.attributes["download"]: x.attributes["href"].partition("base64,")[2]
    for x in elements.named("a")
    if "download" in x.attributes
  }
  assert sorted(saved) == ["results.csv", "results.json"]
  for name, data in saved.items():
    assert base64.b64decode(data) == (written / name).read_bytes()


def test_the_footer_names_the_date_the_version_and_the_data(elements):
  (footer,) = elements.named("footer")
  text = " ".join(footer.text.split())
  pattern = r"Written \d{4}-\d\d-\d\d \d\d:\d\d UTC by mixaug_jax "
  pattern += rf"{re.escape(mixaug_jax.__version__)}\. Data: digits\."
  assert re.match(pattern, text)


def test_stored_images_stand_once_above_a_row_for_each_arm(elements):
  rows = [x.text for x in elements.named("th") if "tiles" in _kind(x)]
  assert rows == [
    *("images as stored", "baseline", "cutmix"),
    *("image", "baseline", "cutmix"),
  ]
  pictures = elements.named("img")
  assert len(pictures) == 3 * 8 + 3 * 6
  assert {x.attributes["width"] for x in pictures} == {"96", "112"}
  marks = [x for x in elements.named("div") if "title" in x.attributes]
  for mark in marks:
    good = mark.attributes.get("class")
    assert mark.text.startswith({"good": CHECK, "bad": "✗"}.get(good, ""))
  assert {x.attributes.get("class") for x in marks} <= {None, "good", "bad"}


def _kind(element):
  return " ".join(x.attributes.get("class", "") for x in element.inside)


def test_every_seed_and_the_values_of_figures_show(written, elements):
  arms = json.loads((written / "results.json").read_text())["arms"]
  hints = [x.text for x in elements.named("title")]
  for name, arm in arms.items():
    shown = f"{100 * arm['accuracy']['each'][0]:.1f}"
    row = next(
      x
      for x in elements.named("tr")
      if x.inside[-2].attributes.get("aria-label") == "Accuracy of every seed"
      and name in x.text
    )
    assert shown in row.text
    assert f"{name}, one seed: {shown}" in hints
    assert any(re.match(rf"{name}, step [\d,]+: ", x) for x in hints)
  assert "goal: 5 points" in hints
  assert any(x.startswith(f"{NAMES[1]}: ") for x in hints)


def test_texts_of_figures_follow_the_page_and_fit_a_phone(written):
  text = (written / "report.html").read_text("utf-8")
  found = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
  assert len(found) >= 6
  assert drawing.TEXT not in text
  for svg in found:
    width = float(re.search(r'viewBox="0 0 ([\d.]+) ', svg)[1])
    most = float(re.search(r"max-width:(\d+)pt", svg)[1])
    for style in re.findall(r'<text style="([^"]*)"', svg):
      assert "fill: currentColor" in style
      size = float(re.search(r"([\d.]+)px", style)[1])
      assert size / width * min(390 - 2 * 16, most / 0.75) >= 11


def test_views_have_a_section_where_they_are_measured(written, monkeypatch):
  interval = {"mean": 0.5, "low": 0.4, "high": 0.6}
  measured = {"without": interval, "with": interval, "difference": interval}
  monkeypatch.setattr(
    page.with_views,
    "measure",
    lambda _, views: {
      "views": views,
      "count": 2,
      "arms": {"cut": measured},
      "notes": [],
    },
  )
  no_pictures = {"no_pictures": "none", "no_maps": "none", "inside": {}}
  monkeypatch.setattr(page, "_pictures", lambda *_: no_pictures)
  monkeypatch.setattr(page.drawings, "write", lambda *_: _NO_FIGURES)
  nothing = page.baselines.Measured({}, [])
  monkeypatch.setattr(page.baselines, "measure", lambda _: nothing)
  monkeypatch.syspath_prepend(RUNS)
  config = arms.load(str(RUNS / "tiny_comparison.py"), {})
  with config.unlocked():
    config.views = "identity,flip"
  before = (written / "report.html").read_text("utf-8")
  page.write(plan.make(config, written), "the command")
  after = (written / "report.html").read_text("utf-8")
  (written / "report.html").write_text(before, "utf-8")
  found = [re.findall(r'<h2 id="(\w+)">', x) for x in (before, after)]
  assert found[0][:3] == ["verdict", "arms", "examples"]
  assert found[1][:4] == ["verdict", "arms", "views", "examples"]
  assert "+50.0 (40.0 to 60.0)" in after
  assert "<code>identity,flip</code>" in after


_NO_FIGURES = {
  **dict.fromkeys(["accuracy", "difference", "classes"], ""),
  **dict.fromkeys(["curves", "reliability"], ()),
}


@pytest.mark.parametrize(
  ("side", "width", "stored"),
  [(8, 112, 8), (28, 112, 28), (32, 96, 32), (112, 112, 112), (300, 112, 160)],
)
def test_a_tile_grows_by_whole_factors_and_is_never_large(side, width, stored):
  image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
  element = str(tiles.tile(image, 'a "b"'))
  assert f'alt="a &#34;b&#34;" width="{width}"' in element
  data = base64.b64decode(re.search(r"base64,([^\"]*)", element)[1])
  pixels = np.asarray(Image.open(io.BytesIO(data)))
  assert pixels.shape == (stored, stored, 3)
  if stored == side:
    np.testing.assert_array_equal(pixels, image)


@pytest.fixture
def again(written, tmp_path, monkeypatch):
  """A copy of the comparison, and what writes its page once more."""
  monkeypatch.syspath_prepend(RUNS)
  monkeypatch.syspath_prepend(ROOT)
  root = pathlib.Path(shutil.copytree(written, tmp_path / "comparison"))

  def write():
    config = arms.load(str(RUNS / "tiny_comparison.py"), {})
    page.write(plan.make(config, root), "the command")
    return _Elements((root / "report.html").read_text("utf-8"))

  return root, write


def test_without_checkpoints_the_page_gives_the_reason(again):
  root, write = again
  shutil.rmtree(root / "cutmix" / "seed_0" / "checkpoints")
  elements = write()
  (text,) = [x.text for x in elements.named("p") if "No activation" in x.text]
  assert "seed_0/checkpoints/" in text
  assert "is missing" in text
  assert len(elements.named("img")) == 3 * 8


def test_without_its_data_the_page_gives_the_reason(again, monkeypatch):
  def refuse(*_):
    raise UserError("there is no folder photos")

  monkeypatch.setattr(page.pictures, "compared_images", refuse)
  elements = again[1]()
  texts = [x.text for x in elements.named("p")]
  for kind in ("training images", "activation maps"):
    assert f"No {kind}: there is no folder photos." in texts
  left_out = "Classical classifiers are left out: there is no folder photos."
  assert left_out in texts
  assert not elements.named("img")


def test_a_page_of_the_baseline_alone_has_no_changes_by_class(again):
  root, write = again
  (root / "cutmix" / "seed_0" / "result.json").unlink()
  records.write_diverged(root / "cutmix" / "seed_0", 7)
  elements = write()
  texts = [x.text for x in elements.all]
  assert not any("Points by class" in x for x in texts)
  assert "Every run of the other arms diverged." in texts


def test_a_run_that_stopped_early_is_shown_with_its_step(again):
  root, write = again
  path = root / "cutmix" / "seed_0" / "result.json"
  result = json.loads(path.read_text())
  early = {"patience": 2, "min_delta": 0.0, "step": 2, "score": 0.5}
  result["stopped_early"] = {"planned_steps": 4321, **early}
  path.write_text(json.dumps(result))
  elements = write()
  texts = [x.text for x in elements.all]
  steps = result["steps"]
  assert any(f"cutmix/0 at step {steps} of 4,321. Their" in x for x in texts)
  cells = [x.text for x in elements.named("td") if "†" in x.text]
  assert [x.split("†")[1].strip() for x in cells] == [str(steps)]
  assert any("† The step at which the run\nstopped early." in x for x in texts)
  numbers = json.loads((root / "results.json").read_text())
  stopped = {x: arm["stopped_early"] for x, arm in numbers["arms"].items()}
  assert stopped == {"baseline": {}, "cutmix": {"0": steps}}
  with (root / "results.csv").open() as file:
    rows = {row["arm"]: row for row in csv.DictReader(file)}
  assert rows["cutmix"]["planned_steps"] == "4321"
  assert rows["baseline"]["planned_steps"] == rows["baseline"]["steps"]


def test_every_reference_in_a_figure_leads_to_one_part(written):
  text = (written / "report.html").read_text("utf-8")
  ids = re.findall(r"""\bid=["']([^"']*)""", text)
  assert len(set(ids)) == len(ids)
  named = re.findall(r"""(?:url\(|xlink:href=["'])#([^"')]*)""", text)
  assert len(named) > 10
  assert set(named) <= set(ids)


def test_the_values_of_a_curve_have_the_name_of_its_axis():
  figure = shared.curves(
    {"a": [([2, 100], [0.5, 0.75])]},
    {"a": drawing.GREY},
    "t",
    axis="share of training, %",
    percent=True,
  )
  hints = [line.get_gid() for line in figure.axes[0].lines]
  assert "hint: a, share of training 100 %: 75.0 %" in hints


def test_the_time_to_the_target_counts_the_runs_that_reach_it(elements):
  baseline, cutmix = (
    x.text
    for x in elements.named("td")
    if x.inside[-3].attributes.get("aria-label") == "Time of training"
    and " of " in x.text
  )
  assert baseline.endswith(" s (1 of 1)")
  assert cutmix == "— (0 of 1)"


def test_a_convergence_that_is_unknown_is_not_shown_as_failed(again):
  root, write = again
  path = root / "cutmix" / "seed_0" / "metrics.jsonl"
  lines = path.read_text().splitlines(keepends=True)
  path.write_text("".join(x for x in lines if '"train"' not in x))
  rows = [
    x.text.split()
    for x in write().named("tr")
    if x.inside[-2].attributes.get("aria-label", "").startswith("Convergence")
  ]
  assert rows[-1] == ["cutmix", "—", "—", "—"]


@pytest.mark.parametrize("count", [2, 7, 12])
@pytest.mark.parametrize("name", ["a", "cutmix weak", "n" * 90])
def test_a_legend_lies_inside_its_figure(count, name):
  names = [f"{number}{name}" for number in range(count)]
  paint = drawing.colours(names, names[0])
  figure = shared.curves({n: [([1, 2], [0, 1])] for n in names}, paint, "t")
  figure.draw_without_rendering()
  box = figure.legends[0].get_window_extent()
  assert (box.x0, box.y0) >= (0, 0)
  assert box.x1 <= figure.bbox.x1
  assert figure.axes[0].bbox.height >= 120


@pytest.mark.parametrize(
  ("chosen", "tuned", "why"),
  [
    ("best", False, "the epoch was chosen on it"),
    ("last", False, "settings are usually chosen on it"),
    ("best", True, "the recipes and the epochs were chosen on it"),
    ("last", True, "the recipes were chosen on it"),
  ],
)
def test_the_limits_of_validation_follow_what_was_chosen(chosen, tuned, why):
  config = default.get_config()
  text = page_words.no_test(config, chosen, tuned)
  assert text.startswith("There is no test set. ")
  assert text.endswith(f"may be too good, because {why}.")
  config.data.test = False
  assert "was not read" in page_words.no_test(config, chosen, tuned)


def test_zero_has_no_minus():
  assert page_words.number(-0.04, "+") == "+0.0"
  interval = {"mean": -0.0004, "low": -0.0004, "high": 0.1}
  assert render._points(interval) == "+0.0 (0.0 to 10.0)"
  assert render._percent(-0.0004) == "0.0"


def test_of_many_classes_the_extremes_are_drawn():
  names = [f"class {n}" for n in range(120)]
  arms = {
    "base": {"per_class": [0.5] * 120},
    "best": {"per_class": list(np.linspace(0, 1, 120))},
  }
  numbers = {"arms": arms, "best": "best", "baseline": "base"}
  figure = drawings._class_changes(names, numbers, drawing.COLOURS[0])
  texts = [text.get_text() for text in figure.axes[0].texts]
  assert texts == [
    f"class {n}" for n in (*range(119, 113, -1), *range(5, -1, -1))
  ]


def test_arms_differ_in_their_dashes_too():
  arms = ["base", *(f"a{n}" for n in range(16))]
  paint = drawing.colours(arms, "base")
  figure = shared.curves({n: [([1, 2], [0.0, 1.0])] for n in arms}, paint, "t")
  lines = [x for x in figure.axes[0].lines if x.get_label() in arms]
  looks = {(x.get_color(), x._unscaled_dash_pattern[1]) for x in lines}
  assert len(looks) == len(arms)
  assert len({x._unscaled_dash_pattern[1] for x in lines[:5]}) == 5


def test_a_hint_of_any_text_becomes_the_title_of_its_part():
  with matplotlib.rc_context(drawing.STYLE):
    figure = Figure((2, 2))
    axes = figure.subplots()
    (line,) = axes.plot([0, 1], [0, 1])
  text = f'5 > "4" & <b> {drawing.TEXT} id="x"\n second line'
  drawing.hint(line, text)
  axes.set_title(text.split("\n")[0])
  svg = drawing.svg(figure, "name", "plain")
  parsed = _Elements(svg)
  assert [x.text for x in parsed.named("title")] == [text]
  (title,) = [x.text for x in parsed.named("text") if ">" in x.text]
  assert title == text.split("\n")[0]


def _without(characters):
  """The characters of a text that DejaVu Sans does not have."""
  known = fonts._characters(next(fonts._fonts())[1])
  return [chr(c) for c in characters if c not in known]


def test_a_font_that_has_a_character_is_found():
  stix = next(x for x in fonts._fonts() if x[0] == "STIXGeneral")
  (first, *_) = _without(sorted(fonts._characters(stix[1])))
  assert len(fonts.families(f"a{first}")) > 1
  assert not fonts.missing(f"a{first}")
  assert fonts.families("a") == [fonts.FIRST]
  assert ord(first) in fonts._characters(fonts.file(first))
  assert fonts.file("abc") == next(fonts._fonts())[1]


def test_characters_without_a_font_are_reported_and_drawn_without_noise(
  monkeypatch, tmp_path
):
  alone = next(fonts._fonts())
  monkeypatch.setattr(fonts, "_fonts", lambda: iter([alone]))
  assert fonts.missing("고양이 cat\n\ufe0f") == "고양이"
  (warning,) = words.no_font(["cat", "猫"])
  assert "the characters 猫. The PNG files" in warning
  assert words.no_font(["cat"]) == []
  figure = figures.class_changes(["고양이"], [1.0], drawing.GREY, "t")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    drawing.png(figure, tmp_path / "a.png")
    assert "고양이" in drawing.svg(figure, "a", "b")


_PROBE = """<script>
addEventListener("load", () => {
  const broken = [...document.images].filter(i => !i.naturalWidth).length;
  const asked = performance.getEntriesByType("resource")
    .filter(e => !e.name.startsWith("data:")).map(e => e.name);
  const page = document.documentElement;
  const sizes = [...document.querySelectorAll("figure svg text")].map(t =>
    parseFloat(getComputedStyle(t).fontSize) *
    Math.hypot(t.getCTM().a, t.getCTM().b));
  const [back, ...inks] = [document.body, ...document.querySelectorAll(
    "figure svg text")].map(e => getComputedStyle(e)[
      e === document.body ? "backgroundColor" : "fill"]);
  parent.postMessage(JSON.stringify({
    images: document.images.length, drawings: document.querySelectorAll(
      "figure svg").length, broken, asked, smallest: Math.min(...sizes),
    over: page.scrollWidth - page.clientWidth, back, inks: [...new Set(inks)],
    width: innerWidth,
  }), "*");
});
</script>"""
# A window of Chromium is 500 pixels wide at least.
_FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark">
<script>
addEventListener("message", e => { document.body.dataset.probe = e.data; });
</script><iframe width="%d" height="900" style="border:0" src="%s"></iframe>"""


@pytest.mark.parametrize(
  ("width", "scheme"), [(1400, "light"), (800, "dark"), (390, "light")]
)
def test_a_browser_shows_the_whole_page(written, tmp_path, width, scheme):
  browser = shutil.which("chromium") or shutil.which("google-chrome")
  if not browser:
    pytest.skip("there is no Chromium")
  probed = tmp_path / "report.html"
  content = (written / "report.html").read_text("utf-8")
  probed.write_text(content.replace("</head>", f"{_PROBE}</head>"), "utf-8")
  frame = tmp_path / "frame.html"
  frame.write_text(_FRAME % (width, probed.as_uri()))
  done = subprocess.run(
    [
      *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
      *("--disable-quic", "--no-first-run", "--disable-background-networking"),
      *("--disable-component-update", "--disable-sync"),
      f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
      f"--user-data-dir={tmp_path / 'profile'}",
      *("--window-size=1500,1000", "--virtual-time-budget=10000"),
      *("--enable-logging=stderr", "--dump-dom", frame.as_uri()),
    ],
    capture_output=True,
    text=True,
    timeout=1200,
  )
  assert "CONSOLE" not in done.stderr
  probe = re.search(r'data-probe="([^"]+)"', done.stdout)[1]
  seen = json.loads(probe.replace("&quot;", '"'))
  assert seen["images"] == 3 * 8 + 3 * 6
  assert seen["drawings"] >= 6
  assert (seen["broken"], seen["asked"], seen["over"]) == (0, [], 0)
  assert seen["width"] == width
  assert seen["smallest"] >= 11
  light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 27)"
  assert seen["back"] == {"light": light, "dark": dark}[scheme]
  text = {"light": "rgb(27, 31, 36)", "dark": "rgb(227, 231, 236)"}[scheme]
  assert seen["inks"] == [text]
