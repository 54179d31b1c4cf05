"""Every key of a run, with its default. Recipes override this file.

The part after the colon in `--config=configs/cutmix.py:digits` selects the
data set, and with it the model and the length of the training. Any leaf can be
set on the command line: `--config.optimizer.learning_rate=0.05`, and
`--config.optimizer.clip_norm=none` for a leaf that may be None. Where a leaf
names an object of a registry, `package.module:Name` names one of your own.
"""

import dataclasses
import os

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from mixaug_jax import hints
from mixaug_jax.augment import MIXERS

DATASETS = ("digits", "folder", "stanford_dogs")

# The keys that :folder and :stanford_dogs leave unset: their values follow the
# weights that training starts from. docs/results.md has the search for those of
# FINE_TUNING.
RANDOM_WEIGHTS = {
  "model.freeze_batch_norm": False,
  "model.head_init": "lecun_normal",
  "optimizer.learning_rate": 0.05,
  "optimizer.freeze": None,
  "optimizer.head_multiplier": 1.0,
  "optimizer.layer_decay": 1.0,
  "optimizer.head_warmup_epochs": 0.0,
}
# The head is new, so it is trained alone at first and faster afterwards. Stages
# near the image change less than later ones. Batch norm stays as loaded, which
# had the largest effect.
FINE_TUNING = {
  "model.freeze_batch_norm": True,  # Only in a ResNet, as freeze.
  "model.head_init": "zeros",  # No noise from the head to the trunk.
  "optimizer.learning_rate": 0.003,
  "optimizer.freeze": "stem",
  "optimizer.head_multiplier": 3.0,
  "optimizer.layer_decay": 0.8,
}


def get_config(dataset: str = "digits") -> ConfigDict:
  """Returns the recipe without augmentation for `dataset`."""
  config = ConfigDict()
  config.seed = 0  # For initialisation, data order, augmentation.
  config.batch_size = 48  # Over all devices and processes.
  # Without epochs and steps, the length follows the number of images.
  config.epochs = placeholder(float)  # Passes over the data; or set steps.
  config.steps = placeholder(int)  # Optimizer steps; or set epochs.
  config.deterministic = False  # Identical bits on GPUs too; slower.

  config.data = data = ConfigDict()
  data.name = "digits"  # folder, packed, csv, tfds:NAME, hf:NAME.
  data.dir = placeholder(str)  # The folder, CSV file, packed or TFDS data.
  data.image_size = 16  # Pixels a side that the network sees.
  # Stored pixels a side. None: image_size, or 8/7 of it where a random crop
  # needs a margin; without the crop, the network sees the middle of it.
  data.cache_size = placeholder(int)
  data.resize = "crop"  # How to make the square: crop, squash, pad.
  data.bits = 16  # Bits that 16-bit files use: 10, 12, 14 or 16.
  # Held out of train without a validation split. None: 0.1, or more of few.
  data.validation_fraction = placeholder(float)
  data.test = True  # False: leave the test split unread.
  # A folder that is not divided into splits gives a share to test. The draw has
  # a seed of its own, so that runs of other seeds have the same test split.
  data.test_fraction = 0.2
  data.test_seed = 0
  data.placement = "auto"  # device, host, stream; auto decides by size.
  data.on_error = "raise"  # For unreadable images: raise or skip.
  # For images that stand in two splits or under two labels: report or error.
  data.duplicates = "report"
  # For images with several labels or none, with loss.name=sigmoid: what stands
  # between the labels in a cell of a csv, such as ";".
  data.label_separator = placeholder(str)
  # For such images, "a,b": the columns of a csv that hold 0 or 1 for a label.
  data.label_columns = placeholder(str)
  data.classes = placeholder(str)  # To keep: a count, or names "a,b".
  data.examples_per_class = placeholder(int)  # To train on.
  data.imbalance_factor = placeholder(float)  # Long tail: most over fewest.
  data.oversample = False  # Draw every class equally often.
  data.oversample_power = 0.0  # Draws go by n^power of a class of n; 0: alike.
  data.cache_dir = placeholder(str)  # None: the user's cache directory.

  # An operation is on if one of its leaves without a default is set. Each
  # example draws its own random numbers. docs/augmentations.md has the order.
  config.augment = augment = ConfigDict()
  # Before the crops, of which one must be on.
  augment.pad = pad = ConfigDict({"padding": placeholder(int)})  # Pixels.
  pad.mode = "constant"  # constant, edge, reflect or symmetric.
  pad.fill = 0.0  # Grey value of constant, in [0, 1].
  # The whole stored image at image_size instead of its middle.
  augment.resize = ConfigDict({"enabled": False})
  augment.random_resized_crop = crop = ConfigDict()
  crop.min_area = placeholder(float)  # Share of the stored image, in (0, 1].
  crop.max_area = 1.0
  crop.min_aspect = 3 / 4  # Width over height.
  crop.max_aspect = 4 / 3
  augment.random_crop = crop = ConfigDict({"padding": placeholder(int)})
  crop.padding_mode = "reflect"  # A mode of pad; CIFAR's crop: constant.
  crop.fill = 0.0  # Grey value of constant.
  augment.random_flip_left_right = ConfigDict(
    {"probability": placeholder(float)}
  )
  augment.random_flip_up_down = ConfigDict({"probability": placeholder(float)})
  augment.random_rot90 = ConfigDict({"probability": placeholder(float)})
  augment.random_rotation = rotation = ConfigDict()
  rotation.max_degrees = placeholder(float)  # Counter-clockwise.
  rotation.min_degrees = placeholder(float)  # None: -max_degrees.
  rotation.fill = 0.5  # Grey value outside the image, as in all warps.
  augment.random_affine = affine = ConfigDict()
  affine.max_degrees = placeholder(float)  # None: no rotation.
  affine.max_translate = placeholder(float)  # Share of the side.
  affine.min_scale = placeholder(float)  # Zoom.
  affine.max_scale = placeholder(float)  # 2: twice as large.
  affine.max_shear = placeholder(float)  # Degrees.
  affine.fill = 0.5  # Grey value.
  augment.random_perspective = perspective = ConfigDict()
  perspective.distortion = placeholder(float)  # Of corners, in half sides.
  perspective.probability = 0.5  # Probability of a change.
  perspective.fill = 0.5  # Grey value.
  augment.random_elastic = elastic = ConfigDict()
  elastic.alpha = placeholder(float)  # Noise is multiplied by alpha / 2 pixels.
  elastic.sigma = 5.0  # Width of the smoothing, in pixels.
  elastic.fill = 0.5  # Grey value.
  augment.trivial_augment = ConfigDict({"enabled": False})
  augment.rand_augment = rand_augment = ConfigDict()
  rand_augment.num_layers = placeholder(int)  # Operations per image.
  rand_augment.magnitude = 9  # 0 to 30.
  # imagenet, cifar10 or svhn.
  augment.auto_augment = ConfigDict({"policy": placeholder(str)})
  augment.augmix = augmix = ConfigDict()
  augmix.severity = placeholder(int)  # 1 to 10; 3 in the paper.
  augmix.width = 3  # Chains of operations.
  augmix.depth = -1  # Operations in a chain; -1: 1 to 3.
  augmix.alpha = 1.0  # Parameter of the distributions of the weights.
  augmix.all_operations = True  # False: not brightness, color, contrast, ...
  augment.random_brightness = ConfigDict({"max_delta": placeholder(float)})
  augment.random_contrast = contrast = ConfigDict()
  contrast.lower = placeholder(float)  # Factors.
  contrast.upper = placeholder(float)
  augment.random_hue = ConfigDict({"max_delta": placeholder(float)})  # <= 0.5.
  augment.random_saturation = saturation = ConfigDict()
  saturation.lower = placeholder(float)  # Factors.
  saturation.upper = placeholder(float)
  augment.color_jitter = jitter = ConfigDict()  # In random order.
  jitter.brightness = placeholder(float)  # b: factors in 1 - b to 1 + b.
  jitter.contrast = placeholder(float)  # The same.
  jitter.saturation = placeholder(float)  # The same.
  jitter.hue = placeholder(float)  # Full circles, <= 0.5.
  augment.random_gamma = gamma = ConfigDict()
  gamma.lower = placeholder(float)  # Exponents.
  gamma.upper = placeholder(float)
  augment.random_grayscale = ConfigDict({"probability": placeholder(float)})
  augment.random_invert = ConfigDict({"probability": placeholder(float)})
  augment.random_solarize = solarize = ConfigDict()
  solarize.probability = placeholder(float)
  solarize.threshold = 0.5  # In [0, 1]; values from it on are inverted.
  augment.random_posterize = posterize = ConfigDict()
  posterize.probability = placeholder(float)
  posterize.bits = 4  # Kept of 8.
  augment.random_autocontrast = ConfigDict({"probability": placeholder(float)})
  augment.random_equalize = ConfigDict({"probability": placeholder(float)})
  augment.random_sharpness = sharpness = ConfigDict()
  sharpness.lower = placeholder(float)  # Factors.
  sharpness.upper = placeholder(float)
  augment.random_gaussian_blur = blur = ConfigDict()
  blur.kernel_size = placeholder(int)  # Odd; pixels.
  blur.min_sigma = 0.1  # Pixels.
  blur.max_sigma = 2.0
  blur.probability = 1.0
  augment.random_gaussian_noise = ConfigDict({"stddev": placeholder(float)})
  augment.random_jpeg_quality = jpeg = ConfigDict()
  jpeg.min_jpeg_quality = placeholder(int)  # 0 to 100.
  jpeg.max_jpeg_quality = placeholder(int)
  augment.random_erasing = erasing = ConfigDict()
  erasing.probability = placeholder(float)
  erasing.min_area = 0.02  # Share of the image.
  erasing.max_area = 1 / 3
  erasing.min_aspect = 0.3  # Width over height.
  erasing.max_aspect = 1 / 0.3
  erasing.fill = placeholder(float)  # Grey value; None: noise.
  # Applies all or none of some operations that are on, such as
  # "random_hue,random_grayscale", in the place of the first of them.
  augment.random_apply = random_apply = ConfigDict()
  random_apply.names = placeholder(str)
  random_apply.probability = 0.5
  # Applies one of some operations that are on, in the same way.
  augment.random_choice = ConfigDict({"names": placeholder(str)})

  config.mix = mix = ConfigDict()
  mix.name = "none"  # cutmix, mixup, or another mixer; "cutmix,mixup".
  # Mix as another library: timm, torchvision, keras, keras-cv, kornia,
  # openmixup, composer, fastai, clovaai, course. Sets other keys of mix, and
  # for timm loss.label_smoothing. Keys that are set with it or later win.
  mix.preset = placeholder(str)
  mix.expanded = placeholder(str)  # The preset that was expanded; filled in.
  mix.weights = placeholder(str)  # For several: "0.7,0.3"; None: equal.
  mix.alpha = placeholder(float)  # Beta(alpha, alpha); None: the paper's.
  mix.probability = 1.0  # Probability of mixing.
  mix.per_example = False  # Draw once per example, not per batch.
  mix.off_after_epoch = placeholder(float)  # No mixing from this epoch on.
  # other_class: never two images of one class. As other libraries pair: flip,
  mix.partner = "any"  # roll, shuffle, replacement.
  # Remix: of a pair, the class with fewer images gets the whole label if the
  # other has at least kappa times its images and a share below tau.
  mix.remix_kappa = placeholder(float)  # 3 in the paper; None: off.
  mix.remix_tau = 0.5  # As in the paper.
  # Partners come from groups of this many positions of a batch. Images stay on
  # the devices of their group. None: the smallest divisor of batch_size from 32
  # on.
  mix.group_size = placeholder(int)
  mix.min_lambda = 0.0  # Bounds on the share of the first image.
  mix.max_lambda = 1.0
  # Bounds on the box's width over height, relative to the image's.
  mix.min_aspect = 1.0
  mix.max_aspect = 1.0
  # One group per mixer, such as mix.cutmix.alpha. None: the value above, or the
  # default of the paper.
  for name, mixer in MIXERS.items():
    settings = dataclasses.fields(mixer)
    mix[name] = ConfigDict({x.name: placeholder(x.type) for x in settings})

  config.model = model = ConfigDict()
  model.name = "small_resnet"  # resnet18 to 152, small_vit, vit_ti16, vit_s16.
  model.last_stage = placeholder(str)  # "stage3": where a ResNet ends.
  model.dtype = "auto"  # float32 or bfloat16; auto: bfloat16 off the CPU.
  # keras, torchvision, timm/NAME, hf://USER/NAME, the path of a file or of a
  # run directory; auto: the published weights of the model, or none if there
  # are none.
  model.pretrained = placeholder(str)
  model.allow_partial = False  # Take a weight file that lacks some arrays.
  model.sync_batch_norm = False  # Take batch statistics over all devices.
  model.freeze_batch_norm = False  # Keep the running statistics as loaded.
  # Start the last scale of each ResNet block at zero. None: true, except for
  # small_resnet.
  model.zero_init_residual = placeholder(bool)
  model.dropout = 0.0  # Before the head.
  model.head_init = "lecun_normal"  # Or zeros.
  model.remat = False  # Compute blocks twice to save memory.
  # This key and the next three follow the weights. Set them for a file of your
  # own.
  model.version = placeholder(str)  # v1 (stride in the first 1x1) or v1.5.
  model.conv_bias = placeholder(bool)  # Whether convolutions have a bias.
  model.bn_epsilon = placeholder(float)  # Added to the variance.
  model.preprocessing = placeholder(str)  # imagenet, caffe or inception.

  config.optimizer = optimizer = ConfigDict()
  optimizer.name = "sgd"  # Or adamw.
  optimizer.learning_rate = 0.1  # The peak.
  optimizer.schedule = "cosine"  # cosine, step or constant.
  optimizer.warmup_epochs = placeholder(float)  # Linear; None: 8 % of the run.
  optimizer.weight_decay = 5e-4  # Decoupled; not on batch norm and biases.
  optimizer.momentum = 0.9  # For sgd.
  optimizer.nesterov = True
  optimizer.clip_norm = placeholder(float)  # Global gradient norm.
  optimizer.accumulate = 1  # Parts of a batch, computed in turn.
  # Stages: "stem,stage1"; auto: the stem of a pretrained ResNet.
  optimizer.freeze = placeholder(str)
  optimizer.head_from = "head"  # The first stage that counts as head.
  optimizer.head_multiplier = 1.0  # Learning rate, head over the rest.
  optimizer.layer_decay = 1.0  # Learning rate, stage over the next.
  # Train only the head at first. None: for 4 % of the run.
  optimizer.head_warmup_epochs = placeholder(float)

  config.loss = loss = ConfigDict()
  loss.name = "softmax"  # Or sigmoid: a binary cross-entropy for each class.
  loss.label_smoothing = 0.0  # In training only.
  loss.class_weights = placeholder(str)  # inverse or effective; in training.
  loss.effective_beta = 0.999  # For class_weights=effective, in [0, 1).

  config.ema = ConfigDict({"decay": placeholder(float)})  # Such as 0.999.

  config.evaluate = evaluate = ConfigDict()
  # Between two evaluations on validation. None: 1, or a 20th of a long run.
  evaluate.every_epochs = placeholder(float)
  evaluate.batch_size = 250  # Rounded up to a multiple of the devices.
  evaluate.checkpoint = "best"  # The weights to test: best, last or ema.
  evaluate.best_by = "accuracy"  # Or balanced_accuracy, the mean over classes.

  # The run ends before its last step if validation no longer improves: by the
  # accuracy of its weights, or of their average where evaluate.checkpoint=ema.
  config.early_stopping = stopping = ConfigDict()
  stopping.patience = placeholder(int)  # Evaluations without gain; None: off.
  stopping.min_delta = 0.0  # A gain is larger than this share, such as 0.002.

  config.checkpoint = checkpoint = ConfigDict()
  checkpoint.every_epochs = placeholder(float)  # None: at every evaluation.
  checkpoint.every_steps = placeholder(int)  # Instead of it.
  checkpoint.keep = 2  # The newest; the best on validation is kept as well.

  config.log = log = ConfigDict()
  log.every_steps = 20  # Steps between two lines of the log.
  # metrics.jsonl is always written. console, tensorboard, wandb, mlflow, or one
  # of your own: package.module:Name.
  log.writers = "console,tensorboard"

  if dataset not in DATASETS:
    raise ValueError(_unknown(dataset))
  settle = {"digits": _digits, "folder": _folder, "stanford_dogs": _dogs}
  return settle[dataset](config)


def _digits(config: ConfigDict) -> ConfigDict:
  """50 training images in 384 passes; 10 s on two CPU cores."""
  config.data.validation_fraction = 1 / 16  # As many images as for training,
  config.data.examples_per_class = 5  # 5 of each class.
  config.steps = 400
  config.mix.per_example = True  # A batch is nearly the whole set: half of it
  config.mix.probability = 0.5  # is mixed and half of it is not.
  config.optimizer.learning_rate = 0.1
  config.optimizer.warmup_epochs = 0.0
  config.optimizer.head_warmup_epochs = 0.0
  config.evaluate.every_epochs = 40.0
  config.evaluate.checkpoint = "last"  # Validation is too small to choose by.
  return config


def _folder(config: ConfigDict) -> ConfigDict:
  """A folder of photographs, fine-tuned from published weights if it can be.

  The length, the share for validation and the values of RANDOM_WEIGHTS and
  FINE_TUNING follow the images and the weights, unless they are set.
  """
  config.data.name = "folder"
  config.data.image_size = 224
  config.model.name = "resnet50"
  config.model.pretrained = "auto"
  config.model.freeze_batch_norm = placeholder(bool)
  config.model.head_init = placeholder(str)
  config.batch_size = 64
  config.optimizer.learning_rate = placeholder(float)
  config.optimizer.freeze = "auto"
  config.optimizer.head_multiplier = placeholder(float)
  config.optimizer.layer_decay = placeholder(float)
  config.evaluate.batch_size = 128
  return config


def _dogs(config: ConfigDict) -> ConfigDict:
  """Stanford Dogs, fine-tuned from ImageNet weights in 25 epochs."""
  config = _folder(config)
  config.data.name = "stanford_dogs"
  config.data.validation_fraction = 0.1
  config.epochs = 25.0
  config.model.pretrained = "keras"
  config.optimizer.warmup_epochs = 2.0
  config.optimizer.head_warmup_epochs = 1.0
  config.evaluate.every_epochs = 1.0
  return config


def _unknown(dataset: str) -> str:
  name = dataset.removeprefix("tfds:")
  if near := hints.value(dataset, DATASETS):
    hint = f"did you mean :{near}?"
  elif os.path.isdir(dataset) or os.sep in dataset:
    hint = f"a folder of images is :folder --config.data.dir={dataset}"
  else:
    hint = (
      f"a data set of TFDS is :folder --config.data.name=tfds:{name.lower()}"
    )
  return f"the data set must be one of {', '.join(DATASETS)}; {hint}"
