# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # The keypoint head: pose
#
# Where is the left elbow? A choice among 3,136 places: how that is learned, what half a cell and a careless mirror cost,
# and how a pose is marked.
#
# **You will** write the targets of heatmaps, their loss, the way back to pixels, a mirror for poses, and COCO's measure of
# a pose; drag a pose by hand; and find a fault in training pictures by looking at them.
#
# **Time** about 60 minutes. **Know first** heatmap, keypoint and softmax (lesson 00), RoIAlign (lesson 07).
#
# **Files** `mrcnn/keypoint_head.py`, `mrcnn/data/augment.py`.

# %%
import copy
import math
from unittest.mock import patch

import exercises
import pictures
import torch
import torch.nn.functional as F

import mrcnn
from mrcnn import images, keypoint_head, lab
from mrcnn.data import Playground, augment
from mrcnn.engine.evaluate import evaluate
from mrcnn.lab import check
from mrcnn.lab.views import poses
from mrcnn.roi_heads import multiscale_roi_align

# %% [markdown]
# ## A picture first
#
# A person, and what the small trained model answers for four of 17 keypoints. Cells are light where it thinks the keypoint
# is, and a ring marks the highest. Left and right are the *person's own*: who looks at us has the left hand on our right.

# %% tags=["cover"]
play = Playground(200, seed=11)
names, partner, skeleton = play.keypoint_names, play.keypoint_flip, play.skeleton
model = mrcnn.playground_rcnn(pretrained=True)
PERSON = 1


@torch.no_grad()
def look(scenes):
    """Of all people in the scenes with a labelled keypoint: pooled features (K, C, 14, 14), boxes, keypoints, areas."""
    found = []
    for first in range(0, len(scenes), 10):
        shots, targets = zip(*scenes[first : first + 10], strict=True)
        batch, scaled = images.prepare(shots, targets, model.settings.images, training=False)
        rows = [(each["labels"] == PERSON) & (each["keypoints"][..., 2] > 0).any(1) for each in targets]
        boxes, keypoints = (
            [each[name][yes] for each, yes in zip(scaled, rows, strict=True)] for name in ("boxes", "keypoints")
        )
        maps = model.backbone(batch.pixels)[:-1]  # the last level is for the region proposal network alone
        pooled = multiscale_roi_align(maps, 4, boxes, 14, model.roi_heads.box.canonical_size)
        areas = [each["area"][yes] for each, yes in zip(targets, rows, strict=True)]
        found.append((pooled, torch.cat(boxes), torch.cat(keypoints), torch.cat(areas)))
    return tuple(torch.cat(each) for each in zip(*found, strict=True))


head = torch.nn.Sequential(model.roi_heads.keypoint_head, model.roi_heads.keypoint_predictor)
big = Playground(21, seed=11, size=256)[20]  # drawn larger, so that we see more; the model shrinks it
pooled, box, pose, _ = look([big])
with torch.no_grad():
    heatmaps = head(pooled)  # (1, 17, 56, 56)
some = ["left_wrist", "right_wrist", "left_ankle", "nose"]
rows = [names.index(name) for name in some]
shown = dict(zip(some, heatmaps[0, rows], strict=True))
marks = exercises.peaks(heatmaps, box)[0, rows]
image, target = big
person = target["labels"].tolist().index(PERSON)
pictures.opening(image, 2 * box[0], target["keypoints"][person], names, skeleton, shown, 2 * marks)

# %% [markdown]
# The **keypoint head** pools 14 × 14 features from the person's box by RoIAlign, runs some convolutions over them, and
# enlarges the result four times: one heatmap of 56 × 56 for each keypoint. Its task is a *classification*. Each heatmap has
# 56 · 56 = 3,136 cells, exactly one of them is right, and one softmax runs over all of them. A target with a single 1 and
# all else 0 is called **one-hot**.
#
# The loss is the **cross-entropy**: minus the logarithm of the probability that the right cell got.
#
# ## Predict
#
# 1. A head that knows nothing gives every cell the same. Its loss?
# 2. And the trained model's, on new scenes? (A loss of ln(n) is as unsure as an even choice among n cells.)

# %%
my_untrained = None
my_trained = None

# %% [markdown]
# ## Build it: which cell is right?
#
# Cut the box into 56 × 56 cells. The keypoint's column is its distance from the box's left edge, in cells, rounded *down*;
# its row likewise. Row by row, cells are numbered `row * 56 + column`.
#
# Not every keypoint has a cell. Each comes as x, y and v:
#
# - v = 2: in sight. v = 1: hidden, but somebody knew where it is. Both count.
# - v = 0: nobody said. Then x and y mean nothing, and there must be no loss.
# - Outside the box there is no cell, so no loss either. A keypoint just *on* the right or lower edge takes the last cell.

# %% exercise="heatmap_targets"

# %%
scenes = [play[i] for i in range(60)]
pooled, boxes, truth, areas = look(scenes)
wide, high = (boxes[:, 2:] - boxes[:, :2]).mean(0).tolist()
print(f"{len(truth)} people, their boxes on average {wide:.0f} pixels wide and {high:.0f} high")
cells, counts = heatmap_targets(truth, boxes, 56)
theirs, valid = keypoint_head.keypoints_to_heatmap(truth, boxes, 56)
same = torch.equal(counts, valid) and torch.equal(cells[counts], theirs[counts])
print(f"the library's targets are the same: {same} (heatmap_targets: {lab.whose(heatmap_targets)})")
for v, name in ((2, "in sight"), (1, "hidden"), (0, "not labelled")):
    of = truth[..., 2] == v
    print(f"v = {v}, {name:12}: {int(of.sum()):5} keypoints, {int((of & counts).sum()):5} count")

# %% [markdown]
# In training, a box is a proposal, and proposals are not exact: more keypoints lie outside.
#
# ## Build it: the loss

# %% exercise="keypoint_loss"

# %%
with torch.no_grad():
    heatmaps = head(pooled)  # (K, 17, 56, 56)
trained = float(keypoint_loss(heatmaps, cells, counts))
print(f"1. all the same: {float(keypoint_loss(torch.zeros_like(heatmaps), cells, counts)):.2f} = ln(3136)."
      f" You said: {my_untrained}")  # fmt: skip
print(f"2. trained: {trained:.2f}, as unsure as among {math.exp(trained):.0f} cells. You said: {my_trained}")
loss = -heatmaps.flatten(2).log_softmax(-1).gather(-1, cells[..., None])[..., 0]
for v, name in ((2, "in sight"), (1, "hidden")):
    print(f"   {name}: {float(loss[counts & (truth[..., 2] == v)].mean()):.2f}")
print(f"(keypoint_loss: {lab.whose(keypoint_loss)})")

# %% [markdown]
# It learns to guess hidden keypoints, from the rest of the body. They are harder.
#
# ### Break it: a yes or no for each cell
#
# Why not ask each cell alone, "is it you?", with a sigmoid, as the mask head does? The gradient pulls the right cell's
# logit up, and pushes all others down. **Predict**: before training, all logits are 0. How many times as large as the
# pull is all the push together? For both losses.

# %%
my_push = {"softmax": None, "sigmoid": None}

# %%
for name, lost in {
    "softmax": lambda x, right: F.cross_entropy(x[None], right.argmax()[None]),
    "sigmoid": lambda x, right: F.binary_cross_entropy_with_logits(x, right, reduction="sum"),
}.items():
    logits, right = torch.zeros(3136, requires_grad=True), torch.zeros(3136)
    right[1000] = 1
    (push,) = torch.autograd.grad(lost(logits, right), logits)
    up, down = -float(push[1000]), float(push.sum() - push[1000])
    print(f"{name}: pull {up:.2f}, push {down:.2f}, {down / up:.0f} times as large. You said: {my_push[name]}")

# %% [markdown]
# With sigmoids, nearly all there is to learn at first is "never". In a softmax the cells compete: pull and push are equal.
#
# ## Half a cell
#
# Lesson 07 had a half pixel that was forgotten. Here is its brother. The target was rounded *down*, so a keypoint is known
# by its cell alone. Where in the cell do we put it back?

# %%
example = torch.tensor([[10.0, 10, 26, 34]])
keypoint = torch.tensor([[[17.7, 26.2, 2]]])
number, _ = heatmap_targets(keypoint, example, 4)
place = torch.stack([number % 4, number // 4], dim=-1)[0, 0]
low, size = example[0, :2], (example[0, 2:] - example[0, :2]) / 4
pictures.half_cell(example[0], keypoint[0, 0, :2], place, low + place * size, low + (place + 0.5) * size, 4)

# %% [markdown]
# ### Build it: from the peak to pixels

# %% exercise="peaks"

# %% [markdown]
# **Predict** the mean error of the trained model in pixels, without the half cell and with it.

# %%
my_errors = None, None  # without, with


# %%
def error(found, of=counts):
    """Distance to the truth in pixels, (number that count,)."""
    return (found[..., :2] - truth[..., :2]).norm(dim=-1)[of]


cell_size = (boxes[:, 2:] - boxes[:, :2])[:, None] / 56  # (K, 1, 2)
one_hot = F.one_hot(cells, 3136).view(heatmaps.shape).float()  # a perfect head: all its answers are right
print(f"a cell is {cell_size[..., 0].mean():.2f} pixels wide and {cell_size[..., 1].mean():.2f} high, on average")
for name, maps in {"a perfect head": one_hot, "the trained model": heatmaps}.items():
    with_half = peaks(maps, boxes)
    without = with_half - cell_size / 2
    right, down = (without - truth[..., :2])[counts].mean(0).tolist()
    print(f"{name}: without {error(without).mean():.2f} pixels, with {error(with_half).mean():.2f};"
          f" without it lies {-right:.2f} too far left, {-down:.2f} too high")  # fmt: skip
print(f"(peaks: {lab.whose(peaks)}) You said: {my_errors}")

# %% [markdown]
# Even a perfect head is a little wrong: it says the cell's middle, and the keypoint is anywhere in the cell. No training
# helps against that. But leaving out the half cell moves *every* keypoint, the same way. Is that much? To say so, we need
# a measure that knows what much is.
#
# ## OKS
#
# Two pixels are nothing for a hip and a lot for an eye; nothing for a large person, a lot for a small one. So COCO measures
# a pose by **OKS**, object keypoint similarity. Each keypoint that counts (v > 0) gets
#
# $$\exp\left(-\frac{d^2}{2 \cdot area \cdot k^2}\right) \qquad k = 2\sigma$$
#
# d is its distance from the truth; area is that of the person's mask, in pixels; σ is COCO's number for this keypoint. It
# was measured: several people clicked the same keypoints, and σ is how far apart they were, as a part of √area. OKS is
# the mean over the keypoints that count. It stands where IoU stands for boxes: a pose is found if its OKS reaches a
# threshold.
#
# Touch it. Each circle has the radius k · √area. Find out:
#
# - How alike is a keypoint that lies exactly on its circle?
# - Move an eye by two steps, then a hip. Which costs more?
# - Press *swap left and right*. The drawing looks the same. The score?

# %%
with torch.no_grad():
    answer = model([image])[0]
found = answer["keypoints"][answer["labels"].tolist().index(PERSON)]
for name in ("left_eye", "left_hip"):
    print(f"COCO's sigma of {name}: {exercises.SIGMAS[names.index(name)]:.3f}")
x1, y1, x2, y2 = (2 * box[0] + torch.tensor([-20, -20, 20, 20])).clamp(0, 256).int().tolist()
corner = torch.tensor([x1, y1, 0])
lab.keypoint_dragger(
    image[:, y1:y2, x1:x2], target["keypoints"][person] - corner, found - corner, float(target["area"][person]), names,
    exercises.SIGMAS, partner, skeleton, "A pose to drag",
)  # fmt: skip

# %% [markdown]
# ### Build it: OKS

# %% exercise="oks"

# %%
joined = torch.cat([peaks(heatmaps, boxes), torch.ones(len(boxes), 17, 1)], dim=2)  # x, y, v
ours = oks(joined, truth, areas, exercises.SIGMAS)
by_coco = exercises.by_pycocotools(joined, truth, areas, exercises.SIGMAS)
print(
    f"{len(ours)} people, OKS by code that is {lab.whose(oks)}: at most {(ours - by_coco).abs().max():.0e} from pycocotools'"
)
for name, moved in {"with": joined, "without": joined - F.pad(cell_size / 2, (0, 1))}.items():
    print(f"{name} the half cell: mean OKS {oks(moved, truth, areas, exercises.SIGMAS).mean():.3f}")
on_circle = truth + torch.tensor([1.0, 0, 0]) * (2 * exercises.SIGMAS * areas[:, None].sqrt())[..., None]
print(f"all on their circles: {oks(on_circle, truth, areas, exercises.SIGMAS).mean():.3f} = exp(-1/2)")

# %% [markdown]
# ## What do the peak's neighbours know?
#
# A peak says which cell, and no more. But if the right neighbour is higher than the left one, the keypoint is probably
# right of the middle. The hourglass networks (Newell et al., 2016) move the answer a quarter of a cell towards the higher
# neighbour. Write it if you like: it is extra.

# %% exercise="refined_peaks"

# %% [markdown]
# The library does something else, as the published models do: it enlarges the heatmap to the box's size in whole pixels
# with a smooth curve (bicubic), and takes the peak of that. **Predict** the order of the three, by mean OKS.

# %%
my_order = []  # "highest cell", "a quarter", "bicubic": the best first


# %%
def as_the_library_answers(decode):
    """The same decoding, in the form of mrcnn.keypoint_head.heatmaps_to_keypoints."""
    return lambda maps, boxes: (F.pad(decode(maps, boxes), (0, 1), value=1.0), maps.flatten(2).amax(-1))


def twice_as_fine(maps, boxes, decode=keypoint_head.heatmaps_to_keypoints):
    """The library's, as if the picture were twice as large; the answer brought back."""
    found, scores = decode(maps, 2 * boxes)
    return found * torch.tensor([0.5, 0.5, 1]), scores


ways = {
    "corner of the cell": as_the_library_answers(
        lambda maps, b: peaks(maps, b) - (b[:, None, 2:] - b[:, None, :2]) / 112
    ),
    "highest cell": as_the_library_answers(peaks),
    "a quarter": as_the_library_answers(refined_peaks),
    "bicubic": keypoint_head.heatmaps_to_keypoints,
    "bicubic, finer grid": twice_as_fine,
}
base = error(ways["highest cell"](heatmaps, boxes)[0])
measured = Playground(60, seed=11)  # these scenes
print("                       mean  median   median     mean         AP of the  nearer than")
print("                      error  across     down      OKS  whole model  highest cell")
for name, decode in ways.items():
    found, _ = decode(heatmaps, boxes)
    with patch.object(keypoint_head, "heatmaps_to_keypoints", decode):
        ap = evaluate(model, measured)["keypoints"]["AP"]
    across, down = (found[..., :2] - truth[..., :2]).abs()[counts].median(0).values.tolist()
    off, alike = error(found), oks(found, truth, areas, exercises.SIGMAS).mean()
    nearer = (off < base).float().mean()
    print(f"{name:20} {off.mean():6.3f} {across:7.3f} {down:8.3f} {alike:8.4f} {ap:12.3f} {nearer:13.0%}")
print(f"(peaks: {lab.whose(peaks)}; refined_peaks: {lab.whose(refined_peaks)}; oks: {lab.whose(oks)})")
circles = 2 * exercises.SIGMAS * areas[:, None].sqrt().mean()
print(
    "circles, mean radius:",
    ", ".join(f"{name} {circles[names.index(name)]:.1f} pixels" for name in ("left_eye", "left_hip")),
)
print("You said:", my_order)

# %% [markdown]
# The half cell is worth a good part of AP, in which, for poses, OKS takes the place of IoU.
#
# A quarter of a cell helps: most keypoints come nearer, across and down. But AP hardly notices: next to the circles, what is
# gained is small.
#
# And bicubic? Better down, *worse* across, and worse in OKS. Our boxes are on average higher than 56 pixels, and narrower.
# Down, the enlarged map is finer than the cells. Across it has fewer pixels than there were cells: it is not enlarged but
# shrunk, and places become coarser. If that is the reason, a finer grid must cure it. The last row tries: across, down
# and in OKS it does, and AP comes back most of the way. Published models are read to whole pixels, and made for larger
# people; so the library reads that way too.
#
# ## A fault, found by looking
#
# The cheapest way to twice as many training pictures is a mirror. Somebody has written one for this data set, and made
# six training pictures of it, some of them mirrored. No error comes. The people with L and R all look at us. Look:
# **which of the six are wrong?**

# %%
my_wrong = []  # letters


# %%
def careless(image, target):
    """The picture in a mirror, and the places of the keypoints with it."""
    return augment.mirror(image, target, list(range(17)))


large = Playground(80, seed=11, size=256)
chosen = [20, 0, 7, 25, 10, 23]
was_mirrored = (torch.rand(6, generator=torch.Generator().manual_seed(7)) < 0.5).tolist()
training = []
for number, turned in zip(chosen, was_mirrored, strict=True):
    picture, truths = large[number]
    picture, truths = careless(picture, truths) if turned else (picture, truths)
    row = int((truths["labels"] == PERSON).nonzero()[0])
    training.append((picture, truths["boxes"][row], truths["keypoints"][row]))
poses.sides(training, names, skeleton, list("ABCDEF"))

# %%
wrong = [letter for letter, turned in zip("ABCDEF", was_mirrored, strict=True) if turned]
print(f"wrong: {wrong}. You said: {my_wrong}")

# %% [markdown]
# ### Build it: a mirror for poses
#
# Who looks at us has the left hand on our right: L belongs there. In a mirror a left hand becomes a right hand: places
# change, *and names*. A place x goes to width - x. `partner` says for each keypoint which name it then has: the left
# wrist is number 9, and `partner[9]` is 10, the right wrist. The nose is its own partner.

# %% exercise="mirrored"

# %%
turned_image, turned_target = augment.mirror(*big, partner)
mine = mirrored(big[1]["keypoints"], 256, partner)
print(f"the library's mirror says the same: {torch.allclose(mine, turned_target['keypoints'])} ({lab.whose(mirrored)})")
row = (turned_image, turned_target["boxes"][person])
careful = [(*row, careless(*big)[1]["keypoints"][person]), (*row, mine[person])]
poses.sides(careful, names, skeleton, ["careless", "with names exchanged"])

# %% [markdown]
# ### What does it do to training?
#
# We train the head on, for a few steps, on 60 scenes and their mirror images: once with the right mirror, once with the
# careless one. **Predict**: the loss on new scenes, and OKS, after the careless one? Here is help for the first. In half of
# the pictures left is called right. The best that a head can then do is give each of both places one half.

# %%
my_loss = None
my_oks = None

# %%
fresh = look([play[i] for i in range(140, 200)])
fresh_cells, fresh_counts = heatmap_targets(fresh[2], fresh[1], 56)


def train(mirror, steps=40, seed=0):
    """The head after some steps on the scenes and their mirror images; the backbone stays as it is."""
    torch.manual_seed(seed)
    trained = copy.deepcopy(head)
    features, regions, keypoints, _ = (
        torch.cat(each) for each in zip((pooled, boxes, truth, areas), look(mirror), strict=True)
    )
    cells, counts = heatmap_targets(keypoints, regions, 56)
    optimizer = torch.optim.AdamW(trained.parameters(), 1e-3)
    for _ in range(steps):
        rows = torch.randint(len(features), (24,))
        loss = keypoint_loss(trained(features[rows]), cells[rows], counts[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trained


def report(name, head):
    """What a head does on new scenes."""
    features, boxes, truth, areas = fresh
    with torch.no_grad():
        heatmaps = head(features)
    found, _ = keypoint_head.heatmaps_to_keypoints(heatmaps, boxes)
    here, there = ((found - truth[:, order])[..., :2].norm(dim=-1) for order in (list(range(17)), partner))
    apart = fresh_counts & fresh_counts[:, partner] & ((truth - truth[:, partner])[..., :2].norm(dim=-1) > 6)
    print(f"{name:18} loss {keypoint_loss(heatmaps, fresh_cells, fresh_counts):.2f}   OKS"
          f" {oks(found, truth, areas, exercises.SIGMAS).mean():.3f}"
          f"   nearer to the other side: {(there < here)[apart].float().mean():.0%}")  # fmt: skip
    return float(keypoint_loss(heatmaps, fresh_cells, fresh_counts))


names_exchanged = train([augment.mirror(*scene, partner) for scene in scenes])
names_kept = train([careless(*scene) for scene in scenes])
report("before", head)
careful_loss = report("names exchanged", names_exchanged)
careless_loss = report("careless", names_kept)
print(f"the careless loss is higher by {careless_loss - careful_loss:.2f}")
print(f"ln(2) for each of the 16 keypoints of 17 that have a partner: {math.log(2) * 16 / 17:.2f}")
print(f"You said: loss {my_loss}, OKS {my_oks} (mirrored {lab.whose(mirrored)}, oks {lab.whose(oks)})")

# %%
features, box, _, _ = look([big])
row = [names.index(name) for name in ("left_wrist", "left_ankle")]
shown = {}
with torch.no_grad():
    for which, trained in (("right mirror", names_exchanged), ("careless", names_kept)):
        maps = trained(features)
        for j in row:
            shown[f"{names[j]}, {which}"] = maps[0, j], exercises.peaks(maps, box)[0, j]
poses.heatmaps_over(
    image, 2 * box[0], {name: each for name, (each, _) in shown.items()}, [2 * mark for _, mark in shown.values()]
)

# %% [markdown]
# Even with the right mirror the head is a little worse than before: some steps on so few scenes do that. Compare the two
# that had the same steps. The careless head has two minds: a light spot on both sides, and which is the highest is nearly
# chance. Of the keypoints that have a partner, at least 6 pixels away, close to half now lie on the wrong side. The loss
# has risen by about what the sum says it must. Yet it is far from that of a head that knows nothing, since most of what
# was learned is still there. Nobody would stop a training for such a loss, with nothing beside it to compare. OKS shows
# the fault, and so did one look.
#
# Changes like the mirror, made to get more out of the same pictures, are called **augmentation**. Before you train, *look*
# at what the training loop gets after all of it, with sides and names drawn in.
#
# ## Now find it in the real file

# %%
lab.show(keypoint_head.keypoints_to_heatmap, "low, high")

# %%
lab.show(keypoint_head.keypoint_loss, "cells, valid", "return")

# %%
lab.show(keypoint_head.heatmaps_to_keypoints, "enlarged =")

# %%
lab.show(augment.mirror)

# %% [markdown]
# ## What we left out, and where to read on
#
# - Inside the head: `keypoint_layers` and `KeypointPredictor`, in the same file. `dilation` lets a small head see from
#   the knee to the face, which tells left from right.
# - How OKS becomes AP: lesson 13.
# - K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN* (2017), section 5: keypoints as one-hot masks. A. Newell, K. Yang,
#   J. Deng, *Stacked Hourglass Networks for Human Pose Estimation* (2016): heatmaps, and the quarter of a cell. F. Zhang et
#   al., *Distribution-Aware Coordinate Representation for Human Pose Estimation* (2020): what else the neighbours know.
# - M. R. Ronchi, P. Perona, *Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation* (2017): what OKS does and
#   does not tell, with left and right exchanged as an error of its own.
