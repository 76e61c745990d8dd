# %% [markdown]
# # Learning with less data
#
# Labels cost hours, pictures hardly anything: ways to get along with few labels, and how many labelled pictures each of
# them is worth.
#
# **You will** paste objects from picture to picture, freeze a network, make labels out of a model's answers, and read a
# curve that says what all this gains, without being fooled by luck.
#
# **Time** about 80 minutes; to rest, stop before "The study". **Know first** masks (lesson 01), batch norm (02), training (12), AP (13).
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
# The upper row is what the small model of this package has learned from, by the thousand: people and solid things. The lower row
# is what we want to find now: six other kinds of things, drawn in ink. Nothing is filled. The inside of a thing looks like the
# paper around it, so colour does not tell where it is; only lines do, and there are other lines as well. Above each picture
# stands what is there. Drawn in it is what the model finds, with its scores in percent.

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
# other drawings. What do you expect?

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
# Pictures of people and balls taught it something about houses and fish. What can that be? Its first layers answer to edges, corners and strokes;
# its RPN knows how a box is drawn around *something*; its mask head, how an outline becomes a mask. Only what the things
# are called is new.
#
# So few steps are a beginning. The study below trains for longer, and says how much of this is left.
#
# ## Build it: more pictures out of few
#
# A drawing that is mirrored is another drawing, with labels that cost nothing. Lesson 10 mirrored poses. Masks allow more:
# cut the things out of one picture and lay them over another. This is **copy-paste**. Each thing then comes on other paper,
# with other neighbours, and some are half hidden. A mask may then have to lose pixels: each pixel belongs to the one thing
# that is seen there.

# %% exercise="paste"

# %%
pairs = [(0, 1), (4, 7)]  # `exercises.two` gives two drawings, each with its masks
pictures.pasted([(exercises.two(*pair), paste(*exercises.two(*pair))) for pair in pairs], lab.whose(paste))

# %% [markdown]
# The edges look wrong: paper of one colour on paper of another. One would think that a network learns to see the seams
# and nothing else. The paper on copy-paste tried to smooth them and gained nothing. Other things in such a picture are its own,
# without seams.
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
# The mask loss: for the lower thing it would ask for pixels that show another thing. The losses of the boxes suffer too, where
# the covered part was the outermost: nobody can see how far it went.
#
# ## Build it: learn less of the network
#
# Fewer numbers that learn, less to learn by heart: 30 pictures cannot say much about all the weights of a network. So freeze what
# is good already: its weights get no gradient and stay as they are. A batch norm has a second way to change (lesson 02): in
# training mode its running statistics follow the pictures that it sees, without any gradient. In evaluation mode they stay.

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
# The features were made for filled things. What is frozen cannot learn that only lines count. Freezing is for new pictures
# that look like the old ones.
#
# ## Build it: labels by a model
#
# Pictures without labels are plentiful. Let the fine-tuned model look at them, as a **teacher**, and take what it is sure of for
# labels: **pseudo-labels**. A **student** then learns from them as well. What does it learn that the teacher does not know? It sees
# the picture scaled, cut and recoloured. The teacher had the easy one.
#
# A score says that something is there. It does not say that the box is right to the pixel, nor the mask. So only class and
# objectness are taught: a target can say that its boxes are not `exact`, and the losses of the deltas skip them; the mask
# loss skips masks that are all 0.

# %% exercise="pseudo_target"

# %% [markdown]
# From which score on shall they count? Our 60 drawings "without labels" do have some, put aside, so the teacher can be given
# marks: a pseudo-label is right if a thing of its class lies there, at an IoU of 0.5. **Predict**: from which threshold on are 9
# of 10 pseudo-labels right? How many of 10 things have one then?

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
print(f"The library's threshold, if you choose none: {settings.pseudo_score}")
curves(
    Panel(
        "Pseudo-labels of the fine-tuned model", "the score from which on they count",
        {"of the labels, right": (thresholds, right), "of the things, labelled": (thresholds, share)}, limits=(0, 1),
    ),
    width=6,
)  # fmt: skip

# %% [markdown]
# There is no good threshold, only a trade. Low: false labels, and a student that learns the teacher's errors. High: things
# without a label, and these are taught as *background*, which is false as well. (Our teacher has seen few steps, and is
# hardly ever as sure as the library asks.)
#
# A teacher that stays as it was cannot get better. The **mean teacher** is a running average of the student's own weights
# (lesson 12 averages weights, too): the student learns, the average follows, and its labels improve. `mrcnn train
# --unlabelled DIR --teacher average`.
#
# ## The study
#
# Now the curve that this lesson is about. `benchmarks/less_data.py` trains each method with 10, 30, 100 and 300 labelled
# drawings, with up to three seeds. A seed chooses the labelled drawings, the random weights and the order. The test is on many
# other drawings, the same for all. This takes hours; the results are in the repository.
#
# | method | what it does |
# |---|---|
# | `scratch`, `tuned` | from random weights; fine-tuned, as above |
# | `jitter` | `tuned`, with changes of scale and colour |
# | `paste` | `jitter`, and copy-paste |
# | `scratch_paste` | the same from random weights |
# | `frozen_2`, `frozen_5`, `last` | `tuned`, with the first two of the body's five stages frozen; all five; all but the last layers |
# | `pseudo`, `mean_teacher` | half of the steps as `tuned`; then also with pseudo-labels for 2,000 more drawings, by the model of the first half, or by a mean teacher |
# | `all` | `paste` and `mean_teacher` |

# %%
study = json.loads(Path("../../benchmarks/results/less_data.json").read_text())
cells, costs = study["cells"], study["costs"]
sizes, seeds = [10, 30, 100, 300], [0, 1, 2]


def measured(method, size, budget="steps"):
    """AP of masks of each seed there is."""
    names = [f"{budget} {method} {size} {seed}" for seed in seeds]
    return [cells[name]["segm"]["AP"] for name in names if name in cells]


[equal] = {cell["steps"] for name, cell in cells.items() if name.startswith("steps ")}
print(f"{len(cells)} trainings, {sum(cell['seconds'] for cell in cells.values()) / 3600:.1f} hours of one core,")
print(
    f"on {', '.join(sorted({cell['cpu'] for cell in cells.values()}))}. At first we look at those of {equal} steps each"
)

# %% [markdown]
# **Predict**, before you draw it: with 30 labelled drawings, which of `tuned`, `frozen_5`, `last`, `paste` and `mean_teacher` is
# the best? And how many labelled drawings does `scratch` need to reach it?

# %%
my_best, my_number = "", None

# %%
groups = {
    "Where to begin": ("scratch", "scratch_paste", "tuned", "paste"),
    "What to freeze": ("tuned", "frozen_2", "frozen_5", "last"),
    "With 2,000 more, not labelled": ("tuned", "paste", "pseudo", "mean_teacher", "all"),
}


def curve(method, budget="steps", sizes=sizes):
    """The sizes that it was trained with, and AP of masks there: of all seeds, (seeds, sizes), or else of the first."""
    found = {n: measured(method, n, budget) for n in sizes if f"{budget} {method} {n} 0" in cells}
    if found and all(len(each) == len(seeds) for each in found.values()):
        return [*found], torch.tensor([*found.values()]).T
    return [*found], torch.tensor([each[0] for each in found.values()])


drawn = {method: curve(method) for group in groups.values() for method in group}
print("seeds:", ", ".join(f"{method} {len(aps) if aps.dim() == 2 else 1}" for method, (xs, aps) in drawn.items()))
curves(
    *(
        Panel(title, "labelled drawings", {m: drawn[m] for m in group if len(drawn[m][0])}, log=True, limits=(0, 0.8))
        for title, group in groups.items()
    )
)

# %% [markdown]
# Each point is the mean of its seeds. Where a curve has bars, they reach one standard deviation to either side; a curve without
# bars is one seed.
#
# - **Where to begin** matters most. In the first panel trained weights are ahead at every size, though they were trained on
#   other things.
# - **Freezing costs**, and the more is frozen the more: the style is new, so early layers have something to learn.
# - **Changes of scale and copy-paste** help most where there is least. From random weights, with 300 drawings and few steps,
#   they do harm: the network has not even learned what it is shown.
# - **Pseudo-labels** gain little at best, and `all`, which has copy-paste too, gains nothing over `paste` alone. In equal steps
#   there is a price: half of each batch has no true labels. The papers train for many times as long.
#
# ## Build it: luck, and worth
#
# Two points that differ by less than their bars: is one method better? Part of a bar is the luck of the drawings: some 30 teach
# more than others. But a seed gave the same drawings to all methods. So subtract seed by seed, and this luck is gone. The mean of
# the gains is what we want to know. How sure is it? Their standard deviation (with n - 1, as there are so few), divided by the
# root of n, is its standard error (lesson 11): about how far the mean would move with other seeds.

# %% exercise="gain"

# %%
WIDER = 4.30  # Student's t for three seeds, as in lesson 11: so many standard errors hold the truth 95 times in 100
print(f"gain over `tuned` in AP of masks, with 30 drawings, by code that is {lab.whose(gain)}:")
for method in ("scratch", "frozen_2", "frozen_5", "last", "jitter", "paste", "pseudo", "mean_teacher", "all"):
    mean, error = gain(measured(method, 30), measured("tuned", 30))
    print(f"{method:<14}{mean:+.3f} ± {error:.3f}   {'more than luck?' if abs(mean) > WIDER * error else ''}")

nothing = torch.randn(100_000, len(seeds), generator=torch.Generator().manual_seed(0))  # gains that are luck alone
beyond = nothing.mean(1).abs() > WIDER * nothing.std(1) / len(seeds) ** 0.5
print(f"of methods that change nothing, {beyond.float().mean():.0%} would be called more than luck as well")

# %% [markdown]
# So with three seeds, be modest: one such line does not prove much, least of all when you look at nine. A gain that is very
# many errors wide, or comes again at other sizes, is another matter.
#
# Few people know what a gain in AP is worth. "As good as with 200 labelled drawings" is clear to all who must pay for labels.
# So read the curve sideways: from an AP to the number of drawings. The curve is that of `scratch`.

# %% exercise="worth"

# %%
scratch_curve = [statistics.mean(measured("scratch", n)) for n in sizes]
print(f"so many drawings is it worth, from scratch, by code that is {lab.whose(worth)}:")
print(f"{'with':<14}" + "".join(f"{n:<13}" for n in sizes))
for method in ("scratch_paste", "tuned", "last", "paste", "mean_teacher", "all"):
    told = [measured(method, n) and worth(sizes, scratch_curve, statistics.mean(measured(method, n))) for n in sizes]
    ends = [f"{n:.0f}" if n and n < sizes[-1] else "300 or more" if n else "-" for n in told]
    print(f"{method:<14}" + "".join(f"{end:<13}" for end in ends))
print(f"You said: {my_best} and {my_number}")

# %% [markdown]
# Much lies beyond the end of the curve: from 100 to 300 drawings `scratch` hardly rises. In so few steps it cannot use more.
#
# ## Equal steps, equal time, three times as long
#
# All this was in equal steps, which is not the same as equal time: a step of `last` is cheap. And a network from random weights
# might get much better if it went on. **Predict**: `last`, in the time of `tuned`: is it as good then? Of the lead of `paste` over `scratch`, how
# much is left when both train three times as long?

# %%
my_last_in_time, my_lead = "", ""


# %%
def both(method, size, budget):
    """AP of masks in equal steps and in this budget, of each seed that has both, (seeds, 2)."""
    names = [[f"{each} {method} {size} {seed}" for each in ("steps", budget)] for seed in seeds]
    return torch.tensor([[cells[name]["segm"]["AP"] for name in pair] for pair in names if cells.keys() >= {*pair}])


def changes(tables):
    told = ("{}: {:.3f} → {:.3f}".format(n, *table.mean(0)) for n, table in tables.items() if len(table))
    return "   ".join(told) or "not trained yet"


print("a step costs, beside one of tuned:", ", ".join(f"{method} {cost:.2f}" for method, cost in costs.items()))
panels = []
for title, budget, methods in (
    ("In the time of tuned", "time", ("last", "all")), ("Three times the steps", "long", ("scratch", "paste")),
):  # fmt: skip
    lines = {f"tuned, {equal}": curve("tuned")} if budget == "time" else {}
    more = {method: {n: both(method, n, budget) for n in sizes} for method in methods}
    for method, tables in more.items():
        lines[f"{method}, {equal}"] = curve(method, sizes=[*sizes, 1000, 3000])
        [steps] = {cell["steps"] for name, cell in cells.items() if name.startswith(f"{budget} {method} ")} or "?"
        lines[f"{method}, {steps}"] = curve(method, budget, [*sizes, 1000, 3000])
        print(f"{method:<8}{equal} → {steps} steps   {changes(tables)}")
    if budget == "long":
        pairs = {n: (more["paste"][n], more["scratch"][n]) for n in sizes}
        lead = {n: ahead - behind for n, (ahead, behind) in pairs.items() if len(ahead) == len(behind)}
        print(f"lead of paste over scratch   {changes(lead)}")
    lines = {name: line for name, line in lines.items() if line[0]}
    panels.append(Panel(f"{title}: method, steps", "labelled drawings", lines, log=True, limits=(0, 1)))
print(f"You said: {my_last_in_time!r} and {my_lead!r}")
curves(*panels)

# %% [markdown]
# (A line or a curve that is not here has not been trained yet: `python benchmarks/less_data.py --only time`, or `--only long`.
# `scratch` may have more drawings than the others.)
#
# More steps help little where a method is held back by what it may change, and much where it is held back by their number.
# Which of the two holds back `last`, and which `scratch`? So "how much better" has no answer without "in how much time",
# and what a method was worth above, in labelled drawings, it is worth for one number of steps.
#
# ### One cell of it, by yourself
#
# In a terminal, some minutes on one core; it prints how far your number lies from the recorded ones:
#
#     python benchmarks/less_data.py --again tuned 30 0
#
# ### Extra: which pictures shall be labelled?
#
# A model can say which pictures it is unsure of. Label those first, and it might learn more from each. How unsure a single
# answer is, its entropy says: most at a score of one half, and nothing at 0 and at 1.

# %% exercise="uncertainty"

# %%
doubts = [uncertainty(found["scores"].clamp(1e-6, 1 - 1e-6)) for found in seen]
chosen = sorted(range(len(seen)), key=lambda k: -doubts[k])[:10]
counts = [len(target["labels"]) for _, target in others]
print(f"things in each of the 10 chosen, by code that is {lab.whose(uncertainty)}: {[counts[k] for k in chosen]}")
print(f"on average {sum(counts[k] for k in chosen) / 10:.1f}; of all 60 {sum(counts) / 60:.1f}")

# %% [markdown]
# A trap: the sum is large where there is *much*, and outlining takes its time per thing, not per picture. Ten such pictures
# cost more than ten others. For a fair comparison, count the things that were labelled, not the pictures.
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
