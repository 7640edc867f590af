"""Speech Commands, in the folder layout of torchaudio, without torchaudio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from netprobe.data.audio import SUFFIXES, word_source
from netprobe.data.folders import Listing, list_folder
from netprobe.data.root import missing
from netprobe.data.source import Source, choose_split

FOLDER = "SpeechCommands/speech_commands_v0.02"
LISTS = {"test": "testing_list.txt", "valid": "validation_list.txt"}
RATE = 16_000  # Hz; the recordings last one second, or a little less
REMEDY = (
    "netprobe does not download it: unpack https://download.tensorflow.org/data/speech_commands_v0.02.tar.gz "
    "(2.3 GB) into that folder"
)


def speech_commands(
    root: Path,
    split: str | None,
    *,
    length: int = RATE,
    resample: int | None = None,
) -> Source:
    """Speech Commands v0.02 (Warden, 2018): 105,829 recordings of 35 words, at most one second at 16 kHz.

    "test" and "valid" are the recordings named in testing_list.txt and validation_list.txt, "train" is the
    others. `length` and `resample` as in `audio.open_words`; shorter recordings get zeros at their end. After
    resampling give the length, too.
    """
    chosen, folder = choose_split(split, ("train", *LISTS), "speech-commands"), root / FOLDER
    absent = [name for name in LISTS.values() if not (folder / name).is_file()]
    if absent:
        raise missing("speech-commands", absent, folder, root, REMEDY)
    listing = list_folder(folder, "all", SUFFIXES, name="speech-commands")
    part_of = {path: part for part, name in LISTS.items() for path in (folder / name).read_text().split()}
    lost = sorted(part_of.keys() - {_key(file) for file in listing.files})
    if lost:
        raise missing("speech-commands", [*lost[:3], "..."][: len(lost)], folder, root, REMEDY)
    return word_source(_only(chosen, listing, part_of), length=length, resample=resample)


def _only(split: str, listing: Listing, part_of: Mapping[str, str]) -> Listing:
    kept = [i for i, file in enumerate(listing.files) if part_of.get(_key(file), "train") == split]
    return replace(listing, split=split, files=tuple(listing.files[i] for i in kept), labels=listing.labels[kept])


def _key(file: Path) -> str:
    """As the lists name a recording: WORD/FILE."""
    return f"{file.parent.name}/{file.name}"
