"""`python -m netprobe`, which torchrun needs: the same as `netprobe`."""

from netprobe.cli import main

main(prog_name="netprobe")
