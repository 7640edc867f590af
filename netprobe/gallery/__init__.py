"""Figures and tables of a publication: scripts that say which study they need and how they are drawn from it."""

from netprobe.gallery.figure import Figure, Table
from netprobe.gallery.index import index, write_index
from netprobe.gallery.making import make_all, scripts_in
from netprobe.gallery.study import Study, result

__all__ = ["Figure", "Study", "Table", "index", "make_all", "result", "scripts_in", "write_index"]
