"""What is kept on disk: results and where they came from, keys of work, and the state of work that is not done."""

from netprobe.store.files import atomically, made_folder
from netprobe.store.origin import model_card, portable, provenance, source_of, stamped, versions
from netprobe.store.results import open_results, save_results

__all__ = [
    "atomically",
    "made_folder",
    "model_card",
    "open_results",
    "portable",
    "provenance",
    "save_results",
    "source_of",
    "stamped",
    "versions",
]
