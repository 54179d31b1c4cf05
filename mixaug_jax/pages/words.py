"""Sentences that the pages of runs and of comparisons share."""

from mixaug_jax.data.identity import Identity
from mixaug_jax.training.result import Result

CHOSEN = {
  "best": "best epoch on validation",
  "last": "last epoch",
  "ema": "moving average of the weights at the end",
}


def copies(identity: Identity) -> list[str]:
  """Returns a sentence for each kind of copies among the images of a run."""
  lines = [
    f"Images of {second} that are also in {first}: {count:,}."
    for pair, count in identity.in_two_splits.items()
    for first, _, second in [pair.partition(", ")]
  ]
  if count := identity.under_two_labels:
    lines.append(f"Images with a copy under another label: {count:,}.")
  return lines


def left_out(identity: Identity) -> list[str]:
  """Returns what a run left out of its data, a sentence for each split."""
  return [
    f"Left out of {'the data' if split == 'all' else split}: "
    + ", ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
    + "."
    for split, reasons in identity.left_out.items()
  ]


def surroundings(result: Result) -> str:
  """Returns the devices and the software of a run in a sentence."""
  versions = ", ".join(f"{k} {v}" for k, v in result.versions.items())
  commit = f"; commit {result.commit[:12]}" if result.commit else ""
  flags = f"; XLA_FLAGS={result.xla_flags}" if result.xla_flags else ""
  return (
    f"{result.devices} {result.device_kind} device"
    f"{'s' * (result.devices > 1)}; {versions}{commit}{flags}"
  )
