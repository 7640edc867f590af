"""The command line: `netprobe VERB`. Exit codes: 0 done, 1 findings, 2 a mistake in what was asked, 130 interrupted."""

from netprobe.cli.main import main

__all__ = ["main"]
