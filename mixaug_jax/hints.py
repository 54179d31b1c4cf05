"""Suggestions for a name that is almost right.

A suggestion is printed and never followed: only exact names are accepted.
"""

import difflib
import re
from collections.abc import Iterable

# What other programs call a group of keys, a key, or a value.
_GROUPS = {
  "aug": "augment",
  "augmentation": "augment",
  "augmentations": "augment",
  "dataset": "data",
  "flip": "random_flip_left_right",
  "eval": "evaluate",
  "evaluation": "evaluate",
  "hflip": "random_flip_left_right",
  "mixing": "mix",
  "net": "model",
  "network": "model",
  "opt": "optimizer",
  "optim": "optimizer",
  "optimiser": "optimizer",
}
_KEYS = {
  "arch": "model.name",
  "architecture": "model.name",
  "backbone": "model.name",
  "batch": "batch_size",
  "bs": "batch_size",
  "clip": "optimizer.clip_norm",
  "crop_size": "data.image_size",
  "cutmix": "mix.name",
  "data": "data.dir",
  "data_path": "data.dir",
  "ema": "ema.decay",
  "eval_batch_size": "evaluate.batch_size",
  "folder": "data.dir",
  "freeze_bn": "model.freeze_batch_norm",
  "grad_accum": "optimizer.accumulate",
  "grad_clip": "optimizer.clip_norm",
  "gradient_accumulation_steps": "optimizer.accumulate",
  "img_size": "data.image_size",
  "input_size": "data.image_size",
  "iterations": "steps",
  "lr": "optimizer.learning_rate",
  "max_steps": "steps",
  "mixup": "mix.name",
  "multi_label": "data.label_separator",
  "multilabel": "data.label_separator",
  "n_epochs": "epochs",
  "num_classes": "data.classes",
  "num_epochs": "epochs",
  "num_steps": "steps",
  "path": "data.dir",
  "precision": "model.dtype",
  "random_seed": "seed",
  "resolution": "data.image_size",
  "root": "data.dir",
  "scheduler": "optimizer.schedule",
  "smoothing": "loss.label_smoothing",
  "train_steps": "steps",
  "val_split": "data.validation_fraction",
  "warmup": "optimizer.warmup_epochs",
  "wd": "optimizer.weight_decay",
}
_VALUES = {
  "bce": "sigmoid",
  "bf16": "bfloat16",
  "binarycrossentropy": "sigmoid",
  "ce": "softmax",
  "crossentropy": "softmax",
  "dogs": "stanford_dogs",
  "float16": "bfloat16",
  "fp16": "bfloat16",
  "fp32": "float32",
  "imagefolder": "folder",
  "images": "folder",
  "momentum": "sgd",
  "photos": "folder",
  "resnet": "resnet50",
  "vit": "vit_s16",
}


def near(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
  """Returns the most similar name of `known`, whatever its case; or None."""
  names = {_plain(name): name for name in known}
  found = difflib.get_close_matches(_plain(word), names, 1, cutoff)
  return names[found[0]] if found else None


def value(word: str, known: Iterable[str]) -> str | None:
  """Returns the value of `known` that `word` may stand for, or None."""
  known = list(known)
  other = _VALUES.get(_plain(word))
  return other if other in known else near(word, known)


def key(word: str, known: Iterable[str]) -> str | None:
  """Returns the config key that `word` may stand for, or None.

  Args:
    word: a dotted name, perhaps in words that other programs use.
    known: all config keys, by their dotted names.
  """
  known = list(known)
  word = word.lower().replace("-", "_").removeprefix("config.")
  *groups, last = word.split(".")
  groups = [_GROUPS.get(group, group) for group in groups]
  word = ".".join([*groups, last])
  group = _GROUPS.get(last, last)
  # In this order: the key, its last part, a word for it, a group with a name.
  for end in (word, last, _KEYS.get(last), f"{group}.name"):
    if found := [name for name in known if f".{name}".endswith(f".{end}")]:
      return near(word, found, 0.0)
  # The end of a key may be misspelt, or a part in the middle.
  last_of = lambda name: name.rpartition(".")[2]
  if end := near(last, map(last_of, known), 0.8):
    return near(word, [name for name in known if last_of(name) == end], 0.0)
  return near(word, known)


def _plain(word: str) -> str:
  return re.sub(r"[\s_-]", "", word.lower())
