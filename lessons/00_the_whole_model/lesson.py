# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # The whole model in one picture
#
# One scene goes in, and every tensor on its way to the answer is drawn: features, anchors, proposals, regions, scores,
# masks, keypoints.
#
# **You will** see every step of Mask R-CNN once, with real numbers in it, and write four small pieces of it yourself.
#
# **Time** about 60 minutes. **Know first** Python and a little PyTorch: what a tensor, its shape and a convolution are.
#
# **Files** `mrcnn/model.py`, and those that it calls.
#
# Shift+Enter runs a cell and goes on to the next. Nothing here can be broken: change what you like.

# %%
import dataclasses
import math

import exercises
import pictures
import torch
import torch.nn.functional as F

import mrcnn
from mrcnn import box_head, boxes, images, keypoint_head, lab, mask_head, roi_heads, visualize
from mrcnn.anchors import make_anchors
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.views import pictures as views
from mrcnn.lab.walk import changed, count_multiply_adds, erase, move, walk

torch.set_grad_enabled(False)  # we only look, nothing is trained
torch.manual_seed(0)
model = mrcnn.playground_rcnn(pretrained=True)

# %% [markdown]
# `model` is a small Mask R-CNN that comes with the package. It was trained on the **playground**: scenes drawn from a
# seed, with people, balls, boxes, triangles, stars and rings. `target` says what is truly in this one; the model never
# gets to see that.

# %%
image, target = Playground(117, seed=7)[116]
names = model.labels["categories"]
things = [names[label] for label in target["labels"]]
print("the picture:", tuple(image.shape), image.dtype)
print("in it:", things)

# %% [markdown]
# ## All of it
#
# Read it like a page, row by row. Each card is one tensor: the file of `mrcnn/` that makes it, its name, its shape. Every
# word is explained further down.
#
# - *First row*, where could something be? The **backbone** turns the picture into maps of numbers, the **features**, at five
#   scales, P2 to P6. **Anchors** are boxes at fixed places. The **region proposal network** (RPN) scores each.
# - *Second row*, what is it? The best anchors are moved to fit, and doubles removed: these are the **proposals**. The
#   **box head** looks at the features under each, and decides.
# - *Third row*, which pixels? The **mask head** says which belong to each thing, the **keypoint head** where a person's
#   nose, elbows, knees and so on are: the **keypoints**.

# %% tags=["cover"]
whole = walk(model, image)  # every tensor on the way; `whole.seen` is the batch as a picture again
pictures.flow(whole, model.labels)

# %% [markdown]
# In maps, yellow means much and dark blue little. Boxes are drawn over a grey copy of the picture.
#
# ## Predict
#
# Write down three guesses. Being wrong is fine: a guess makes you look more closely.
#
# 1. The picture has 3 × 128 × 128 = 49,152 numbers. How many are in P2 to P6 together? (Each has 64 channels. P2 has
#    one cell for every 4 × 4 pixels, and each level has half as many rows and columns as the one before.)
# 2. The card of the anchors counts them. How many of these belong to P2, with its 32 × 32 cells?
# 3. The ball is about 40 pixels wide. Which level's anchors fit it best: P2 (small ones) … P6 (large ones)?

# %%
my_numbers = None
my_anchors = None
my_level = None  # "P2" … "P6"

# %% [markdown]
# Now the same walk once more, slowly, with the model's own parts.
#
# ## 1. The picture becomes a batch
#
# A network wants small numbers around zero. So each colour is **normalised**: its mean is taken away, and the rest
# divided by its usual spread. Several pictures become one **batch**: they are resized, then padded with zeros to one size.

# %%
batch, _ = images.prepare([image], None, model.settings.images, training=False)
print("pixels:", tuple(batch.pixels.shape), " size of the picture in it:", batch.sizes)
drawn = views.normalisation(image, batch.pixels[0])
drawn.axes[-1].texts[-1].set_text("red —, green - -, blue ···")
pictures.told("A picture and its normalised pixels", drawn)

# %% [markdown]
# ## 2. The batch becomes features
#
# The **backbone** is a stack of convolutions. Each cell of its output has 64 numbers about a part of the picture: its
# **features**. Nobody said what they should mean; training found them. There are five maps, from P2, which sees fine
# detail, to P6, which sees only that something large is there: the **feature pyramid**.

# %%
features = model.backbone(batch.pixels)
for level, each in enumerate(features):
    print(f"P{level + 2}: {tuple(each.shape)}, {each.numel():6,} numbers, a cell is {4 * 2**level} pixels wide")
print(f"together: {sum(each.numel() for each in features):,} numbers. You said: {my_numbers}")

# %% [markdown]
# In the first row, a cell is bright where its 64 numbers are large. The others have single channels of P2 and P3: grey
# is zero, black is below it, white above.

# %%
pictures.told("How strongly each cell answers; single channels below", views.pyramid(features, batch.sizes[0]))

# %% [markdown]
# ## 3. Anchors
#
# The model does not search for boxes in empty space. It starts from **anchors**: boxes of fixed sizes and shapes, three
# at every cell of every level. The dots are their centres; the three of one cell are drawn.

# %%
cells = [tuple(each.shape[2:]) for each in features]  # (rows, columns) of each level
anchors = make_anchors(model.settings.rpn.anchors, tuple(batch.pixels.shape[2:]), cells)
print(f"{len(anchors[0]):,} anchors on P2, {sum(map(len, anchors)):,} in all. You said of P2: {my_anchors}")
pictures.told("The anchors of each level", views.anchor_levels(whole.seen, anchors, cells))

# %% [markdown]
# ### Build it: count them
#
# How many anchors does a picture of any size have? Both sides are first padded to a multiple of 32. A cell of P2 covers
# 4 × 4 pixels, of P3 8 × 8, and so on to 64 × 64; where that does not divide a side, round up. Three anchors per cell.

# %% exercise="count_anchors"

# %%
print(f"counted by code that is {lab.whose(count_anchors)}:")
print(f"our scene: {count_anchors(128, 128):,}; a photograph in a full-size model: {count_anchors(800, 1333):,}")

# %% [markdown]
# ### Which level fits the ball?
#
# **IoU**, intersection over union, says how well two boxes agree: the area they share, divided by the area they cover
# together. It is 1 for equal boxes and 0 for boxes that do not touch. Here is each thing's IoU with the best anchor of
# each level, and ◂ at the level that fits best.

# %%
fit = torch.stack([boxes.iou(target["boxes"], level).amax(1) for level in anchors], dim=1)  # (things, levels)
level_names = [f"P{level}" for level in range(2, 7)]
print(f"the ball's level: {level_names[fit[things.index('ball')].argmax()]}. You said: {my_level}")
pictures.told("Each thing's best IoU, row by row", views.level_table(fit, things, level_names))

# %% [markdown]
# An anchor only has to be close enough; then it is moved.
#
# ## 4. Objectness and deltas
#
# One small network, the **RPN head**, slides over all levels. For each anchor it gives five numbers. One is the
# **objectness**: is an object here? It is a **logit**, any number, of which the **sigmoid** makes a probability: that is
# drawn, for the best anchor of each cell. The other four, the **deltas**, say how to move the box: right, down, wider,
# taller.

# %%
logits, deltas = model.rpn.head(features)
print("objectness of each level:", [tuple(each.shape) for each in logits])
print("deltas of each level:    ", [tuple(each.shape) for each in deltas])
levels_drawn = views.objectness_levels([each[0] for each in logits], cells, batch.sizes[0])
pictures.told("Objectness of each level", levels_drawn)

# %% [markdown]
# Below are the five surest anchors, dotted, and where their deltas move them, solid.

# %%
surest = torch.cat(logits, dim=1)[0].topk(5).indices
before = torch.cat(anchors)[surest]
after = boxes.decode(torch.cat(deltas, dim=1)[0, surest], before, (1.0, 1.0, 1.0, 1.0))  # the deltas as they are
sure = torch.cat(logits, dim=1)[0, surest].sigmoid()
moved = views.moves(whole.seen, before, after, [f"objectness {each:.2f}" for each in sure])
pictures.told("The five surest anchors and where they move", moved)

# %% [markdown]
# ## 5. Proposals
#
# Many anchors end up on the same thing. **Non-maximum suppression** (NMS) keeps the surest box of every heap, and
# drops the others that overlap it too much (lesson 06). The best anchors of each level, moved by their deltas, go in:
# the **candidates**. What comes out are the **proposals**.

# %%
proposals = model.rpn.propose(anchors, logits, deltas, batch.sizes)
rpn_settings = model.rpn.settings
print(f"of each level at most {rpn_settings.pre_nms_top_n_test} candidates go in: {len(whole.candidates)} in all")
print(f"at most {rpn_settings.post_nms_top_n_test} proposals come out: {len(proposals[0])}")
stages = {"all anchors": torch.cat(anchors), "before NMS": whole.candidates, "after NMS": proposals[0]}
pictures.told("Boxes over the picture", views.box_pages(whole.seen, stages))

# %% [markdown]
# ## 6. Regions of interest
#
# From here on a proposal is called a **region of interest**, or RoI. The next network wants inputs of one size, so
# from each RoI the features are read at 7 × 7 places: this is **RoIAlign** (lesson 07). Above, eight RoIs cut out of
# the picture; below, what the network sees of them.

# %%
maps = features[:-1]  # P6 has too few cells to read from
box_settings = model.roi_heads.box
pooled = roi_heads.multiscale_roi_align(maps, 4, proposals, box_settings.resolution, box_settings.canonical_size)
print("pooled:", tuple(pooled.shape))
pictures.told("Eight regions of the picture", views.regions(whole.seen, proposals[0][:8], pooled[:8]))

# %% [markdown]
# ### Build it: which level is a RoI read from?
#
# A large RoI is read from a coarse level, a small one from a fine level. For a RoI of width w and height h, whose side
# would be $\sqrt{wh}$ if it were a square, the level is (*Feature Pyramid Networks*, equation 1; ⌊ ⌋ means rounded down)
#
# $$k = \lfloor 4 + \log_2(\sqrt{wh} \,/\, \text{canonical size}) \rfloor$$
#
# So a RoI of the canonical size is read from P4, one of half the side from P3. There is no level below P2 and, for
# reading, none above P5.

# %% exercise="choose_level"

# %% [markdown]
# The canonical size is 224, the side of the pictures that backbones used to be trained on. **Predict**: from which
# levels are this scene's RoIs read?

# %%
my_levels = None

# %%
levels = choose_level(proposals[0], box_settings.canonical_size).long()
print(f"RoIs per level, by code that is {lab.whose(choose_level)}:")
print({f"P{k}": int((levels == k).sum()) for k in range(2, 6)}, " You said:", my_levels)

# %% [markdown]
# To leave P2 a RoI needs a side of 112 pixels or more, and the scene is 128 wide. The rule was made for larger pictures.
# If this scene were shown four times as large, its RoIs would spread out:

# %%
levels_if_larger = choose_level(proposals[0] * 4, box_settings.canonical_size).long()
spread = views.roi_levels(maps, proposals[0], levels_if_larger - 2, batch.sizes[0])
pictures.told("RoIs over the level that each would be read from", spread)

# %% [markdown]
# An anchor belongs to a level because it stands there; a RoI is *sent* to a level for its size.
#
# ## 7. Class scores and better boxes
#
# The **box head** looks at the 7 × 7 × 64 numbers of each RoI and gives seven scores, one per class. Class 0 is
# "nothing", the background. **Softmax** makes probabilities of them, which sum to 1. The box head also gives four deltas
# for every class, to move the box a second time.

# %%
class_logits, class_deltas = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
scores = class_logits.softmax(-1)
print("class scores:", tuple(scores.shape), " deltas:", tuple(class_deltas.shape))

figure, (left, right) = views.panels(2, side=3.6)
views.draw_scores(left.inset_axes((0, 0.2, 1, 0.8)), scores[:16], ["nothing", *names[1:]])
views.caption(left, "probabilities in %, the first 16 RoIs", "one row per RoI")
views.draw_dimmed(right, whole.seen)
objects = (scores[:, 1:].amax(1) > 0.5).nonzero()[:6, 0]  # six that are probably something
label = scores[objects, 1:].argmax(1) + 1
moved = boxes.decode(class_deltas[objects, label], proposals[0][objects], box_settings.delta_weights)
views.draw_moves(right, proposals[0][objects], moved)
views.caption(right, "the box moves a second time", "dotted: proposals, solid: after")
pictures.told("A table of class scores, and boxes that move", figure)

# %% [markdown]
# A last NMS, for each class on its own, removes doubles. Every **detection** above a low bar, `min_score`, stays: it is
# for the user to say how sure is sure enough. Our pictures draw those from 0.5 on.

# %%
found = box_head.postprocess_detections(scores, class_deltas, proposals[0], batch.sizes[0], box_settings)
for label, score in zip(found["labels"][:8], found["scores"], strict=False):
    print(f"{names[label]:9} {score:.2f}")
print(
    f"{len(found['boxes'])} in all above {box_settings.min_score}; from 0.5 on: {int((found['scores'] >= 0.5).sum())}"
)

# %% [markdown]
# ## 8. Masks
#
# For each detection the **mask head** gives a map of 28 × 28 for every class: which part of the box belongs to the
# thing, *if* it is of this class? The box head has chosen the class, so only that map is used: below, the one marked.

# %%
mask_logits = model.roi_heads.predict("mask", maps, 4, [found["boxes"]])
rows = torch.arange(len(mask_logits))
found["masks"] = mask_logits[rows, found["labels"]].sigmoid()[:, None]
print("mask logits:", tuple(mask_logits.shape), " chosen:", tuple(found["masks"].shape))

figure, axes = views.panels(len(names) - 1, side=1.6, columns=6)
for label, where in enumerate(axes, start=1):
    views.draw_map(where, mask_logits[0, label].sigmoid(), (28, 28), vmin=0, vmax=1)
    views.caption(where, f"▸ {names[label]} ◂" if label == found["labels"][0] else names[label])
pictures.told("The surest detection's mask for each class", figure)

# %% [markdown]
# The mask is then stretched to the size of its box and **pasted** into an empty picture (the extra exercise at the end).

# %%
pasted = mask_head.paste_masks(found["masks"][:1], found["boxes"][:1], batch.sizes[0])[0, 0]
figure, axes = views.panels(3, side=2.4)
views.draw_map(axes[0], found["masks"][0, 0], (28, 28), vmin=0, vmax=1)
views.caption(axes[0], "as predicted", views.shape_of(found["masks"][0, 0]))
views.draw_map(axes[1], pasted, batch.sizes[0], vmin=0, vmax=1)
views.caption(axes[1], "pasted", views.shape_of(pasted))
visualize.draw_image(axes[2], image)
visualize.draw_mask(axes[2], pasted.numpy(), found["boxes"][0].numpy(), views.ORANGE)
views.caption(axes[2], "where it is 0.5 or more")
pictures.told("The surest detection's mask", figure)

# %% [markdown]
# ## 9. Keypoints
#
# The **keypoint head** gives one map of 56 × 56 for each of a person's 17 **keypoints**: a **heatmap**. The brighter a
# cell, the likelier the keypoint is in it. Left and right are the person's own. The crosses mark what was read.

# %%
heatmaps = model.roi_heads.predict("keypoint", maps, 4, [found["boxes"]])
found["keypoints"], found["keypoints_scores"] = keypoint_head.heatmaps_to_keypoints(heatmaps, found["boxes"])
print("heatmaps:", tuple(heatmaps.shape), " keypoints:", tuple(found["keypoints"].shape))

person = found["labels"].tolist().index(names.index("person"))
some = ("nose", "left_wrist", "right_wrist", "left_knee", "right_ankle")
chosen = {name: model.labels["keypoint_names"].index(name) for name in some}
drawn = views.keypoints(whole.seen, found["boxes"][person], heatmaps[person], found["keypoints"][person], chosen)
pictures.told("Heatmaps over a person's box, a cross at each peak", drawn)

# %% [markdown]
# ### Build it: read a keypoint from its heatmap
#
# Enlarge the heatmap to the box's width and height in whole pixels, rounded up: `F.interpolate(maps, size=(height,
# width), mode="bicubic")`, where `maps` is `heatmap[None, None]`. Find the pixel with the largest value. Its middle is
# half a pixel to the right and below. Scale that from whole pixels to the box's exact size, and add the box's corner.

# %% exercise="read_keypoint"

# %%
x, y = read_keypoint(heatmaps[person, 0], found["boxes"][person])
print(f"the nose is at x = {x:.1f}, y = {y:.1f}, by code that is {lab.whose(read_keypoint)}")

# %% [markdown]
# ## 10. The answer
#
# Last, everything goes back to the pixels of the picture as it was given. Is this what the model itself says? Not
# nearly: exactly.

# %%
result = model.roi_heads.restore(found, batch.sizes[0], batch.original_sizes[0])
(answer,) = model([image])
for name in answer:
    print(f"{name:17} {tuple(result[name].shape)!s:20} equal: {torch.equal(result[name], answer[name])}")
assert all(torch.equal(result[name], answer[name]) for name in answer)

# %% [markdown]
# ## Change the scene
#
# First some changes to our scene, and only the answers. What do you expect in each?

# %%
ball, figure_of_person = target["masks"][things.index("ball")], target["masks"][things.index("person")]
scenes = {
    "as it was": image,
    "the ball removed": erase(image, ball),
    "the person moved": move(image, figure_of_person, right=-25, down=12),
    "noise added": (image + 40 * torch.randn(image.shape)).clamp(0, 255).to(torch.uint8),
    "another seed": Playground(1, seed=2026)[0][0],
}
figure, axes = views.panels(len(scenes), side=2.0)
for (name, scene), where in zip(scenes.items(), axes, strict=True):
    pictures.draw_found(where, scene, model([scene])[0], model.labels)
    views.caption(where, name)
pictures.told("What is found in each scene", figure)

# %% [markdown]
# Now a photograph: old coins. The model has never seen a photograph, only drawn balls. For a picture of your own, use
# `mrcnn.data.read_picture("my.jpg")`.

# %%
from skimage import data

photograph = torch.from_numpy(data.coins()).expand(3, -1, -1)  # grey: the same in red, green and blue
pictures.flow(walk(model, photograph), model.labels)

# %% [markdown]
# Whatever the model finds, it can only call it by one of the six names that it knows.
#
# ## Break it
#
# Three kinds of damage. **Predict** which one hurts most, then run.
#
# - *Swap P2 and P3*: each is resized to the other's size, so that all shapes still fit.
# - *Skip the normalisation*: pixels stay between 0 and 1.
# - *Leave NMS out*, in both places.

# %%
hurts_most = None  # "levels swapped", "not normalised" or "without NMS"


# %%
def swapped(module, inputs, maps):
    p2, p3, *rest = maps
    return [F.interpolate(p3, p2.shape[2:]), F.interpolate(p2, p3.shape[2:]), *rest]


damaged = {"as it is": walk(model, image)}
hook = model.backbone.register_forward_hook(swapped)
damaged["levels swapped"] = walk(model, image)
hook.remove()

raw = dataclasses.replace(model.settings.images, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
with changed(model, "settings", images=raw):
    damaged["not normalised"] = walk(model, image)

with changed(model.rpn, "settings", nms_iou=1.0), changed(model.roi_heads, "box", nms_iou=1.0):
    damaged["without NMS"] = walk(model, image)

figure, axes = views.panels(len(damaged), side=2.5)
for (name, each), where in zip(damaged.items(), axes, strict=True):
    pictures.draw_found(where, image, each.result, model.labels)
    views.caption(
        where, name, f"{len(each.proposals)} proposals, {int((each.result['scores'] >= 0.5).sum())} boxes found"
    )

for name, each in damaged.items():
    sure = each.result["scores"] >= 0.5
    overlap = boxes.iou(target["boxes"], each.result["boxes"][sure])  # (things, sure detections)
    right = (overlap >= 0.5) & (target["labels"][:, None] == each.result["labels"][sure])
    found_again = int(right.any(1).sum())
    print(f"{name:15} {found_again} of {len(things)} things found, {int(sure.sum()) - found_again} boxes too many")
print("you said:", hurts_most)
pictures.told("What the damaged model finds", figure)

# %% [markdown]
# A thing counts as found if a box of its class has an IoU of 0.5 or more with it. What is too much can still be removed
# afterwards, but nobody can bring back what was not found. One scene is little, though: try another seed.
#
# - With swapped levels the RoIs, read from P2, find P3's numbers there, which mean something else.
# - Without normalisation every shape is right and nothing complains. The answer may even look good. Such a mistake stays
#   hidden for long: the picture above is all the warning you get.
# - Without NMS the places for proposals fill up with copies of the surest things, and less sure ones may find no place.
#
# ## What does it cost?
#
# A convolution makes each number of its output from all input channels, over a small square. Its cost is counted in
# **multiply-adds**: one multiplication and the addition of its result.

# %% exercise="multiply_adds"

# %%
print(f"by code that is {lab.whose(multiply_adds)}:")
for level, (height, width) in enumerate(cells):
    print(f"RPN, 3 by 3 convolution on P{level + 2}: {multiply_adds(64, 64, 3, height, width):12,} multiply-adds")

# %% [markdown]
# P2 costs more than all others together. Now all stages. **Predict** which takes longest: the backbone runs once, the
# box head for each proposal, the mask and keypoint heads for each detection.

# %%
slowest = None  # "backbone", "RPN head", "box head", "mask head", "keypoint head"

# %%
heads = model.roi_heads
stages = {
    "backbone": lambda: model.backbone(batch.pixels),
    "RPN head": lambda: model.rpn.head(features),
    "proposals": lambda: model.rpn.propose(anchors, logits, deltas, batch.sizes),
    "box head": lambda: heads.predict("box", maps, 4, proposals),
    "mask head": lambda: heads.predict("mask", maps, 4, [found["boxes"]]),
    "keypoint head": lambda: heads.predict("keypoint", maps, 4, [found["boxes"]]),
    "keypoints read": lambda: keypoint_head.heatmaps_to_keypoints(heatmaps, found["boxes"]),
    "masks pasted": lambda: mask_head.paste_masks(found["masks"], result["boxes"], batch.original_sizes[0]),
}
counted = {name: count_multiply_adds(stage) / 1e6 for name, stage in stages.items()}
milliseconds = lab.timed(stages)
print(f"The slowest: {max(milliseconds, key=milliseconds.get)}. You said: {slowest}")

# %%
bars = {"millions of multiply-adds": counted, "milliseconds": milliseconds}
drawn = views.shares(bars, {"millions of multiply-adds": "{:,.0f}", "milliseconds": "{:.1f}"})
pictures.told("Bars of multiply-adds, then of milliseconds, stage by stage", drawn)

# %% [markdown]
# Where hardly anything is multiplied, time goes into moving data and starting many small operations (lesson 15).
#
# ## Now find it in the real file
#
# The model's own `forward` has the steps that you have walked, for many pictures at once. The branch for training gives
# *losses*, numbers that say how wrong the model was (lesson 11).

# %%
lab.show(mrcnn.MaskRCNN.forward, start="check_images(images)")

# %% [markdown]
# ## Questions
#
# ### 1. Another canonical size
#
# With a canonical size of 56, RoIs spread over the levels as the rule meant it. Better or worse? Why?

# %%
with changed(model.roi_heads, "box", canonical_size=56.0):
    spread_out = model([image])[0]
figure, axes = views.panels(2, side=2.5)
for name, each, where in (("as it is", result, axes[0]), ("canonical size 56", spread_out, axes[1])):
    pictures.draw_found(where, image, each, model.labels)
    views.caption(where, name)
pictures.told("What is found with each canonical size", figure)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Worse. The heads were trained on features that were read from P2 almost always, and nobody taught them what those of P3
# and P4 mean. A setting that the weights were trained with is part of the weights.
#
# </details>
#
# ### 2. A picture of noise
#
# With `noise = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)`, draw `pictures.flow(walk(model, noise),
# model.labels)`. Why are there so many proposals and (we hope) few detections?
#
# <details><summary>Answer</summary>
#
# Proposals are chosen by rank: the RPN gives its best boxes even where none is good. Detections are chosen by a score,
# which must be high enough. The first stage must miss nothing; it is the second that says no.
#
# </details>
#
# ## Extra: paste a mask
#
# The recipe, as the published models have it:
#
# 1. Put a rim of one zero on each side of the mask (`F.pad`); it can then fade out.
# 2. Let the box grow with it, by the factor 30 / 28 (`mask_head.grow_boxes(boxes, factor)`), and cut its corners to
#    whole numbers (`.to(torch.int64)`).
# 3. Enlarge the mask bilinearly to the box's pixels, the first and the last included: x2 - x1 + 1 columns.
# 4. Lay it into a picture of zeros. What reaches beyond the border is cut off.

# %% exercise="paste_mask"

# %% [markdown]
# ## What we left out, and where to read on
#
# - **How it is learnt** (lesson 12), and **how well it works**, in numbers (lesson 13).
# - **The full size.** A ResNet-50 for a backbone, 256 channels, pictures of 800 pixels, and the same fifteen cards.
# - **The papers.** *Mask R-CNN* (He et al., 2017); *Feature Pyramid Networks* (Lin et al., 2017), section 4.
# - **Next.** Lesson 01: what instance segmentation is, and how masks are written down.
