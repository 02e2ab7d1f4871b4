"""The table of membership figures, on sizes that take a moment."""

from click.testing import CliRunner

from ringwise.sim.gossip import COLUMNS, main


def test_the_table_has_a_line_for_each_size_and_no_false_death() -> None:
    result = CliRunner().invoke(main, ["--nodes", "3,10", "--seeds", "2", "--pauses", "20", "--preset", "local"])
    assert result.exit_code == 0, result.output
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.output.splitlines()]
    assert lines[0] == list(COLUMNS)
    assert [line[0] for line in lines[2:]] == ["3", "10"]
    for line in lines[2:]:
        row = dict(zip(COLUMNS, line, strict=True))
        assert float(row["max"]) < 5
        assert int(row["pauses"]) > 0
        assert row["false deaths"] == "0"
