"""Public benchmarks of video judges: votes of people on pairs of clips."""

from vidpref.datasets.benchmarks.layouts import LAYOUTS
from vidpref.datasets.benchmarks.reading import BOTH_BAD_AS, Benchmark, read_benchmark

__all__ = ["BOTH_BAD_AS", "LAYOUTS", "Benchmark", "read_benchmark"]
