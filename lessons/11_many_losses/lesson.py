# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Many losses, one network
#
# Six losses pull at one backbone: how hard each of them pulls, whether they pull the same way, what a head is worth to the
# others, and a head of your own beside them.
#
# **You will** take the gradient of each loss apart, foretell what a step does to all of them, compare trainings over seeds,
# and write a branch with a loss of its own.
#
# **Time** about 60 minutes. **Know first** the heads and their losses (lessons 05, 08, 09, 10), backbone (00), AP (02).
#
# **Files** `mrcnn/model.py`, `mrcnn/roi_heads.py`.

# %%
import copy
import json
from dataclasses import dataclass, fields
from pathlib import Path

import exercises
import pictures
import torch
import torch.nn.functional as F
from torch import nn

import mrcnn
from mrcnn import images, lab
from mrcnn.data import Playground, augment, collate
from mrcnn.engine import train
from mrcnn.lab import check
from mrcnn.lab.views.curves import Panel, curves
from mrcnn.model import MaskRCNN, ModelSettings
from mrcnn.roi_heads import Head, HeadSettings, RoIHeads
from mrcnn.sampling import Samples

play = Playground(260, seed=3)
scenes = [play[i] for i in range(len(play))]  # 150 to learn from, 10 to measure losses on, 100 to test the last head on


def batch(numbers):
    """Images and targets. Each target has a seed, so that all models see the same random samples of it."""
    some, targets = collate([scenes[i] for i in numbers])
    return some, [target | {"seed": i} for i, target in zip(numbers, targets, strict=True)]


probe = batch(range(150, 158))

# %% [markdown]
# ## A picture first
#
# A scene, and six maps over it, one per loss of the trained model. Light is where that loss would change the features
# most: the strength of its gradient there, over all levels of the pyramid. Each map has its own scale.

# %% tags=["cover"]
model = mrcnn.playground_rcnn(pretrained=True).train()
image, target = scenes[158]
ready, scaled = images.prepare([image], [target | {"seed": 0}], model.settings.images, training=True)
levels = [level.detach().requires_grad_() for level in model.backbone(ready.pixels)]
proposals, losses = model.rpn(ready, levels, scaled)
losses |= model.roi_heads.train_step(levels[:-1], 4, proposals, scaled)
maps = {}
for name, loss in losses.items():
    for level in levels:
        level.grad = None
    loss.backward(retain_graph=True)
    squares = [level.grad.square().sum(1, keepdim=True) for level in levels if level.grad is not None]
    spread = [F.interpolate(each, size=(128, 128)) * each.numel() / 128**2 for each in squares]
    maps[name] = sum(spread)[0, 0].sqrt()
pictures.pulls(image, maps)

# %% [markdown]
# The proposals' two losses, on top, pull at the few anchors that were drawn. The heads pull inside their boxes: the keypoint
# loss at people alone, and each in a pattern of its own. All of them pull at *the same numbers*.
#
# ## Predict
#
# The loss that is minimised is the plain sum of the six. Here they are in a network that has learned nothing yet:

# %%
torch.manual_seed(0)
untrained = mrcnn.playground_rcnn()
fresh = copy.deepcopy(untrained)
names = list(fresh(*probe))
for name, loss in fresh(*probe).items():
    print(f"{name:<20}{loss:6.2f}")

# %% [markdown]
# How hard does each pull at the backbone? That is the length of its gradient there, over all the backbone's parameters.
#
# 1. Which of the six is the longest, which the shortest?
# 2. How many times as long?
# 3. Do two losses pull the same way, against each other, or neither?

# %%
my_longest, my_shortest = "", ""
my_ratio = None
my_way = ""  # "the same", "against" or "neither"

# %% [markdown]
# ## Build it: one gradient per loss
#
# `sum(losses).backward()` gives one gradient, and nobody can tell any more who pulled how. So ask loss by loss. The forward
# pass is the dear part: run it once.

# %% exercise="gradient_rows"


# %%
def pulls(network, data=probe):
    """Gradients (6, P) of the losses for the backbone; and the losses."""
    shared = [each for each in network.backbone.parameters() if each.requires_grad]
    kept = {}

    def compute():
        kept.update(network(*data))
        return kept

    return gradient_rows(compute, shared), [float(loss) for loss in kept.values()]


rows, values = pulls(fresh)
lengths = rows.norm(dim=1)
for name, value, length in zip(names, values, lengths.tolist(), strict=True):
    print(f"{name:<20} loss {value:5.2f}   gradient in the backbone {length:6.3f}   ratio {length / value:5.2f}")
order = lengths.argsort()
print(f"longest {names[order[-1]]}, shortest {names[order[0]]}: {lengths.max() / lengths.min():.0f} times as long")
print(f"{rows.shape[1]:,} parameters; code: {lab.whose(gradient_rows)}")
print(f"You said: {my_longest}, {my_shortest}, {my_ratio}")

# %% [markdown]
# The **gradient norm**, as the length is called, does not follow the loss. What counts is how the loss *changes* with the
# features, and how many cells feel it. The region proposal network's losses are means over many anchors, most of them far
# from any object, and they hardly move the backbone. Yet without good proposals no head can work. So a long gradient
# does not mean an important task.
#
# ## Over a training
#
# Now train, and measure every 15 steps. The measured scenes are never trained on.


# %%
def fit(network, steps, groups=None, mirrored=False, watch=lambda step: None):
    """A plain training: four scenes a step, all losses added."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(groups or network.parameters(), lr=1e-3)
    for step in range(steps + 1):
        if step % 15 == 0:
            watch(step)
        losses = network(*batch(torch.randperm(150)[:4].tolist()))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return network


at, norms = [], []


def watch(step):
    at.append(step)
    norms.append(pulls(fresh)[0].norm(dim=1))


fit(fresh, 75, watch=watch)
by_loss = {
    name.removeprefix("loss_"): (at, lengths.tolist()) for name, lengths in zip(names, torch.stack(norms).T, strict=True)
}
first, second = list(by_loss)[:2], list(by_loss)[2:]
curves(
    Panel("Proposals: gradient norm in the backbone", "steps", {name: by_loss[name] for name in first}),
    Panel("Heads: gradient norm in the backbone", "steps", {name: by_loss[name] for name in second}),
)

# %% [markdown]
# Mind the two scales. The balance is not fixed: as the classes are first learned, their loss pulls several times as hard as
# before, and then less again. A weight that balances the losses at the start does not do so later.
#
# ## The same way, or against each other?
#
# Two gradients are two arrows in a space of many dimensions. The cosine between them is 1 where they point the same way, 0
# where they stand at a right angle, and below 0 where a step for one hurts the other.

# %% exercise="cosines"

# %%
short = [name.removeprefix("loss_")[:10] for name in names]
rows, _ = pulls(fresh)
others, _ = pulls(fresh, batch(range(100, 108)))
table = cosines(rows)
print(" " * 12 + "".join(f"{name:>12}" for name in short))
for name, row in zip(short, table.tolist(), strict=True):
    print(f"{name:<12}" + "".join(f"{value:12.2f}" for value in row))
print("\nThe same loss, on eight other scenes:")
print(" " * 12 + "".join(f"{value:12.2f}" for value in cosines(torch.cat([rows, others]))[:6, 6:].diag().tolist()))
print(f"code: {lab.whose(cosines)}. You said: {my_way}")

# %% [markdown]
# No pair pulls together as one, and none is wholly against another: near a right angle, with either sign. So a step for
# one loss leaves the others nearly as they are. "The tasks fight" is often said; look before you believe it.
#
# The last line is the yardstick. It is how far a loss agrees with *itself* when the scenes are others: much of every
# gradient is the luck of its batch. A small cosine between two losses, of either sign, says little.
#
# ## Weights
#
# The losses need not be added as they are: each may have a weight. Before you turn such knobs, foretell what they do. To
# first order, that is for a small step, all of it lies in the table of gradients.

# %% exercise="forecast"


# %% [markdown]
# Against the truth: one plain step of the backbone for the sum of the losses, small and then larger, and again with the mask
# loss weighted ten times. **Predict**: with the weight, do the *other* losses fall faster, slower, or as before?

# %%
my_others = ""

# %%
weights = {"all 1": torch.ones(6), "mask 10": torch.tensor([1.0, 1, 1, 1, 10, 1])}
before = torch.tensor(pulls(fresh)[1])
for rate, (told, weight) in [(r, each) for r in (1e-5, 1e-3, 1e-1) for each in weights.items()]:
    moved = copy.deepcopy(fresh)
    slope = weight @ rows
    shared = [each for each in moved.backbone.parameters() if each.requires_grad]
    with torch.no_grad():
        for each, part in zip(shared, slope.split([each.numel() for each in shared]), strict=True):
            each -= rate * part.view_as(each)
    after = torch.tensor([float(loss.detach()) for loss in moved(*probe).values()])
    print(f"step {rate:g}, {told}")
    for what, change in (("foretold", forecast(rows, weight, rate)), ("true", after - before)):
        print(f"  {what:<10}" + "".join(f"{name:>12} {value:+.1e}" for name, value in zip(short, change.tolist(), strict=True)))
print(f"code: {lab.whose(forecast)}. You said: {my_others}")
