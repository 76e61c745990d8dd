# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Boxes and anchors
#
# Four numbers move a box onto an object, and a fixed grid of boxes decides beforehand which objects can be found with ease.
#
# **You will** write IoU for whole sets of boxes, the four numbers there and back, and a grid of anchors; then measure which
# objects that grid misses, and choose a better one.
#
# **Time** about 60 minutes. **Know first** what an anchor, a delta and IoU are (lesson 00), and tensors that broadcast.
#
# **Files** `mrcnn/boxes.py`, `mrcnn/anchors.py`.

# %%
import math

import exercises
import pictures
import torch

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import images, lab
from mrcnn.anchors import AnchorSettings, cell_anchors, make_anchors
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.views import pictures as views
from mrcnn.lab.views.curves import Panel, curves
from mrcnn.lab.views.view import View

# %matplotlib inline

torch.set_grad_enabled(False)  # we only look, nothing is trained
UNIT = (1.0, 1.0, 1.0, 1.0)  # the deltas as they are: what else they could be multiplied by comes below

# %% [markdown]
# ## A picture first
#
# Here are four objects of the playground, solid, each with the one anchor of 4,092 that overlaps it most, dotted. What
# the network has to say is written above: the deltas dx, dy, dw, dh, that take the anchor to the object.

# %% tags=["cover"]
scenes = [Playground(150, seed=0)[i] for i in range(150)]
objects = torch.cat([target["boxes"] for _, target in scenes])  # (G, 4): those of all scenes
settings = mrcnn.playground_rcnn().settings.rpn.anchors
cells = [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]  # rows and columns of P2 to P6, for scenes of 128 by 128
levels = make_anchors(settings, (128, 128), cells)
anchors = torch.cat(levels)  # (A, 4)
best, which = box_maths.iou(objects, anchors).max(dim=1)  # (G,): the IoU with the best anchor, and which it is

pictured = [(number, target["boxes"]) for number, (_, target) in enumerate(scenes) for _ in target["boxes"]]
shown = [13, 22, 24, 84]
deltas = box_maths.encode(objects, anchors[which], UNIT)
seen = [scenes[pictured[row][0]][0] for row in shown]
pictures.moves(seen, anchors[which[shown]], objects[shown], deltas[shown], best[shown])

# %% [markdown]
# Now by hand. The anchor of the first panel stands still, here dashed; drag the solid box, or a corner of it, and watch the
# five numbers. What each of them counts is written beside it.
#
# - Fit the box to the person in pink. How near do you come to the numbers of the first panel?
# - Begin with the button "onto the anchor". Move the box 10 pixels to the right, then 10 down. Why is dx larger than dy?
# - Make the box twice as wide as the anchor, then half as wide. What does dw say?

# %%
lab.box_dragger(scenes[3][0], anchors[which[shown[0]]], torch.tensor([52.0, 20, 100, 90]))

# %% [markdown]
# ## Predict
#
# 1. Two equal boxes lie on one another. One slides away sideways. By which part of its width, when the IoU is 0.5?
# 2. The same along the diagonal: by which part of both sides?
# 3. A box has the same centre as another, and is twice as wide and twice as high. Their IoU?

# %%
my_sideways = None  # 0.5 would be half the width
my_diagonal = None
my_twice = None

# %% [markdown]
# ## Build it: all IoUs at once
#
# A box is (x1, y1, x2, y2). x2 and y2 are edges, not the last pixels, so a box is x2 - x1 wide, with no "+ 1". The shared
# part of two boxes begins at the *larger* of the two left edges and ends at the *smaller* of the two right ones. If it ends
# before it begins, nothing is shared.
#
# A picture has thousands of anchors and a few objects. Broadcasting makes the whole table without a loop over pairs
# (lesson 04 times the two).

# %% exercise="iou_table"

# %%
step = torch.linspace(0, 1, 101)
still = torch.tensor([[0.0, 0, 1, 1]])
sideways = still + step[:, None] * torch.tensor([1.0, 0, 1, 0])
diagonal = still + step[:, None]
falling = {"sideways": iou_table(still, sideways)[0], "along the diagonal": iou_table(still, diagonal)[0]}
half = [float(step[(values >= 0.5).sum() - 1]) for values in falling.values()]
twice = iou_table(still, torch.tensor([[-0.5, -0.5, 1.5, 1.5]])).item()
print(f"IoU by code that is {lab.whose(iou_table)}")
print(f"1. the last IoU of 0.5 or more: moved by {half[0]:.2f} of the width. You said: {my_sideways}")
print(f"2. along the diagonal: {half[1]:.2f} of both sides. You said: {my_diagonal}")
print(f"3. twice as wide and high: {twice:.2f}. You said: {my_twice}")
shown = {name: (step, values) for name, values in falling.items()}
curves(Panel("IoU", "moved by, in parts of its side", shown, limits=(0, 1.02), level=0.5), width=8.6)

# %% [markdown]
# IoU is strict. A box that is off by a third of its width has lost half of its IoU ((1 − s) / (1 + s) = 0.5 for s = 1 / 3).
# Along the diagonal, a fifth is too much. And it counts in parts of the box: the same 8 pixels are little to a large object,
# and half of a small one.
#
# ### Break it: half precision
#
# **Predict**: a box of 300 × 300 pixels with itself, in float16. Its IoU?

# %%
my_half = None

# %%
square = torch.tensor([[0.0, 0, 300, 300]], dtype=torch.float16)
print(
    f"its area in float16: {(square[0, 2] * square[0, 3]).item()}; the largest float16: {torch.finfo(square.dtype).max}"
)
print(f"IoU, by code that is {lab.whose(iou_table)}: {iou_table(square, square).item()}")
print(f"IoU, the library's: {box_maths.iou(square, square).item()}. You said: {my_half}")

# %% [markdown]
# A wrong number (0 or NaN, by how it was written), and no error. Areas need more room than corners, so the library widens its
# numbers first (`wide` in `boxes.py`). Whatever you compute from boxes, ask how large it can get: this question comes back below.
#
# ## Why not pixels?
#
# An anchor is near an object, and the network should say how to move it. Why not simply "6 pixels to the right, 9 wider"?
# Take every anchor that has an IoU of 0.5 or more with an object. The first row is what such an answer would have to be, in
# pixels; the second is the deltas. Small objects are those below 30 pixels (the side of a square of the same area), large
# ones those above 60; their spread is the standard deviation.

# %%
table = box_maths.iou(objects, anchors)
rows, columns = (table >= 0.5).nonzero().T  # every pair of an object and an anchor that reaches it
pairs, starts = objects[rows], anchors[columns]  # (K, 4) each
small = (pairs[:, 2:] - pairs[:, :2]).prod(1).sqrt() < 30
large = (pairs[:, 2:] - pairs[:, :2]).prod(1).sqrt() > 60
print(f"{len(pairs)} pairs, {int(small.sum())} of them with small objects, {int(large.sum())} with large ones")

size, centre = starts[:, 2:] - starts[:, :2], (starts[:, 2:] + starts[:, :2]) / 2
shift = (pairs[:, 2:] + pairs[:, :2]) / 2 - centre  # (K, 2) in pixels
wider = (pairs[:, 2:] - pairs[:, :2]) - size
deltas = box_maths.encode(pairs, starts, UNIT)
parts = {
    "before: right, in pixels": shift[:, 0],
    "before: wider, in pixels": wider[:, 0],
    "after: dx": deltas[:, 0],
    "after: dw": deltas[:, 2],
}
pictures.histograms({name: (values[small], values[large]) for name, values in parts.items()})

# %% [markdown]
# In pixels, small and large objects ask for different answers (compare the spreads in the legends). But one small network
# serves all levels, and cannot know how many pixels its cell stands for. Divided by the anchor's size, the spreads are much
# closer: a delta means about the same for every size.
#
# ## Why logarithms?
#
# dx = shift / anchor width. So for the growth one could take (object width − anchor width) / anchor width. **Predict**, for
# an anchor 40 pixels wide: that number, and the logarithm of the ratio, for objects of 80 and of 20 pixels.

# %%
my_plain = []  # two numbers
my_logs = []  # two numbers

# %%
print("object   plain    log")
for width in (80, 20, 160, 10):
    print(f"{width:6}  {(width - 40) / 40:+.2f}  {math.log(width / 40):+.3f}")
print("You said:", my_plain, my_logs)
answers = torch.linspace(-3, 3, 61)  # what a network may say: any number
print(f"of the answers from -3 to 3, {(1 + answers <= 0).float().mean():.0%} make a plain width of 0 or less")
print(f"and with exp: {(answers.exp() <= 0).float().mean():.0%}")

# %% [markdown]
# Two reasons, then.
#
# - **Fair.** Twice as wide and half as wide are equally far from right, and only the logarithm says so.
# - **Safe.** A network may say any number. exp of it is above 0, so that a box always has a width.
#
# ## Build it: encode
#
# To **encode** is to write an object as the deltas that lead to it from an anchor:
#
# $$dx = \frac{x_{object} - x_{anchor}}{w_{anchor}} \qquad dw = \ln \frac{w_{object}}{w_{anchor}}$$
#
# x is the centre, and the same goes for dy and dh, with heights (R-CNN, appendix C).

# %% exercise="encode"

# %% [markdown]
# ## Build it: decode, with its clamp
#
# To **decode** is to go back: from an anchor and deltas to a box. A width is exp(dw) × the anchor's, and exp grows fast. So dw
# and dh get a **clamp** first: what is above a limit counts as the limit. The published models take ln(1000 / 16).

# %% exercise="decode"

# %%
LIMIT = box_maths.MAX_LOG_SCALE
print(f"the limit: {LIMIT:.3f}; no box grows more than {math.exp(LIMIT):.1f} times")
back = decode(encode(pairs, starts), starts, LIMIT)
print(f"{len(pairs)} pairs there and back (encode {lab.whose(encode)}, decode {lab.whose(decode)}):")
print(f"at most {(back - pairs).abs().max():.6f} pixels off")
wide_one, dot = torch.tensor([[0.0, 0, 600, 600]]), torch.tensor([[296.0, 296, 304, 304]])
print("an object of 600 pixels, from an anchor of 8:", decode(encode(wide_one, dot), dot, LIMIT)[0].tolist())

# %% [markdown]
# The way back is exact but for rounding. Only where an object is more than 62.5 times as large as the anchor does the clamp
# stop it short. No anchor that is any good is that small.
#
# ### Break it: the box that explodes
#
# A classic mistake: a picture with numbers from 0 to 255 goes into a network that wants 0 to 1. **Predict**: the largest dw that
# our small trained model then says, in eight pictures?

# %%
my_dw = None

# %%
model = mrcnn.playground_rcnn(pretrained=True)
mean, std = (torch.tensor(each)[:, None, None] for each in (model.settings.images.mean, model.settings.images.std))


def deltas_of(eight):
    """What the region proposal network says of pictures (N, 3, 128, 128) of floats: deltas (N * A, 4)."""
    features = model.backbone((eight - mean) / std)
    return torch.cat(model.rpn.head(features)[1], dim=1).flatten(0, 1)


eight = torch.stack([picture for picture, _ in scenes[:8]]).float()
for name, said in {"0 to 1": deltas_of(eight / 255), "0 to 255": deltas_of(eight)}.items():
    print(f"pixels {name}: the largest dw is {said[:, 2].max():.2f}; {int((said[:, 2:] > LIMIT).any(1).sum())} of {len(said)}"
          " boxes meet the clamp")  # fmt: skip
    for how, limit in (("no clamp", math.inf), ("the clamp", LIMIT)):
        moved = decode(said, anchors.repeat(8, 1), limit)
        sides = (moved[:, 2:] - moved[:, :2]).amax(1)
        hundred = moved[sides.topk(100).indices]
        whole = int((iou_table(hundred, hundred).diagonal() - 1).abs().lt(1e-3).sum())
        print(f"  {how:9}: the largest side is {sides.max():.2g} pixels; of the 100 largest boxes, {whole} have an IoU of 1"
              " with themselves")  # fmt: skip
print("You said:", my_dw)

# %% [markdown]
# Corners like these are still numbers, but an area is a width times a height, and that is infinite. A box that is not equal
# to itself is what you get, and again no error. The clamp does not make a bad answer good. It keeps it small enough for areas,
# for IoUs, and for losses made of them, which would otherwise carry the nonsense into every weight.
#
# ## Why the box head's deltas are scaled
#
# Back to the histograms: most deltas are small. How small? Here is the spread of the four, for anchors with their objects, and
# for proposals with theirs: an IoU of 0.5 or more, again.

# %%
batch, _ = images.prepare([image for image, _ in scenes[:24]], None, model.settings.images, training=False)
proposals, _ = model.rpn(batch, model.backbone(batch.pixels), None)
near = []
for boxes, (_, target) in zip(proposals, scenes, strict=False):
    things, chosen = (box_maths.iou(target["boxes"], boxes) >= 0.5).nonzero().T
    near.append(encode(target["boxes"][things], boxes[chosen]))
near = torch.cat(near)
weights = model.settings.box.delta_weights
print("                  dx     dy     dw     dh")
for name, each in {"anchors": deltas, "proposals": near, "times weights": near * torch.tensor(weights)}.items():
    print(f"{name:15}", *(f"{value:6.3f}" for value in each.std(0).tolist()))
print("1 / weights    ", *(f"{1 / value:6.3f}" for value in weights))
print(f"proposals: {len(near)} pairs; weights: {weights}; encoded by code that is {lab.whose(encode)}")

# %% [markdown]
# The last row, 0.1 and 0.2, is a choice of the published models. It is about the spread of deltas between boxes that already
# share half of what they cover, the row of the proposals. The box head learns its deltas multiplied by 10, 10, 5, 5, and the
# library's `decode` divides by them again; so the numbers to learn have a spread of about 1.
#
# What is that worth? Errors of deltas are measured by **smooth L1**: a small one by its square, a large one by its size. Here an
# error e below 1 / 9 costs 4.5 × e², a larger one e − 1 / 18. **Predict**: a box head says "0, 0, 0, 0", move nothing. Take the
# rows of the table for its four errors. What do they cost together, about, without the weights and with them?

# %%
my_without, my_with = None, None

# %%
for name, wanted in {"without": near, "with": near * torch.tensor(weights)}.items():
    loss = torch.nn.functional.smooth_l1_loss(
        torch.zeros_like(wanted), wanted, beta=box_maths.SMOOTH_L1_BETA, reduction="sum"
    )
    print(f"{name} weights: {loss.item() / len(wanted):.2f} per region")
number = model.settings.num_classes
print(
    f"to compare, the loss of the class if all {number} are called equally likely: ln({number}) = {math.log(number):.2f}"
)
print(f"You said: {my_without} without, {my_with} with")

# %% [markdown]
# Both losses go into one sum. Without the weights, to move nothing costs little beside knowing no class, and the network has
# less reason to learn it. The region proposal network goes without (its weights are 1): so the published models were trained,
# and who loads their weights must do the same.
#
# ## Build it: a grid of anchors
#
# Now the boxes that all of this starts from. Each level has one size, a number of pixels, and three
# **aspect ratios**, height / width: 0.5, 1 and 2. All three have the same area, size × size. **Predict**: size 32, ratio 2;
# width and height?

# %%
my_width, my_height = None, None

# %%
cell = cell_anchors((32.0,), (0.5, 1.0, 2.0))
for ratio, (x1, y1, x2, y2) in zip((0.5, 1.0, 2.0), cell.tolist(), strict=True):
    print(f"ratio {ratio}: {x2 - x1:.0f} by {y2 - y1:.0f} pixels, area {(x2 - x1) * (y2 - y1):.0f}")
print(f"You said: {my_width} by {my_height}")

# %% [markdown]
# (The corners are rounded to whole pixels, so the areas are only nearly equal. The extra exercise at the end makes them.)
#
# These three are then put down at every cell of a level. The cells of P2 are 4 pixels apart, those of P3 8, and so on. The
# picture after the exercise has a dot at each place, and the three anchors of one of them. (The exercise is extra: without
# an answer of yours the lesson goes on with the library's.)

# %% exercise="anchor_grid"

# %%
mine = [
    anchor_grid(cell_anchors(sizes, settings.ratios), 128 // rows, rows, columns)
    for sizes, (rows, columns) in zip(settings.sizes, cells, strict=True)
]
print(f"equal to the library's: {torch.equal(torch.cat(mine), anchors)} (anchor_grid {lab.whose(anchor_grid)})")
figure = views.anchor_levels(scenes[3][0], mine, cells)
View.of(figure, f"Grids over a scene, P2 to P6: {', '.join(f'{len(level):,} anchors' for level in mine)}.")

# %% [markdown]
# ## Which objects does no anchor reach?
#
# Anchors are chosen before anybody has seen a picture. An object that lies between them has a poor start. The share of objects
# that some anchor reaches, with an IoU of some threshold or more, is the anchors' **recall**.

# %% exercise="reached"

# %% [markdown]
# **Predict** for the playground's anchors (sizes 12, 24, 40, 64, 96) and its objects: the recall at 0.5, and at 0.7?

# %%
my_recall = None, None

# %%
print(f"{len(objects)} objects in {len(scenes)} scenes; recall by code that is {lab.whose(reached)}:")
print(
    ", ".join(f"at {level}: {reached(objects, anchors, level):.1%}" for level in (0.3, 0.5, 0.7)),
    " You said:",
    my_recall,
)
wide, high = (objects[:, 2:] - objects[:, :2]).T
print(f"more than 1.4 times as wide as high: {(wide > 1.4 * high).float().mean():.1%}")
print(f"more than 1.4 times as high as wide: {(high > 1.4 * wide).float().mean():.1%}")
shape_of_cells = [cell_anchors(sizes, settings.ratios) for sizes in settings.sizes]
centred = torch.stack([-wide / 2, -high / 2, wide / 2, high / 2], dim=1)  # each object, moved to (0, 0)
print("with anchors of these shapes at every object's own centre it would be", end=" ")
print(", ".join(f"{reached(centred, torch.cat(shape_of_cells), level):.1%} at {level}" for level in (0.5, 0.7)))
pictures.shapes(objects, best, shape_of_cells, 0.5)

# %% [markdown]
# At 0.5 hardly an object is missed; at 0.7 most are. It is not for want of a fitting *shape*: in the right place, the same
# shapes would reach every object at 0.5, and two of three at 0.7. Here are the four that are missed worst. Compare each dotted
# box with the anchor that would fit: in the picture above, the yellow mark nearest to the object's cross.

# %%
worst = best.argsort()[:4]
deltas = box_maths.encode(objects[worst], anchors[which[worst]], UNIT)
seen = [scenes[pictured[row][0]][0] for row in worst.tolist()]
pictures.moves(seen, anchors[which[worst]], objects[worst], deltas, best[worst])

# %% [markdown]
# ## Choose better sizes
#
# Two things can be wrong with an anchor: its size, or its *place*. Anchors of 96 pixels stand on P6, 64 pixels apart. **Predict**:
# at 0.5 and at 0.7, are the sizes of the published COCO models (32 to 512, made for pictures of 800 pixels) better or worse
# for scenes of 128?

# %%
my_coco = None, None  # "better" or "worse", at 0.5 and at 0.7

# %%
my_sizes = (12.0, 24.0, 40.0, 64.0, 96.0)  # change me, one for each level
my_ratios = (0.5, 1.0, 2.0)

# %%
others = torch.cat([Playground(150, seed=1)[i][1]["boxes"] for i in range(150)])  # scenes that nobody has chosen by


def grid_of(sizes, ratios):
    """All anchors of a scene with these sizes, one for each level."""
    chosen = AnchorSettings(sizes=tuple((size,) for size in sizes), ratios=ratios)
    return torch.cat(make_anchors(chosen, (128, 128), cells))


trials = {
    "the playground's": grid_of((12.0, 24.0, 40.0, 64.0, 96.0), (0.5, 1.0, 2.0)),
    "COCO's": grid_of((32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)),
    "mine": grid_of(my_sizes, my_ratios),
}
print("recall on          the first scenes      new scenes")
print("                    at 0.5  at 0.7    at 0.5  at 0.7")
for name, grid in trials.items():
    found = [float(reached(each, grid, level)) for each in (objects, others) for level in (0.5, 0.7)]
    print("{:18} {:7.1%} {:7.1%}   {:7.1%} {:7.1%}".format(name, *found))
print("You said of COCO's:", *my_coco)

# %% [markdown]
# Worse at 0.5, and *better* at 0.7. Let a square object of every size lie at many places, and ask for the best IoU.

# %%
sides = torch.arange(8.0, 118, 2)
places = 20 + 88 * torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
lines = {}
for name in ("the playground's", "COCO's"):
    squares = [torch.cat([places - side / 2, places + side / 2], dim=1) for side in sides.tolist()]
    lines[name] = sides, torch.stack([box_maths.iou(each, trials[name]).amax(1).mean() for each in squares])
curves(Panel("mean best IoU", "side of a square object, in pixels", lines, limits=(0, 1.02), level=0.7), width=8.6)

# %% [markdown]
# COCO's anchors do badly below some 25 pixels. But those of 32 stand 4 pixels apart, and so there is always one in the right
# *place*. The playground's sizes fit every object, and stand far apart for their size. Of an anchor of exactly the right shape,
# the worst IoU is that of an object half a step off, both ways:

# %%
print("     apart   playground's: worst IoU      COCO's: worst IoU")
for level, (ours, coco) in enumerate(zip((12, 24, 40, 64, 96), (32, 64, 128, 256, 512), strict=True)):
    apart, told = 4 * 2**level, []
    for size in (ours, coco):
        one = torch.tensor([[0.0, 0, size, size]])
        told.append(box_maths.iou(one, one + apart / 2).item())
    print(f"P{level + 2} {apart:6} {ours:14} {told[0]:10.2f} {coco:15} {told[1]:10.2f}")

# %% [markdown]
# ### Your turn
#
# Change `my_sizes`; run its cell and the one with the table again. Can you have more than 97 % at 0.5 **and** 45 % at 0.7, on new scenes too? Then
# change `my_ratios`: of the numbers above the picture of crosses, two say which of the three is hardly used.
#
# <details><summary>One answer</summary>
#
# `my_sizes = (20.0, 36.0, 56.0, 80.0, 110.0)`: every size moves to a finer level, down to where small objects
# still have one. `my_ratios = (1.0, 1.5, 2.2)` gains more at 0.7: people stand, and hardly an object is much wider than high.
#
# </details>
#
# What is it worth? We have measured recall, not AP: for that the model must be trained anew, as its weights belong to its
# anchors. And an object that no anchor reaches is not lost. Its best anchor answers for it all the same (lesson 04), and is
# moved twice. It only has further to go.
#
# ## Now find it in the real file
#
# `decode` is yours, but for the weights:

# %%
lab.show(box_maths.decode)

# %% [markdown]
# And this is the grid, for all levels at once. Each level is as many cells as the backbone gave it.

# %%
lab.show(make_anchors, start="levels = []", end="return levels")

# %% [markdown]
# ## Questions
#
# ### 1. Only growth
#
# Why are dx and dy not clamped, and why is there no limit below?
#
# <details><summary>Answer</summary>
#
# dx moves a box by so many widths: a large one gives a box far outside, but a finite one, and cutting it to the picture deals with
# it. exp of a number far below 0 is nearly 0: the box is tiny, and boxes that are too small are taken out afterwards.
#
# </details>
#
# ### 2. Two sizes for each level
#
# With a second, larger size on each level, what happens to the recall? Why? And what does it cost?

# %%
double = AnchorSettings(sizes=((12.0, 17.0), (24.0, 34.0), (40.0, 57.0), (64.0, 78.0), (96.0, 120.0)))
more = torch.cat(make_anchors(double, (128, 128), cells))
found = ", ".join(f"{reached(others, more, level):.1%} at {level}" for level in (0.5, 0.7))
print(f"{len(more)} anchors instead of {len(anchors)}; recall on new scenes {found}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# It grows, and not only as there are more sizes: those added stand closer together for their size than the first. The cost is
# twice the anchors to score in every picture, and heads with twice the outputs.
#
# </details>
#
# ## Extra: the anchors of one cell
#
# A width and a height from a size and a ratio, and the corners around (0, 0), rounded.

# %% exercise="one_cell"

# %% [markdown]
# ## What we left out, and where to read on
#
# - **Losses of IoU itself.** Smooth L1 looks at four numbers one by one; GIoU (Rezatofighi et al., 2019) at the box.
# - **Sizes from data.** YOLO9000 (Redmon and Farhadi, 2017) clusters the boxes of the training set, with IoU as the distance.
# - **No anchors.** FCOS (Tian et al., 2019) says the distances to four sides from each cell; DETR (Carion et al., 2020) has queries.
# - **The papers.** R-CNN (Girshick et al., 2014), appendix C; Faster R-CNN (Ren et al., 2015), section 3.1 and equation 2.
# - **Next.** Lesson 04: which anchor answers for which object.
