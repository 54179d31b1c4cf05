"""The base of writers of metrics: CLU's interface, without TensorFlow."""

import importlib
import sys
import types
from typing import Any, TypeAlias

# CLU imports TensorFlow only for its SummaryWriter, which is not used here
# (google/CommonLoopUtils#358). Meanwhile a module in its place keeps it out.
_SUMMARY_WRITER = "clu.metric_writers.summary_writer"


def _summary_writer(*args: Any, **kwargs: Any) -> Any:
  """Makes CLU's own SummaryWriter, for a program that uses it as well."""
  module = importlib.import_module(_SUMMARY_WRITER)
  return module.SummaryWriter(*args, **kwargs)


_stand_in = types.ModuleType(_SUMMARY_WRITER)
vars(_stand_in)["SummaryWriter"] = _summary_writer
sys.modules.setdefault(_SUMMARY_WRITER, _stand_in)

from clu import metric_writers as metric_writers  # noqa: E402

if sys.modules[_SUMMARY_WRITER] is _stand_in:
  del sys.modules[_SUMMARY_WRITER]

MetricWriter: TypeAlias = metric_writers.MetricWriter


class ScalarWriter(metric_writers.MetricWriter):
  """A CLU writer of scalars; a run writes nothing else."""

  def _refuse(self, step: int, *_: Any, **__: Any) -> None:
    raise TypeError(f"{type(self).__name__} writes scalars only")

  write_summaries = write_images = write_videos = write_audios = _refuse
  write_texts = write_histograms = write_pointcloud = _refuse
  write_hparams = _refuse

  def flush(self) -> None:
    """Puts the written metrics on disk; called before every checkpoint."""

  def close(self) -> None:
    """Releases what the writer holds."""
