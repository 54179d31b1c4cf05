"""The course: the source of course.ipynb and course.ko.ipynb.

    python docs/make_course.py

executes it and writes both notebooks. A cell begins at `# %%`: text in English
is `[markdown]`, in Korean `[markdown] ko`, and the rest is code of both.
"""

# %% [markdown]
# # Which augmentation makes a classifier better?
#
# *[한국어](course.ko.ipynb)*
#
# This course trains image classifiers with random augmentations, CutMix and
# Mixup in JAX, and answers three questions:
#
# 1. Do networks that train with CutMix and Mixup converge?
# 2. Is there an augmentation that beats none by 5 points of accuracy or more?
# 3. How do the augmentations compare, in pictures and in numbers that hold?
#
# As it stands, it trains on 50 handwritten digits, which come with the package.
# It takes about six minutes on two idle CPU cores, and downloads nothing. One
# cell below switches all of it to Stanford Dogs or to your own photos.
#
# ## 1. Set up
#
# In a clone, install with `pip install -e '.[notebook]'`, or run the first line
# of the next cell without its `#`. The second line is for everywhere else, such
# as Colab, once the package is published.
# %% [markdown] ko
# # 어떤 데이터 증강이 분류기의 성능을 높일까요?
#
# *[English](course.ipynb)*
#
# 이 과정에서는 JAX로 이미지 분류기를 학습하면서 무작위 증강, CutMix, Mixup을
# 차례로 적용해 보고, 다음 세 가지 질문에 답합니다.
#
# 1. CutMix와 Mixup을 적용한 학습은 수렴합니까?
# 2. 증강하지 않은 경우보다 정확도가 5%p 이상 높아지는 증강이 있습니까?
# 3. 여러 증강을 그림과 믿을 수 있는 수치로 비교하면 어떤 차이가 있습니까?
#
# 기본 설정에서는 패키지에 들어 있는 손글씨 숫자 50장으로 학습합니다. 다른
# 작업이 없는 CPU 코어 2개에서 약 6분이 걸리며, 내려받는 파일은 없습니다. 아래의
# 셀 하나만 바꾸면 전체 과정을 Stanford Dogs나 직접 찍은 사진으로 진행할 수
# 있습니다.
#
# ## 1. 준비
#
# 저장소를 클론한 폴더에서는 `pip install -e '.[notebook]'`로 설치하거나, 다음
# 셀 첫 줄의 `#`을 지우고 실행합니다. 둘째 줄은 패키지가 공개된 뒤에 Colab 등
# 다른 환경에서 씁니다.
# %%
# %pip install -q -e ..
# %pip install -q mixaug-jax
# %% [markdown]
# `mx.prepare()` sets what JAX must know before it starts, so it comes before
# any computation.
# %% [markdown] ko
# `mx.prepare()`는 JAX가 시작되기 전에 필요한 설정을 적용합니다. 따라서 다른
# 어떤 계산보다 먼저 호출합니다.
# %%
import os
import pathlib

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display
from scipy import stats

import mixaug_jax as mx
from mixaug_jax import augment, data
from mixaug_jax import config as config_lib
from mixaug_jax.analysis import contact_sheet, fonts
from mixaug_jax.data.class_names import readable
from mixaug_jax.pages import maps

# The runs of the comparison share the memory of a GPU with this notebook.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
mx.prepare()
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False})
plt.rcParams.update({"axes.spines.right": False, "image.cmap": "gray"})
# %% [markdown]
# **Choose the data here.** Everything below follows this cell.
#
# - `"digits"`: the 50 digits.
# - `"folder"`: your own photos, sorted as `PHOTOS/<class>/*.jpg`. Training
#   starts from published weights, which are downloaded once. Use a GPU, or a
#   small network:
#   `CHANGES = {"model.name": "resnet18", "data.image_size": 64}`. Without
#   internet, add `"model.pretrained": None`, for random weights.
# - `"stanford_dogs"`: 120 breeds, a ResNet-50 from ImageNet weights. It
#   downloads 800 MB and needs a GPU and some hours; `CHANGES = {"epochs": 5}`
#   and `SEEDS = 3` make it shorter.
# %% [markdown] ko
# **데이터는 여기서 고릅니다.** 이후의 모든 셀이 이 설정을 따릅니다.
#
# - `"digits"`: 손글씨 숫자 50장입니다.
# - `"folder"`: 직접 찍은 사진입니다. `PHOTOS/<클래스>/*.jpg` 형태로 정리해
#   둡니다. 공개된 가중치를 한 번 내려받아 그 상태에서 학습을 시작합니다. GPU를
#   쓰거나, 다음과 같이 작은 신경망을 씁니다. `CHANGES =
#   {"model.name": "resnet18", "data.image_size": 64}`. 인터넷에 연결되어 있지
#   않다면 `"model.pretrained": None`을 더해 무작위 가중치로 시작합니다.
# - `"stanford_dogs"`: 견종 120개를 ImageNet 가중치로 시작하는 ResNet-50으로
#   분류합니다. 800 MB를 내려받으며, GPU로도 몇 시간이 걸립니다. `CHANGES =
#   {"epochs": 5}`와 `SEEDS = 3`으로 시간을 줄일 수 있습니다.
# %% parameters
DATA = "digits"  # Or "folder", or "stanford_dogs".
PHOTOS = None  # The folder of your photos, for "folder".
CHANGES = {}  # Keys of the config for all runs, such as {"epochs": 10}.
ARMS = ["basic", "cutmix", "mixup", "basic+cutmix"]  # To compare.
SEEDS = 5  # Networks of each arm in the comparison.
JOBS = 2 if DATA == "digits" else None  # Runs at a time; None: one per GPU.
# %% [markdown]
# ## 2. Look at the data
#
# Always look at the images before training: wrong labels, odd crops and empty
# classes show at once.
#
# The training set is small on purpose. Augmentation makes more of the images
# that you have; with very many images it has less to add. With 5 digits of each
# class, a network can learn all 50 by heart, and what it learns then is often
# not what makes a 3 a 3.
#
# **Validation** images choose between settings. **Test** images are used once,
# at the end. If you choose by them, you measure luck.
# %% [markdown] ko
# ## 2. 데이터 살펴보기
#
# 학습하기 전에 항상 이미지를 먼저 봅니다. 잘못된 레이블, 이상하게 잘린 사진,
# 비어 있는 클래스는 보기만 해도 드러납니다.
#
# 학습 데이터는 일부러 적게 잡았습니다. 증강은 가진 이미지를 더 잘 활용하는
# 방법이므로, 이미지가 아주 많으면 효과가 줄어듭니다. 숫자마다 5장씩, 모두
# 50장이라면 신경망이 통째로 외울 수 있습니다. 이렇게 외운 특징은 3을 3답게
# 만드는 특징이 아닌 경우가 많습니다.
#
# **검증** 이미지로는 설정을 고릅니다. **테스트** 이미지는 마지막에 한 번만
# 씁니다. 테스트 이미지를 보고 설정을 고르면 실력이 아니라 운을 재게 됩니다.
# %%
WORK = pathlib.Path("runs", "course", DATA)
folder = {} if PHOTOS is None else {"data.dir": str(PHOTOS)}
config = config_lib.load(f"baseline:{DATA}", folder | CHANGES)
sets = data.load(config.data, config.seed)
names = readable(sets.class_names)
size = config.data.image_size
SPLIT = "validation" if sets.test is None else "test"
measured_on = sets.by_name()[SPLIT]
# Class names may be in any script, so fonts that have it are chosen.
plt.rcParams["font.family"] = fonts.families("".join(names))

for split, part in sets.by_name().items():
  print(f"{split}: {len(part):,} images")
print(f"{len(names)} classes, {size} x {size} pixels")


# %%
def grid(rows, left=(), above=(), below=(), title=None, side=0.85):
  """Draws rows of images, with words around them."""
  wide = max(len(row) for row in rows)
  shape = side * wide + 1.6 * bool(left), side * len(rows) * 1.15 + 0.3
  figure, axes = plt.subplots(
    *(len(rows), wide), figsize=shape, squeeze=False, layout="constrained"
  )
  for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
  for row, images in enumerate(rows):
    for column, image in enumerate(images):
      axes[row, column].imshow(np.asarray(image), vmin=0, vmax=1)
  for row, words in enumerate(left):
    axes[row, 0].set_ylabel(words, rotation=0, ha="right", va="center")
  for column, words in enumerate(above):
    axes[0, column].set_title(words, fontsize=9)
  for row, captions in enumerate(below):
    for column, words in enumerate(captions):
      axes[row, column].set_xlabel(words, fontsize=9)
  figure.suptitle(title, fontsize=11)
  plt.show()


def of_class(number, count=1):
  """Returns the first training images of a class, `[count, S, S, 3]`."""
  positions = np.flatnonzero(sets.train.labels == number)[:count]
  return sets.train.images(positions)


shown = range(min(10, len(names)))
grid(
  [of_class(number, 5) for number in shown],
  left=[f"{names[number]}  " for number in shown],
  title=f"Training images of {len(shown)} classes",
  side=0.6,
)
# %% [markdown]
# ## 3. Random augmentations, one by one
#
# An augmentation changes the image and keeps the label. It is right if you
# would still give the same label, and useful if such images occur in practice.
# A network that sees each image in many such forms learns what does not matter.
#
# Each row below shows the original and six draws. The digits are grey and
# small; for these pictures one is enlarged and painted, so that changes of
# colour show.
#
# ### Geometry
#
# - **crop**: the object may stand elsewhere. Wrong if what tells the classes
#   apart is cut off.
# - **resized crop**: the object may also be nearer or farther. Wrong if size
#   matters, such as for cells under a microscope.
# - **flip**: most things look the same in a mirror. Wrong for text and digits:
#   what is a mirrored 2?
# - **rotation**: the camera may be tilted. Wrong if the angle has a meaning: a
#   6 turned by 180 degrees is a 9.
# - **affine**: rotation, shift, zoom and shear at once.
# %% [markdown] ko
# ## 3. 무작위 증강을 하나씩
#
# 증강은 이미지를 바꾸되 레이블은 그대로 둡니다. 바뀐 이미지를 보고도 같은
# 레이블을 붙일 수 있어야 올바른 증강이고, 그런 이미지가 실제로 나타나야 쓸모
# 있는 증강입니다. 한 이미지를 여러 모습으로 보면서 신경망은 무엇이 중요하지
# 않은지를 배웁니다.
#
# 아래 그림의 각 행은 원본과 무작위 결과 여섯 장입니다. 숫자 이미지는 작은
# 회색조이므로, 색의 변화가 보이도록 한 장을 확대하고 색을 칠했습니다.
#
# ### 기하 변환
#
# - **자르기(crop)**: 물체의 위치가 달라질 수 있습니다. 클래스를 구별하는 부분이
#   잘려 나간다면 쓰지 않습니다.
# - **크기를 바꾸는 자르기(resized crop)**: 물체까지의 거리도 달라질 수
#   있습니다. 현미경으로 본 세포처럼 크기가 중요하다면 쓰지 않습니다.
# - **좌우 반전(flip)**: 대부분의 사물은 거울에 비추어도 같은 사물입니다. 글자와
#   숫자는 그렇지 않습니다. 좌우로 뒤집힌 2는 무엇입니까?
# - **회전(rotation)**: 카메라가 기울 수 있습니다. 각도에 의미가 있다면 쓰지
#   않습니다. 6을 180도 돌리면 9가 됩니다.
# - **아핀 변환(affine)**: 회전, 이동, 확대, 기울임을 한꺼번에 적용합니다.
# %%
SIDE = 96
picture = np.asarray(
  augment.resize(jnp.asarray(of_class(2 % len(names))), SIDE)
)[0]
if DATA == "digits":
  ink, paper = np.array([255, 200, 70]), np.array([30, 70, 130])
  picture = (paper + picture / 255 * (ink - paper)).astype(np.uint8)


def draws(operations, count=6):
  """Draws each operation on `picture`."""
  batch, key = jnp.stack([picture] * count), jax.random.key(5)
  grid(
    [[picture, *operation(key, batch)] for operation in operations.values()],
    left=[f"{name}  " for name in operations],
    above=["original", *(f"draw {n + 1}" for n in range(count))],
  )


draws(
  {
    "crop": lambda key, x: augment.random_crop(key, x, SIDE, 14),
    "resized crop": lambda key, x: augment.random_resized_crop(
      key, x, SIDE, 0.4
    ),
    "flip": augment.random_flip_left_right,
    "rotation": lambda key, x: augment.random_rotation(key, x, 30),
    "affine": lambda key, x: augment.random_affine(
      key, x, 15, 0.1, 0.8, 1.2, 15
    ),
  }
)
# %% [markdown]
# ### Light and colour
#
# - **brightness, contrast, gamma**: another hour, another camera. Wrong if the
#   brightness itself is the signal, as in X-ray densities.
# - **hue**: another light. Wrong if colour tells the classes apart: ripe and
#   unripe tomatoes. Keep it small.
# - **saturation, greyscale**: paler or stronger colours. On grey digits, hue
#   and saturation do nothing at all, and cost time.
# %% [markdown] ko
# ### 밝기와 색
#
# - **밝기(brightness), 대비(contrast), 감마(gamma)**: 시간대나 카메라가 달라질
#   수 있습니다. X선 영상의 농도처럼 밝기 자체가 신호라면 쓰지 않습니다.
# - **색조(hue)**: 조명이 달라질 수 있습니다. 익은 토마토와 덜 익은 토마토처럼
#   색으로 구별하는 클래스에는 쓰지 않습니다. 쓰더라도 작은 값을 씁니다.
# - **채도(saturation), 회색조(greyscale)**: 색이 옅어지거나 짙어집니다. 회색조
#   숫자에는 색조와 채도가 아무 효과 없이 시간만 듭니다.
# %%
draws(
  {
    "brightness": lambda key, x: augment.random_brightness(key, x, 0.4),
    "contrast": lambda key, x: augment.random_contrast(key, x, 0.3, 1.8),
    "gamma": lambda key, x: augment.random_gamma(key, x, 0.4, 2.5),
    "hue": lambda key, x: augment.random_hue(key, x, 0.2),
    "saturation": lambda key, x: augment.random_saturation(key, x, 0, 2),
    "greyscale": lambda key, x: augment.random_grayscale(key, x, 0.5),
  }
)
# %% [markdown]
# ### Quality, and chance
#
# - **blur, noise, JPEG**: bad lenses, little light, strong compression. Wrong
#   if fine texture is what counts.
# - **erasing**: something stands in front of the object. It is the cousin of
#   CutMix that pastes noise.
# - **RandAugment, TrivialAugment**: draw the operations themselves at random.
#   Good when you do not know which to take; check that none of them breaks your
#   labels.
#
# [All augmentations](augmentations.md) has the others.
# %% [markdown] ko
# ### 화질, 그리고 무작위 정책
#
# - **흐림(blur), 잡음(noise), JPEG**: 나쁜 렌즈, 어두운 환경, 강한 압축을 흉내
#   냅니다. 미세한 질감이 중요하다면 쓰지 않습니다.
# - **지우기(erasing)**: 물체가 무언가에 가려질 수 있습니다. 다른 이미지 대신
#   잡음을 붙이는, CutMix의 사촌입니다.
# - **RandAugment, TrivialAugment**: 연산 자체를 무작위로 고릅니다. 무엇을 쓸지
#   모를 때 좋습니다. 다만 레이블을 망가뜨리는 연산이 없는지 확인합니다.
#
# 다른 증강은 [전체 목록](augmentations.md)에 있습니다.
# %%
draws(
  {
    "blur": lambda key, x: augment.random_gaussian_blur(key, x, 95, 4, 16),
    "noise": lambda key, x: augment.random_gaussian_noise(key, x, 0.1),
    "JPEG": lambda key, x: augment.random_jpeg_quality(key, x, 2, 20),
    "erasing": lambda key, x: augment.random_erasing(key, x, 1.0),
    "RandAugment": augment.rand_augment,
    "TrivialAugment": augment.trivial_augment,
  }
)


# %% [markdown]
# ## 4. Train with and without augmentation
#
# A **recipe** holds all settings of a run. `baseline` has no augmentation.
# `basic` differs only in the random augmentations: shifts for digits; crops,
# flips and colours for photos. This is what the network is trained on in one
# step of `basic`:
# %% [markdown] ko
# ## 4. 증강 없이, 증강과 함께 학습하기
#
# **레시피**에는 한 번의 학습에 필요한 설정이 모두 들어 있습니다. `baseline`에는
# 증강이 없습니다. `basic`은 무작위 증강만 다릅니다. 숫자는 조금씩 옮기고,
# 사진은 자르고 뒤집고 색을 바꿉니다. `basic`의 한 스텝에서 신경망이 보는
# 이미지는 다음과 같습니다.
# %%
def training_batch(recipe, changes=None, count=8):
  """Draws what a recipe feeds to the network."""
  values = folder | CHANGES | (changes or {})
  batch = contact_sheet.training_batch(
    config_lib.load(f"{recipe}:{DATA}", values), 0
  )
  stored, classes, seen, labels = (part[:count] for part in batch)
  captions = [label.replace(" + ", "\n+ ") for label in labels]
  grid(
    *([stored, seen], ["stored  ", "trained on  "]),
    below=[classes, captions],
    title=f"A training batch of {recipe}",
    side=1.1,
  )


training_batch("basic")


# %% [markdown]
# `mx.train` trains a run in its own directory. If you interrupt it, the same
# cell resumes it; if it is finished, it is opened. So this notebook can be run
# again at once.
# %% [markdown] ko
# `mx.train`은 실행마다 별도의 디렉터리에서 학습합니다. 중간에 멈추었다면 같은
# 셀을 다시 실행해 이어서 학습하고, 이미 끝났다면 결과를 바로 엽니다. 따라서
# 노트북을 다시 실행해도 시간이 들지 않습니다.
# %%
def train(arm, recipe, changes=None):
  """Trains a network, or opens it if it is trained already."""
  calm = {"log.writers": ""}  # No line for each measurement.
  return mx.train(
    f"{recipe}:{DATA}",
    workdir=WORK / arm,
    data_dir=PHOTOS,
    overrides=calm | CHANGES | (changes or {}),
  )


def accuracy(run):
  """Returns the accuracy in per cent, on test if there is one."""
  return 100 * (run.result.test or run.result.validation.last).accuracy


runs = {arm: train(arm, arm) for arm in ("baseline", "basic")}
for arm, run in runs.items():
  print(f"{arm}: {SPLIT} accuracy {accuracy(run):.1f} %")


# %%
def series(run, split, key):
  """Returns steps and values of a metric of a run."""
  rows = [row for row in run.rows if row["split"] == split and key in row]
  return [row["step"] for row in rows], np.array([row[key] for row in rows])


def curves(runs):
  """Draws the learning curves of several runs."""
  parts = [
    ("train", "loss", "Training loss", 1),
    ("train", "accuracy", "Training accuracy, unmixed images, %", 100),
    ("validation", "accuracy", "Validation accuracy, %", 100),
  ]
  _, axes = plt.subplots(1, 3, figsize=(11, 2.8), layout="constrained")
  for axis, (split, key, title, factor) in zip(axes, parts, strict=True):
    for arm, run in runs.items():
      steps, values = series(run, split, key)
      axis.plot(steps, factor * values, label=arm)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("step")
  axes[2].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
  plt.show()


curves(runs)
# %% [markdown]
# Compare the middle panel with the right one. Both networks know the training
# images by heart: the training accuracy reaches 100 %. On new images they do
# not, and this gap is **overfitting**. Augmentation cannot add information, but
# it makes learning by heart harder, and the gap smaller.
# %% [markdown] ko
# 가운데와 오른쪽 그림을 비교해 봅니다. 두 신경망 모두 학습 이미지를 외워서 학습
# 정확도가 100%에 이릅니다. 그러나 처음 보는 이미지에서는 그렇지 않습니다. 이
# 차이가 **과적합**입니다. 증강이 새로운 정보를 더하지는 않지만, 외우기 어렵게
# 만들어 이 차이를 줄입니다.
# %% [markdown]
# ## 5. Test-time augmentation
#
# At test time, one can also show the network several **views** of an image and
# average its predictions. It costs no training, but each view costs one more
# prediction. Views must be right for the data, just as augmentations must: a
# view that training never showed can mislead the network.
# %% [markdown] ko
# ## 5. 테스트 시점 증강
#
# 예측할 때에도 한 이미지의 여러 **뷰**(view)를 신경망에 보여 주고 예측을 평균할
# 수 있습니다. 다시 학습할 필요는 없지만, 뷰의 수만큼 예측 시간이 늘어납니다.
# 뷰도 증강처럼 데이터에 맞아야 합니다. 학습에서 본 적 없는 뷰는 신경망을 틀리게
# 만들 수 있습니다.
# %%
VIEWS = "identity,flip,shifts"
stored = of_class(2 % len(names))
views = augment.make_views(VIEWS, size)(jnp.asarray(stored))[:, 0]
above = ["identity", "flip", "shifts", *[""] * (len(views) - 3)]
grid([views], above=above)

print(f"{SPLIT} accuracy, %")
for arm, run in runs.items():
  for name, row in run.evaluate(SPLIT, views=VIEWS)["views"].items():
    print(f"  {arm:10}{name:24}{100 * row['accuracy']:6.1f}")
# %% [markdown]
# `flip` shows the mirrored image alone, which is a clear mistake for digits.
# `shifts` is the mean over five small shifts, which suits digits. The last line
# of a network is the mean over all views, right and wrong: compare it with
# `shifts`, and choose the views before you average. For dogs, the flip is
# right. These are single networks; section 9 shows how little that proves.
# %% [markdown] ko
# `flip`은 좌우로 뒤집은 이미지 한 장으로만 예측하며, 숫자에는 명백히 잘못된
# 뷰입니다. `shifts`는 조금씩 옮긴 다섯 장의 평균으로, 숫자에 어울립니다.
# 신경망별 마지막 줄은 맞는 뷰와 잘못된 뷰를 모두 평균한 결과입니다. `shifts`와
# 비교해 보고, 평균하기 전에 뷰를 고릅니다. 개 사진에는 좌우 반전이 잘 맞습니다.
# 다만 신경망 하나씩의 결과일 뿐이며, 이것만으로 결론을 내릴 수 없는 이유는
# 9절에서 봅니다.
# %% [markdown]
# ## 6. CutMix, step by step
#
# CutMix ([Yun et al., 2019](https://arxiv.org/abs/1905.04899)) cuts a box out
# of one image, pastes it into another, and mixes the labels by area. Why would
# that help? The network must recognise an object by any part of it, not by the
# one part that is easiest. It also learns to be less certain.
#
# **The box.** Draw the mixing ratio `lam`, the share of the image that should
# stay. The box has the sides `sqrt(1 - lam)` of the image, so its area is `1 -
# lam`. Its centre is any pixel, and what lies outside of the image is clipped.
# %% [markdown] ko
# ## 6. CutMix를 한 단계씩
#
# CutMix([Yun et al., 2019](https://arxiv.org/abs/1905.04899))는 한 이미지에서
# 상자를 잘라 다른 이미지에 붙이고, 레이블을 면적 비율로 섞습니다. 왜 도움이
# 될까요? 신경망은 가장 쉬운 한 부분만이 아니라 어느 부분을 보고도 물체를
# 알아보아야 합니다. 지나치게 확신하지 않는 법도 배웁니다.
#
# **상자.** 먼저 혼합 비율 `lam`을 뽑습니다. 원래 이미지에서 남길 비율입니다.
# 상자의 각 변은 이미지의 `sqrt(1 - lam)`배이므로, 넓이는 `1 - lam`이 됩니다.
# 중심은 이미지 안의 임의의 픽셀이고, 이미지 밖으로 나간 부분은 잘라 냅니다.
# %%
first, second = 0, len(names) // 2
pair = np.concatenate([of_class(first), of_class(second)])
images = jnp.asarray(pair, jnp.float32) / 255
labels = jax.nn.one_hot(jnp.array([first, second]), len(names))


def clipped_box(lam, centre):
  """Returns the top, bottom, left and right of a box in the image."""
  side = int(size * (1 - lam) ** 0.5)
  top, left = (place - side // 2 for place in centre)
  ends = np.array([top, top + side, left, left + side])
  return tuple(int(end) for end in ends.clip(0, size))


lam, centre = 0.6, (size // 4, 3 * size // 4)
box = clipped_box(lam, centre)
print("top, bottom, left, right:", box)


# %% [markdown]
# **The image.** Inside the box stand the pixels of the partner. JAX arrays are
# never changed in place; `.at[...].set(...)` returns a new one.
#
# **The label.** It must have the shares that the pixels have. Count the pixels
# that were pasted:
# %% [markdown] ko
# **이미지.** 상자 안에는 짝이 된 이미지의 픽셀을 넣습니다. JAX 배열은
# 제자리에서 바꾸지 않으며, `.at[...].set(...)`이 새 배열을 돌려줍니다.
#
# **레이블.** 레이블의 비율은 픽셀의 비율과 같아야 합니다. 실제로 붙인 픽셀을
# 셉니다.
# %%
def paste(image, partner, box):
  """Pastes a box of the partner."""
  top, bottom, left, right = box
  inside = partner[top:bottom, left:right]
  return image.at[top:bottom, left:right].set(inside)


def share_kept(box):
  """Returns the share of the pixels outside of the box."""
  top, bottom, left, right = box
  return 1 - (bottom - top) * (right - left) / size**2


def mixed_label(share, labels):
  return share * labels[0] + (1 - share) * labels[1]


def in_words(label):
  return contact_sheet.in_words(np.asarray(label), names)


mask = paste(jnp.zeros([size, size, 3]), jnp.ones([size, size, 3]), box)
mixed = paste(images[0], images[1], box)
label = mixed_label(share_kept(box), labels)
words = in_words(label).replace(" + ", "\n+ ")
grid(
  [[images[0], images[1], mask, mixed]],
  above=["image", "partner", "box", "mixed"],
  below=[[names[first], names[second], "", words]],
  side=1.5,
)
# %% [markdown]
# Why count again, and not use `lam`? Because the box was clipped. A box in a
# corner pastes a quarter of what `lam` claims, and a label with `lam` would
# praise the network for seeing what is not there. Much code on the web does
# that. Here are 2,000 boxes:
# %% [markdown] ko
# 왜 `lam`을 그대로 쓰지 않고 다시 셀까요? 상자가 잘렸기 때문입니다. 모서리에
# 놓인 상자는 `lam`이 말하는 넓이의 4분의 1만 붙입니다. 이때 `lam`으로 레이블을
# 만들면, 이미지에 없는 것을 보았다고 가르치는 셈입니다. 웹에서 찾을 수 있는
# 코드에는 이런 실수가 많습니다. 상자 2,000개로 확인해 봅니다.
# %%
rng = np.random.default_rng(0)
claimed = rng.beta(1, 1, 2000)
centres = rng.integers(0, size, [2000, 2])
pasted = np.array(
  [
    1 - share_kept(clipped_box(1 - area, centre))
    for area, centre in zip(claimed, centres, strict=True)
  ]
)
figure, axis = plt.subplots(figsize=(4, 3.2), layout="constrained")
axis.plot(claimed, pasted, ".", markersize=3, alpha=0.4)
axis.plot([0, 1], [0, 1], "k--", linewidth=1)
axis.set(xlabel="share claimed by lam", ylabel="share of the pixels pasted")
axis.set_title("CutMix: the unclipped box claims too much", fontsize=10)
plt.show()
print(f"mean claimed {claimed.mean():.2f}, mean pasted {pasted.mean():.2f}")
# %% [markdown]
# **The function of the library does the same**, for a whole batch. It draws the
# box itself. A trick shows which one: with the same key, cut the box into a
# black image from a white one. Then both ways must agree.
# %% [markdown] ko
# **라이브러리 함수도 똑같이 동작하며**, 배치 전체를 한꺼번에 처리합니다. 상자는
# 함수가 직접 뽑습니다. 어떤 상자인지는 간단한 요령으로 알 수 있습니다. 같은
# 키로 검은 이미지에 흰 이미지를 붙이면 상자가 그대로 드러납니다. 두 방법의
# 결과는 같아야 합니다.
# %%
key = jax.random.key(4)
black_and_white = jnp.stack([jnp.zeros_like(mixed), jnp.ones_like(mixed)])
revealed = np.asarray(augment.cutmix(key, black_and_white, labels)[0][0])
rows = np.flatnonzero(revealed.any(axis=(1, 2)))
columns = np.flatnonzero(revealed.any(axis=(0, 2)))
drawn = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1

mixed, soft_labels = augment.cutmix(key, images, labels, alpha=1.0)
assert jnp.allclose(mixed[0], paste(images[0], images[1], drawn), atol=1e-6)
by_hand = mixed_label(share_kept(drawn), labels)
assert jnp.allclose(soft_labels[0], by_hand, atol=1e-6)
print("The same image, and the same label:", in_words(soft_labels[0]))
# %% [markdown]
# In a batch, each image needs a partner. Shuffling the batch is the common way,
# but in 63 % of all shuffles some image meets itself. The library draws a
# cycle, in which no image is its own partner. A training batch of `cutmix`:
# %% [markdown] ko
# 배치에서는 이미지마다 짝이 필요합니다. 흔히 배치를 섞어서 짝을 짓지만, 이렇게
# 하면 63%의 확률로 자기 자신과 짝이 되는 이미지가 생깁니다. 라이브러리는 순환
# 순서를 뽑으므로 어떤 이미지도 자기 자신과 짝이 되지 않습니다. `cutmix`의 학습
# 배치는 다음과 같습니다.
# %%
training_batch("cutmix")
# %% [markdown]
# ## 7. Mixup, step by step
#
# Mixup ([Zhang et al., 2018](https://arxiv.org/abs/1710.09412)) blends two
# whole images and their labels with the same ratio. The idea: between two
# examples, the prediction should change along a straight line, without sudden
# jumps.
# %% [markdown] ko
# ## 7. Mixup을 한 단계씩
#
# Mixup([Zhang et al., 2018](https://arxiv.org/abs/1710.09412))은 두 이미지
# 전체를 섞고, 레이블도 같은 비율로 섞습니다. 두 예제 사이에서 예측이 갑자기
# 뛰지 않고 직선을 따라 변해야 한다는 생각에서 나왔습니다.
# %%
ratios = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
blends = [lam * images[0] + (1 - lam) * images[1] for lam in ratios]
soft = [in_words(mixed_label(lam, labels)) for lam in ratios]
grid(
  [blends],
  above=[f"lam = {lam}" for lam in ratios],
  below=[[words.replace(" + ", "\n+ ") for words in soft]],
  side=1.2,
)
# %% [markdown]
# **The ratio** comes from the distribution Beta(alpha, alpha). A small alpha
# mostly gives ratios near 0 or 1, so that one image dominates. With alpha = 1,
# all ratios are equally likely. That suits CutMix, whose parts stay clear;
# blends near one half are hard to read, so Mixup takes a smaller alpha.
# %% [markdown] ko
# **혼합 비율**은 Beta(alpha, alpha) 분포에서 뽑습니다. alpha가 작으면 0이나 1에
# 가까운 값이 많이 나와 한쪽 이미지가 뚜렷합니다. alpha가 1이면 모든 비율이
# 고르게 나옵니다. 붙인 부분이 선명하게 남는 CutMix에는 이 값이 맞습니다. 반반에
# 가깝게 겹친 이미지는 알아보기 어려우므로, Mixup에는 더 작은 alpha를 씁니다.
# %%
figure, axis = plt.subplots(figsize=(4.5, 2.6), layout="constrained")
ratio = np.linspace(0.01, 0.99, 200)
for alpha in (0.2, 0.4, 1.0):
  axis.plot(ratio, stats.beta.pdf(ratio, alpha, alpha), label=f"alpha {alpha}")
axis.set(xlabel="lam", ylim=(0, 4))
axis.set_title("Density of the mixing ratio", fontsize=10)
axis.legend(frameon=False)
plt.show()
# %%
key = jax.random.key(11)
mixed, soft_labels = augment.mixup(key, images, labels, alpha=0.4)
lam = soft_labels[0, first]
by_hand = lam * images[0] + (1 - lam) * images[1]
assert jnp.allclose(mixed[0], by_hand, atol=1e-6)
assert jnp.allclose(soft_labels[0], mixed_label(lam, labels), atol=1e-6)
print("The same image, and the same label:", in_words(soft_labels[0]))

training_batch("mixup")
# %% [markdown]
# ## 8. Train the arms: do they converge?
#
# Three more **arms**: CutMix alone, Mixup alone, and CutMix on top of the basic
# augmentations. Any key of a recipe can be changed; the third arm is `basic`
# with `mix.name` set to `cutmix`. The recipe `mixup` has alpha 0.4; here it
# trains with the alpha of the paper, 0.2, as in the comparison of section 9.
# %% [markdown] ko
# ## 8. 여러 실험군을 학습하고 수렴하는지 보기
#
# **실험군** 세 개를 더 학습합니다. CutMix만, Mixup만, 그리고 기본 증강에
# CutMix를 더한 경우입니다. 레시피의 값은 무엇이든 바꿀 수 있습니다. 세 번째는
# `basic`에서 `mix.name`만 `cutmix`로 바꾼 것입니다. 레시피 `mixup`의 alpha는
# 0.4이지만, 여기서는 9절의 비교와 같이 논문의 값인 0.2로 학습합니다.
# %%
runs["cutmix"] = train("cutmix", "cutmix")
runs["mixup"] = train("mixup", "mixup", {"mix.alpha": None})
runs["basic+cutmix"] = train("basic+cutmix", "basic", {"mix.name": "cutmix"})
curves(runs)


# %% [markdown]
# The training losses of CutMix and Mixup stay far above zero. That is no
# failure. Nobody can guess `lam` exactly from the image, and even a network
# that did would have a loss: the **entropy** of the mixed label. This is the
# floor under each curve. A loss has converged if it fell and no longer moves
# much, wherever it ends. The middle panel agrees: on images that are not
# mixed, the training accuracy reaches 100 %.
# %% [markdown] ko
# CutMix와 Mixup의 학습 손실은 0보다 훨씬 높은 곳에 머뭅니다. 실패가 아닙니다.
# 이미지만 보고 `lam`을 정확히 맞힐 수는 없습니다. 정확히 맞히더라도 섞인
# 레이블의 **엔트로피**만큼 손실이 남으며, 이 값이 손실의 하한입니다. 손실이
# 내려간 뒤 더는 크게 변하지 않으면, 그 값이 얼마이든 수렴한 것입니다. 가운데
# 그림도 같은 사실을 보여 줍니다. 섞지 않은 이미지에 대한 학습 정확도는 100%까지
# 올라갑니다.
# %%
def entropy_of_labels(run, batches=20):
  """Returns the loss of a network that knows every mixed label."""
  mixer = augment.make_mixer(run.config.mix)
  count = run.config.batch_size
  ids = np.resize(sets.train.labels, count)
  hard, blank = (
    jax.nn.one_hot(ids, len(names)),
    jnp.zeros([count, size, size, 3]),
  )
  each = [
    jax.scipy.special.entr(mixer(jax.random.key(n), blank, hard)[1]).sum(-1)
    for n in range(batches)
  ]
  return float(jnp.mean(jnp.stack(each)))


print("training loss  first fifth  fourth fifth  last fifth  floor")
for arm, run in runs.items():
  _, losses = series(run, "train", "loss")
  fifths = [part.mean() for part in np.array_split(losses, 5)]
  print(
    f"{arm:15}{fifths[0]:11.2f}{fifths[3]:14.2f}{fifths[4]:12.2f}"
    f"{entropy_of_labels(run):7.2f}"
  )
# %% [markdown]
# **The first question is answered**: compare the last two fifths. The losses
# fall, and then stay where they are.
#
# The accuracies on new images:
# %% [markdown] ko
# **첫 번째 질문의 답입니다.** 네 번째와 마지막 5분의 1 구간을 비교합니다.
# 손실은 내려간 뒤 그 자리에 머뭅니다.
#
# 처음 보는 이미지에 대한 정확도는 다음과 같습니다.
# %%
for arm, run in runs.items():
  print(f"{arm:15}{accuracy(run):6.1f} %")
# %% [markdown]
# Is the arm at the top the best? **One network of each arm does not show it.**
# Another seed draws other initial weights, another order and, here, other
# training digits, and the ranking may change. The next section measures by how
# much.
#
# ## 9. Compare, so that it holds
#
# Train each arm with several seeds. Seed 1 of an arm is compared with seed 1 of
# the baseline: both start from the same weights and see the same training
# images, so the luck that they share cancels. This is a **paired difference**,
# and its mean and its interval answer the question.
#
# `mx.compare` trains all runs and writes one page. All arms share one recipe
# here, to save time. The full comparison tunes each arm with 20 trials, because
# a gain over a badly tuned baseline proves little.
# %% [markdown] ko
# 그렇다면 가장 높은 실험군이 가장 좋은 증강일까요? **실험군마다 신경망
# 하나만으로는 알 수 없습니다.** 시드가 바뀌면 초기 가중치와 데이터 순서가
# 달라지고, 여기서는 학습에 쓰는 숫자까지 달라지므로 순위가 바뀔 수 있습니다.
# 얼마나 달라지는지 다음 절에서 재어 봅니다.
#
# ## 9. 믿을 수 있게 비교하기
#
# 실험군마다 여러 시드로 학습합니다. 어떤 실험군의 시드 1은 기준 모델의 시드 1과
# 비교합니다. 둘은 초기 가중치와 학습 이미지가 같으므로 공통된 운이 상쇄됩니다.
# 이렇게 **짝지은 차이**의 평균과 신뢰 구간이 질문의 답입니다.
#
# `mx.compare`는 모든 실행을 학습시키고 결과를 한 페이지로 정리합니다. 여기서는
# 시간을 아끼기 위해 모든 실험군이 같은 레시피를 씁니다. 전체 비교에서는
# 실험군마다 20번씩 시도해 하이퍼파라미터를 조정합니다. 잘못 조정된 기준 모델을
# 이기더라도 증명되는 것이 거의 없기 때문입니다.
# %%
comparison = mx.compare(
  f"compare:{DATA}",
  workdir=WORK / "comparison",
  data_dir=PHOTOS,
  arms=ARMS,
  jobs=JOBS,
  overrides={
    **{f"base.{key}": value for key, value in CHANGES.items()},
    "seeds": SEEDS,
    "tune.trials": 0,
    "views": None,
  },
)
# %% [markdown]
# First by hand. Each line below is one seed, from the baseline to another arm.
# %% [markdown] ko
# 먼저 손으로 계산해 봅니다. 아래 그림의 선 하나가 시드 하나이며, 기준 모델에서
# 다른 실험군으로 이어집니다.
# %%
numbers = comparison.results
each = {
  arm: 100 * np.array(found["accuracy"]["each"])
  for arm, found in numbers["arms"].items()
}
figure, axes = plt.subplots(
  *(1, len(ARMS)),
  figsize=(2.5 * len(ARMS), 2.8),
  sharey=True,
  squeeze=False,
  layout="constrained",
)
for axis, arm in zip(axes[0], ARMS, strict=True):
  axis.plot([0, 1], [each["baseline"], each[arm]], "o-", linewidth=1)
  axis.set_xticks([0, 1], ["baseline", arm])
  axis.set_xlim(-0.3, 1.3)
axes[0, 0].set_ylabel(f"{SPLIT} accuracy, %")
figure.suptitle("Each line is one seed", fontsize=11)
plt.show()

print("points over the baseline, a column for each seed")
for arm in ARMS:
  gains = each[arm] - each["baseline"]
  line = f"{arm:15}" + "".join(f"{gain:7.1f}" for gain in gains)
  if len(gains) > 1:  # Student's t.
    half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
    line += f"   mean {gains.mean():5.1f} +- {half:.1f} (95 %)"
  print(line)
# %% [markdown]
# Look down a column: it compares the arms at one seed. If you had only that
# seed, which arm would you believe in? With an interval, you know how far to
# trust the mean.
#
# The page goes further. Its intervals hold for new seeds and for new test
# images, and they are wider, because several comparisons give several chances
# of a false alarm. **Holm's correction** sets their levels. With five
# comparisons, the smallest p-value is judged at 99 % (1 - 0.05 / 5), the next
# at 98.8 % (1 - 0.05 / 4), and so on; from the first whose interval includes
# zero, the rest have its level.
#
# An arm is called better only if its interval excludes zero. The goal of 5
# points is *met* if the whole interval lies at or above 5, *missed* if the
# whole interval lies below 5, and *open* otherwise: more seeds are needed.
# %% [markdown] ko
# 한 열을 위에서 아래로 읽으면 같은 시드에서 실험군을 비교할 수 있습니다. 시드가
# 그 하나뿐이었다면 어떤 실험군을 믿었을까요?
# 신뢰 구간이 있으면 평균을 어디까지 믿을 수 있는지 알 수 있습니다.
#
# 결과 페이지는 더 엄격합니다. 신뢰 구간은 새로운 시드와 새로운 테스트
# 이미지까지 고려하고, 여러 번 비교할수록 우연히 차이가 나타날 가능성이 커지므로
# 그만큼 더 넓게 잡습니다. 신뢰 수준은 **Holm 보정**으로 정합니다. 비교가 다섯
# 개라면 p값이 가장 작은 비교는 99%(1 - 0.05 / 5), 그다음은 98.8%(1 - 0.05 / 4)
# 수준으로 판정하며, 구간에 0이 들어 있는 비교가 나오면 나머지도 같은 수준을
# 씁니다.
#
# 구간에 0이 들어 있지 않을 때에만 더 좋다고 판정합니다. 5%p라는 목표는 구간
# 전체가 5 이상이면 *met*(달성), 구간 전체가 5보다 아래에 있으면
# *missed*(실패)이고, 그 밖에는 시드가 더 필요한 *open*(미정)입니다.
# %%
figures = comparison.workdir / "figures"
for name in ("accuracy", "difference", "curve_train_loss"):
  display(Image(filename=str(figures / f"{name}.png"), width=480))
for arm in ARMS:
  print(numbers["arms"][arm]["verdict"])
for found in numbers["pairs"]:
  print(found["verdict"])
met = [arm for arm in ARMS if numbers["arms"][arm]["goal"] == "met"]
print("\nMeets the goal:", ", ".join(met) or "no arm, with these seeds")
print(f"The whole page: {comparison.page}")


# %% [markdown]
# The lines above answer **the second question** for these data and these seeds.
# An arm that *cannot be distinguished* is not shown to be useless: its interval
# gives the gains that remain possible. A mean above 5 points does not meet the
# goal either, if the arm gains much with one seed and little with another.
#
# Does it hold when every arm is tuned? [docs/results.md](results.md) has that
# comparison on the digits. Look for the arms that are better in both.
#
# **The third question** has its figures. Nothing follows from digits for
# photographs; there, run this notebook with your own.
# %% [markdown] ko
# 위에 출력된 줄이 이 데이터와 이 시드에 대한 **두 번째 질문**의 답입니다.
# *cannot be distinguished*(구별할 수 없음)는 쓸모없음이 증명되었다는 뜻이
# 아닙니다. 신뢰 구간이 아직 가능한 이득의 범위를 보여 줍니다. 평균이 5%p를
# 넘더라도 시드에 따라 이득이 크게 다르면 목표를 달성했다고 할 수 없습니다.
#
# 모든 실험군의 하이퍼파라미터를 조정해도 그럴까요?
# [docs/results.md](results.md)에 숫자 데이터로 그렇게 비교한 결과가 있습니다.
# 두 비교에서 모두 더 좋은 실험군을 찾아봅니다.
#
# 이것으로 **세 번째 질문**의 그림과 수치도 얻었습니다. 다만 손글씨
# 숫자에서 얻은 결과를 사진에 그대로 적용할 수는 없습니다. 직접 찍은 사진으로 이
# 노트북을 실행해 확인해 봅니다.
# %% [markdown]
# ## 10. Where do the networks look?
#
# A **class activation map** shows which places of an image speak for the
# predicted class. The authors of CutMix claim that networks then look at more
# of the object. Below are images that only one of `baseline` and `basic+cutmix`
# has right, and images that both have right. Green predictions are correct.
# %% [markdown] ko
# ## 10. 신경망은 어디를 봅니까?
#
# **클래스 활성화 맵**은 이미지의 어느 부분이 예측한 클래스를 뒷받침하는지 보여
# 줍니다. CutMix의 저자들은 CutMix로 학습한 신경망이 물체의 더 넓은 부분을
# 본다고 주장합니다. 아래는 `baseline`과 `basic+cutmix` 중 하나만 맞힌 이미지와
# 둘 다 맞힌 이미지입니다. 초록색은 맞힌 예측입니다.
# %%
def of_other_classes(kind, count):
  """Returns the positions of images of a kind, each of another class."""
  positions = np.flatnonzero(kind)
  firsts = np.unique(measured_on.labels[positions], return_index=True)[1]
  return positions[np.sort(firsts)[:count]]


compared = ["baseline", "cutmix", "basic+cutmix"]
predicted = {
  arm: runs[arm].predictions(SPLIT).logits.argmax(-1) for arm in compared
}
right = {arm: predicted[arm] == measured_on.labels for arm in compared}
ours, theirs = right["basic+cutmix"], right["baseline"]
kinds = ((ours & ~theirs, 3), (~ours & theirs, 1), (ours & theirs, 3))
chosen = np.concatenate([of_other_classes(kind, n) for kind, n in kinds])
stored = measured_on.images(chosen)

rows, captions = [], [[names[label] for label in measured_on.labels[chosen]]]
for arm in compared:
  shown, laid = maps.over(
    runs[arm].classifier(), stored, predicted[arm][chosen]
  )
  rows.append(laid)
  captions.append([names[number] for number in predicted[arm][chosen]])
figure, axes = plt.subplots(
  *(4, len(chosen)), figsize=(9, 6), squeeze=False, layout="constrained"
)
for row, pictures in enumerate([shown, *rows]):
  for column, picture in enumerate(pictures):
    axis = axes[row, column]
    axis.imshow(picture)
    axis.set(xticks=[], yticks=[])
    is_right = row == 0 or right[compared[row - 1]][chosen[column]]
    axis.set_xlabel(captions[row][column], color="green" if is_right else "red")
for axis, arm in zip(axes[:, 0], ["image", *compared], strict=True):
  axis.set_ylabel(arm, rotation=0, ha="right", va="center")
plt.show()
# %% [markdown]
# Maps are a good way to find mistakes, such as a network that looks at the
# background. They are a poor way to compare arms: with a few pictures, one can
# show anything. For data with bounding boxes, such as Stanford Dogs, the page
# of a comparison measures the share of the map inside the box over 512 images.
# %% [markdown] ko
# 활성화 맵은 신경망이 배경을 보고 있는 것 같은 실수를 찾을 때 유용합니다.
# 그러나 실험군을 비교하기에는 알맞지 않습니다. 그림 몇 장으로는 어떤 주장이든
# 그럴듯하게 보일 수 있기 때문입니다. Stanford Dogs처럼 바운딩 박스가 있는
# 데이터라면, 비교 페이지가 이미지 512장에서 맵이 상자 안에 들어 있는 비율을
# 잽니다.
# %% [markdown]
# ## 11. What to take home
#
# - An augmentation is a claim about your data: *these images have the same
#   label*. Check it by eye first.
# - CutMix and Mixup also change the label. Its shares must be those of the
#   pixels.
# - Their training loss has a floor. Judge convergence by whether it settles,
#   and quality by accuracy on new images.
# - One seed proves nothing. Pair the seeds, give an interval, and keep the test
#   set for the end.
#
# ### Exercises
#
# 1. Add `{"augment.random_flip_left_right.probability": 0.5}` to `basic` on the
#    digits, in a directory of its own. What do you expect, and which classes
#    suffer? `run.report()` shows the confusions.
# 2. Find `mix.alpha` and `mix.probability` that suit `basic+cutmix`. Which
#    images may choose them?
# 3. `mix.name="cutmix,mixup"` draws one of both. Is it better? How many seeds
#    do you need to tell?
# 4. Give the networks more digits: `{"data.examples_per_class": 20}`. What
#    happens to the gain of augmentation?
# 5. Write CutMix so that it pastes two boxes. [Extending](extending.md) shows
#    how a mixer of your own becomes a name in a recipe.
# 6. Run it all on your own photos.
# %% [markdown] ko
# ## 11. 정리
#
# - 증강은 데이터에 대한 주장입니다. *이 이미지들의 레이블은 같다*는 주장이므로,
#   먼저 눈으로 확인합니다.
# - CutMix와 Mixup은 레이블도 바꿉니다. 레이블의 비율은 픽셀의 비율과 같아야
#   합니다.
# - 섞인 레이블의 학습 손실에는 하한이 있습니다. 수렴은 손실이 안정되는지로,
#   성능은 처음 보는 이미지에 대한 정확도로 판단합니다.
# - 시드 하나로는 아무것도 증명하지 못합니다. 시드별로 짝지어 비교하고, 신뢰
#   구간을 밝히고, 테스트 데이터는 마지막까지 남겨 둡니다.
#
# ### 연습 문제
#
# 1. 숫자 데이터의 `basic`에 `{"augment.random_flip_left_right.probability":
#    0.5}`를 더해 별도의 디렉터리에서 학습해 봅니다. 결과를 먼저 예상해 보고,
#    어떤 클래스가 나빠지는지 확인합니다. `run.report()`로 혼동 행렬을 볼 수
#    있습니다.
# 2. `basic+cutmix`에 알맞은 `mix.alpha`와 `mix.probability`를 찾아봅니다. 어떤
#    이미지로 골라야 합니까?
# 3. `mix.name="cutmix,mixup"`은 둘 중 하나를 무작위로 고릅니다. 더 좋습니까?
#    확인하려면 시드가 몇 개 필요합니까?
# 4. `{"data.examples_per_class": 20}`으로 학습 이미지를 늘려 봅니다. 증강의
#    이득은 어떻게 달라집니까?
# 5. 상자를 두 개 붙이는 CutMix를 만들어 봅니다. [확장하기](extending.md)에 직접
#    만든 혼합 방법을 레시피에서 이름으로 쓰는 방법이 있습니다.
# 6. 직접 찍은 사진으로 전체 과정을 실행해 봅니다.
