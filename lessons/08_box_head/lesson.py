# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # The box head
#
# A name and a better box for every proposal: each step of it is built, taken away again, and its worth measured.
#
# **You will** label and sample proposals, write the box loss, turn scores into detections, and ask whether a score of 0.8
# is right eight times of ten.
#
# **Time** about 60 minutes. **Know first** IoU, deltas and softmax (lesson 00), matching (04), proposals (05), non-maximum
# suppression (06).
#
# **Files** `mrcnn/box_head.py`, `mrcnn/sampling.py`, and where they are called, `mrcnn/roi_heads.py`.

# %%
import math

import exercises
import pictures
import torch
import torch.nn.functional as F

import mrcnn
from mrcnn import box_head, images, lab, ops, roi_heads, sampling
from mrcnn import boxes as box_maths
from mrcnn.data import Playground, labels_of
from mrcnn.engine.evaluate import score, to_coco
from mrcnn.lab import check
from mrcnn.model import ModelSettings

torch.set_grad_enabled(False)  # we only look, nothing is trained
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SIZE = (128, 128)  # of a scene: height, width

# %% [markdown]
# ## A picture first
#
# The region proposal network has said where something may be. For each such box, a proposal, the box head reads 7 × 7
# features and answers two questions: which class, and how must the box move, *once more*, to fit? This second move has a
# name: the **second regression**. We run the trained model on 80 scenes and keep what the box head says of every proposal.

# %%
model = mrcnn.playground_rcnn(pretrained=True)
names = model.labels["categories"]
scenes = Playground(80, seed=77)
data = [scenes[i] for i in range(len(scenes))]  # pairs of image and target


def propose(model, pictures):
    """Of pictures, all of one size: the features that the heads read, and the proposals (P, 4) of each."""
    batch, _ = images.prepare(pictures, None, model.settings.images, training=False)
    features = model.backbone(batch.pixels)
    proposals, _ = model.rpn(batch, features, None)
    return features[:-1], proposals  # P6 only proposes


def ask(features, proposals, model=model):
    """What the box head says of proposals (P, 4), picture by picture: scores (P, C), deltas (P, C, 4), the proposals."""
    logits, deltas = model.roi_heads.predict("box", features, 4, proposals)  # P2 has a stride of 4
    counts = [len(each) for each in proposals]
    return list(zip(logits.softmax(-1).split(counts), deltas.split(counts), proposals, strict=True))


proposed = [propose(model, [image for image, _ in data[first : first + 8]]) for first in range(0, len(data), 8)]
seen = [answers for each in proposed for answers in ask(*each)]
print(f"{len(seen)} scenes; of the first: scores {tuple(seen[0][0].shape)}, deltas {tuple(seen[0][1].shape)}")

# %% [markdown]
# Four objects of one scene. Thick and green is the truth. Dotted red is a proposal: of those that cover the object by an
# IoU of 0.5 or more, the middle one by IoU. Solid blue is where the box head moves it.


# %%
def move(scores, deltas, proposals):
    """Every proposal (P, 4), moved by the deltas of the class that the model believes in most, background aside."""
    labels = scores[:, 1:].argmax(1) + 1
    own = deltas[torch.arange(len(labels)), labels]
    return box_maths.clip(box_maths.decode(own, proposals, WEIGHTS), SIZE)


# %% tags=["cover"]
SCENE = 4
(scores, deltas, proposals), (image, target) = seen[SCENE], data[SCENE]
moved = move(scores, deltas, proposals)
ious, ious_after = box_maths.iou(proposals, target["boxes"]), box_maths.iou(moved, target["boxes"])
rows, told = [], []
for place, label in enumerate(target["labels"][:4].tolist()):
    holding = ((ious.argmax(1) == place) & (ious[:, place] >= 0.5)).nonzero()[:, 0]
    row = int(holding[ious[holding, place].argsort()[len(holding) // 2]])
    rows.append(row)
    told.append(f"{names[label]}: IoU {ious[row, place]:.2f}, then {ious_after[row, place]:.2f}")
pictures.moves(image, target["boxes"], proposals[rows], moved[rows], told)

# %% [markdown]
# How good is it? AP, average precision, asks whether the model finds all objects, and nothing else, and how exactly; it
# is 1 at best (lesson 13 works it out). "AP at .75" takes only a box with an IoU of 0.75 or more for right.

# %%
coco, coco_labels = scenes.coco(), labels_of(scenes)


def measured(find, answers=seen):
    """AP, AP50, AP75 of what find(scores, deltas, proposals, SIZE) gives for each scene, and how many it gives."""
    entries = []
    for each, (_, target) in zip(answers, data, strict=False):
        found = dict(zip(("boxes", "labels", "scores"), find(*each, SIZE), strict=True))
        entries += to_coco(found, target["image_id"], coco_labels)["bbox"]
    result = score(coco, {"bbox": entries})["bbox"]
    return [result[key] for key in ("AP", "AP50", "AP75")], len(entries) / len(answers)


(average, *_), _ = measured(lambda *each: box_head.postprocess_detections(*each, model.roi_heads.box).values())
best = torch.cat(
    [box_maths.iou(each[2], target["boxes"]).amax(1) for each, (_, target) in zip(seen, data, strict=True)]
)
print(f"box AP of the trained model: {average:.3f}")
print(f"mean IoU of the {int((best >= 0.5).sum())} proposals that hold an object: {best[best >= 0.5].mean():.3f}")

# %% [markdown]
# ## Predict
#
# 1. What is that mean IoU after the move?
# 2. What is left of the AP when nothing moves: the same scores, all deltas zero?

# %%
my_iou = None
my_ap = None

# %% [markdown]
# ## What the head learns from: proposals with labels
#
# In training every proposal needs a right answer. The rule is that of lesson 04 with one threshold: an IoU of 0.5 or more
# with some object, and the proposal is *positive*, of the class of its best object. Everything else is background, class
# 0: here nothing is ignored, and nothing is a low-quality match. And there is one trick: *the true boxes are added to the
# proposals.* You will soon see what for.

# %% exercise="label_proposals"

# %% [markdown]
# There are far more background proposals than positive ones, and one of each says much the same as the next. So the losses
# see a *sample*: a few rows drawn at random, at most a quarter of them positive.

# %%
for size, settings in {"full size": ModelSettings(), "ours": model.settings}.items():
    count = settings.box.samples
    most = int(count * settings.box.positive_fraction)
    print(f"{size}: {count} of {settings.rpn.post_nms_top_n_train} proposals, at most {most} of them positive")

# %% exercise="draw_samples"

# %%
candidates, classes, objects = label_proposals(proposals, target["boxes"], target["labels"])
torch.manual_seed(0)
drawn = draw_samples(classes, torch.randperm(len(classes)), 32)
print(f"labels by code that is {lab.whose(label_proposals)}, drawn by code that is {lab.whose(draw_samples)}")
pictures.samples(image, candidates[drawn], classes[drawn], int((drawn >= len(proposals)).sum()))

# %% [markdown]
# ### Break it: leave the true boxes out
#
# A network that is not trained knows nothing: its proposals lie anywhere. We make two untrained ones, and let each propose
# on 20 scenes, 128 boxes each. **Predict**: how many of these 128 are positive, on average? And in the trained model?

# %%
my_untrained, my_trained = None, None


# %%
def counts_of(network, added):
    """Of 20 scenes, with the true boxes `added` or not: positive ones, objects without any, drawn ones, true ones."""
    _, boxes = propose(network, [image for image, _ in data[:20]])
    sums = torch.zeros(4)
    for each, (_, target) in zip(boxes, data, strict=False):
        _, classes, objects = label_proposals(each, target["boxes"], target["labels"])
        if not added:
            classes, objects = classes[: len(each)], objects[: len(each)]
        rows = draw_samples(classes, torch.randperm(len(classes)), 32)
        rows = rows[classes[rows] > 0]
        without = len(target["boxes"]) - len(objects[objects >= 0].unique())
        sums += torch.tensor([int((classes > 0).sum()), without, len(rows), int((rows >= len(each)).sum())])
    return sums / 20


networks = {}
for seed in (0, 1):
    torch.manual_seed(seed)
    networks[f"untrained {seed}"] = mrcnn.playground_rcnn().eval()
networks["trained"] = model
print(f"a scene has {sum(len(target['boxes']) for _, target in data[:20]) / 20:.1f} objects; on average a scene has")
print(f"{'':<28}positive   objects with none   positive ones drawn   of these true boxes")
for name, network in networks.items():
    for added in (False, True):
        positive, without, drawn, true = counts_of(network, added).tolist()
        words = f"{name}, {'with' if added else 'without'} truth"
        print(f"{words:<28}{positive:8.1f}{without:20.2f}{drawn:22.1f}{true:22.1f}")
print(f"Labels by code that is {lab.whose(label_proposals)}. You said: {my_untrained} and {my_trained}")

# %% [markdown]
# Untrained and without the truth, the box head sees hardly anything but background. It would learn to say "nothing",
# which is then nearly always right, and its second regression would have next to no examples. With the truth, each object
# takes part from the first step. In the trained model the proposals cover every object themselves, and on average there are
# more positive ones than may be drawn. By then the trick changes little; it costs little, so it stays.
#
# ## The loss: one set of deltas per class
#
# The class is learnt from all samples by **cross entropy**: minus the logarithm of the probability that was given to the
# true class. A head that knows nothing gives each of our 7 classes about 1 / 7, so it begins near ln 7.
#
# The box is learnt from positive samples alone. The head gives *four deltas for each class*, and only those of the true
# class enter the loss: the person's deltas never learn from a ball. They are held against the deltas that would move the
# proposal exactly onto its object, by **smooth L1**: an error below β = 1 / 9 counts by its square, a larger one by its
# size, so that one very bad box does not drown the others.
#
# One detail is easily lost: the deltas are multiplied by the weights 10, 10, 5, 5. Why these? Look at how large the wanted
# deltas are:

# %%
wanted = []
for (_, _, each), (_, target) in zip(seen, data, strict=True):
    ious, objects = box_maths.iou(each, target["boxes"]).max(1)
    holds = ious >= 0.5
    wanted.append(box_maths.encode(target["boxes"][objects[holds]], each[holds], (1.0, 1.0, 1.0, 1.0)))
wanted = torch.cat(wanted)
print("spread of dx, dy, dw, dh:", [round(value, 2) for value in wanted.std(0).tolist()])
print("times the weights:       ", [round(value, 2) for value in (wanted.std(0) * torch.tensor(WEIGHTS)).tolist()])

# %% [markdown]
# Times the weights all four have a spread of about 1: none of them drowns in the others. Now write the loss. It is divided
# by the number of *all* samples, so every positive one counts the same, in a scene with two of them or with eight.

# %% exercise="box_loss"

# %%
(scores, deltas, proposals), (image, target) = seen[SCENE], data[SCENE]
_, classes, objects = label_proposals(proposals, target["boxes"], target["labels"])
classes, objects = classes[: len(proposals)], objects[: len(proposals)].clamp(min=0)  # the true boxes were not scored
wanted = box_maths.encode(target["boxes"][objects], proposals, WEIGHTS)
right = scores[torch.arange(len(classes)), classes]  # the probability of the true class
untrained = networks["untrained 0"]
guesses = ask(*propose(untrained, [image]), untrained)[0][0]  # none of its proposals was positive
print(f"class loss, untrained: {-guesses[:, 0].log().mean():.3f}; ln 7 is {math.log(7):.3f}")
print(
    f"one scene, {int((classes > 0).sum())} positive of {len(classes)}; box loss by code that is {lab.whose(box_loss)}:"
)
# F.cross_entropy wants logits. The logarithms of the scores will do: their softmax is the scores.
print(
    f"class loss, trained: {-right.log().mean():.3f}; by F.cross_entropy {F.cross_entropy(scores.log(), classes):.3f}"
)
print(
    f"box loss, trained: {box_loss(deltas, classes, wanted):.3f}; without a move {box_loss(0 * deltas, classes, wanted):.3f}"
)

# %% [markdown]
# ## From scores to detections
#
# Now the way out. From scores (P, C) and deltas (P, C, 4) of a picture to a short list:
#
# 1. every pair of proposal and class, background aside, with a score **above** 0.05;
# 2. its box: the proposal, moved by *that class's* deltas, clipped to the picture; no side below 0.01 pixels;
# 3. NMS for each class on its own, at an IoU of 0.5;
# 4. the 100 best.
#
# So a proposal may give two detections, a ball and a ring; and several proposals of one object should give one.

# %% exercise="detections"

# %%
same = True
for each in seen:
    ours, theirs = detections(*each, SIZE), box_head.postprocess_detections(*each, SIZE, model.roi_heads.box)
    same &= all(torch.equal(a, theirs[key]) for a, key in zip(ours, ("boxes", "labels", "scores"), strict=True))
print(f"{len(seen)} scenes: equal to mrcnn.box_head, {same} (code: {lab.whose(detections)})")

# %% [markdown]
# ### Take each step away
#
# With the network's answers kept, a change costs only its own time. **Predict**: which of these costs the most AP, and
# which costs none?
#
# no threshold · a threshold of 0.5 · small boxes stay · no NMS · one NMS for all classes · only the best 5

# %%
worth_most, worth_none = "", ""


# %%
def table(ways):
    print("                             AP     at .5   at .75   found per scene")
    for name, find in ways.items():
        values, found = measured(find)
        print(f"{name:<24} {'  '.join(f'{value:6.3f}' for value in values)} {found:12.1f}")


def one_nms(*each):
    boxes, labels, scores = detections(*each, nms_iou=1.0, most=10_000)
    keep = ops.nms(boxes, scores, 0.5)[:100]
    return boxes[keep], labels[keep], scores[keep]


print(f"Detections by code that is {lab.whose(detections)}. You said: most {worth_most!r}, none {worth_none!r}")
table(
    {
        "as it is": detections,
        "no threshold": lambda *each: detections(*each, min_score=0.0),
        "a threshold of 0.5": lambda *each: detections(*each, min_score=0.5),
        "small boxes stay": lambda *each: detections(*each, min_size=0.0),
        "no NMS": lambda *each: detections(*each, nms_iou=1.0),
        "one NMS for all classes": one_nms,
        "only the best 5": lambda *each: detections(*each, most=5),
    }
)


# %% [markdown]
# - **NMS** is worth the most by far. Without it the same object is found again and again, and all but one count as wrong.
# - **The threshold** is worth nothing in AP; without it AP is even a little better. AP asks in which *order* right and wrong
#   answers come, and the wrong ones with low scores come last. How long the list is, it does not ask. The threshold spares work:
#   the heads that come after look into every box that is left. A threshold of 0.5 loses objects for good.
# - **NMS per class** is worth nothing here: one NMS for all strikes out a few boxes more, and AP stays. Two things of
#   different classes seldom share a box on the playground. Lesson 06 has a cup on a table.
# - **Small boxes**: there are none.
# - **The best 100** are far more than a scene holds. Only 5 are too few for some.
#
# ### Break it: the wrong deltas
#
# Two mistakes that are easily made, since every shape fits: the deltas of another class, and the weights forgotten.
# **Predict**: which is worse, moving a box by the *person's* deltas whatever it is, or not moving it at all?

# %%
my_worse = ""


# %%
def not_moved(scores, deltas, *rest):
    return detections(scores, torch.zeros_like(deltas), *rest)


def by_person(scores, deltas, *rest):
    return detections(scores, deltas[:, 1:2].expand_as(deltas), *rest)


def by_mean(scores, deltas, *rest):
    return detections(scores, deltas[:, 1:].mean(1, keepdim=True).expand_as(deltas), *rest)


def without_weights(scores, deltas, *rest):
    return detections(scores, deltas * torch.tensor(WEIGHTS), *rest)  # which `detections` divides by them again


print(f"Detections by code that is {lab.whose(detections)}. You said: {my_worse!r}")
table(
    {
        "own class's deltas": detections,
        "person's for all": by_person,
        "mean of the six classes'": by_mean,
        "weights forgotten": without_weights,
        "not moved": not_moved,
    }
)

# %% [markdown]
# Forgotten weights ruin all. But the person's deltas are worse than none, too, and look at the column "at .5": it does not
# see them. Whoever tests a box head by AP at .5 alone may carry such a fault for a long time.
#
# ## What was the second regression worth?
#
# The last row above is the answer in AP: hold it against your guess. Now in IoU. For that, a proposal must keep its object,
# the one that it covers best: one that moves from a ball onto the ring beside it has not become better.

# %% exercise="before_and_after"

# %%
pairs = [
    before_and_after(proposals, move(scores, deltas, proposals), target["boxes"])
    for (scores, deltas, proposals), (_, target) in zip(seen, data, strict=True)
]
before, after = (torch.cat(each) for each in zip(*pairs, strict=True))
print(f"IoU by code that is {lab.whose(before_and_after)}. You said: an IoU of {my_iou}, an AP of {my_ap}")
print("before        proposals   mean before   after   worse than before")
for low, high in ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01), (0.5, 1.01)):
    these = (before >= low) & (before < high)
    worse = 100 * (after < before)[these].float().mean()
    print(
        f"{low} to {min(high, 1.0):.1f}{these.sum():14}{before[these].mean():14.3f}{after[these].mean():8.3f}{worse:18.0f} %"
    )
pictures.scatter(before, after)

# %% [markdown]
# Nearly all gain, and the worst gain most: wherever they begin, they end close together. Those that were good already gain
# little, and some of them lose.
#
# A doubt is left. Without the move more boxes were found per scene. Perhaps AP fell through doubles that NMS no longer
# recognised, not through the boxes' places? So let NMS see the moved boxes, but give out the proposals:


# %%
def moved_for_nms(scores, deltas, proposals, size):
    _, labels, sure = detections(scores, deltas, proposals, size)
    # Which proposal became a detection? The one that has its score.
    rows = [int((scores[:, label] == each).nonzero()[0, 0]) for label, each in zip(labels, sure, strict=True)]
    return proposals[rows], labels, sure


print(f"Detections by code that is {lab.whose(detections)}.")
table({"not moved": not_moved, "moved for NMS alone": moved_for_nms, "moved": detections})

# %% [markdown]
# The doubles are gone, and AP is as low as before: it is the places.
#
# ### Once more?
#
# If a second move helps so much, why not a third? Read the features under the moved boxes, and let the same head move them
# again. **Predict**: the mean IoU after it, and AP.

# %%
my_third_iou, my_third_ap = None, None

# %%
again = []
for group, (features, _) in enumerate(proposed):
    again += ask(features, [move(*each) for each in seen[8 * group : 8 * group + 8]])
third = [
    before_and_after(each[2], move(*moved_once), target["boxes"])[1]
    for each, moved_once, (_, target) in zip(seen, again, data, strict=True)
]
print(f"mean IoU: {before.mean():.3f}, {after.mean():.3f}, {torch.cat(third).mean():.3f}. You said: {my_third_iou}")
values, _ = measured(detections, again)
print(f"AP after it: {values[0]:.3f}, at .75 {values[2]:.3f} (code: {lab.whose(detections)}). You said: {my_third_ap}")

# %% [markdown]
# A little IoU, and no AP. This head has learnt mostly from the first stage's proposals, not from boxes as good as these. Cascade
# R-CNN (Cai and Vasconcelos, 2018) does gain: there each move has a head of its own, trained on the boxes that it will meet.
#
# ## Is a score of 0.8 right eight times of ten?
#
# If so, for every score, the scores are **calibrated**. Put them into bins, and hold each bin's mean score against the
# share that was right.

# %% exercise="reliability"

# %% [markdown]
# Right about what? We ask twice. A *proposal's* score for a class is right if that is its class, by the rule of the
# training. A *detection* is right if it has an object of its class, by an IoU of 0.5 or more, that no surer one has taken.
# **Predict**: which of the two is calibrated? We draw a **reliability diagram**, with the count at each point. The dashed
# line is where scores keep their promise. A bar is one standard error: by so much a share of so few is easily off by chance.
# An empty bin leaves a gap.

# %%
my_calibrated = ""  # "proposals", "detections", "both" or "neither"


# %%
def is_right(boxes, labels, target, iou=0.5):
    """Bool (K,): of detections, the surest first, those with an object that no surer one has taken."""
    ious = box_maths.iou(boxes, target["boxes"]) * (labels[:, None] == target["labels"])
    right = torch.zeros(len(boxes), dtype=torch.bool)
    for row in range(len(boxes)):
        best, place = ious[row].max(0)
        if best >= iou:
            right[row], ious[:, place] = True, 0.0
    return right


first, second = [], []  # per scene: scores, and what is right
found = [detections(*each, SIZE) for each in seen]
for (scores, _, proposals), (boxes, labels_found, sure), (_, target) in zip(seen, found, data, strict=True):
    _, classes, _ = label_proposals(proposals, target["boxes"], target["labels"])
    right = classes[: len(proposals), None] == torch.arange(1, 7)  # (P, 6)
    first.append((scores[:, 1:].flatten(), right.flatten()))
    second.append((sure, is_right(boxes, labels_found, target)))
judged = {"proposals": first, "detections": second}
judged = {name: tuple(torch.cat(each) for each in zip(*parts, strict=True)) for name, parts in judged.items()}
print(f"Bins by code that is {lab.whose(reliability)}. You said: {my_calibrated!r}")
pictures.diagrams({name: reliability(*each, 10) for name, each in judged.items()})

# %%
for name, (sure, right) in judged.items():
    middle = (sure > 0.05) & (sure < 0.9)
    told = f"mean score {sure[middle].mean():.2f}, right {right[middle].float().mean():.2f}"
    print(f"{name} with a score from 0.05 to 0.9: {int(middle.sum()):4}, {told}")

# %% [markdown]
# The proposals' scores are honest: where they say 0.8, about eight of ten are right. The detections' are not. Above 0.9 all
# is well; below they promise too much, though few are left there, and the bars are long. Yet they are the *same* scores.
# What has changed is the question: a proposal may be right beside ten others, a detection of a taken object is wrong. So let
# us count such doubles as right for once.

# %%
sure, right = judged["detections"]
holds = []
for (boxes, labels_found, _), (_, target) in zip(found, data, strict=True):
    ious = box_maths.iou(boxes, target["boxes"]) * (labels_found[:, None] == target["labels"])
    holds.append(ious.amax(1) >= 0.5)  # whether taken or not
holds, middle = torch.cat(holds), sure < 0.9
error = math.sqrt(float(holds[middle].float().var()) / int(middle.sum()))
print(f"below 0.9: {int(middle.sum())} detections, {int(right[middle].sum())} right, ", end="")
print(
    f"{int((holds & ~right)[middle].sum())} doubles; right or double {holds[middle].float().mean():.2f} ± {error:.2f}"
)

# %% [markdown]
# That is the mean score, within the error: the gap was doubles. A score answers "what is in this proposal?". "Is this the
# only box of its object?" is another question, and the softmax has never been asked.
#
# And what does a high score promise of the box's *place*?

# %%
for iou in (0.5, 0.75, 0.9):
    right = torch.cat([is_right(*each[:2], target, iou) for each, (_, target) in zip(found, data, strict=True)])
    print(
        f"scores above 0.9, right by an IoU of {iou}: {right[sure > 0.9].float().mean():.2f} of {int((sure > 0.9).sum())}"
    )

# %% [markdown]
# It is the score of a class. In training the border was an IoU of 0.5, and how far above it a box lies did not count.
#
# ## Now find it in the real file
#
# `label_and_sample` is your first two exercises. Lesson 04's matching, with 0.5 for both thresholds, is the rule:

# %%
lab.show(sampling.label_and_sample, "proposals = torch.cat", "objects = objects[rows]")
lab.show(box_head.box_losses, "labels = torch.cat", "}")
lab.show(box_head.postprocess_detections, "rows, labels =")

# %% [markdown]
# In training the heads learn from the sampled proposals; in use the mask and keypoint heads look into the *final* boxes.
# Find both in `RoIHeads`:

# %%
lab.show(roi_heads.RoIHeads.train_step, "limits = ", "losses = ")
lab.show(roi_heads.RoIHeads.detect, "results = ", "logits = self.predict(name")

# %% [markdown]
# ## Questions
#
# ### 1. A product's threshold
#
# You ship a detector, and show what scores above 0.5. What does AP say about that choice?
#
# <details><summary>Answer</summary>
#
# Nothing good: AP falls with every object that is cut off, and never rewards you for the rubbish that is gone. What you
# want to know is precision and recall *at* your threshold, on your own pictures. AP compares models over all thresholds.
#
# </details>
#
# ### 2. One set of deltas for all classes
#
# Many later detectors learn a single set. What would you have to change in `box_loss`, and why do the rows "person's for
# all" and "mean of the six" *not* tell what that would cost?
#
# <details><summary>Answer</summary>
#
# `deltas` would be (S, 4), and `own = deltas[rows]`. The two rows use sets that were each trained for one class. A single
# set would be trained on all of them, and so would serve all of them. To know, train it.
#
# </details>
#
# ## What we left out, and where to read on
#
# - **The layers.** Two fully connected ones of 256 here, 1,024 at full size (`TwoLayerHead`): nothing new in them.
# - **Calibration after training.** A single number that divides the logits goes a long way (Guo et al., 2017).
# - **Scores that know the place.** IoU-Net (Jiang et al., 2018) predicts each box's IoU, and lets NMS sort by it.
# - **The papers.** *Fast R-CNN* (Girshick, 2015), sections 2.1 to 2.3, and *Cascade R-CNN* (Cai and Vasconcelos, 2018).
# - **Next.** The mask head looks into the boxes that you have now.
