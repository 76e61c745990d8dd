# %% [markdown]
# # Learning with less data
#
# Labels cost hours, pictures hardly anything: six ways to get along with few labels, and how many labelled pictures each of
# them is worth.
#
# **You will** paste objects from picture to picture, freeze a network, make labels out of a model's answers, and read a
# curve that says what all this gains, without being fooled by luck.
#
# **Time** about 60 minutes. **Know first** masks (lesson 01), batch norm (02), training (12), AP (13).
#
# **Files** `mrcnn/data/augment.py`, `mrcnn/engine/freeze.py`, `mrcnn/engine/pseudo_labels.py`, `benchmarks/less_data.py`.

# %%
import dataclasses
import json
import statistics
from pathlib import Path

import exercises
import pictures
import torch
from torch import nn

import mrcnn
from mrcnn import lab
from mrcnn.data import InMemory, Playground, augment
from mrcnn.engine import freeze, pseudo_labels
from mrcnn.engine.build_model import model_to_train
from mrcnn.engine.demo import SETTINGS
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.train import train
from mrcnn.lab import check
from mrcnn.lab.views.curves import Panel, curves

torch.set_num_threads(1)  # our pictures are so small that a second thread would mostly wait

# %% [markdown]
# ## A picture first
#
# On top is what the small model of this package knows, by the thousand: people and solid things. Below is what we want to
# find now: six other kinds of things, drawn in ink. Nothing is filled. The inside of a thing looks like the paper around it,
# so colour does not tell where it is; only lines do, and there are other lines as well. Under each picture stands what the
# model says of it.

# %% tags=["cover"]
known, drawings = Playground(5, seed=3), Playground(5, seed=3, style="ink")
model = mrcnn.playground_rcnn(pretrained=True)
pictures.what_it_says(model, known, drawings)

# %% [markdown]
# The model is of no use here as it is. And our budget is small: somebody has outlined all things in 30 drawings.
#
# ## Predict
#
# We train twice for 100 steps on the 30 drawings: once from random weights, and once from the weights of that useless
# model, with last layers that are random, as the classes are new. This second way is **fine-tuning**. AP is measured on 60
# other drawings.

# %%
my_scratch = None  # AP of masks
my_tuned = None

# %%
SEED = 0
labelled = InMemory(Playground(30, SEED, style="ink"))
test = InMemory(Playground(60, 20_000_000, style="ink"))
settings = dataclasses.replace(SETTINGS, steps=100, augment="flip", seed=SEED)  # the recipe of lesson 12's real run


def trained(weights, **changes):
    torch.manual_seed(SEED)
    model, _ = model_to_train(labelled, "playground", weights)
    train(model, labelled, dataclasses.replace(settings, **changes))
    return model.eval()


scratch, tuned = trained(None), trained("playground")

# %%
for name, each in (("from random weights", scratch), ("fine-tuned", tuned)):
    found = evaluate(each, test)
    print(f"{name:<20} AP of boxes {found['bbox']['AP']:.3f}, of masks {found['segm']['AP']:.3f}")
print(f"You said: {my_scratch} and {my_tuned}")

# %% [markdown]
# People taught it something about houses and fish. What can that be? Its first layers answer to edges, corners and strokes;
# its RPN knows how a box is drawn around *something*; its mask head, how an outline becomes a mask. Only what the things
# are called is new.
#
# 100 steps are a beginning. The study below has 600 for each training, and says how much of this is left.
#
# ## Build it: more pictures out of few
#
# A drawing that is mirrored is another drawing, with labels that cost nothing. Lesson 10 mirrored poses. Masks allow more:
# cut the things out of one picture and lay them over another. This is **copy-paste**. Each thing then comes on other paper,
# with other neighbours, and half hidden.

# %% exercise="paste"

# %%
pairs = [(0, 1), (4, 7)]
pictures.pasted([(exercises.two(*pair), paste(*exercises.two(*pair))) for pair in pairs], lab.whose(paste))

# %% [markdown]
# The edges look wrong: paper of one colour on paper of another. One would think that a network learns to see the seams
# and nothing else. The paper on copy-paste tried to smooth them and gained nothing. Half of the things in such a
# picture are still its own, without seams.
#
# ### Break it
#
# Suppose `paste` forgets to cut the masks beneath. **Predict**: which of the losses teaches something false then, and where in
# the picture?

# %%
my_false_loss = ""

# %%
image, masks, source, over = exercises.two(4, 7)
cover = over.any(0)
print(f"{int((masks & cover).sum())} pixels would have two owners. You said: {my_false_loss!r}")

# %% [markdown]
# The mask loss: inside the lower thing's box it would be told to mark pixels that show another thing. Boxes suffer too,
# where the covered part was the outermost: nobody can see how far it went.
#
# ## Build it: learn less of the network
#
# Fewer numbers that learn, less to learn by heart: 30 pictures cannot say much about a hundred thousand weights. So freeze what is
# good already: its weights stay as they are. A batch norm has a second way to change (lesson 02): in training mode it follows the
# pictures that it sees, without any gradient.

# %% exercise="train_only"

# %%
parts = tuple(
    name for name, module in tuned.named_modules() if any(module is last for last in freeze.last_layers(tuned))
)
everything = sum(weight.numel() for weight in tuned.parameters())
count, norms = train_only(tuned, parts)
print(f"the last layers: {count:,} of {everything:,} numbers learn, {norms} batch norms follow")
print(f"by code that is {lab.whose(train_only)}: {', '.join(parts)}")
_ = tuned.requires_grad_(True).eval()  # as it was

# %% [markdown]
# **Predict**: 100 steps with all but these last layers frozen. Better than fine-tuning all, or worse? And its steps are
# cheaper, as there is less to go back through.

# %%
my_last = ""  # "better" or "worse"

# %%
last = evaluate(trained("playground", last_layers_only=True), test)
print(
    f"only the last layers: AP of boxes {last['bbox']['AP']:.3f}, of masks {last['segm']['AP']:.3f}. You said: {my_last}"
)

# %% [markdown]
# The features were made for filled things. What is frozen cannot learn that only lines count. Freezing is safe where the new
# pictures look like the old ones.
#
# ## Build it: labels by a model
#
# Pictures without labels are plentiful. Let the fine-tuned model look at them, as a **teacher**, and take what it is sure of for
# labels: **pseudo-labels**. A **student** then learns from them as well. What does it learn that the teacher does not know? It sees
# the picture scaled, cut and recoloured. The teacher had the easy one.
#
# A score says that something is there. It does not say that the box is right to the pixel, nor the mask. So these are not
# taught: the loss skips boxes that are not `exact`, and masks that are all 0.

# %% exercise="pseudo_target"

# %% [markdown]
# From which score on? These drawings have labels after all, which we had put aside, so the teacher can be marked. **Predict**:
# at which threshold are 9 of 10 pseudo-labels right? How many of 10 things have one then?

# %%
my_threshold, my_found = None, None

# %%
others = Playground(60, 30_000_000, style="ink")
with torch.no_grad():
    seen = [tuned([image])[0] for image, _ in others]
thresholds = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
right, share = [], []
for threshold in thresholds:
    made = [pseudo_target(found, threshold, (128, 128)) for found in seen]
    marks = [pictures.hits(each, target) for each, (_, target) in zip(made, others, strict=True)]
    good, said, there = (sum(column) for column in zip(*marks, strict=True))
    right.append(good / max(said, 1))
    share.append(good / there)
    print(
        f"from {threshold:.2f} on: {said:4} pseudo-labels, {right[-1]:4.0%} right, {share[-1]:4.0%} of the things found"
    )
print(f"by code that is {lab.whose(pseudo_target)}. You said: {my_threshold} and {my_found}")
curves(
    Panel(
        "Pseudo-labels of the fine-tuned model", "the score from which on they count",
        {"of the labels, right": (thresholds, right), "of the things, labelled": (thresholds, share)}, limits=(0, 1),
    ),
    width=6,
)  # fmt: skip

# %% [markdown]
# There is no good threshold, only a trade. Low: false labels, and a student that learns the teacher's errors. High: things
# without a label, and these are taught as *background*, which is false as well. The library's default is
# 0.7. (Ours, after 100 steps, is hardly ever that sure.)
#
# A teacher that stays as it was cannot get better. The **mean teacher** is a running average of the student's own weights
# (lesson 12 averages weights, too): the student learns, the average follows, and its labels improve. `mrcnn train
# --unlabelled DIR --teacher average`.
#
# ## The study
#
# Now the curve that this lesson is about. `benchmarks/less_data.py` trains eleven methods with 10, 30, 100 and 300 labelled
# drawings, each with several seeds. A seed chooses the labelled drawings, the random weights and the order. 500 other drawings are the
# test. This takes hours; the results are in the repository.

# %%
cells = json.loads(Path("../../benchmarks/results/less_data.json").read_text())["cells"]
sizes, seeds = [10, 30, 100, 300], [0, 1, 2]


def measured(method, size, kind="segm"):
    """AP of each seed there is."""
    names = [f"steps {method} {size} {seed}" for seed in seeds]
    return [cells[name][kind]["AP"] for name in names if name in cells]


def middle(values):
    return sum(values) / len(values)


print(f"{len(cells)} trainings, {sum(cell['seconds'] for cell in cells.values()) / 3600:.1f} hours of one core,")
print(f"on {', '.join(sorted({cell['cpu'] for cell in cells.values()}))}")

# %% [markdown]
# **Predict**, before you draw it: with 30 labelled drawings, which is the best of these? `tuned`; `frozen_5` (the whole body
# frozen); `last` (all but the last layers); `paste` (tuned, with copy-paste and changes of scale and colour); `mean_teacher`
# (with 2,000 drawings without labels). And how many drawings does `scratch` need to reach it?

# %%
my_best, my_number = "", None

# %%
groups = {
    "Where to begin": ("scratch", "scratch_paste", "tuned", "paste"),
    "What to freeze": ("tuned", "frozen_2", "frozen_5", "last"),
    "With 2,000 more, not labelled": ("tuned", "paste", "pseudo", "mean_teacher", "all"),
}


def runs(method):
    """AP of masks, (seeds, sizes), of each seed that has all sizes; (sizes,) where that is one."""
    names = [[f"steps {method} {size} {seed}" for size in sizes] for seed in seeds]
    table = torch.tensor([[cells[name]["segm"]["AP"] for name in row] for row in names if cells.keys() >= set(row)])
    return table.squeeze(0)


drawn = {method: runs(method) for group in groups.values() for method in group}
print("seeds:", ", ".join(f"{method} {len(table.view(-1, 4))}" for method, table in drawn.items()))
curves(
    *(
        Panel(
            title,
            "labelled drawings",
            {m: (sizes, drawn[m]) for m in group if len(drawn[m])},
            log=True,
            limits=(0, 0.8),
        )
        for title, group in groups.items()
    )
)

# %% [markdown]
# Each point is the mean of its seeds; where there are several, a bar is one standard deviation to either side.
#
# - **Where to begin** matters most. Trained weights are ahead at every size, though they were trained on other things.
# - **Freezing costs**, and the more is frozen the more: the style is new, so early layers have something to learn.
# - **Changes of scale and copy-paste** help most where there is least. From random weights, with 300 drawings and few steps,
#   they do harm: the network has not even learned what it is shown.
# - **Pseudo-labels** gain little, and `all`, which has copy-paste too, is *behind* `paste` alone. In equal steps there is a
#   price: half of each batch has no true labels. The papers train for many times as long.
#
# ## Build it: luck, and worth
#
# Two points that differ by less than their bars: is one method better? The bars are wide mostly because 30 *other* drawings are
# luckier or less lucky. But a seed gave the same drawings to all methods. So compare seed by seed.

# %% exercise="gain"

# %%
print(f"gain over `tuned` in AP of masks, with 30 drawings, by code that is {lab.whose(gain)}:")
for method in ("scratch", "frozen_2", "frozen_5", "last", "jitter", "paste", "pseudo", "mean_teacher", "all"):
    mean, error = gain(measured(method, 30), measured("tuned", 30))
    print(f"{method:<14}{mean:+.3f} ± {error:.3f}   {'more than luck' if abs(mean) > 3 * error else ''}")

# %% [markdown]
# Three standard errors are a rough rule; with three seeds nothing better can be had.
#
# AP is hard to sell. "As good as with 200 labelled drawings" is not. So read the curve sideways.

# %% exercise="worth"

# %%
scratch_curve = [middle(measured("scratch", n)) for n in sizes]
print(f"so many drawings is it worth, from scratch, by code that is {lab.whose(worth)}:")
for method in ("scratch_paste", "tuned", "last", "paste", "mean_teacher", "all"):
    told = {n: worth(sizes, scratch_curve, middle(measured(method, n))) for n in sizes if measured(method, n)}
    ends = {n: f"{number:.0f}" if number < sizes[-1] else "300 or more" for n, number in told.items()}
    print(f"{method:<14}" + "".join(f"{n:>6} → {end:<13}" for n, end in ends.items()))
print(f"You said: {my_best} and {my_number}")

# %% [markdown]
# All this is in equal steps. Who can train for longer should ask again: a network from random weights would gladly go on.
#
# ### One cell of it, by yourself
#
# In a terminal, some minutes on one core; it prints how far your number lies from the recorded ones:
#
#     python benchmarks/less_data.py --again tuned 30 0
#
# ### Extra: which pictures shall be labelled?
#
# A model can say which pictures it is unsure of. Label those first, and it might learn more from each.

# %% exercise="uncertainty"

# %%
doubts = [uncertainty(found["scores"].clamp(1e-6, 1 - 1e-6)) for found in seen]
chosen = sorted(range(len(seen)), key=lambda k: -doubts[k])[:10]
counts = [len(target["labels"]) for _, target in others]
print(f"things in each of the 10 chosen, by code that is {lab.whose(uncertainty)}: {[counts[k] for k in chosen]}")
print(f"on average {sum(counts[k] for k in chosen) / 10:.1f}; of all 60 {sum(counts) / 60:.1f}")

# %% [markdown]
# A trap: the sum is large where there is *much*, and outlining takes its time per thing, not per picture. Ten such pictures
# cost more than ten others. Who compares must count the things that were labelled.
#
# ## Now find it in the real file
#
# Three places. What is pasted, and what is cut beneath it; `shrink` also makes the boxes tight again:

# %%
lab.show(augment.paste, "cover = ", "return torch.where")

# %% [markdown]
# What a teacher's findings become:

# %%
lab.show(pseudo_labels.pseudo_target, "chosen = ", "return target")

# %% [markdown]
# And what is frozen does not follow the pictures:

# %%
lab.show(freeze.to_training, "model.train()", "layer.eval()")

# %% [markdown]
# ## What we left out, and where to read on
#
# - **Your own pictures.** `mrcnn train --weights model.pt --data … --augment paste`; `--frozen-stages`, `--last-layers-only`,
#   `--unlabelled DIR`. Lesson 16 does it.
# - **Real photographs.** Drawings are a fair test, as the model never saw such things, but they are drawn by one program. A set of
#   photographs with outlines that could be given away with a package is not there.
# - **Pre-training without labels**, by guessing what was hidden, is what large models begin with today.
# - J. Yosinski et al., *How transferable are features in deep neural networks?* (2014): which layers carry over.
# - G. Ghiasi et al., *Simple Copy-Paste Is a Strong Data Augmentation Method for Instance Segmentation* (2021).
# - X. Wang et al., *Frustratingly Simple Few-Shot Object Detection* (2020): only the last layers.
# - A. Tarvainen, H. Valpola, *Mean teachers are better role models* (2017), and Y.-C. Liu et al., *Unbiased Teacher for
#   Semi-Supervised Object Detection* (2021).
# - B. Settles, *Active Learning Literature Survey* (2009): which examples to label.
