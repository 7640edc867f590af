"""Every number and every claim of the verdict, computed again from the results."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from synthetic_results import SITES, synthetic_results

from netprobe.errors import NetprobeError
from netprobe.reporting.comparing import compare
from netprobe.reporting.rows import late
from netprobe.reporting.verdict import verdict

PGD = "pgd@0.0314"


def row(results, beginning):
    (found,) = [row for row in verdict(results).rows if row.quantity.startswith(beginning)]
    return found


def without(results: xr.DataTree, *metrics: str) -> xr.DataTree:
    kept = {
        path: data for path, data in results.to_dict().items() if not path.endswith(tuple(f"/{m}" for m in metrics))
    }
    return xr.DataTree.from_dict(kept)


def edited(results: xr.DataTree, path: str, change) -> xr.DataTree:
    data = results.to_dict()
    return xr.DataTree.from_dict(data | {path: change(data[path].copy(deep=True))})


def test_accuracy_in_percent_with_its_wilson_interval(results):
    found = row(results, "Accuracy, under pgd ε=8/255")
    data = results["robust"]["accuracy"].to_dataset().sel(condition=PGD)
    assert found.estimates["robust"] == pytest.approx(100 * np.array([data["accuracy"], *data["accuracy_interval"]]))
    assert found.value("robust") == f"{100 * data['accuracy'].item():.1f} %"


def test_late_psr_is_the_mean_in_db_of_the_last_third(results):
    found = row(results, "PSR (L2), last third of the sites, under pgd ε=8/255").estimates["natural"]
    data = results["natural"]["psr"].to_dataset().sel(perturbation=PGD, norm="2")
    assert found.value == pytest.approx(data["psr_db"].values[-7:].mean())  # a third of 20
    # An independent bootstrap; its 2,000 draws place a quantile to about a tenth of the interval.
    rng, per_image = np.random.default_rng(1), data["psr"].values[-7:]
    images = rng.integers(0, 60, (2000, 60))
    draws = (20 * np.log10(per_image[:, images].mean(-1))).mean(0)
    assert (found.low, found.high) == pytest.approx(
        np.quantile(draws, [0.025, 0.975]), abs=0.1 * (found.high - found.low)
    )


@pytest.mark.parametrize("dead", [[-3], [-7, -1], range(-7, 0)])
def test_a_silent_site_does_not_silence_the_others(results, dead):
    """A site where every clean image is all zero has no PSR."""

    def silent(data):
        for site in dead:
            data["psr"][{"site": site}] = np.nan
            data["psr_db"][{"site": site}] = np.nan
        return data

    found = row(edited(results, "/natural/psr", silent), LATE).estimates["natural"]
    values = results["natural"]["psr"]["psr_db"].sel(perturbation=PGD, norm="2").values[-7:]
    left = np.delete(values, list(dead))
    assert found.value == pytest.approx(left.mean() if len(left) else np.nan, nan_ok=True)
    assert found.bounded == bool(len(left))


LATE = "PSR (L2), last third of the sites, under pgd ε=8/255"


def test_psr_growth_is_last_minus_first(results):
    found = row(results, "PSR (L2), last site minus first, under noise").estimates["trades"]
    data = results["trades"]["psr"]["psr_db"].sel(perturbation="noise", norm="2").values
    assert found.value == pytest.approx(data[-1] - data[0])
    assert found.low < found.value < found.high


def test_late_is_a_third_but_never_nothing():
    assert [len(range(n)[late(n)]) for n in (1, 2, 3, 6, 18, 20)] == [1, 1, 1, 2, 6, 7]


def test_exponent_and_shift_at_a_named_site(results):
    alpha = row(results, "Exponent α of the channel spectrum, clean, at fc").estimates["robust"]
    data = results["robust"]["spectrum"].to_dataset().sel(definition="channel", condition="clean", site="fc")
    assert list(alpha) == [data["alpha"].item(), *data["alpha_interval"].values]
    shift = row(results, "Correlation shift at fc, under pgd ε=8/255").estimates["robust"]
    assert shift.value == results["robust"]["correlation"]["shift"].sel(perturbation=PGD, site="fc")


def test_sites_that_differ_are_all_named():
    tree = synthetic_results(("a", "b"), sites={"a": SITES, "b": SITES[:5]}, images=20)
    assert row(tree, "Correlation shift at the last site (a: fc, b: layer1.1.conv2), under pgd")


def test_findings_are_counted(results):
    found = row(results, "Pre-flight findings")
    assert [found.cell(model) for model in ("natural", "trades")] == ["0", "1"]


def test_what_was_not_measured_has_no_row_or_says_so(results):
    quantities = " ".join(row.quantity for row in verdict(without(results, "psr", "spectrum", "correlation")).rows)
    assert "Accuracy" in quantities and not any(word in quantities for word in ("PSR", "Exponent", "Correlation"))
    partly = edited(without(results, "robust/psr"), "/", lambda data: data)
    assert row(partly, "PSR (L2), last third of the sites, under pgd").cell("robust") == "not measured"


def test_no_interval_without_the_images(results):
    slim = edited(results, "/natural/psr", lambda data: data.drop_vars("psr"))
    found = row(slim, "PSR (L2), last third of the sites, under pgd")
    assert not found.estimates["natural"].bounded
    assert found.estimates["robust"].bounded


def test_no_perturbation_at_all_is_no_nan_warning(results):
    def silent(data):
        data["psr"][...], data["psr_db"][...] = 0, -np.inf
        return data

    tree = edited(results, "/natural/psr", silent)
    assert row(tree, "PSR (L2), last third of the sites, under pgd").value("natural") == "−∞ dB"
    assert row(tree, "PSR (L2), last site minus first, under pgd").value("natural") == "undefined"


def test_paired_accuracy(results):
    natural, robust = (results[m]["accuracy"]["correct"].sel(condition=PGD).values for m in ("natural", "robust"))
    sentence = next(said for said in compare(results, "natural", "robust") if said.startswith("Under pgd ε=8/255"))
    assert f"robust classifies {100 * robust.mean():.1f} % and natural {100 * natural.mean():.1f} %" in sentence
    assert (
        f"of the same 60 images correctly, a paired difference of {100 * (robust.mean() - natural.mean()):.1f} points"
        in sentence
    )
    assert sentence.endswith("the interval excludes zero.")
    assert next(iter(compare(results, "natural", "natural"))).endswith(
        "0.0 points [0.0, 0.0]; the interval includes zero."
    )


def test_other_images_are_not_paired(results):
    tree = edited(results, "/robust/accuracy", lambda data: data.assign(label=9 - data["label"]))
    assert not any("paired" in said for said in compare(tree, "natural", "robust"))


def test_psr_is_compared_site_by_site(results):
    def raised(data):  # above natural at the last site, and just below it, within the interval, at the one before
        level, interval = (data[v].sel(perturbation=PGD, norm="2").values for v in ("psr_db", "psr_db_interval"))
        natural = results["natural"]["psr"]["psr_db"].sel(perturbation=PGD, norm="2").values
        level[-2:] = np.add(natural[-2:], (-0.01, 1))
        interval[-2:] = np.add.outer(level[-2:], (-3, 3))
        return data

    tree = edited(results, "/robust/psr", raised)
    assert (
        "Under pgd ε=8/255: robust has a lower PSR (L2) than natural at 6 of 7 sites in the last third (layer3.0.conv1 "
        "to fc), at 5 of them with 95 % intervals that do not overlap."
    ) in list(compare(tree, "natural", "robust"))


def test_psr_claims_no_more_than_there_is(results):
    def said(tree, one, other):
        return next(s for s in compare(tree, one, other) if "lower PSR" in s)

    bare = edited(results, "/robust/psr", lambda data: data.drop_vars("psr_db_interval"))
    assert said(bare, "natural", "robust").endswith("at 7 of 7 sites in the last third (layer3.0.conv1 to fc).")
    one = synthetic_results(("natural", "robust"), sites=("conv1", "fc"), images=20)
    assert said(one, "robust", "natural").endswith("at 0 of 1 sites in the last third (fc).")


def test_intervals_are_compared(results):
    said = list(compare(results, "natural", "robust"))
    assert any(s.startswith("Exponent α") and s.endswith("the intervals do not overlap.") for s in said)
    same = list(compare(results, "robust", "robust"))
    assert any(s.startswith("Exponent α") and s.endswith("the intervals overlap.") for s in same)


def test_sites_that_differ_are_compared_by_their_level():
    tree = synthetic_results(("natural", "robust"), sites={"natural": SITES, "robust": SITES[:5]}, images=20)
    assert any(
        said.startswith("PSR (L2), last third of the sites, under pgd ε=8/255: robust −")
        for said in compare(tree, "natural", "robust")
    )


def test_one_model_is_compared_with_nothing(results):
    assert verdict(synthetic_results(("only",), images=20)).comparisons == {}


def test_text_for_the_terminal(results):
    lines = str(verdict(results)).splitlines()
    assert lines[0].split() == ["natural", "robust", "trades"]
    assert lines[1].startswith("Accuracy, clean")
    assert len({line.find("%") for line in lines[1:6]}) <= 2  # columns are aligned: "9.5 %" or "92.5 %"
    assert "robust and natural" in lines


def test_results_without_models_are_refused():
    with pytest.raises(NetprobeError, match="no model in these results"):
        verdict(xr.DataTree())
