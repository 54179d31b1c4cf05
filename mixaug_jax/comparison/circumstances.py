"""What else differs between the runs of a comparison than their arms."""

from collections.abc import Callable, Mapping

from mixaug_jax.comparison.finished import FinishedRun


def warnings(runs: Mapping[str, Mapping[int, FinishedRun]]) -> list[str]:
  """Returns a sentence each on devices, software and networks that differ.

  Args:
    runs: the finished runs by arm and seed.
  """
  each = {
    f"{name}/{seed}": run
    for name, of_arm in runs.items()
    for seed, run in of_arm.items()
  }
  software = {name: _software(run) for name, run in each.items()}
  differing = [
    key
    for key in dict.fromkeys(key for of in software.values() for key in of)
    if len({of.get(key) for of in software.values()}) > 1
  ]
  versions = {
    name: ", ".join(f"{key} {of.get(key, 'unknown')}" for key in differing)
    for name, of in software.items()
  }
  found = (
    (
      _of_all(each, lambda x: f"{x.result.devices} {x.result.device_kind}"),
      "The runs were trained on different devices",
      "Do not compare their times.",
    ),
    (
      versions,
      "The runs were trained by different software",
      "Their times are not comparable, and their accuracies may differ by it.",
    ),
    (
      _of_all(each, lambda x: str(x.run.config.model.name)),
      "The runs have different networks",
      "Differences between them are not those of augmentations alone.",
    ),
  )
  return [
    f"{what} ({listed}). {so}"
    for values, what, so in found
    if (listed := _listed(values))
  ]


def _of_all(
  runs: Mapping[str, FinishedRun], value: Callable[[FinishedRun], str]
) -> dict[str, str]:
  return {name: value(run) for name, run in runs.items()}


def _software(run: FinishedRun) -> dict[str, str]:
  commit = (run.result.commit or "unknown")[:12]
  return {**run.result.versions, "commit": commit}


def _listed(values: Mapping[str, str]) -> str:
  """Returns each value with its runs; empty if all runs have the same one."""
  groups: dict[str, list[str]] = {}
  for name, value in values.items():
    groups.setdefault(value, []).append(name)
  if len(groups) < 2:
    return ""
  return "; ".join(
    f"{value}: {names[0]}" + (f" and {len(names) - 1} more" * (len(names) > 1))
    for value, names in groups.items()
  )
