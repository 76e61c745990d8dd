"""best.pt and patience: which evaluation was the best, and when a run ends because none is better."""

from dataclasses import replace

import pytest
from fakes import Interrupting, Noise, TinyModel
from run_tiny import same, tiny_model, tiny_settings

from mrcnn import model_file
from mrcnn.engine.best import Best, mean_ap
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.runs import in_steps, keep_best
from mrcnn.engine.signals import Stopped
from mrcnn.engine.train import train

# By evaluation, one each two steps; the best is the third, after step 6. Boxes alone, or AP50, would choose another.
BOXES = [0.1, 0.5, 0.4, 0.3, 0.5, 0.2]
MASKS = [0.1, 0.1, 0.4, 0.5, 0.3, 0.5]


class Told:
    """An evaluation that says the numbers above, and keeps the weights that it was shown."""

    def __init__(self):
        self.seen = {}

    def __call__(self, model, step):
        self.seen[step] = {name: value.clone() for name, value in model.state_dict().items()}
        place = step // 2 - 1
        return {"bbox/AP": BOXES[place], "bbox/AP50": 1 - step / 20, "segm/AP": MASKS[place], "keypoints/AP": -1.0}


def test_the_mean_is_of_what_was_measured():
    assert mean_ap(
        {"step": 4, "bbox/AP": 0.2, "bbox/AP50": 0.9, "segm/AP": 0.4, "keypoints/AP": -1.0}
    ) == pytest.approx(0.3)
    assert mean_ap({"step": 4, "keypoints/AP": -1.0}) == -1
    nothing = Best()
    assert not nothing.add({"step": 4, "keypoints/AP": -1.0})
    assert nothing.step is None
    assert nothing.add({"step": 6, "bbox/AP": 0.0}), "a model that finds nothing was measured all the same"


def test_evaluations_that_measure_nothing_end_no_run(tmp_path):
    """As those of validation pictures without objects."""
    settings = tiny_settings(steps=6, evaluate_every=1, patience=2)
    report = train(tiny_model(), Noise(), settings, out=tmp_path, evaluate=lambda model, step: {"bbox/AP": -1.0})
    assert report.steps == 6


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_best_is_the_model_of_the_best_evaluation(tmp_path, average):
    told, model = Told(), tiny_model()
    train(model, Noise(), tiny_settings(steps=12, evaluate_every=2, average=average), out=tmp_path, evaluate=told)
    best = model_file.read(tmp_path / "best.pt")
    assert same(best["state_dict"], told.seen[6])
    assert not same(best["state_dict"], told.seen[8])
    assert best["labels"] == model_file.read(tmp_path / "model.pt")["labels"]
    assert same(model_file.read(tmp_path / "model.pt")["state_dict"], told.seen[12])


@pytest.mark.parametrize(("patience", "last"), [(1, 8), (2, 10), (3, 12)])
def test_patience_counts_evaluations_after_the_best(tmp_path, capfd, patience, last):
    settings = tiny_settings(steps=40, evaluate_every=2, patience=patience)
    report = train(tiny_model(), Noise(), settings, out=tmp_path, evaluate=Told())
    assert report.steps == last
    said = f"no better AP than after step 6 in {patience} evaluations: the run ends"
    assert said in capfd.readouterr().err
    assert (tmp_path / "model.pt").exists()
    assert [row["step"] for row in read_table(tmp_path / "metrics.csv")] == list(range(2, last + 1, 2))


@pytest.mark.parametrize("stop", [7, 9])
def test_patience_is_kept_when_a_run_is_resumed(tmp_path, stop):
    """Stopped between two evaluations, after the best; then it ends where it would have ended, with the same best."""
    settings, whole, parts = tiny_settings(steps=40, evaluate_every=2, patience=2), Told(), Told()
    train(tiny_model(), Noise(), settings, out=tmp_path / "whole", evaluate=whole)
    with pytest.raises(Stopped):
        train(tiny_model(), Interrupting(stop), settings, out=tmp_path / "part", evaluate=parts)
    report = train(TinyModel(), Noise(), settings, out=tmp_path / "part", evaluate=parts, resume=True)
    assert report.steps == 10
    assert same(model_file.read(tmp_path / "part" / "best.pt")["state_dict"], whole.seen[6])
    again = train(TinyModel(), Noise(), settings, out=tmp_path / "part", evaluate=parts, resume=True)
    assert again.losses == [], "out of patience it stays"
    longer = replace(settings, patience=3)
    assert train(TinyModel(), Noise(), longer, out=tmp_path / "part", evaluate=parts, resume=True).steps == 12


def test_what_a_killed_run_measured_after_its_checkpoint_does_not_count(tmp_path):
    """Killed after step 10, with a checkpoint of step 4: the evaluations from 6 on come again."""
    settings = tiny_settings(steps=40, evaluate_every=2, patience=2, checkpoint_every=4)
    with pytest.raises(Stopped):
        train(tiny_model(), Interrupting(4), settings, out=tmp_path, evaluate=Told())
    with (tmp_path / "metrics.csv").open("a") as table:
        table.writelines(f"{step},0.9,0.9,0.9,-1.0\n" for step in (6, 8, 10))
    assert train(TinyModel(), Noise(), settings, out=tmp_path, evaluate=Told(), resume=True).steps == 10


def test_the_last_evaluation_may_be_the_best(tmp_path):
    """Runs without evaluations on the way have one at the end, too."""
    metrics = {"bbox": {"AP": 0.5, "AP50": 0.6}, "segm": {"AP": 0.4, "AP50": 0.6}, "train_steps": 7, "train_seconds": 1}
    model = tiny_model()
    model.labels = None
    assert keep_best(model, metrics, tmp_path).step == 7
    assert same(model_file.read(tmp_path / "best.pt")["state_dict"], model.state_dict())
    (tmp_path / "metrics.csv").write_text("step,bbox/AP,segm/AP\n5,0.8,0.2\n")
    (tmp_path / "best.pt").unlink()
    best = keep_best(model, metrics, tmp_path)
    assert (best.step, best.score) == (5, 0.5), "of equals the first"
    assert not (tmp_path / "best.pt").exists()


def test_patience_without_evaluations_is_refused():
    with pytest.raises(ValueError, match="patience must be 0 without evaluate_every: it counts evaluations, got 3"):
        tiny_settings(steps=3, patience=3)


@pytest.mark.parametrize(("epochs", "pictures", "size", "steps"), [(1, 8, 2, 4), (3, 7, 2, 11), (1, 5, 8, 1)])
def test_epochs_in_steps(epochs, pictures, size, steps):
    """Counted by a loop: steps until every picture was seen as often."""
    seen, counted = 0, 0
    while seen < epochs * pictures:
        seen, counted = seen + size, counted + 1
    assert in_steps(epochs, range(pictures), size) == counted == steps
