"""tools/report.py as a user calls it."""

from pathlib import Path

from tests.tools.conftest import Run


def test_report_of_a_run_and_of_its_results_side_by_side(
    run_tool: Run, tiny_run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run, _ = tiny_run
    out = tmp_path / "side_by_side.html"
    ended = run_tool("report", run, run / "results", "--labels", "run,again", "--out", out)
    assert str(out) in ended.stdout
    page = out.read_text()
    assert page.count("<img ") % 3 == 0
    for section in ("metrics", "joints", "costs", "training", "images", "protocol"):
        assert f'<section id="{section}"' in page


def test_mistakes_are_sentences(run_tool: Run, tmp_path: Path) -> None:
    ended = run_tool("report", tmp_path / "absent", code=2)
    assert "absent" in ended.stderr and "Traceback" not in ended.stderr

    ended = run_tool("report", tmp_path / "a", tmp_path / "b", "--labels", "one", code=2)
    assert "--labels" in ended.stderr
