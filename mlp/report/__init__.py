"""The report of a training run: one HTML page that needs nothing but a browser."""

from mlp.report.write import write_report

__all__ = ["write_report"]
