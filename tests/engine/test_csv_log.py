"""The tables of a run, also one that was killed while it wrote."""

from mrcnn.engine.csv_log import Table, read_table


def test_rows_of_steps_that_will_come_again_are_taken_out(tmp_path):
    """A run was killed after step 5, in the middle of a row; its checkpoint is of step 3."""
    path = tmp_path / "losses.csv"
    path.write_text("step,loss\n1,0.5\n2,0.4\n3,0.3\n4,0.2\n5,0.1\n6,0.0".removesuffix(",0.0"))
    assert [row["step"] for row in read_table(path)] == [1, 2, 3, 4, 5], "half a row is none"
    table = Table(path, last_step=3)
    table.add({"step": 4, "loss": 0.25})
    table.close()
    assert read_table(path) == [{"step": s, "loss": v} for s, v in ((1, 0.5), (2, 0.4), (3, 0.3), (4, 0.25))]


def test_a_new_run_begins_a_new_table(tmp_path):
    path = tmp_path / "losses.csv"
    path.write_text("step,loss\n1,0.5\n")
    table = Table(path, last_step=0)
    assert not path.exists(), "a table comes with its first row"
    table.add({"step": 1, "loss": 1 / 3})
    table.close()
    assert read_table(path) == [{"step": 1, "loss": 1 / 3}], "numbers read back as they were"
