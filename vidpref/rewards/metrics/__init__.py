"""Metrics of published networks as rewards (AIF 3.2)."""

from vidpref.rewards.metrics.judge import Metrics, build_metrics, check_metrics

__all__ = ["Metrics", "build_metrics", "check_metrics"]
