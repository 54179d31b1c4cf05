"""A ResNet v1.5 in PyTorch with torchvision's names, for comparisons.

As in torchvision, ReLUs work in place.
"""

import torch
from torch import nn


def make(blocks, bottleneck, num_classes, width=64, small_images=False):
  """Returns a network in eval mode; `forward` returns stem to logits."""

  class Block(nn.Module):
    def __init__(self, inputs, width, stride):
      super().__init__()
      outputs = 4 * width if bottleneck else width
      sizes = (1, 3, 1) if bottleneck else (3, 3)
      channels = [inputs] + [width] * (len(sizes) - 1) + [outputs]
      for index, size in enumerate(sizes):
        strided = index == (1 if bottleneck else 0)
        conv = nn.Conv2d(
          channels[index],
          channels[index + 1],
          size,
          stride if strided else 1,
          size // 2,
          bias=False,
        )
        setattr(self, f"conv{index + 1}", conv)
        setattr(self, f"bn{index + 1}", nn.BatchNorm2d(channels[index + 1]))
      self.count = len(sizes)
      self.downsample = None
      if stride != 1 or inputs != outputs:
        self.downsample = nn.Sequential(
          nn.Conv2d(inputs, outputs, 1, stride, bias=False),
          nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
      y = x
      for index in range(1, self.count + 1):
        y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
        if index < self.count:
          y = torch.relu_(y)
      return torch.relu_(y + (self.downsample(x) if self.downsample else x))

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      size, stride = (3, 1) if small_images else (7, 2)
      self.conv1 = nn.Conv2d(3, width, size, stride, size // 2, bias=False)
      self.bn1 = nn.BatchNorm2d(width)
      inputs = width
      for stage, count in enumerate(blocks):
        made = []
        for index in range(count):
          stride = 2 if stage and not index else 1
          made.append(Block(inputs, width * 2**stage, stride))
          inputs = width * 2**stage * (4 if bottleneck else 1)
        setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
      self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x):
      x = torch.relu_(self.bn1(self.conv1(x)))
      if not small_images:
        x = nn.functional.max_pool2d(x, 3, 2, 1)
      outputs = [x]
      for stage in range(1, len(blocks) + 1):
        outputs.append(getattr(self, f"layer{stage}")(outputs[-1]))
      return [*outputs, self.fc(outputs[-1].mean((2, 3)))]

  return Net().eval()
