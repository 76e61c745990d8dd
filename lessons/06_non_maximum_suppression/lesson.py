# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Non-maximum suppression (NMS)
#
# Of many boxes on one object, keep the best: a rule of four lines, and what it costs to get its fine print wrong.
#
# **You will** write it as a Python loop, in PyTorch, and for many classes at once.
#
# **Time** about 55 minutes. **Know first** IoU, intersection over union (lesson 00).
#
# **Files** `mrcnn/ops/suppression.py`, `mrcnn/ops/reference.py`. The same in C++ and CUDA is lesson 06k.

# %%
import exercises
import pictures
import torch

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import lab, ops
from mrcnn.data import Playground
from mrcnn.engine.evaluate import evaluate
from mrcnn.lab import check
from mrcnn.lab.cases import crowd, falling, overlap
from mrcnn.lab.walk import changed

# %matplotlib inline

# %% [markdown]
# ## A picture first
#
# A detector looks at every place many times, so it finds every object many times. Here is one scene, seen by the
# small trained model. On the left is all that its box head is sure of (a score above 0.5), with suppression switched
# off. On the right is what suppression leaves.

# %% tags=["cover"]
model = mrcnn.playground_rcnn(pretrained=True)
image, _ = Playground(40, seed=3)[6]

with torch.no_grad():
    after = model([image])[0]
    with changed(model.roi_heads, "box", nms_iou=1.0, detections=1000):
        before = model([image])[0]

before, after = (found["boxes"][found["scores"] > 0.5] for found in (before, after))
pictures.before_and_after(image, before, after)

# %% [markdown]
# The rule that makes the right picture out of the left one is called **non-maximum suppression**, NMS for short:
#
# 1. Go down the boxes by score, the best first.
# 2. Keep a box, unless a box **that was kept** overlaps it: their IoU is greater than a threshold.
#
# ## Predict
#
# Five boxes with their scores. The threshold is 0.5: about two thirds of each box must be common for that, if both
# are of one size. Who survives? Write the letters into `guess` before you go on.

# %%
five = torch.tensor([[10.0, 20, 50, 60], [20, 22, 60, 62], [30, 20, 70, 60], [14, 38, 30, 56], [34, 26, 74, 66]])
five_scores = torch.tensor([0.95, 0.90, 0.80, 0.70, 0.60])
pictures.named_boxes(five, five_scores, "ABCDE")

# %%
guess = ""  # for example "ABE"

# %%
kept = ops.nms(five, five_scores, 0.5).tolist()
answer = "".join("ABCDE"[row] for row in kept)
print(f"kept: {answer}.", f"Your guess: {guess}." if guess else "You have not guessed yet.")
pictures.named_boxes(five, five_scores, "ABCDE", kept)

# %% [markdown]
# Two of them surprise many people.
#
# - **D** lies wholly inside A, and both stay. The union is large, so the IoU is small. NMS does not ask whether a box
#   is covered, but whether two boxes are *the same*.
# - **C** overlaps B by more than the threshold, and B is better. But A dropped B first, and a dropped box drops
#   nobody.
#
# The table of all pairs shows what there is to know. Only pairs above the diagonal matter: there the row is the
# better box. And a row only counts when its own box was kept.

# %%
pictures.overlap_table(box_maths.iou(five, five), 0.5, "ABCDE", kept)

# %% [markdown]
# Here are the five once more, to be touched. Which one box can you move so that A and D alone are left? With which threshold do all
# five stay, and with which is A alone?

# %%
lab.nms_dragger(five, five_scores, (80, 90), title="Five boxes, and who suppresses whom")

# %% [markdown]
# ## Rung 1: a Python loop
#
# `overlap(a, b)` gives the IoU of two boxes in plain numbers. Of boxes with equal scores the lower row comes first.
# (Python's `sorted` leaves equal ones in their old order.)

# %%
lab.show(overlap)

# %% exercise="greedy"

# %% [markdown]
# ## Rung 2: PyTorch
#
# A Python loop looks at one pair at a time. PyTorch can look at all pairs at once: the table of IoUs, compared with
# the threshold. From here on the boxes come **sorted**, the best first, so "better" is simply "the lower row".
#
# NMS falls into two parts, and they will stay with us to the end:
#
# - **compare**: which box overlaps which later one? A table of yes and no;
# - **scan**: go down the rows of that table.

# %% exercise="overlap_matrix"

# %% [markdown]
# Now the scan. It must remember one thing: which boxes are dropped so far.

# %% exercise="scan_rows"

# %% [markdown]
# The two parts with a sort before them are NMS. `mrcnn.ops.nms` should agree.


# %%
def nms_by_rows(boxes, scores, threshold):
    order = scores.sort(descending=True, stable=True).indices
    return order[scan_rows(overlap_matrix(boxes[order], threshold))]


boxes = crowd(500)
scores = torch.rand(500, generator=torch.Generator().manual_seed(0))
same = torch.equal(nms_by_rows(boxes, scores, 0.5), ops.nms(boxes, scores, 0.5))
whose = f"overlap_matrix {lab.whose(overlap_matrix)}, scan_rows {lab.whose(scan_rows)}"
print(f"rung 2 equals mrcnn.ops.nms: {same} ({whose})")

# %% [markdown]
# ## Break it: why the scan is the hard part
#
# **Compare** is N² questions that do not depend on each other: as many threads as you like can work on it. **Scan**
# is a chain. Here are nine boxes in a row, the best on the left. Each has an IoU above the threshold, 0.4, with the
# next one (an arrow) and with no other.
#
# **Predict** Who survives? And who would, if every box asked on its own: "does any better box overlap me?"

# %%
n = 9
links = torch.tensor([[8.0 * i, 0, 8.0 * i + 20, 10] for i in range(n)])
rule = ops.nms(links, falling(links), 0.4).tolist()
alone = (~overlap_matrix(links, 0.4).any(0)).nonzero()[:, 0].tolist()
pictures.chain(links.cpu(), {"NMS": rule, "any better box": alone})

# %% [markdown]
# Box 8 lives because box 7 died, because box 6 lived, ... back to box 0. Its fate cannot be known before all the others'. If
# each box asks on its own, only box 0 is left: "everything that a better box overlaps dies" is the wrong rule. What that means
# for a thousand threads that would all like to work at once is lesson 06k.
#
# ## What the threshold costs
#
# A threshold is a guess. High, and duplicates stay; low, and people in a crowd vanish. **Predict**: at which threshold does
# the small model do best, in box AP over 20 scenes? (AP, average precision, is between 0 and 1; lesson 13 works it
# out.)

# %%
my_threshold = None

# %%
scenes = Playground(20, seed=77)
for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
    with changed(model.roi_heads, "box", nms_iou=threshold):
        found = evaluate(model, scenes, workers=0)["bbox"]
    print(f"threshold {threshold}: box AP {found['AP']:.3f}")
print(f"You said: {my_threshold}")

# %% [markdown]
# From 0.3 to 0.7 it hardly matters in these scenes; at both ends it costs.
#
# ## Break it: the threshold and the ties
#
# **Predict** Box 1 is the left half of box 0, so their IoU is exactly 0.5. Is it dropped at a threshold of 0.5? At
# 0.49? And two boxes that are *the same*, at a threshold of 1?

# %%
halves = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]])
same = torch.tensor([[0.0, 0, 2, 1], [0, 0, 2, 1]])
two = torch.tensor([0.9, 0.8])
print("halves at 0.50:", ops.nms(halves, two, 0.50).tolist(), "  at 0.49:", ops.nms(halves, two, 0.49).tolist())
print("same   at 1.00:", ops.nms(same, two, 1.0).tolist(), "  at 0.99:", ops.nms(same, two, 0.99).tolist())

# %% [markdown]
# Reaching the threshold is not passing it: the comparison is `>`. With `>=` a threshold of 1 would still drop, and so
# there would be no way to switch suppression off, as we did for the first picture (`nms_iou=1.0`).
#
# "Exactly" is a brittle word in floating point. Here the IoU is 3 / 10. In float32 that is a little more than 0.3, so
# box 1 is dropped, though 3 / 10 is not greater than 3 / 10:

# %%
thirds = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
print(f"IoU in float32: {box_maths.iou(thirds, thirds)[0, 1].item():.10f}")
print("kept at a threshold of 0.3:", ops.nms(thirds, two, 0.3).tolist())

# %% [markdown]
# **Ties.** Two boxes have the same score, and overlap. One must go; which? Whatever the answer, it must be the *same*
# answer every time, or a test fails once a week. `mrcnn` says: the lower row wins, on every device. The word for a
# sort that keeps equal ones in their old order is *stable*, and the price of it is one argument:

# %%
lab.show(ops.reference.nms)

# %% [markdown]
# ## Many classes at once
#
# A cup on a table: two boxes, two classes, one place. They must not suppress each other. `batched_nms` takes a group
# for each box (its class; in the region proposal network its pyramid level) and compares only within groups.
#
# A well-known trick does it with plain NMS: move each group to coordinates of its own, so far away that no two groups
# touch.


# %%
def nms_by_offset(boxes, scores, groups, threshold):
    offset = groups.to(boxes) * (boxes.max() + 1)
    return ops.nms(boxes + offset[:, None], scores, threshold)


cup_and_table = torch.tensor([[20.0, 30, 40, 60], [18, 28, 42, 62]])
labels = torch.tensor([1, 2])
print("one group:     ", ops.nms(cup_and_table, two, 0.5).tolist())
print("by offset:     ", nms_by_offset(cup_and_table, two, labels, 0.5).tolist())
print("by comparison: ", ops.batched_nms(cup_and_table, two, labels, 0.5).tolist())

# %% [markdown]
# **Break it.** Two ways.
#
# First: a float32 has 24 bits for its digits. The further from zero, the wider the steps between two neighbours. Take
# a satellite picture of 20,000 pixels a side, cars of about 12 pixels, and 60 classes. **Predict**: of 10,000 pairs
# of cars that overlap somehow, how many does the trick decide wrongly if they are of class 1? Of class 60?

# %%
random = torch.Generator().manual_seed(0)
cars = torch.rand(10_000, 1, 2, generator=random) * 19_900
cars = cars + torch.rand(10_000, 2, 2, generator=random) * 6  # two cars of a pair lie close together
cars = torch.cat([cars, cars + 8 + 6 * torch.rand(10_000, 2, 2, generator=random)], dim=2)  # (10000, 2, 4)


def pair_iou(pairs):
    """IoU of the two boxes of each pair: (N, 2, 4) -> (N,)."""
    sides = (pairs[..., 2:].amin(1) - pairs[..., :2].amax(1)).clamp(min=0)
    areas = (pairs[..., 2:] - pairs[..., :2]).prod(2)
    inter = sides.prod(1)
    return inter / (areas.sum(1) - inter)


truth = pair_iou(cars.double()) > 0.5
for label in (0, 1, 10, 60):
    moved = cars + label * 20_001.0
    step = torch.tensor(label * 20_001.0 + 10_000).nextafter(torch.tensor(torch.inf)).item() - label * 20_001.0 - 10_000
    wrong = (pair_iou(moved) > 0.5) != truth
    print(f"class {label:>2}: neighbours {step:.5f} pixels apart, {wrong.sum().item():>4} of 10,000 decided wrongly")

# %% [markdown]
# Second: the trick silently assumes that no coordinate is negative. Boxes that reach over the picture's left edge, or
# coordinates with the origin in the middle, are enough. **Predict** what happens to these two, which are of different
# classes and do not even touch:

# %%
apart = torch.tensor([[0.0, 0, 10, 10], [-11, -11, -1, -1]])
classes = torch.tensor([0, 1])
print("by offset:    ", nms_by_offset(apart, two, classes, 0.5).tolist())
print("by comparison:", ops.batched_nms(apart, two, classes, 0.5).tolist())
try:
    import torchvision

    print("torchvision:  ", torchvision.ops.batched_nms(apart, two, classes, 0.5).tolist())
except ImportError:
    pass

# %% [markdown]
# Class 1 is moved by 11, right onto class 0. The honest way costs one comparison of whole numbers: two boxes count only if
# they are of one class. `overlap_matrix` and `scan_rows` are all that you need besides.

# %% exercise="nms_per_class"

# %%
print("yours or the lesson's:", lab.whose(nms_per_class))
print("by comparison:", nms_per_class(apart, classes, 0.5).tolist())

# %% [markdown]
# ## How fast is it
#
# Arithmetic first, for N = 1,000 boxes. There are N (N − 1) / 2 pairs, about half a million. An IoU is about 15 operations.
#
# - Python: say 50 nanoseconds for an operation of the interpreter, and some twenty of them for an IoU: a microsecond a pair.
#   But dropped boxes are never asked, and the loop for a box ends with the first that drops it.
# - PyTorch: all pairs, both halves of the table, in several passes over N² numbers; then N small steps.
# - C++: say a nanosecond or two a pair, and only for pairs that are asked for.
#
# **Predict** the ratios, then run.

# %%
many = crowd(1000)
many_scores = falling(many)  # already sorted, so that we do not time the sort
as_lists = many.tolist(), many_scores.tolist()
ways = {
    f"Python, {lab.whose(greedy)}": lambda: greedy(*as_lists, 0.5),
    f"PyTorch, {lab.whose(scan_rows)}": lambda: nms_by_rows(many, many_scores, 0.5),
    "mrcnn.ops, the library's": lambda: ops.nms(many, many_scores, 0.5),
}
try:
    import torchvision

    ways["torchvision's"] = lambda: torchvision.ops.nms(many, many_scores.float(), 0.5)
except ImportError:
    pass
milliseconds = lab.timed(ways)

# %% [markdown]
# ## Extra: softly
#
# Two people dance, and NMS drops one of them: their boxes are too alike. Soft-NMS (Bodla et al., 2017) drops nobody.
# It lowers the score of a box that overlaps a better one instead: times exp(−IoU² / σ), which is 1 where they do not
# overlap, and small where they overlap much. N times:
#
# 1. of the boxes in play, the one with the best score (as it is by now) goes out of play;
# 2. the scores of all that are still in play are lowered, by their IoU with that one.

# %% exercise="soft_nms"

# %%
print(f"A to E ({lab.whose(soft_nms)}):", [round(score, 2) for score in soft_nms(five, five_scores, 0.5).tolist()])

# %% [markdown]
# ## What we left out, and where to read on
#
# - **Sorting.** It is done by `torch.sort`, stable; on a GPU a large part of NMS's time for few boxes.
# - **By masks.** Two sticks that cross have nearly the same box, and hardly a pixel in common. IoU can be taken of masks.
# - **Doing without.** Detectors that compare their own answers with attention (DETR: Carion et al., 2020) need no NMS.
#
# **Read on** `mrcnn/ops/suppression.py`. Lesson 06k: the same for a thousand threads. Lesson 07: from the boxes that are left,
# back to the features.
