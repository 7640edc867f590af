"""A network followed through its training has a section of its own."""

from netprobe.reporting import report


def test_what_training_did_is_shown_epoch_by_epoch(results, tmp_path):
    tree = results.filter(lambda node: node.name == "followed")
    html = report(tree, tmp_path / "r.html").read_text()
    assert "How these networks were trained" not in html  # the history says that
    assert "What training did, epoch by epoch" in html and "‖J‖ of fc" in html
    accuracy = float(tree["natural/followed/accuracy"][-1])
    assert f"{accuracy:.3f}" in html
    assert 'download="followed.csv"' in html
