"""The output of all benchmarks: medians with their spread, and the machine that they are from."""

import os
import platform
import statistics
from collections.abc import Sequence


def machine() -> str:
    """Return a description of the machine, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def row(name: str, values: Sequence[float], unit: str = "s") -> str:
    """Return a row with the minimum, median and maximum of some figures."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{name:<44} {low:8.2f} {middle:8.2f} {high:8.2f} {unit}  (n={len(values)})"


def header() -> str:
    """Return the header of the rows."""
    return f"{'':<44} {'min':>8} {'median':>8} {'max':>8}"


def distribution(name: str, values: Sequence[float], unit: str = "s") -> str:
    """Return a row with the median, 95th percentile and maximum of some figures."""
    p50, p95 = statistics.median(values), percentile(values, 95)
    return f"{name:<52} {p50:8.2f} {p95:8.2f} {max(values):8.2f} {unit}  (n={len(values)})"


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest of the values that as many percent of them do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def distribution_header() -> str:
    """Return the header of the distributions."""
    return f"{'':<52} {'p50':>8} {'p95':>8} {'max':>8}"
