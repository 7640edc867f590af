"""Every script is in the index, every figure of the works is there or listed as missing, and all of them are made."""

import re
from pathlib import Path

import pytest

from netprobe.gallery import index, make_all, scripts_in
from netprobe.gallery.index import BEGIN, END

FIGURES = Path(__file__).parents[2] / "figures"
CHAPTERS = {3: range(6, 22), 4: (4, 5, 6, 7, 10, 11, 12, 13), 5: range(3, 11)}
WANTED = [
    *(f"diss_fig_{chapter}_{number}_" for chapter, numbers in CHAPTERS.items() for number in numbers),
    *("diss_fig_b_2_", *(f"diss_tab_4_{number}_" for number in (1, 2, 4, 5)), "diss_tab_5_1_", "diss_tab_5_2_"),
    *(f"diss_tab_b_{number}_" for number in (1, 2, 3)),
    *("sca_tab_1_", "sca_tab_2_", "sca_fig_2_", "sca_fig_3_", "sca_fig_correlation_change", "sca_fig_planes"),
    *("sca_fig_read_out", "sca_fig_lateral_map", "sca_fig_energies"),
    *("kh_fig_robustness", "kh_fig_spectra", "kh_fig_spectra_compared", "kh_fig_landscapes", "kh_fig_pruning"),
    *("kh_fig_scatter", "kh_fig_training", "kh_tab_"),
    *(*(f"sim_fig_{number}_" for number in range(1, 6)), "sim_fig_spectra", "sim_tab_low_frequency"),
    "sim_fig_frequency_gains",
]
"""Tables 4.3 and 5.3 are with 4.2 and 5.1."""


@pytest.fixture(scope="module")
def scripts():
    return scripts_in(FIGURES)


def test_the_index_is_up_to_date():
    text = (FIGURES / "README.md").read_text()
    listed = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert listed == index(FIGURES), "bring it up to date: netprobe figures --index"


def test_every_figure_of_the_works_has_a_script(scripts):
    names = [shown.name for shown in scripts]
    assert [wanted for wanted in WANTED if not any(name.startswith(wanted) for name in names)] == []


def test_scripts_say_of_which_work_they_are_and_have_both_scales(scripts):
    for shown in scripts:
        assert re.search(r"Bakiskan \(2022\)|arXiv 2(308\.03956|405\.00679|410\.03952)", shown.title), shown.name
        assert shown.caption and len(shown.caption) < 120, shown.name
        scales = list(shown.study.scales)
        assert (scales[0], scales[-1]) == ("smoke", "paper"), shown.study


def test_two_figures_are_drawn_from_one_study(tmp_path):
    made = make_all(FIGURES, "smoke", tmp_path, only="diss_fig_[4b]_[25]_*", progress=False)
    assert [each.shown.name for each in made] == ["diss_fig_4_5_bumps", "diss_fig_b_2_surrogates"]
    assert all(not each.skipped and len(each.files) == 2 and min(f.stat().st_size for f in each.files) for each in made)


@pytest.mark.slow
def test_all_of_them(tmp_path):
    made = make_all(FIGURES, "smoke", tmp_path, progress=False)
    for each in made:
        assert each.files or "not installed" in each.skipped, each
    assert (tmp_path / "index.html").stat().st_size < 20_000_000
