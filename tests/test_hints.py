"""A name that is almost right is suggested."""

import pytest

from mixaug_jax import config as config_lib
from mixaug_jax import hints
from mixaug_jax.command import compare, evaluate, flags, train
from mixaug_jax.errors import UserError


@pytest.fixture(scope="module")
def keys():
  return list(config_lib.leaves(config_lib.read("default")))


@pytest.mark.parametrize(
  ("word", "key"),
  [
    ("lr", "optimizer.learning_rate"),
    ("optimiser.lr", "optimizer.learning_rate"),
    ("optimiser.learning_rate", "optimizer.learning_rate"),
    ("learning-rate", "optimizer.learning_rate"),
    ("wieght_decay", "optimizer.weight_decay"),
    ("optimizer.wd", "optimizer.weight_decay"),
    ("epoch", "epochs"),
    ("batch_sze", "batch_size"),
    ("evaluate.batch_sze", "evaluate.batch_size"),
    ("config.epochs", "epochs"),
    ("Batch_Size", "batch_size"),
    ("data_dir", "data.dir"),
    ("dataset.dir", "data.dir"),
    ("optimizer", "optimizer.name"),
    ("model", "model.name"),
    ("evaluation.every_epochs", "evaluate.every_epochs"),
    (
      "augment.flip.probability",
      "augment.random_flip_left_right.probability",
    ),
    ("zzz", None),
    ("", None),
  ],
)
def test_the_key_that_a_word_may_stand_for(keys, word, key):
  assert hints.key(word, keys) == key


@pytest.mark.parametrize(("last", "key"), sorted(hints._KEYS.items()))
def test_every_other_word_for_a_key_leads_to_a_key(keys, last, key):
  assert key in keys
  # The table does not hide a key that has this very name.
  assert not [name for name in keys if name.rpartition(".")[2] == last]
  assert hints.key(last, keys) == key


@pytest.mark.parametrize(
  ("word", "known", "value"),
  [
    ("CutMix", ["none", "cutmix", "cutout"], "cutmix"),
    ("ResNet-50", ["resnet18", "resnet50"], "resnet50"),
    ("adam", ["sgd", "adamw"], "adamw"),
    ("SGD", ["sgd", "adamw"], "sgd"),
    ("cross_entropy", ["softmax", "sigmoid"], "softmax"),
    ("photos", ["digits", "folder"], "folder"),
    ("photos", ["digits"], None),
    ("zzz", ["digits"], None),
  ],
)
def test_the_value_that_a_word_may_stand_for(word, known, value):
  assert hints.value(word, known) == value


@pytest.mark.parametrize(
  ("main", "words", "sentence"),
  [
    (train, "cutmix --epochs=3", "--epochs; did you mean --config.epochs=3?"),
    (train, "cutmix --epochs 3", "did you mean --config.epochs=3?"),
    (train, "cutmix --epochs", "did you mean --config.epochs?"),
    (train, "cutmix --epochs --workdir=x", "did you mean --config.epochs?"),
    (train, "cutmix epochs=3", "no flag epochs; did you mean --config.epochs="),
    (
      train,
      "config.epochs=3 --config=cutmix",
      "did you mean --config.epochs=3?",
    ),
    (
      train,
      "cutmix --optimizer=adam",
      "did you mean --config.optimizer.name=adamw?",
    ),
    (train, "cutmix --wrokdir=x", "did you mean --workdir=x?"),
    (train, "cutmix --zzz=x", "no flag --zzz; see "),
    (train, "cutmix folder", "unrecognized arguments: folder"),
    (train, "cutmix:folder .", "did you mean --config.data.dir=.?"),
    (
      *(train, "cutmix --config.lr=1"),
      "did you mean --config.optimizer.learning_rate=1?",
    ),
    (
      *(compare, "compare --workdir=x --config.data.dir=photos"),
      "did you mean --config.base.data.dir=photos?",
    ),
    (
      compare,
      "compare --epochs=3",
      "--epochs; did you mean --config.base.epochs=3?",
    ),
    (
      compare,
      "compare --optimizer=adam",
      "did you mean --config.base.optimizer.name=adamw?",
    ),
    (compare, "compare --trials=3", "did you mean --config.tune.trials=3?"),
    (compare, "compare --dry-run", "did you mean --dry_run?"),
    # Before argparse reports the flag that is missing.
    (evaluate, "--wrokdir=x", "did you mean --workdir=x?"),
    (evaluate, "--epochs=3", "no flag --epochs; see "),
  ],
)
def test_a_flag_that_does_not_exist_is_one_sentence(main, words, sentence):
  with pytest.raises(UserError) as caught:
    main.main(words.split())
  assert sentence in str(caught.value)


def test_words_after_two_dashes_are_no_flags():
  parser = flags.parser("predict", "")
  parser.add_argument("images", nargs="+")
  assert flags.parse(parser, ["--", "--a=b.png"]).images == ["--a=b.png"]


def test_keys_of_python_are_suggested_as_well():
  config = config_lib.read("cutmix")
  with pytest.raises(UserError, match=r"did you mean optimizer\.learning_rate"):
    config_lib.override(config, {"lr": 0.1})
