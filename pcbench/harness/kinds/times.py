"""Raw samples → the time fields of a record."""

from collections.abc import Sequence

from pcbench.statistics import median_interval, outliers, percentile
from pcbench.types import Record

__all__ = ["add_samples"]


def add_samples(record: Record, samples_ms: Sequence[float]) -> float:
    """Percentiles, the interval of the median and the outliers, all of every sample; returns the median."""
    record.samples_ms, record.repeats = list(samples_ms), len(samples_ms)
    record.ms_p10, record.ms_p50, record.ms_p90 = (percentile(samples_ms, q) for q in (10, 50, 90))
    record.ms_ci_low, record.ms_ci_high = median_interval(samples_ms) or (None, None)
    record.outliers = outliers(samples_ms)
    return record.ms_p50
