"""The training loop: pictures in, losses down; a run can be stopped at any moment, and goes on as if it had not been.

Nothing random is carried from step to step: all random choices of a step follow from (seed, step), so a checkpoint is
the weights, the optimiser, the average and the number of the step.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from mrcnn import model_file
from mrcnn.data import labels_of
from mrcnn.engine import checkpoint, distributed
from mrcnn.engine.best import Best
from mrcnn.engine.csv_log import CsvLog, Progress, read_table
from mrcnn.engine.dataloader import Order, SeededPictures, Steps, augmentation, fetch, mixed_seed, shape_groups
from mrcnn.engine.freeze import freeze, to_training
from mrcnn.engine.pseudo_labels import Teacher, easy_pictures
from mrcnn.engine.schedule import learning_rate, make_optimizer
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.settings_file import write_settings
from mrcnn.engine.signals import Stopped, StopRequests, undisturbed
from mrcnn.errors import CheckpointError, TrainingError
from mrcnn.processor import multiplies_bfloat16
from mrcnn.validation import is_finite

Evaluate = Callable[[nn.Module, int], dict[str, float]]


@dataclass
class TrainingReport:
    """What a run did: steps taken, seconds of wall time, and the rows of losses.csv and metrics.csv of this call."""

    steps: int = 0
    seconds: float = 0.0
    losses: list[dict[str, float]] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)


def train(
    model: nn.Module,
    dataset: Any,
    settings: TrainSettings,
    *,
    unlabelled: Sequence[Tensor] | None = None,
    out: str | Path | None = None,
    evaluate: Evaluate | None = None,
    resume: bool = False,
) -> TrainingReport:
    """Trains ``model`` in place; it ends with the averaged weights (if there is an average), in evaluation mode.

    ``dataset[i]`` gives (image, target). With ``unlabelled``, pictures uint8 (3, H, W), half of each batch are of
    these, with targets from a teacher (`mrcnn.engine.pseudo_labels`). ``evaluate(model, step)`` gives numbers to record
    every ``settings.evaluate_every`` steps. With ``out`` that folder gets settings.json, losses.csv, metrics.csv,
    checkpoints, best.pt (the model of the evaluation with the highest mean AP) and, at the end, model.pt. ``resume``
    goes on from the last checkpoint there, if any.

    Raises TrainingError when a loss is no longer a number, CheckpointError when a file cannot be written or read or
    another run is at work in ``out``, and Stopped (a KeyboardInterrupt) after Ctrl-C or SIGTERM. However a run
    ends, its last good step is kept as a checkpoint.
    """
    folder = None if out is None else Path(out)
    with checkpoint.hold(folder):
        run = Run(model, dataset, settings, folder, unlabelled)
        if resume:
            run.resume()
        else:
            run.refuse_old_checkpoints()
        if folder is not None and distributed.is_main():
            write_settings(folder, model, settings)
        run.go(dataset, evaluate)
    return run.report


class Run:
    """A training run, and all that it carries from step to step."""

    def __init__(
        self,
        model: nn.Module,
        dataset: Any,
        settings: TrainSettings,
        out: Path | None,
        unlabelled: Sequence[Tensor] | None = None,
    ):
        kinds = 1 if unlabelled is None else 2  # of pictures, with labels and without
        if settings.batch_size % (kinds * distributed.world_size()):
            shares = f"{distributed.world_size()} processes" + ", with and without labels" * (kinds - 1)
            parts = kinds * distributed.world_size()
            raise ValueError(f"batch_size must be a multiple of {parts} ({shares}), got {settings.batch_size}")
        self.model, self.settings, self.out = model, settings, out
        self.device = next(model.parameters()).device
        freeze(model, settings)
        model.labels = labels_of(dataset)
        self.optimizer = make_optimizer(model, settings)
        self.average = AveragedModel(model, multi_avg_fn=self._average) if settings.average else None
        self.labelled, self.unlabelled = settings.batch_size // kinds, unlabelled
        average = None if self.average is None else self.average.module
        self.teacher = None if unlabelled is None else Teacher(model, average, settings)
        self.groups = shape_groups(dataset) if settings.group_shapes else None
        self.bfloat16 = settings.bfloat16 and (self.device.type != "cpu" or multiplies_bfloat16())
        if settings.bfloat16 and not self.bfloat16:
            self._say("bfloat16: this processor has no instructions for it and would be slower; going on in float32")
        self.report = TrainingReport()
        self.step = 0  # steps taken
        self.used = 0.0  # seconds used, as all processes agree
        self.best = Best()  # of the evaluations
        self.saved = 0  # the step of the newest checkpoint
        self.damaged: list[Path] = []  # checkpoints that could not be resumed from
        self.buffers: list[Tensor] | None = None  # after the last good step; None while the weights change
        self.started = time.perf_counter()

    # ---- the loop

    def go(self, dataset: Any, evaluate: Evaluate | None) -> None:
        settings, main = self.settings, distributed.is_main()
        batches = self._batches(dataset)
        parallel = self._parallel()
        to_training(self.model)
        self.buffers = self._buffers()
        log = CsvLog(self.out if main else None, self.step, settings.tensorboard)
        progress = Progress(shown=main)
        try:
            with StopRequests() as requests, self._rescue():
                stop = evaluate is not None and self._missed_evaluation() and self._evaluate(evaluate, requests, log)
                while self.progress() < 1 and not stop and not self._out_of_patience():
                    row, stop = self.take_step(parallel, batches, requests)
                    log.add_losses(row)
                    progress.update(self.progress(), row)
                    if self._due(settings.checkpoint_every):
                        log.flush()
                        self.save_checkpoint()
                    if evaluate is not None and self._due(settings.evaluate_every) and not stop:
                        stop = self._evaluate(evaluate, requests, log)
                log.flush()
                self.save_checkpoint()
            if stop or requests.requested:
                raise Stopped(self._farewell(), requests.requested or signal.SIGTERM)
        finally:
            progress.close()
            log.close()
        self.finish()

    def take_step(self, parallel: nn.Module, batches: Any, requests: StopRequests) -> tuple[dict[str, float], bool]:
        """One step of gradient descent: the row for losses.csv, and whether all processes are to stop after it."""
        began = time.perf_counter()
        images, targets = self._next(batches)
        waited = time.perf_counter() - began
        torch.manual_seed(mixed_seed("step", self.settings.seed, self.step, distributed.rank()))
        losses = self._forward(parallel, images, targets)
        distributed.share_buffers(self.model)
        own = torch.stack([loss.detach().double() for loss in losses.values()])
        # One exchange of a few numbers tells the processes all that they have to agree on.
        clock = own.new_tensor([time.perf_counter() - self.started, requests.requested > 0])
        *values, self.used, stopping = distributed.mean(torch.cat([own, clock])).tolist()
        self._check(losses, values, own.tolist(), targets)

        rate = learning_rate(self.progress(), self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        length = nn.utils.clip_grad_norm_(trained, self.settings.clip or math.inf).item()
        self._check(["gradient"], [length], [length], targets)
        self.buffers = None
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        self.buffers = self._buffers()
        row = {"step": self.step, "loss": sum(values), **dict(zip(losses, values, strict=True))}
        row |= {"lr": rate, "gradient": length, "seconds": self.used}
        row |= {"step_seconds": time.perf_counter() - began, "data_seconds": waited}
        self.report.losses.append(row)
        return row, stopping > 0

    def _batches(self, dataset: Any) -> Iterator[tuple[list[Tensor], list[dict]]]:
        """The pictures and targets of each step from the present one on."""
        settings = self.settings
        pictures = SeededPictures(dataset, settings.seed, augmentation(settings.augment, dataset))
        labelled = self._fetch(pictures, self.labelled, self.groups)
        if self.teacher is None:
            yield from labelled
            return
        easy = self._fetch(easy_pictures(self.unlabelled, settings), settings.batch_size - self.labelled, None)
        for (images, targets), others in zip(labelled, easy, strict=True):
            with self._autocast():
                taught, found = self.teacher.teach(*others, self.step)
            yield images + taught, targets + found

    def _fetch(self, pictures: SeededPictures, count: int, groups: Tensor | None) -> Iterator:
        """So many of the pictures for each step."""
        order = Order(len(pictures), count, self.settings.seed, groups)
        steps = Steps(order, self.step, self.settings.steps)
        return fetch(pictures, steps, self.settings.workers, pin=self.device.type == "cuda")

    def _next(self, batches: Any) -> tuple[list[Tensor], list[dict]]:
        images, targets = next(batches)
        if self.device.type == "cpu":
            return images, targets
        images = [image.to(self.device, non_blocking=True) for image in images]
        return images, [
            {k: v.to(self.device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in target.items()}
            for target in targets
        ]

    def _forward(self, parallel: nn.Module, images: list[Tensor], targets: list[dict]) -> dict[str, Tensor]:
        try:
            with self._autocast():
                return parallel(images, targets)
        except ValueError as error:  # a broken target, or numbers so large that a box is no longer one
            pictures = _listed([target["image_id"] for target in targets])
            raise TrainingError(f"step {self.step + 1} could not be taken with {pictures}: {error}") from error

    def _check(self, names: Any, values: list[float], own: list[float], targets: list[dict]) -> None:
        """Stops every process when a number is NaN or infinite in one of them."""
        bad = [f"{name} is {value}" for name, value in zip(names, values, strict=True) if not math.isfinite(value)]
        if bad:
            mine = [] if all(map(math.isfinite, own)) else [target["image_id"] for target in targets]
            pictures = [name for names in distributed.gather(mine) for name in names]
            raise TrainingError(f"at step {self.step + 1} {', '.join(bad)}; {_listed(pictures)}")

    def _evaluate(self, evaluate: Evaluate, requests: StopRequests, log: CsvLog) -> bool:
        """Measures the model as it is; whether a request to stop came first."""
        row = self.measure(evaluate, requests)
        if row is not None:
            log.add_metrics(row)
        return row is None

    def _missed_evaluation(self) -> bool:
        """Whether a run that is resumed was stopped after its step, but before the evaluation that was due then."""
        return self.step > 0 and self._due(self.settings.evaluate_every) and self.best.last < self.step

    def measure(self, evaluate: Evaluate, requests: StopRequests) -> dict[str, float] | None:
        """The row for metrics.csv; None when a request to stop came first."""
        try:
            with requests.at_once():
                row = {"step": self.step, **evaluate(self.best_model().eval(), self.step)}
        except KeyboardInterrupt:
            return None
        to_training(self.model)
        self.report.metrics.append(row)
        if self.best.add(row) and self.out is not None and distributed.is_main():
            model_file.save_model(self.best_model(), self.out / "best.pt")
        return row

    def _out_of_patience(self) -> bool:
        return 0 < self.settings.patience <= self.best.since

    def finish(self) -> None:
        """Leaves the averaged weights in the model, and the model in evaluation mode."""
        if self._out_of_patience():
            self._say(f"no better AP than after step {self.best.step} in {self.best.since} evaluations: the run ends")
        self.report.steps, self.report.seconds = self.step, time.perf_counter() - self.started
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        self.model.eval()
        if not all(map(is_finite, self.model.parameters())):  # the last step's losses were of the weights before it
            raise TrainingError(f"after step {self.step} the weights are NaN or infinite: there is no model to keep")
        if self.out is not None and distributed.is_main():
            model_file.save_model(self.model, self.out / "model.pt")

    # ---- stopped and resumed

    def refuse_old_checkpoints(self) -> None:
        if self.out is not None and checkpoint.checkpoints(self.out):
            raise CheckpointError(
                f"{self.out} holds the checkpoints of an earlier run: resume it (--resume), or choose another folder"
            )

    @contextmanager
    def _rescue(self) -> Iterator[None]:
        """Whatever ends the run, its last good step is kept: a step that fails before the weights change is undone."""
        try:
            yield
        except BaseException:
            if self.buffers is not None:
                for buffer, before in zip(self.model.buffers(), self.buffers, strict=True):
                    buffer.copy_(before)
                with undisturbed(), suppress(CheckpointError):  # the disk may be what failed
                    self.save_checkpoint()
            if self.out is not None and self.saved:
                path = checkpoint.checkpoint_path(self.out, self.saved)
                self._say(f"the last good checkpoint is {path}; --resume goes on from it")
            raise

    def save_checkpoint(self) -> None:
        if self.out is None or self.saved == self.step:
            return
        if distributed.is_main():
            training = {
                "settings": self.settings.plain(),
                "seconds": self.used,
                "optimizer": self.optimizer.state_dict(),
                "weights": None if self.average is None else self.model.state_dict(),
                "averaged": None if self.average is None else int(self.average.n_averaged),
            }
            checkpoint.save_checkpoint(self.out, self.step, self.best_model(), training, self.damaged)
        self.saved, self.damaged = self.step, []

    def resume(self) -> None:
        """Takes up the run at the newest whole checkpoint of its folder; without any it starts from the beginning."""
        if self.out is None:
            raise ValueError("resume needs the folder of the run (out)")
        contents, complaints = checkpoint.last_checkpoint(self.out)
        self.damaged = list(complaints)
        for complaint in complaints.values():
            self._say(f"passed over: {complaint}")
        if contents is None:
            self._say(f"no checkpoint in {self.out} yet: starting from the beginning")
            return
        training, source = contents["training"], str(self.out)
        differences = self.settings.differences(training["settings"])
        if contents["config"] != self.model.config:
            differences.insert(0, f"the model (stored {contents['config']}, now {self.model.config})")
        if differences:
            raise CheckpointError(f"{source}: the run to resume differs in {', '.join(differences)}")
        if self.average is None:
            model_file.load_weights(self.model, contents["state_dict"], source)
        else:
            model_file.load_weights(self.model, training["weights"], source)
            model_file.load_weights(self.average.module, contents["state_dict"], source)
            self.average.n_averaged.fill_(training["averaged"])
        try:
            self.optimizer.load_state_dict(training["optimizer"])
        except Exception as error:  # of whatever kind: torch looks at little before it goes ahead
            raise CheckpointError(f"{source}: the optimizer's state is not as a run writes it") from error
        self.step = self.saved = training["step"]
        self.used = training["seconds"]
        self.started = time.perf_counter() - self.used
        rows = read_table(self.out / "metrics.csv") if distributed.is_main() else []
        for row in distributed.from_main(rows):
            if row["step"] <= self.step:  # later ones are measured again
                self.best.add(row)
        self._say(f"going on after step {self.step}")

    def _farewell(self) -> str:
        if self.out is None:
            return f"stopped after step {self.step}"
        path = checkpoint.checkpoint_path(self.out, self.saved)
        return f"stopped after step {self.step}; {path} can be used as --weights, and --resume goes on from it"

    def _say(self, text: str) -> None:
        if distributed.is_main():
            print(text, file=sys.stderr)

    # ---- small things

    def progress(self) -> float:
        """The share of the run that is done: of its steps or of its time, whichever is nearer to its end."""
        return max(self.step / (self.settings.steps or math.inf), self.used / (self.settings.seconds or math.inf))

    def best_model(self) -> nn.Module:
        """The model to evaluate and to keep."""
        return self.model if self.average is None else self.average.module

    def _buffers(self) -> list[Tensor]:
        return [buffer.clone() for buffer in self.model.buffers()]

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()

    def _parallel(self) -> nn.Module:
        if distributed.world_size() == 1:
            return self.model
        device_ids = [self.device] if self.device.type == "cuda" else None
        # `share_buffers` broadcasts them, after each step instead of before the next.
        return DistributedDataParallel(self.model, device_ids=device_ids, broadcast_buffers=False)

    def _average(self, averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        """Exponential moving average; at first shorter, so that the random start is soon forgotten."""
        decay = min(self.settings.average, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - decay)


def _listed(pictures: list) -> str:
    return f"pictures {', '.join(map(str, pictures))}"
