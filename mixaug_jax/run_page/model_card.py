"""The model card of a run, for a repository of the Hugging Face hub."""

import json

from mixaug_jax.run_page import numbers, words
from mixaug_jax.runs import Run

# Rows of the page of a run; the others name folders of the user's machine.
_ROWS = ("model", "images", "augmentation", "mixing", "training", "weights")
_LOCAL = ("data.dir", "data.cache_dir", "data.placement")


def write(run: Run, name: str, made_of: str) -> str:
  """Returns README.md: accuracy with its interval, recipe, loading, licence.

  Args:
    run: its predictions give the interval.
    name: of the repository.
    made_of: how an image becomes the network's input.

  Raises:
    UserError: the predictions are missing or damaged.
  """
  split = "test" if run.result.test else "validation"
  validation = run.predictions("validation")
  shown = run.predictions(split)
  measured = numbers.measure(shown, validation, run.likelihood)
  rows = dict(words.setting(run))
  table = {"data": run.config.data.name} | {x: rows[x] for x in _ROWS}
  recipe = {
    key: value
    for key, value in words.changes(run.config).items()
    if key not in _LOCAL and not key.startswith("log.")
  }
  return f"""\
---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- mixaug_jax
---
# {name}

{words.headline(measured, split)}

|   |   |
|---|---|
{_lines(table)}

The classes are `label_names` of config.json.

## Recipe

The keys of `configs/default.py` of mixaug_jax that differ:

```json
{json.dumps(recipe, indent=2)}
```

## Loading

    network = timm.create_model("hf_hub:{name}", pretrained=True)

    mixaug train cutmix:folder --config.model.pretrained=hf://{name} \\
      --config.model.name={run.config.model.name} --config.data.dir=photos

{made_of[0].upper() + made_of[1:]}

## Licence

None is stated. Whoever owns the weights adds one here, and `license:` above,
with regard to the licences of the images and of the weights that the run
started from.
"""


def _lines(table: dict[str, str]) -> str:
  escape = lambda text: text.replace("|", "\\|")
  return "\n".join(f"| {key} | {escape(text)} |" for key, text in table.items())
