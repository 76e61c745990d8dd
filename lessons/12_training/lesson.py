# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Training
#
# Ten pictures are learned by heart, a sweep finds a rate, and five sick runs are told apart: by their curves, and where curves
# are blind, by other means.
#
# **You will** write the loop, warm-up and decay, gradient clipping and an average of weights; be the doctor of five runs; kill
# a run and take it up again to the bit; and divide a step between two processes.
#
# **Time** about 60 minutes. **Know first** the losses (lessons 05, 08, 09), batch norm (02).
#
# **Files** `mrcnn/engine/train.py`, `mrcnn/engine/schedule.py`.

# %%
import contextlib
import io
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import exercises
import pictures
import torch
from exercises import CONSTANT_NORM, PLANTED, RAW, SIZE, small_model, ten_pictures
from torch import nn
from torch.optim.swa_utils import AveragedModel

import mrcnn
from mrcnn import box_head, lab, roi_heads
from mrcnn import boxes as box_maths
from mrcnn.data import Playground, labels_of
from mrcnn.engine import schedule
from mrcnn.engine import train as engine
from mrcnn.engine.csv_log import read_table
from mrcnn.lab import check
from mrcnn.lab.views.curves import Panel, curves

torch.set_num_threads(1)  # our pictures are so small that a second thread would mostly wait

# %% [markdown]
# ## A picture first: the real run
#
# This is how the small model that comes with the package was trained. The losses are means of 100 steps, of 8 scenes each; no
# scene came twice. On the right it is measured on scenes that it never saw (`bbox`: its boxes, `segm`: its masks). Where the rate
# jumps, the run was stopped, and resumed to end sooner.

# %%
kept = Path(mrcnn.__file__).parent / "pretrained"
rows, measured = read_table(kept / "losses.csv"), read_table(kept / "metrics_during_training.csv")
print(
    f"{rows[-1]['step']:.0f} steps in {rows[-1]['seconds'] / 60:.0f} minutes, on two CPU cores with other work beside"
)
steps = [row["step"] / 1000 for row in rows]
lines = {
    name: (steps, [row[f"loss_{name}"] for row in rows]) for name in ("objectness", "classifier", "box_reg", "mask")
}
places = [row["step"] / 1000 for row in measured]
curves(
    Panel("losses", "steps, in thousands", lines, limits=(0, 1.3)),
    Panel("learning rate, in thousandths", "steps, in thousands", {"": (steps, [1000 * row["lr"] for row in rows])}),
    Panel("AP", "steps, in thousands", {k: (places, [row[f"{k}/AP"] for row in measured]) for k in ("bbox", "segm")}),
)  # fmt: skip

# %% [markdown]
# You can't wait that long here, and nobody should begin with that. Begin with ten pictures. If a network can't learn ten
# pictures by heart, that is, **overfit** them, something is broken, and no number of hours helps. That takes seconds to find out.
#
# ## Ten pictures
#
# Ours are half as large as the playground's, and the model has no keypoint head, so that a step is quick. Each class is written
# with its first two letters: pe for person, ba for ball, bo for box.

# %%
play, ten = Playground(10, seed=3, size=SIZE), ten_pictures()
images, targets = zip(*ten, strict=True)
labels = labels_of(play)
pictures.scenes(images, targets, [f"picture {i}" for i in range(10)], labels, "Ten scenes with their targets")

# %% [markdown]
# ## Predict
#
# Before the first step the weights are random. What can each loss be *before* anything was learned? You know it without
# running: ln 2 = 0.69 for a yes or no, ln 7 = 1.95 for one of seven classes (the background is one). It need not be exact, as
# random weights are not quite undecided. But a first loss far from that is the first sign of a fault.
#
# - Which losses have such a first value, and which? The others stay `None`.
# - In a *healthy* training of this model, one loss rises. Which?

# %%
my_first_values = {"objectness": None, "rpn_box_reg": None, "classifier": None, "box_reg": None, "mask": None}
my_riser = None

# %% [markdown]
# ## Build it: the loop
#
# A step: take a batch, ask the model for its losses, let their sum go backward, and move each weight against its gradient. How
# far is the **learning rate** times the gradient. The optimiser moves them; here it has **momentum**, so that a step also
# keeps part of the way of the step before.
#
# `start()` gives a new model and its optimiser, so that all runs begin alike. An optimiser sorts the weights into groups, a list
# of dicts `optimizer.param_groups`, and reads the rate from each group's `"lr"` at every step.

# %% exercise="fit"

# %% [markdown]
# Five of the ten pictures per step, in turn:


# %%
def batches(steps, change=lambda target: target):
    """For each step five pictures and their targets. The seed makes the model's random samples the same every time."""
    rows = [[(5 * step + i) % 10 for i in range(5)] for step in range(steps)]
    return [
        ([images[r] for r in row], [change(targets[r]) | {"seed": 100 * step + r} for r in row])
        for step, row in enumerate(rows)
    ]


def look(model):
    """Of the ten pictures' objects: how many a detection of a score of 0.5 reaches; with the right name; detections."""
    found = named = count = 0
    with torch.no_grad():
        results = model.eval()(list(images))
    for result, target in zip(results, targets, strict=True):
        sure = result["scores"] > 0.5
        count += int(sure.sum())
        if sure.any():
            best, which = box_maths.iou(target["boxes"], result["boxes"][sure]).max(1)
            right = result["labels"][sure][which] == target["labels"]
            found, named = found + int((best > 0.5).sum()), named + int(((best > 0.5) & right).sum())
    return {"found": found, "named": named, "detections": count}


names = ["objectness", "rpn_box_reg", "classifier", "box_reg", "mask"]  # the model's losses, in its order
objects = sum(len(target["labels"]) for target in targets)

# %% tags=["cover"]
models = []


def start():
    models.append(small_model())
    return models[-1], torch.optim.SGD(models[-1].parameters(), lr=1, momentum=0.9)


on_objects = []  # of each step: of the regions that the box head learned from, the share that lies on an object


def counting(logits, deltas, samples, *more):
    on_objects.append(float((torch.cat([each.labels for each in samples]) > 0).float().mean()))
    return box_head.box_losses(logits, deltas, samples, *more)


STEPS = 60
began = time.perf_counter()
with patch.object(roi_heads, "box_losses", counting):
    history = torch.tensor(fit(start, batches(STEPS), [0.02] * STEPS))  # (steps, losses)
print(
    f"fit: {lab.whose(fit)}. First values:",
    {name: round(v, 2) for name, v in zip(names, history[0].tolist(), strict=True)},
)
print(f"You said: {my_first_values}, and rising: {my_riser}")
print(f"of {objects} objects, after {STEPS} steps and {time.perf_counter() - began:.0f} seconds: {look(models[-1])}")
with torch.no_grad():
    results = models[-1](list(images))
results = [{k: v[result["scores"] > 0.5] for k, v in result.items()} for result in results]
pictures.scenes(
    images, results, [f"picture {i}" for i in range(10)], labels, "What the model finds after training on them"
)

# %%
for what, rows in (("first", slice(0, 5)), ("last", slice(-5, None))):
    box_reg, part = history[rows, names.index("box_reg")].mean(), torch.tensor(on_objects[rows]).mean()
    print(
        f"{what} five steps: box_reg {box_reg:.2f}; {part:.0%} of the regions lie on an object; for each of these {box_reg / part:.2f}"
    )
every = range(STEPS)
lines = {name: (every, history[:, row]) for row, name in enumerate(names)}
curves(
    Panel("yes or no, which class, mask", "step", {n: lines[n] for n in ("objectness", "classifier", "mask")}),
    Panel("where", "step", {n: lines[n] for n in ("rpn_box_reg", "box_reg")}),
)

# %% [markdown]
# Most objects are found, some of them twice, in seconds, so the parts work together. It proves no more than that: new scenes
# would fare badly.
#
# One loss rises, though all is well. Among the proposals that the box head learns from are the true boxes themselves (lesson
# 08): there is nothing to correct in them. At first hardly any other proposal lies on an object. As the region proposal network gets
# better, more do, and they are a little off: more regions count, and each asks for more. **Never judge by the sum alone.** Write down
# each loss.
#
# ## How large a step?
#
# **Predict**: of the seven rates below, with 10 steps each, which leaves the lowest sum of losses? From which on is the run
# ruined, that is, its sum higher than before the first step?

# %%
my_best_rate, my_ruin = None, None

# %%
rates = [0.0005, 0.002, 0.005, 0.02, 0.05, 0.2, 1.0]
ends = [torch.tensor(fit(start, batches(10), [rate] * 10))[-4:].sum(1).mean().item() for rate in rates]
print(f"before the first step             the sum {history[0].sum():16.3g}")
for rate, end in zip(rates, ends, strict=True):
    print(f"rate {rate:<7} mean sum of the last four steps {end:9.3g}")
print(f"You said: {my_best_rate}, {my_ruin}")
curves(Panel("the sum after 10 steps", "learning rate, in thousandths", {"": ([1000 * r for r in rates], [min(e, 5) for e in ends])},
             log=True, limits=(0, 5.2)), width=6)  # fmt: skip

# %% [markdown]
# (What is above 5 is drawn at 5.) This is a sweep: each rate several times the one before, few steps each. Too low wastes time
# and looks healthy; too high ruins the run. Between the two there is a wide valley. Take its bottom, or a little to its left, as
# we did above.
#
# ## Build it: warm-up and decay
#
# In the first steps all weights are random and gradients point anywhere. **Warm-up** begins with a tiny rate that rises in a
# straight line. At the end the opposite: small steps settle where large ones would jump around. That is **decay**, here along
# half a cosine.

# %% exercise="rate_at"

# %%
share = [step / 100 for step in range(101)]
mine = [rate_at(each, 1.0, 0.1) for each in share]
settings = mrcnn.engine.settings.TrainSettings(steps=100, lr=1.0, warmup=0.1)
off = max(abs(a - schedule.learning_rate(each, settings)) for a, each in zip(mine, share, strict=True))
print(f"rate_at ({lab.whose(rate_at)}) is at most {off:.0e} from the library's")
curves(Panel("learning rate, as a share of the peak", "share of the run", {"": (share, mine)}), width=6)

# %% [markdown]
# ## Build it: gradient clipping
#
# One odd batch can have a gradient a hundred times as long as the others, and one such step destroys what many have built.
# **Gradient clipping** sees all gradients as one long arrow. If that is longer than a limit, it is made as long as the limit. It
# still points the same way.

# %% exercise="clipped"

# %% [markdown]
# ## Build it: an average of the weights
#
# Near its end a run still jumps around, because each batch asks for something else. The mean of many jumps lies nearer to the
# middle. So keep, beside the weights that train, a moving average of them, and in the end use the average. It costs no second
# run. While the average is young it must forget faster, or the random start would stay in it. (The share of the old average
# that is kept is called decay, too. It is not the rate's.)

# %% exercise="averaged"

# %% [markdown]
# ## What is each worth?
#
# The rate from above, 0.02, needs no help for ten pictures. So we take ten times as much. **Predict** how many of the objects
# are found and named right after each of these runs. (The cell is long, as it hangs your functions onto the optimiser, to be
# called before and after each of its steps.)

# %%
my_found = {"nothing": None, "warm-up and decay": None, "clipping": None, "both": None}


# %%
def training(rates, limit=None, optimizer="SGD", change=lambda target: target, frozen=False, watch=0, **changes):
    """One run. limit: of the gradient. watch: for so many steps at the end, what is named right. changes: of the model."""
    run = SimpleNamespace(lengths=[], seen=[])

    def start():
        run.model = small_model(**changes)
        run.model.backbone.requires_grad_(not frozen)
        learns = [p for p in run.model.parameters() if p.requires_grad]
        made = torch.optim.SGD(learns, lr=1, momentum=0.9) if optimizer == "SGD" else torch.optim.AdamW(learns)
        if watch:
            average = AveragedModel(run.model, avg_fn=lambda old, new, count: averaged(old, new, int(count), 0.9))

        def before(*_):
            run.lengths.append(float(torch.cat([p.grad.flatten() for p in learns]).norm()))
            if limit is not None:
                for p, shorter in zip(learns, clipped([p.grad for p in learns], limit), strict=True):
                    p.grad = shorter

        def after(*_):
            if watch:
                average.update_parameters(run.model)
            if len(run.lengths) > len(rates) - watch:
                run.seen.append([look(model)["named"] for model in (run.model, average.module)])
                run.model.train()

        made.register_step_pre_hook(before)
        made.register_step_post_hook(after)
        return run.model, made

    run.history = torch.tensor(fit(start, batches(len(rates), change), rates))
    return run


STEPS, HIGH = 30, 0.2
flat, shaped = [HIGH] * STEPS, [rate_at(step / STEPS, HIGH, 0.1) for step in range(STEPS)]
print(f"rate_at: {lab.whose(rate_at)}; clipped: {lab.whose(clipped)}; averaged: {lab.whose(averaged)}")
print(f"of {objects} objects, at a rate of {HIGH}    named right   longest gradient   last sum")
for name, (row, limit) in {
    "nothing": (flat, None), "warm-up and decay": (shaped, None), "clipping": (flat, 2.0), "both": (shaped, 2.0),
}.items():  # fmt: skip
    run = training(row, limit)
    print(f"{name:<34} {look(run.model)['named']:12} {max(run.lengths):18.3g} {run.history[-4:].sum(1).mean():10.3g}"
          f"   You said: {my_found[name]}")  # fmt: skip
run = training([0.05] * STEPS, watch=6)
for name, counts in zip(("last weights", "average"), zip(*run.seen, strict=True), strict=True):
    print(f"rate 0.05, named right after each of the last 6 steps: {name:<12} {counts}, the worst {min(counts)}")

# %% [markdown]
# Too high a rate with no help finds next to nothing. Warm-up with decay saves the run, and so does clipping, each by itself.
# (A gradient's length is taken before it is clipped.) One seed and few steps: don't read the small differences.
#
# And the average: compare the two rows, and their worst. The last weights go up and down, and a run may end on a bad step. The
# average moves in small steps.
#
# ## The doctor: five sick runs
#
# We planted one fault in each of five runs of 30 steps:
#
# - **rate too high**: forty times the healthy one;
# - **labels off by one**: each class has the name of the next;
# - **boxes swapped**: x and y are exchanged;
# - **normalisation forgotten**: pixels from 0 to 255 go into the network as they are;
# - **backbone frozen**: `requires_grad` was off, and stayed off.
#
# The model is the same but for its norm, which here is constant as in the published models, and the optimiser is AdamW, which
# gives each weight a step size of its own. Grey and dashed is the healthy run. What is too high for a picture is drawn as a flat
# line, with the largest value in words.

# %%
RATE = 0.0005


def ill(fault):
    """A run with this fault, or none."""
    rate = 40 * RATE if fault == "rate too high" else RATE
    change = {
        "labels off by one": lambda target: target | {"labels": target["labels"] % 6 + 1},
        "boxes swapped": lambda target: target | {"boxes": target["boxes"][:, [1, 0, 3, 2]]},
    }.get(fault, lambda target: target)
    more = CONSTANT_NORM | (RAW if fault == "normalisation forgotten" else {})
    return training([rate] * 30, optimizer="AdamW", change=change, frozen=fault == "backbone frozen", **more)


healthy = ill(None)
sick = {f"run {i}": ill(fault) for i, fault in enumerate(PLANTED, 1)}
shown = [names.index(name) for name in ("objectness", "classifier", "box_reg", "mask")]
pictures.beside_healthy(
    healthy.history[:, shown], {name: run.history[:, shown] for name, run in sick.items()}, [names[i] for i in shown],
    [1.0, 2.5, 2.0, 1.2],
)  # fmt: skip

# %% [markdown]
# **Predict**: which run has which fault? Two can hardly be told from healthy by their losses. Note your guess first.
#
# A loss only says how well the network agrees with the targets *it was given*. So ask two more things: did the weights move, and
# what is found if we hold it against the *true* targets?

# %%
begin = small_model(**CONSTANT_NORM).state_dict()
parts = {"backbone": "backbone", "rpn": "rpn", "box head": "roi_heads.box", "mask head": "roi_heads.mask"}
print("the weights' way, in % of their length        of", objects, "objects")
print(f"{'':9}", *(f"{part:>10}" for part in parts), "     found  named  detections")
for name, run in {"healthy": healthy, **sick}.items():
    now, way = run.model.state_dict(), []
    for prefix in parts.values():
        keys = [key for key in now if key.startswith(prefix)]
        moved, whole = (
            torch.cat([(a[k] - b[k]).flatten() if b else a[k].flatten() for k in keys]).norm()
            for a, b in ((now, begin), (begin, None))
        )
        way.append(float(100 * moved / whole))
    seen = look(run.model)
    print(
        f"{name:9}", *(f"{each:10.3g}" for each in way), f"{seen['found']:10} {seen['named']:6} {seen['detections']:11}"
    )

# %% exercise="diagnose"

# %% [markdown]
# Unfold the solution, and look again:
#
# - **Normalisation forgotten**: the *first* value is far too large, before any step. Nothing but the pixels, the targets or the start
#   can do that.
# - **Rate too high**: the first value is healthy, the second step is wild, and then nothing is learned.
# - **Boxes swapped**: the mask loss is *better* than healthy. Where the swapped boxes lie there is often nothing, and an empty
#   mask is easily learned. A loss that is too good is a sign, too.
# - **Labels off by one**: as good as healthy, and every name is wrong. **No training curve shows it.** Measure against targets that
#   came another way, or look at pictures.
# - **Backbone frozen**: all losses look right, as the heads make do with random features. That less is found could be too low a
#   rate. Only the weights tell, and new scenes would.
#
# The cheapest test of all: draw what the network is *given*. Here are the true targets, and those of two of these runs.

# %%
true, wrong = (
    targets[6],
    [
        targets[6] | {"labels": targets[6]["labels"] % 6 + 1},
        targets[6] | {"boxes": targets[6]["boxes"][:, [1, 0, 3, 2]]},
    ],
)
pictures.scenes(
    [images[6]] * 3, [true, *wrong], ["true", "labels off by one", "boxes swapped"], labels, "One scene, targets"
)

# %% [markdown]
# ### Break it: the norm that hides a fault
#
# With batch norm, as in the first part of this lesson: **predict** the first losses if normalisation is forgotten.

# %%
my_hidden = None

# %%
for norm, more in (("constant norm", CONSTANT_NORM), ("batch norm", {})):
    for pixels, change in (("normalised", {}), ("forgotten", RAW)):
        first = small_model(**more | change)(*batches(1)[0])
        print(
            f"{norm:14} {pixels:11}",
            {name: round(loss.item(), 2) for name, loss in zip(names, first.values(), strict=True)},
        )
print("You said:", my_hidden)

# %% [markdown]
# Batch norm divides by the spread of what it gets, so it takes the missing division back, and the first losses look healthy. The
# fault shows up later: in whoever uses this model and *does* normalise.
#
# ## Killed
#
# Long runs get killed: the power fails, a job's time is over. A **checkpoint** is a file from which a run goes on. **Predict** what
# must be in it, so that the run ends with the *same bits* as one that was never killed. (The text in `SCRIPT` runs twice:
# here, and in a process of its own, which is killed.)

# %%
my_checkpoint = []

# %%
SCRIPT = """
import torch
from exercises import SIZE, small_model
from mrcnn.data import InMemory, Playground
from mrcnn.engine.settings import TrainSettings
from mrcnn.engine.train import train

def run(out, resume=False):
    torch.set_num_threads(1)
    model, scenes = small_model(), InMemory(Playground(10, seed=3, size=SIZE))
    settings = TrainSettings(steps=14, batch_size=4, lr=0.02, average=0.9, checkpoint_every=2, tensorboard=False)
    train(model, scenes, settings, out=out, resume=resume)
    return model.state_dict()
"""
exec(SCRIPT)
folder = tempfile.TemporaryDirectory()
whole, killed, forgetful = (Path(folder.name) / name for name in ("whole", "killed", "forgetful"))
process = subprocess.Popen([sys.executable, "-c", f"{SCRIPT}\nrun({str(killed)!r})"])
while process.poll() is None and not list(killed.glob("checkpoint-*[4-9].pt")):
    time.sleep(0.01)
process.kill()  # kill -9: it can't clean up
print(f"killed; the process ended with {process.wait()}")
shutil.copytree(killed, forgetful)
newest = max(forgetful.glob("checkpoint-*.pt"))
contents = torch.load(newest, weights_only=True)
print(
    "in a checkpoint:",
    ", ".join(contents),
    "| training:",
    ", ".join(contents["training"]),
    "| you said:",
    my_checkpoint,
)
contents["training"]["optimizer"]["state"] = {}  # the momentum
torch.save(contents, newest)

with contextlib.redirect_stderr(io.StringIO()):
    ends = {
        name: run(out, resume=out.exists())
        for name, out in (("never killed", whole), ("resumed", killed), ("momentum lost", forgetful))
    }
for name, end in ends.items():
    off = max(float((end[key] - ends["never killed"][key]).abs().max()) for key in end)
    same = all(torch.equal(end[key], ends["never killed"][key]) for key in end)
    print(f"{name:14} {'the same bits' if same else 'NOT the same'}, at most {off:.2g} away")

# %% [markdown]
# The average (`state_dict`: what one uses), the weights that train, the optimiser's state and the number of the step. And where
# is the state of the random numbers? There is none to keep: all that is random in step 9 is made from the seed and the number 9. (Without the momentum it goes on as well, and
# nobody notices; it is just another run.)
#
# ## Two processes
#
# With two machines, a process on each takes half of the batch and works out its gradients, and both go on with the mean of the
# two. torch's `DistributedDataParallel` does the exchange; a process's number, 0 or 1, is its rank. **Predict**, yes or no: are
# these the gradients that one process gets from the whole batch?

# %%
my_two = {"with batch norm": None, "norm constant": None, "norm constant, without the mask loss": None}

# %%
DUO = """
import torch
from exercises import CONSTANT_NORM, small_model, ten_pictures
from mrcnn.engine import distributed
from torch.nn.parallel import DistributedDataParallel

WAYS = (({}, 1), (CONSTANT_NORM, 1), (CONSTANT_NORM, 0))
ten = ten_pictures()

def gradients(rows, changes, mask):
    torch.set_num_threads(1)
    model = small_model(**changes)
    parallel = DistributedDataParallel(model) if distributed.world_size() > 1 else model
    losses = parallel([ten[i][0] for i in rows], [ten[i][1] | {"seed": i} for i in rows])
    losses["loss_mask"] = mask * losses["loss_mask"]
    sum(losses.values()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])

def half(out):
    with distributed.processes("cpu"):
        rank = distributed.rank()
        torch.save([gradients(([0, 1], [2, 3])[rank], *way) for way in WAYS], f"{out}/{rank}.pt")
"""
exec(DUO)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
command = [sys.executable, "-c", f"{DUO}\nhalf({folder.name!r})"]
both = [
    subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank)}, stderr=subprocess.DEVNULL)
    for rank in (0, 1)
]
assert [process.wait() for process in both] == [0, 0]
ranks = [torch.load(f"{folder.name}/{rank}.pt", weights_only=True) for rank in (0, 1)]
folder.cleanup()
print("How far from the gradients of rank 0, as a share of their length:")
print(f"{'':38}{'rank 1':>15}{'halves, by hand':>18}{'the whole batch':>18}")
for (name, told), way, first, second in zip(my_two.items(), WAYS, *ranks, strict=True):
    by_hand = (gradients([0, 1], *way) + gradients([2, 3], *way)) / 2
    apart = [float((first - other).norm() / first.norm()) for other in (second, by_hand, gradients(range(4), *way))]
    print(f"{name:38}" + "   ".join(f"{each:15.1e}" for each in apart) + f"   You said: {told}")

# %% [markdown]
# Both processes hold the same gradients, and these are the mean of the two halves', as if one process had taken one half after
# the other. But is that one step with the whole batch?
#
# - **Not with batch norm**: each process takes the mean and spread of its own half.
# - **Not quite with the mask loss**: it is a mean over *objects*, and the halves have different numbers of them. A mean of two
#   means is the mean of all only where both halves count alike.
# - **The rest, yes**, but for rounding: here the other losses draw the same number of samples from every picture.
#
# ## Now find it in the real file
#
# The step. The gradients' length is recorded even where nothing is clipped, and `_check` stops the run as soon as a number is
# not finite, with the names of the pictures. The last function is `averaged` for all weights in one call; of the rate there is
# also a shape that falls by steps:

# %%
lab.show(engine.Run.take_step, "losses = self._forward", "losses = self._forward")
lab.show(engine.Run.take_step, "rate = learning_rate", "self.average.update_parameters")
lab.show(schedule.learning_rate, "progress = min", "return settings.lr * (settings.final_lr")
lab.show(engine.Run._average)

# %% [markdown]
# ## What we left out, and where to read on
#
# - **The real run, on your machine**: `mrcnn demo` trains on all losses, in minutes. How AP is measured: lesson 13.
# - **Weight decay**, which pulls weights towards 0 at every step, and Muon (`mrcnn/engine/muon.py`), the demo's optimiser.
# - I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning* (2016), section 11.5 on finding faults; section 10.11.1 on clipping.
# - P. Goyal et al., *Accurate, Large Minibatch SGD* (2017): section 2.2 on warm-up; section 3 on what goes wrong with many processes.
# - L. N. Smith, *Cyclical Learning Rates* (2017), section 3.3: finding a rate by a sweep. I. Loshchilov, F. Hutter, *SGDR*
#   (2017), equation 5: the cosine.
# - K. He et al., *Mask R-CNN* (2017), section 3.1: the schedule of the published models.
