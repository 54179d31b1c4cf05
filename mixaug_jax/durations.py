"""Durations in words, for people who wait."""


def duration(seconds: float) -> str:
  """Seconds in words of two or three digits: `8.4 s`, `45 s`, `12 min`."""
  if seconds < 10:
    return f"{seconds:.1f} s"
  if seconds < 90:
    return f"{seconds:.0f} s"
  if seconds < 5400:
    return f"{seconds / 60:.0f} min"
  return f"{seconds / 3600:.1f} h"
