"""Results as one page (`report`), and as a table for the terminal (`netprobe.reporting.verdict.verdict`)."""

from netprobe.reporting.page import report

__all__ = ["report"]
