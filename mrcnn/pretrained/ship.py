"""Makes of a finished training run the model that comes with the package: `python mrcnn/pretrained/ship.py RUN`.

RUN is the folder that `mrcnn train` left, by the recipe in README.md here. Beside the model go its log, in means of a
hundred steps, and its metrics on 500 scenes that no training uses and on a photograph.
"""

import argparse
import csv
import shutil
from pathlib import Path

from mrcnn.data import Playground
from mrcnn.engine import demo
from mrcnn.engine.csv_log import read_table
from mrcnn.engine.evaluate import evaluate
from mrcnn.files import write_json
from mrcnn.model_file import SHIPPED
from mrcnn.zoo import load_model

HERE = Path(__file__).parent
TOGETHER = 100  # steps in a row of the log
SCENES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    losses = read_table(run / "losses.csv")
    write_log(losses, HERE / "losses.csv")
    shutil.copy(run / "metrics.csv", HERE / "metrics_during_training.csv")
    shutil.copy(run / "model.pt", SHIPPED["playground"])
    model = load_model("playground")
    metrics = evaluate(model, Playground(SCENES, seed=demo.TEST_SEED), show_progress=True)
    metrics |= {"coins": demo.try_coins(model, HERE / "coins.png")}
    metrics |= {"train_steps": len(losses), "train_seconds": round(sum(row["step_seconds"] for row in losses))}
    write_json(HERE / "metrics.json", metrics)
    print(metrics)


def write_log(rows: list[dict[str, float]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        for start in range(0, len(rows), TOGETHER):
            together = rows[start : start + TOGETHER]
            mean = {name: round(sum(row[name] for row in together) / len(together), 5) for name in rows[0]}
            writer.writerow(mean | {"step": int(together[-1]["step"])})


if __name__ == "__main__":
    main()
