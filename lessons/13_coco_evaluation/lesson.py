# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # COCO evaluation
#
# How AP makes one number of all that a detector found, worked out by hand until it equals pycocotools to the last digit, and
# what that number does not see.
#
# **You will** match detections with objects, draw a precision-recall curve, read it at 101 points, and compute AP for boxes,
# masks and poses.
#
# **Time** about 60 minutes. **Know first** IoU and scores (lesson 00), COCO's records and crowds (01), OKS (10).
#
# **Files** `mrcnn/engine/evaluate.py`, which calls pycocotools.

# %%
import exercises
import numpy as np
import pictures
import torch
from exercises import POINTS, TINY
from pycocotools import mask as rle
from pycocotools.cocoeval import COCOeval

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import lab
from mrcnn.data import Playground
from mrcnn.engine import evaluate
from mrcnn.lab import check
from mrcnn.lab.views.curves import Panel, curves

torch.set_grad_enabled(False)  # nothing is trained
scenes = Playground(40, seed=77)

# %% [markdown]
# ## A picture first
#
# Three pictures with five people, dashed. Somebody's detector has found eight, solid, numbered from the best score down. We
# made this detector up, so that the sums are small: each of its boxes is a true one, slid sideways until the IoU is as
# wanted, or lies on another thing.

# %%
images, targets = zip(*(scenes[i] for i in (5, 24, 25)), strict=True)
people = [target["boxes"][target["labels"] == 1].double() for target in targets]


def slid(box, iou, way=1):
    """The box, slid to the right (way 1) or left (-1), until its IoU with where it was is this."""
    step = way * (box[2] - box[0]) * (1 - iou) / (1 + iou)
    return box + torch.stack([step, 0 * step, step, 0 * step])


ball, star = (targets[i]["boxes"][targets[i]["labels"] != 1][0].double() for i in (1, 2))
detector = [  # picture, box, score
    (0, slid(people[0][0], 0.80), 0.95),
    (1, ball, 0.90),
    (0, slid(people[0][0], 0.62, -1), 0.80),
    (2, slid(people[2][0], 0.60), 0.70),
    (2, slid(people[2][1], 0.90, -1), 0.60),
    (1, slid(people[1][0], 0.45, -1), 0.40),
    (0, slid(people[0][1], 0.85, -1), 0.30),
    (2, star, 0.10),
]
pictures.ranked(images, people, detector)

# %% [markdown]
# ## Predict
#
# A detection is right if its IoU with an object reaches a threshold, here 0.5. Three questions:
#
# - 1 and 3 are both good boxes of the same person. Is 3 right, false, or not counted?
# - 6 has an IoU of 0.45 with the person in Y. What if nobody else found that person?
# - How good is this detector at that threshold, between 0 and 1?

# %%
my_right = []  # the ranks that are right, such as [1, 2]
my_ap50 = None

# %% [markdown]
# ## Build it: match
#
# In each picture, and for each class on its own, the detections go by score, the best first. Each takes, of the objects that
# are still free, the one with the largest IoU, if that reaches the threshold. (In NMS the IoU had to *pass* the threshold.)

# %% exercise="match"

# %% [markdown]
# A detection with an object is a **hit**. One without is a **false positive**, a false alarm; and so is a second box on the same
# person. Which are hits in our pictures?

# %%
ranks = [[rank for rank, (picture, *_) in enumerate(detector) if picture == p] for p in range(3)]
tables = []  # per picture: scores (D,) and IoUs (D, G), as all exercises have them
hits = torch.zeros(len(detector), dtype=torch.bool)
for mine, truth in zip(ranks, people, strict=True):
    boxes = torch.stack([detector[rank][1] for rank in mine])
    tables.append((torch.tensor([detector[rank][2] for rank in mine]).double(), box_maths.iou(boxes, truth)))
    hits[mine] = torch.tensor(match(tables[-1][1], 0.5)) >= 0
print(
    f"right, by code that is {lab.whose(match)}: {[i + 1 for i, hit in enumerate(hits) if hit]}. You said: {my_right}"
)

# %% [markdown]
# ## Precision and recall
#
# Nobody told us from which score on to believe the detector. So ask at every cut. Keep the first detection alone, the first
# two, the first three, … and each time measure two things:
#
# - **precision**, the share of the detections kept that are right;
# - recall, the share of the objects that are found.

# %% exercise="precision_and_recall"

# %% tags=["cover"]
precision, recall = precision_and_recall(hits, 5)
print(f"precision by code that is {lab.whose(precision_and_recall)}:", [round(p, 2) for p in precision.tolist()])
print(f"recall: {[round(r, 2) for r in recall.tolist()]}")
read = exercises.read_at(precision, recall, POINTS)
pictures.ranked(images, people, detector, hits.tolist(), (precision, recall, hits.tolist(), (POINTS, read)))

# %% [markdown]
# On the right is the **precision-recall curve**: grey, with a green dot for a hit and a cross for a false positive. A hit
# goes right, and up if there is room; a false positive goes straight down. A perfect detector stays at the top until the
# right edge.
# One person, in Y, is never found, so the curve ends at 0.8.
#
# ## One number
#
# AP, average precision, is the area under that curve, but for two choices.
#
# - The curve is a saw. Rank 5 finds more than rank 4 *and* is more precise, so nobody would stop at 4. So at each recall
#   one counts the best precision that can be had with *at least* that recall: the blue dots.
# - The area is the mean of 101 readings, at a recall of 0, 0.01, …, 1.
#
# Work the number out before you go on: how many of the 101 blue dots are at each height?

# %% exercise="read_at"

# %%
read = read_at(precision, recall, POINTS)
heights, counts = read.unique(return_counts=True)
for height, count in zip(heights.flip(0).tolist(), counts.flip(0).tolist(), strict=True):
    print(f"{count:3} points at {height:.3f}")
print(f"AP at 0.5: {read.mean():.4f}, by code that is {lab.whose(read_at)}. You said: {my_ap50}")

# %% [markdown]
# ### Break it: the point that is not reached
#
# 20 people. A detector finds 7 of them, all right, and then nothing. So precision is 1 up to a recall of 7 / 20 = 0.35, which
# should be 36 points: 0, 0.01, …, 0.35. **Predict** AP times 101.

# %%
my_points = None

# %%
seven = precision_and_recall(torch.ones(7, dtype=torch.bool), 20)
print(f"AP times 101: {101 * read_at(*seven, POINTS).mean():.2f}. You said: {my_points}")
print(f"7 / 20 is {7 / 20!r}; the point is {POINTS[35].item()!r}")
print(f"with points made as i / 100: {101 * read_at(*seven, torch.arange(101).double() / 100).mean():.2f}")

# %% [markdown]
# 35, not 36: in binary, 35 · 0.01 comes out a hair above 7 / 20, so the point is not reached. It is worth 1/101 of AP at
# this threshold. Code that makes the same points in another way gets another AP. That is why we compare all 16 digits.
#
# ## All pictures at once
#
# We had one list over all three pictures. That is the rule: AP is *not* the mean over pictures. All detections of a class,
# from everywhere, compete in one list. So each score must mean the same in every picture.

# %% exercise="class_precisions"

# %% [markdown]
# ## Ten thresholds, all classes
#
# Reaching an IoU of 0.5 is easy. **Predict**: a box is 20 pixels wide. How far may it slide sideways and still reach 0.5? And
# 0.95?

# %%
my_slides = None, None

# %%
thresholds = np.linspace(0.5, 0.95, 10)
for t in (0.5, 0.75, 0.95):
    print(f"IoU {t:.2f}: {20 * (1 - t) / (1 + t):.2f} pixels")
print(f"You said: {my_slides}")

# %% [markdown]
# Slid by s, a box of width w shares w − s with where it was, and both together are w + s wide. So IoU is (w − s) / (w + s),
# and the cell has this solved for s. At the highest threshold half a pixel is all there is.
#
# COCO's AP is the mean over ten thresholds: 0.5, 0.55, …, 0.95. So a table of precisions, threshold × point × class, is
# averaged. What if a class has no object at all in these pictures? Then there is no recall, and its entries are −1: "not
# measured".

# %% exercise="average"

# %% [markdown]
# Now the library, which calls pycocotools. It wants COCO's records: a truth, and a list of what was found, with boxes as
# [x, y, width, height].


# %%
def record(picture, box, **more):
    x1, y1, x2, y2 = box.tolist()
    return {"image_id": picture, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], **more}


pairs = [(p, box) for p, boxes in enumerate(people) for box in boxes]
toy_truth = {
    "images": [{"id": p} for p in range(3)],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [
        record(p, box, id=i, area=float((box[2:] - box[:2]).prod()), iscrowd=0) for i, (p, box) in enumerate(pairs, 1)
    ],
}
toy_found = [record(picture, box, score=score) for picture, box, score in detector]
theirs = evaluate.score(toy_truth, {"bbox": toy_found})["bbox"]

toy_table = torch.stack([class_precisions(tables, t, POINTS) for t in thresholds])[:, :, None]  # one class
for name, table in (("AP50", toy_table[:1]), ("AP75", toy_table[5:6]), ("AP", toy_table)):
    ours = float(average(table))
    print(
        f"{name:<5} by hand {ours!r:<20} pycocotools {theirs[name]!r:<20} {'equal' if ours == theirs[name] else 'NOT'}"
    )
print(f"class_precisions {lab.whose(class_precisions)}, average {lab.whose(average)}")

# %% [markdown]
# To the last digit. (If yours says NOT, and only the last digits differ: sums of the same numbers in another order round
# otherwise. pycocotools takes the mean with numpy, and torch adds in an order of its own.)
#
# ## A real model: boxes, masks, poses
#
# The same on 40 scenes and what the small trained model found in them. For masks only the IoU changes; for poses OKS takes
# its place (lesson 10), here of every detection with every person. The rest is what you have.

# %% exercise="mask_iou"

# %% [markdown]
# The next cell only brings COCO's records into the form of your exercises. Skim it.


# %%
def box_iou(found, truth):
    boxes = [torch.tensor([each["bbox"] for each in some]).double().view(-1, 4) for some in (found, truth)]
    return box_maths.iou(*(torch.cat([each[:, :2], each[:, :2] + each[:, 2:]], 1) for each in boxes))


def segments_iou(found, truth):
    """Run lengths are made masks again."""
    masks = [[torch.from_numpy(rle.decode(each["segmentation"])).bool() for each in some] for some in (found, truth)]
    return mask_iou(*(torch.stack(each) if each else torch.zeros(0, 128, 128).bool() for each in masks))


def pose_oks(found, truth):
    sigmas = torch.from_numpy(COCOeval(iouType="keypoints").params.kpt_oks_sigmas)
    ours, real = (
        torch.tensor([each["keypoints"] for each in some]).double().view(-1, 17, 3) for some in (found, truth)
    )
    squared = (ours[:, None, :, :2] - real[None, :, :, :2]).square().sum(-1)  # (D, G, 17)
    areas = torch.tensor([each["area"] for each in truth]).double()
    alike, counts = torch.exp(-squared / (2 * areas[:, None] * (2 * sigmas) ** 2)), real[..., 2] > 0
    return (alike * counts).sum(-1) / counts.sum(-1)


def by_class(truth, found, alike):
    """Per class, per picture: scores (D,), falling, and the likeness of each detection to each object (D, G)."""
    found = sorted(found, key=lambda each: -each["score"])
    classes = []
    for category in truth["categories"]:
        classes.append([])
        for image in truth["images"]:
            place = image["id"], category["id"]
            mine, there = (
                [each for each in some if (each["image_id"], each["category_id"]) == place]
                for some in (found, truth["annotations"])
            )
            scores = torch.tensor([each["score"] for each in mine]).double()
            classes[-1].append((scores, alike(mine, there).view(len(mine), len(there))))
    return classes


def table_of(classes):
    """Precisions (10, 101, classes)."""
    rows = [[class_precisions(pictures, t, POINTS) for pictures in classes] for t in thresholds]
    return torch.stack([torch.stack(row, dim=-1) for row in rows])


# %%
model = mrcnn.playground_rcnn(pretrained=True)
labels = evaluate.shared_labels(model.labels, scenes)
truth = scenes.coco()
results = [result for i in range(0, 40, 8) for result in model([scenes[j][0] for j in range(i, i + 8)])]


def in_records(results):
    """By kind, what the model found in all scenes, in COCO's format."""
    numbers = [image["id"] for image in truth["images"]]
    each = [evaluate.to_coco(result, number, labels) for result, number in zip(results, numbers, strict=True)]
    return {kind: [entry for found in each for entry in found[kind]] for kind in each[0]}


found = in_records(results)
theirs = evaluate.score(truth, found)
with_points = [each for each in truth["categories"] if "keypoints" in each]  # a ball has no pose
posed = truth | {"categories": with_points}
for kind, alike in (("bbox", box_iou), ("segm", segments_iou), ("keypoints", pose_oks)):
    ours = float(average(table_of(by_class(posed if kind == "keypoints" else truth, found[kind], alike))))
    same = "equal" if ours == theirs[kind]["AP"] else "NOT equal"
    print(f"{kind:<10}by hand {ours!r:<20} pycocotools {theirs[kind]['AP']!r:<20} {same}")
print(f"mask_iou {lab.whose(mask_iou)}")

# %% [markdown]
# ## Break it: what AP sees
#
# We change what was found, in seven ways. **Predict** for each: does the model's AP rise, fall, or stay *exactly* as it
# was? For the false positives remember the shape of the curve.


# %%
def rescored(change):
    return lambda found: [each | {"score": change(each)} for each in found]


def with_false(score):
    """A false person in the corner of every picture that has a detection."""
    box = {"category_id": 1, "bbox": [0, 0, 1, 1], "score": score}
    return lambda found: found + [box | {"image_id": number} for number in {each["image_id"] for each in found}]


changes = {
    "as it is": lambda found: found,
    "false ones of score 0.001": with_false(0.001),
    "false ones of score 1": with_false(1.0),
    "all scores squared": rescored(lambda each: each["score"] ** 2),
    "scores halved in every second picture": rescored(lambda each: each["score"] / (1 + each["image_id"] % 2)),
    "each box twice": lambda found: [each for each in found for _ in range(2)],
    "scores below 0.5 left out": lambda found: [each for each in found if each["score"] >= 0.5],
    "boxes slid by one pixel": lambda found: [
        each | {"bbox": [each["bbox"][0] + 1, *each["bbox"][1:]]} for each in found
    ],
}
my_guess = dict.fromkeys(list(changes)[1:], "")  # "rises", "falls" or "stays"

# %%
print(f"{'':<38}toy AP50   model AP50     AP")
for name, change in changes.items():
    toy = evaluate.score(toy_truth, {"bbox": change(toy_found)})["bbox"]
    real = evaluate.score(truth, {"bbox": change(found["bbox"])})["bbox"]
    same = "exactly as it was" if real["AP"] == theirs["bbox"]["AP"] else ""
    told = f"You said: {my_guess[name]}" if my_guess.get(name) else ""
    print(f"{name:<38}{toy['AP50']:8.3f} {real['AP50']:12.3f} {real['AP']:6.3f}   {same}  {told}".rstrip())

# %% [markdown]
# - **A false positive costs by its rank.** With a low score it comes last, when all has been found, and costs *nothing*: the
#   curve only goes down at its end. With a high score it lowers every precision after it.
# - **So tidying costs.** The pictures that we draw, from a score of 0.5 on, look better and have a lower AP: what was left out
#   held some hits. For AP, say everything you have. For a user, do not.
# - **Only the order counts.** Squared scores change no rank. AP does not ask whether 0.9 means 90 %. But the order is one over
#   *all* pictures: scores halved in some change it, and the model loses. In the toy AP even *rises*: picture Y, which was
#   halved, has nothing but false positives.
# - **The second box of an object is a false positive**, and right behind the first it costs much. This is why NMS matters.
# - **A pixel** does not change AP50 here, and costs AP a lot: the high thresholds see it. These objects are small.
#
# ## −1, and what does not count
#
# pycocotools gives twelve numbers for boxes. Some look at objects of one **area range** only: s is for areas up to 32²
# pixels, m up to 96², l above. AR is average recall: the share of the objects that the whole list finds, averaged over
# the thresholds. AR1 and AR10 keep one and ten detections per picture *and class*, the others 100 (pycocotools calls that
# maxDets).
#
# **Predict**: for our 40 scenes of 128 × 128 pixels, some of the twelve are −1. Which?

# %%
my_minus_ones = []  # names, such as "AR10"

# %%
print(", ".join(f"{name} {value:.3f}" for name, value in theirs["bbox"].items()))
areas = [each["area"] for each in truth["annotations"]]
print(f"the largest of {len(areas)} objects has {max(areas):.0f} pixels; 96² is {96**2}. You said: {my_minus_ones}")

# %% [markdown]
# AR1 is lower than AR10: where a scene has three people, one detection finds one of them. And the 100? **Predict** AR of our toy
# if picture X gets 99 or 100 false boxes, all of a higher score, as people; or 100 as balls.

# %%
my_ars = None, None, None

# %%
two_classes = toy_truth | {"categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "ball"}]}
for count, label, name in (
    (0, 1, "as it is"),
    (99, 1, "99 as people"),
    (100, 1, "100 as people"),
    (100, 2, "100 as balls"),
):
    false = [{"image_id": 0, "category_id": label, "bbox": [0, 0, 1, 1], "score": 1.0}] * count
    print(f"{name:<14} AR {evaluate.score(two_classes, {'bbox': toy_found + false})['bbox']['AR']:.2f}")
print(f"You said: {my_ars}")

# %% [markdown]
# With 99, detection 1 is the last that counts, and 7 falls out; with 100 nothing true is left in X. But balls take no place from
# people: each class has its own 100. The false balls cost nothing at all here: there is no ball in this truth, so the class is −1
# and left out.
#
# A −1 is no bad result: nothing of that size was there. But whoever averages AP over several data sets must leave it out, as you
# did. (An object's area is that of its mask, also when boxes are measured.)
#
# Three kinds of objects are ignored: those outside the area range, a crowd, or a person without any labelled keypoint when poses are
# measured. An ignored object need not be found, and who finds it is neither right nor false. **Predict** AP50 of our toy if the
# person of rank 4 is a crowd. And if rank 2, the ball, lies in one?

# %%
my_crowds = None, None


# %%
def with_crowd(box, picture, old=None):
    """The toy's truth with a crowd in this place, for the annotation `old`, if there is one."""
    kept = [each for each in toy_truth["annotations"] if each["id"] != old]
    return toy_truth | {"annotations": [*kept, record(picture, box, id=99, area=1000.0, iscrowd=1)]}


first_in_z = next(i for i, (p, _) in enumerate(pairs, 1) if p == 2)
for name, changed in (
    ("as it is", toy_truth),
    ("the person of rank 4 is a crowd", with_crowd(people[2][0], 2, first_in_z)),
    ("the ball of rank 2 lies in a crowd", with_crowd(ball, 1)),
):
    print(f"{name:<36} AP50 {evaluate.score(changed, {'bbox': toy_found})['bbox']['AP50']:.3f}")
print(f"You said: {my_crowds}")

# %% [markdown]
# In the first, a hit vanishes, and an object with it: four are left to be found. In the second a false positive vanishes.
# (With a crowd, IoU is the share of the *detection* that lies in it: lesson 01.)
#
# ### Extra: with ignored objects

# %% exercise="fates"

# %%
ious = torch.cat([tables[2][1], torch.tensor([[0.0], [0], [1]])], dim=1)  # picture Z, and the star in a crowd
print(
    f"ranks {[rank + 1 for rank in ranks[2]]}, by code that is {lab.whose(fates)}:",
    fates(ious, 0.5, [False, False, True], [False, False, True]),
)

# %% [markdown]
# ## What is the mask's threshold worth?
#
# The mask head gives a probability for each pixel; the library keeps those above 0.5 before it measures. **Predict**: at which
# threshold is the AP of masks the best? Does AP50 or AP75 care more?

# %%
my_threshold = None

# %%
cuts = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
measured = []
for cut in cuts:
    masks = in_records([result | {"masks": (result["masks"] > cut).float()} for result in results])["segm"]
    measured.append(evaluate.score(truth, {"segm": masks})["segm"])
for cut, each in zip(cuts, measured, strict=True):
    print(f"above {cut}: AP {each['AP']:.3f}   AP50 {each['AP50']:.3f}   AP75 {each['AP75']:.3f}")
print(f"You said: {my_threshold}")
lines = {name: (cuts, [each[name] for each in measured]) for name in ("AP50", "AP75", "AP")}
curves(Panel("AP of masks", "probability above which a pixel is kept", lines, limits=(0, 1)), width=6)

# %% [markdown]
# The best of these is 0.5, where the library cuts, and around it not much changes. AP50 does not notice masks
# that are too fat, from 0.1 on, as they still reach an IoU of 0.5 with their objects; it minds thin ones a little. AP75 falls
# to about a half of its best at both ends. Two models with the same AP50 can draw very different outlines.
#
# Touch it, with the people of five scenes. At which threshold of a pixel does each mask have its best IoU? Does one suit all? Then
# slide the other, from which IoU on a mask is right, and see hits become false positives: the curve sinks, and AP with it. Which of
# the ten bars feel the pixels' threshold most?

# %%
shown, found_people, true_people = [2, 3, 4, 5, 8], [], []
for i in shown:
    mine, real = results[i]["labels"] == 1, scenes[i][1]["labels"] == 1  # people
    found_people.append((results[i]["scores"][mine], results[i]["masks"][mine, 0]))
    true_people.append(scenes[i][1]["masks"][real].bool())
lab.ap_slider([scenes[i][0] for i in shown], found_people, true_people)

# %% [markdown]
# Each mask has its own best, and most lose little at 0.5. The bars on the left stand for a long way; those on the right, for exact
# outlines, are gone after a few steps.
#
# A warning: who *chooses* a threshold on these 40 scenes and then reports its AP on them has looked at the answers. Choose on
# other pictures than those you report.
#
# ## How fast is it
#
# **Predict** how many times as fast pycocotools is, boxes only. (Its matching is Python, too; the IoUs are C.)

# %%
my_ratio = None

# %%
whose = lab.whose(class_precisions)
times = lab.timed(
    {
        f"by hand, {whose}": lambda: average(table_of(by_class(truth, found["bbox"], box_iou))),
        "pycocotools, all twelve numbers": lambda: evaluate.score(truth, {"bbox": found["bbox"]}),
    },
    repeats=3,
)
print(f"You said: {my_ratio}")

# %% [markdown]
# ## Now find it in the real file
#
# Where masks are cut, and become run lengths:

# %%
lab.show(evaluate.to_coco, 'if "masks" in result', 'found["segm"]')

# %% [markdown]
# And the heart of pycocotools: hits and false positives summed down the list, precision and recall, the best precision from
# behind, and the look-up at the 101 points. `npig` is the number of objects that are not ignored, and `np.spacing(1)` is our `TINY`.

# %%
lab.show(COCOeval.accumulate, "tp_sum = ", "fp_sum = ")
lab.show(COCOeval.accumulate, "rc = tp", "pr = tp")
lab.show(COCOeval.accumulate, "for i in range(nd-1", "inds = np.searchsorted")

# %% [markdown]
# ## What we left out, and where to read on
#
# - **Detections outside an area range** that match nothing are not false there, or APs would suffer from every large box.
# - **One threshold for use.** AP judges a whole ranking. To choose a score from which on to act, read precision and recall
#   there, on your own pictures (lesson 08 has how far scores can be believed).
# - **Luck.** A few scenes more or less move AP. Compare models on the same pictures, and train each more than once.
# - M. Everingham et al., *The Pascal Visual Object Classes Challenge* (2010): AP's rules before COCO.
# - T.-Y. Lin et al., *Microsoft COCO: Common Objects in Context* (2014), and cocodataset.org/#detection-eval.
# - D. Hoiem, Y. Chodpathumwan, Q. Dai, *Diagnosing Error in Object Detectors* (2012), and D. Bolya et al., *TIDE* (2020): which
#   kind of mistake costs how much AP.
