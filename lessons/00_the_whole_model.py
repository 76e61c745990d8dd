# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # The whole model in one picture
#
# One scene goes in, and every tensor on its way to the answer is drawn: features, anchors, proposals, regions, scores,
# masks, joints.
#
# **Goal.** To have seen every step of Mask R-CNN once, with real numbers in it, and to know which file makes it.
# **Time.** About 40 minutes; the cells themselves run in less than one.
# **You should know** Python and a little PyTorch: what a tensor, its shape and a convolution are.
#
# Press Shift+Enter to run a cell and go on to the next. Nothing here can be broken: change what you like, run it again.

# %%
import dataclasses

import torch
import torch.nn.functional as F

import mrcnn
from mrcnn import box_head, boxes, images, keypoint_head, lab, mask_head, roi_heads, visualize
from mrcnn.anchors import make_anchors
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.exercises import tour
from mrcnn.lab.views import pictures
from mrcnn.lab.views.flow import flow
from mrcnn.lab.walk import changed, count_multiply_adds, erase, move, walk

torch.set_grad_enabled(False)  # we only look, nothing is trained
torch.manual_seed(0)
model = mrcnn.playground_rcnn(pretrained=True)

# %% [markdown]
# `model` is a small Mask R-CNN that comes with the package. It was trained on the **playground**: scenes drawn from a
# seed, with people, balls, boxes, triangles, stars and rings in them. Here is one such scene. `target` says what is
# truly in it; the model never gets to see that.

# %%
image, target = Playground(117, seed=7)[116]
names = model.labels["categories"]
print("the picture:", tuple(image.shape), image.dtype)
print("in it:", [names[label] for label in target["labels"]])

# %% [markdown]
# ## All of it
#
# Read it like a page, row by row. Each card is one tensor, with its shape below its name. The small line on top says
# which file of `mrcnn/` makes it.
#
# - **First row**: from the picture to the question "where could something be?". The *backbone* turns the picture into
#   maps of numbers, the *features*, at five scales, named P2 to P6. *Anchors* are boxes that stand at fixed places. The
#   *region proposal network* gives each of them a score: is there an object?
# - **Second row**: the best anchors are moved to fit, and doubles are removed. What is left are the *proposals*. The
#   features under each are cut out, and the *box head* decides what it is and where exactly.
# - **Third row**: in each box that was found, the *mask head* says which pixels belong to the thing, and the *keypoint
#   head* says where its joints are.

# %% tags=["cover"]
whole = walk(model, image)
flow(whole, model.labels)

# %% [markdown]
# Bright means much, dark means little. Boxes and maps are drawn over the picture in grey.
#
# ## Predict
#
# Before you go on, write down three guesses. Being wrong is fine: a guess makes you look more closely.
#
# 1. The picture has 3 × 128 × 128 = 49,152 numbers. How many are in the feature pyramid, P2 to P6 together?
#    (Each level has 64 channels. P2 has one cell for every 4 × 4 pixels, and each level has half as many rows and
#    columns as the one before.)
# 2. How many anchors does the model look at? (Three at each cell of each level.)
# 3. The ball is about 40 pixels wide. Which level will see it best: P2 (fine), P3, P4, P5 or P6 (coarse)?

# %%
my_numbers = None
my_anchors = None
my_level = None  # "P2" … "P6"

# %% [markdown]
# Now the same walk once more, slowly. Each section below makes one of the cards with the model's own parts.
#
# ## 1. The picture becomes a batch
#
# A network wants small numbers around zero. So the mean brightness of each colour is taken away, and the rest is
# divided by its usual spread. Pictures of several sizes become one **batch**: they are resized, then padded with
# zeros until they have the same size.

# %%
batch, _ = images.prepare([image], None, model.settings.images, training=False)
print("pixels:", tuple(batch.pixels.shape), " size of the picture in it:", batch.sizes)
pictures.normalisation(image, batch.pixels[0])

# %% [markdown]
# ## 2. The batch becomes features
#
# The backbone is a stack of convolutions. Each cell of its output is a list of 64 numbers about a part of the picture:
# its **features**. Nobody said what the 64 should mean. Training found them.
#
# There are five maps. P2 has a cell for every 4 × 4 pixels and sees fine detail. P6 has one for every 64 × 64, and sees
# only that something large is there. Together they are the **feature pyramid**.

# %%
features = model.backbone(batch.pixels)
for level, each in enumerate(features):
    print(f"P{level + 2}: {tuple(each.shape)}, {each.numel():6,} numbers, a cell is {4 * 2**level} pixels wide")
print(f"together: {sum(each.numel() for each in features):,} numbers. Your guess: {my_numbers}")

# %% [markdown]
# In the first row below, a cell is bright where its 64 numbers are large. The other rows show single channels of P2
# and P3, the ones that vary most: black is negative, grey is zero, white is positive.

# %%
pictures.pyramid(features, batch.sizes[0])

# %% [markdown]
# ## 3. Anchors
#
# The model does not search for boxes in empty space. It starts from **anchors**: boxes of fixed sizes and shapes, at
# every cell of every level. For each it answers: is an object here, and how must the box change to fit it? Fine
# levels have small anchors, coarse levels large ones. The dots are the anchors' centres; one cell's three anchors are
# drawn.

# %%
cells = [tuple(each.shape[2:]) for each in features]
anchors = make_anchors(model.settings.rpn.anchors, tuple(batch.pixels.shape[2:]), cells)
print(f"{sum(map(len, anchors)):,} anchors. Your guess: {my_anchors}")
pictures.anchor_levels(whole.seen, anchors, cells)

# %% [markdown]
# ### Build it: count them
#
# How many anchors does a picture of any size have? Both sides are first padded to a multiple of 32. Level by level, a
# cell covers 4, 8, 16, 32 and 64 pixels; where that does not divide a side, round up. Three anchors stand at each cell.


# %% exercise="count_anchors"
def count_anchors(height, width):
    """How many anchors a picture of height by width pixels has, P2 to P6. About 6 lines."""
    ...


# %% [markdown] solution="count_anchors"
# <details><summary>Solution</summary>
#
# ```python
# def count_anchors(height, width):
#     height, width = -(-height // 32) * 32, -(-width // 32) * 32  # -(-a // b) is a / b, rounded up
#     cells = 0
#     for stride in (4, 8, 16, 32, 64):
#         cells += -(-height // stride) * -(-width // stride)
#     return 3 * cells
# ```
#
# </details>

# %%
count_anchors = check(tour.count_anchors, count_anchors)
print(f"our scene: {count_anchors(128, 128):,}; a photograph in a full-size model: {count_anchors(800, 1333):,}")

# %% [markdown]
# ### Which level sees the ball?
#
# *IoU*, intersection over union, says how well two boxes agree: the area they share, divided by the area they cover
# together. It is 1 for equal boxes and 0 for boxes that do not touch. The table has, for each thing in the scene, its
# IoU with the best anchor of each level. The arrow marks the level that fits best.

# %%
fit = torch.stack([boxes.iou(target["boxes"], level).amax(1) for level in anchors], dim=1)  # (things, levels)
things = [names[label] for label in target["labels"]]
level_names = [f"P{level}" for level in range(2, 7)]
print(f"the ball's level: {level_names[fit[things.index('ball')].argmax()]}. Your guess: {my_level}")
pictures.level_table(fit, things, level_names)

# %% [markdown]
# The IoU need not be near 1. An anchor only has to be close enough; then it is moved.
#
# ## 4. Objectness and deltas
#
# One small network, the **RPN head**, slides over all levels. For each anchor it gives five numbers. One is the
# **objectness**: how sure is it that an object is here? The other four, the **deltas**, say how to move the box: right,
# down, wider, taller.

# %%
logits, deltas = model.rpn.head(features)
print("objectness of each level:", [tuple(each.shape) for each in logits])
print("deltas of each level:    ", [tuple(each.shape) for each in deltas])
pictures.objectness_levels([each[0] for each in logits], cells, batch.sizes[0])

# %% [markdown]
# The objectness comes as a *logit*, a number from minus to plus infinity. The *sigmoid* makes a probability of it: that
# is what is drawn, for the best anchor of each cell. Below are the five surest anchors, dotted, and where their deltas
# move them, solid.

# %%
surest = torch.cat(logits, dim=1)[0].topk(5).indices
before = torch.cat(anchors)[surest]
after = boxes.decode(torch.cat(deltas, dim=1)[0, surest], before, (1.0, 1.0, 1.0, 1.0))
sure = torch.cat(logits, dim=1)[0, surest].sigmoid()
pictures.moves(whole.seen, before, after, [f"objectness {each:.2f}" for each in sure])

# %% [markdown]
# ## 5. Proposals
#
# Many anchors end up on the same thing. **Non-maximum suppression** (NMS) keeps the surest box of every heap, and
# drops the others that overlap it too much. The best anchors of each level, moved by their deltas, go in: the
# *candidates*. What comes out are the proposals. Lesson 06 is about how this is done fast.

# %%
proposals = model.rpn.propose(anchors, logits, deltas, batch.sizes)
rpn_settings = model.rpn.settings
print(f"of each level at most {rpn_settings.pre_nms_top_n_test} candidates go in: {len(whole.candidates)} in all")
print(f"at most {rpn_settings.post_nms_top_n_test} proposals come out: {len(proposals[0])}")
pictures.box_pages(
    whole.seen, {"all anchors": torch.cat(anchors), "before NMS": whole.candidates, "after NMS": proposals[0]}
)

# %% [markdown]
# ## 6. Regions of interest
#
# From here on a proposal is called a **region of interest**, or RoI. The next network wants inputs of one size, and
# RoIs have all sizes. So from each RoI the features are read at 7 × 7 places. This is **RoIAlign**, and lesson 07
# builds it. Above, eight RoIs cut out of the picture. Below, what the network gets to see of them.

# %%
maps = features[:-1]  # P6 has too few cells to read from
box_settings = model.roi_heads.box
pooled = roi_heads.multiscale_roi_align(maps, 4, proposals, box_settings.resolution, box_settings.canonical_size)
print("pooled:", tuple(pooled.shape))
pictures.regions(whole.seen, proposals[0][:8], pooled[:8])

# %% [markdown]
# ### Build it: which level is a RoI read from?
#
# A large RoI is read from a coarse level, a small one from a fine level. The paper on feature pyramid networks has a
# rule for it, its equation 1. A RoI has width w and height h, and $\sqrt{wh}$ is its side, as if it were a square:
#
# $$k = \lfloor 4 + \log_2(\sqrt{wh} \,/\, \text{canonical size}) \rfloor$$
#
# So a RoI of the canonical size is read from P4, one of half the side from P3. There is no level below P2 and, for
# reading, none above P5.


# %% exercise="choose_level"
def choose_level(boxes, canonical_size):
    """Boxes (K, 4) [x1, y1, x2, y2] -> the level of each, a number from 2 to 5: (K,). About 4 lines."""
    ...


# %% [markdown] solution="choose_level"
# <details><summary>Solution</summary>
#
# ```python
# def choose_level(boxes, canonical_size):
#     width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
#     side = (width * height).sqrt()
#     level = torch.floor(4 + torch.log2(side / canonical_size))
#     return level.clamp(2, 5)
# ```
#
# </details>

# %%
choose_level = check(tour.choose_level, choose_level)

# %% [markdown]
# The canonical size is 224: pictures of that size were what backbones used to be trained on. **Predict**: from which
# levels are this scene's RoIs read?

# %%
my_levels = None

levels = choose_level(proposals[0], box_settings.canonical_size).long()
print("RoIs per level:", {f"P{k}": int((levels == k).sum()) for k in range(2, 6)}, " Your guess:", my_levels)

# %% [markdown]
# A surprise? To leave P2 a RoI needs a side of 112 pixels or more, and the scene is 128 wide. The rule was made for
# pictures whose short side is 800. If this scene were shown four times as large, its RoIs would spread out, like this:

# %%
levels_if_larger = choose_level(proposals[0] * 4, box_settings.canonical_size).long()
pictures.roi_levels(maps, proposals[0], levels_if_larger - 2, batch.sizes[0])

# %% [markdown]
# So the two rules are different. An anchor belongs to a level because it stands there; a RoI is *sent* to a level for
# its size.
#
# ## 7. Class scores and better boxes
#
# The **box head** looks at the 7 × 7 × 64 numbers of each RoI and gives seven scores, one per class. Class 0 is
# "nothing", the background. *Softmax* makes probabilities of them: they are at least 0 and sum to 1. It also gives four
# deltas for every class, to move the box a second time.

# %%
class_logits, class_deltas = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
scores = class_logits.softmax(-1)
print("class scores:", tuple(scores.shape), " deltas:", tuple(class_deltas.shape))

figure, (left, right) = pictures.panels(2, side=3.6)
pictures.draw_scores(left.inset_axes((0, 0.2, 1, 0.8)), scores[:16], ["nothing", *names[1:]], fontsize=8)
pictures.caption(left, "probabilities in %, the first 16 RoIs", "one row per RoI")
pictures.draw_dimmed(right, whole.seen)
objects = (scores[:, 1:].amax(1) > 0.5).nonzero()[:6, 0]  # six that are probably something
label = scores[objects, 1:].argmax(1) + 1
moved = boxes.decode(class_deltas[objects, label], proposals[0][objects], box_settings.delta_weights)
pictures.draw_moves(right, proposals[0][objects], moved)
pictures.caption(right, "the box moves a second time", "dotted: proposals, solid: after")
figure

# %% [markdown]
# A last NMS, for each class on its own, removes doubles. Every detection above a low bar, `min_score`, stays. That is
# generous: it is for the user to say how sure is sure enough. Our pictures draw those from 0.5 on.

# %%
found = box_head.postprocess_detections(scores, class_deltas, proposals[0], batch.sizes[0], box_settings)
for name, score in zip([names[label] for label in found["labels"][:8]], found["scores"], strict=False):
    print(f"{name:9} {score:.2f}")
print(
    f"… {len(found['boxes'])} in all above {box_settings.min_score}; from 0.5 on:",
    (found["scores"] >= 0.5).sum().item(),
)

# %% [markdown]
# ## 8. Masks
#
# The **mask head** is a small network for each box that was found. It gives a map of 28 × 28 for every class: which
# part of the box belongs to the thing, *if* it is of this class? The maps do not compete. The box head has already
# chosen the class, so only that map is used. Here are all maps of the surest detection; the one in use is marked.

# %%
mask_logits = model.roi_heads.predict("mask", maps, 4, [found["boxes"]])
rows = torch.arange(len(mask_logits))
found["masks"] = mask_logits[rows, found["labels"]].sigmoid()[:, None]
print("mask logits:", tuple(mask_logits.shape), " chosen:", tuple(found["masks"].shape))

figure, axes = pictures.panels(len(names) - 1, side=1.6, columns=6)
for label, where in enumerate(axes, start=1):
    pictures.draw_map(where, mask_logits[0, label].sigmoid(), (28, 28), vmin=0, vmax=1)
    pictures.caption(where, f"▸ {names[label]} ◂" if label == found["labels"][0] else names[label])
figure

# %% [markdown]
# ### Build it: paste a mask
#
# A mask of 28 × 28 must become a mask of the picture's size. The recipe, as the published models have it:
#
# 1. Put a rim of one zero on each side of the mask (`F.pad`): 30 × 30. So it can fade out.
# 2. Let the box grow with it, by the factor 30 / 28 (`mask_head.grow_boxes(boxes, factor)`), and cut its corners to
#    whole numbers (`.to(torch.int64)`).
# 3. Enlarge the mask bilinearly to the box's pixels, the first and the last included: x2 - x1 + 1 columns.
# 4. Lay it into a picture of zeros. What reaches beyond the border is cut off.


# %% exercise="paste_mask"
def paste_mask(mask, box, size):
    """A mask (M, M) and its box (4,) -> the mask in a picture of size (height, width). About 9 lines."""
    ...


# %% [markdown] solution="paste_mask"
# <details><summary>Solution</summary>
#
# ```python
# def paste_mask(mask, box, size):
#     rimmed = F.pad(mask, (1, 1, 1, 1))
#     x1, y1, x2, y2 = mask_head.grow_boxes(box[None], len(rimmed) / len(mask))[0].to(torch.int64).tolist()
#     shape = (y2 - y1 + 1, x2 - x1 + 1)
#     large = F.interpolate(rimmed[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]
#     left, right = max(x1, 0), min(x2 + 1, size[1])
#     top, bottom = max(y1, 0), min(y2 + 1, size[0])
#     picture = torch.zeros(size)
#     picture[top:bottom, left:right] = large[top - y1 : bottom - y1, left - x1 : right - x1]
#     return picture
# ```
#
# </details>

# %%
paste_mask = check(tour.paste_mask, paste_mask)

# %%
figure, axes = pictures.panels(3, side=2.4)
pasted = paste_mask(found["masks"][0, 0], found["boxes"][0], batch.sizes[0])
pictures.draw_map(axes[0], found["masks"][0, 0], (28, 28), vmin=0, vmax=1)
pictures.caption(axes[0], "as predicted", pictures.shape_of(found["masks"][0, 0]))
pictures.draw_map(axes[1], pasted, batch.sizes[0], vmin=0, vmax=1)
pictures.caption(axes[1], "pasted", pictures.shape_of(pasted))
visualize.draw_image(axes[2], image)
visualize.draw_mask(axes[2], pasted.numpy(), found["boxes"][0].numpy(), pictures.ORANGE)
pictures.caption(axes[2], "where it is 0.5 or more")
figure

# %% [markdown]
# ## 9. Joints
#
# The **keypoint head** gives one map of 56 × 56 for each of 17 joints: a **heatmap**. For each joint a softmax over all
# cells asks: which *one* cell is it in? Left and right are the person's own. The crosses mark what was read.
# The maps are drawn as they come, as logits, before the softmax: the brighter, the likelier.

# %%
heatmaps = model.roi_heads.predict("keypoint", maps, 4, [found["boxes"]])
found["keypoints"], found["keypoints_scores"] = keypoint_head.heatmaps_to_keypoints(heatmaps, found["boxes"])
print("heatmaps:", tuple(heatmaps.shape), " keypoints:", tuple(found["keypoints"].shape))

person = found["labels"].tolist().index(names.index("person"))
some = ("nose", "left_wrist", "right_wrist", "left_knee", "right_ankle")
chosen = {name: model.labels["keypoint_names"].index(name) for name in some}
pictures.keypoints(whole.seen, found["boxes"][person], heatmaps[person], found["keypoints"][person], chosen)

# %% [markdown]
# ### Build it: read a joint from its heatmap
#
# Enlarge the heatmap to the size of the box in whole pixels, rounded up (`F.interpolate`, `mode="bicubic"`). Find the
# largest value. The middle of its pixel is half a pixel to the right and below. Scale that to the box's exact size,
# and add the box's corner.


# %% exercise="read_keypoint"
def read_keypoint(heatmap, box):
    """A heatmap (M, M) and its box (4,) [x1, y1, x2, y2] -> x and y in the picture. About 7 lines."""
    ...


# %% [markdown] solution="read_keypoint"
# <details><summary>Solution</summary>
#
# ```python
# def read_keypoint(heatmap, box):
#     size = box[2:] - box[:2]
#     width, height = size.ceil().int().tolist()
#     large = F.interpolate(heatmap[None, None], size=(height, width), mode="bicubic", align_corners=False)[0, 0]
#     row, column = divmod(int(large.argmax()), width)
#     x = (column + 0.5) * size[0] / width + box[0]
#     y = (row + 0.5) * size[1] / height + box[1]
#     return x, y
# ```
#
# </details>

# %%
read_keypoint = check(tour.read_keypoint, read_keypoint)
x, y = read_keypoint(heatmaps[person, 0], found["boxes"][person])
print(f"the nose is at x = {x:.1f}, y = {y:.1f}")

# %% [markdown]
# ## 10. The answer
#
# Last, everything goes back to the pixels of the picture as it was given, and the masks are pasted. Is this what the
# model itself says? Not nearly: exactly.

# %%
result = model.roi_heads.restore(found, batch.sizes[0], batch.original_sizes[0])
(answer,) = model([image])
for name in answer:
    print(f"{name:17} {tuple(result[name].shape)!s:20} equal: {torch.equal(result[name], answer[name])}")
assert all(torch.equal(result[name], answer[name]) for name in answer)

# %% [markdown]
# So you have seen all of it. Here is the model's own `forward`: the same steps, for many pictures at once. The branch
# for training gives *losses*, numbers that say how wrong the model was; lesson 11 (to come) is about them.

# %%
lab.show(mrcnn.MaskRCNN.forward, start="check_images(images)")

# %% [markdown]
# ## Change the scene
#
# `walk(model, picture)` makes all tensors of any picture, uint8 of shape (3, height, width), and `flow` draws them.
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
figure, axes = pictures.panels(len(scenes), side=2.0)
for (name, scene), where in zip(scenes.items(), axes, strict=True):
    visualize.draw_objects(where, scene, model([scene])[0], model.labels)
    pictures.caption(where, name)
figure

# %% [markdown]
# Now a photograph: old coins, from scikit-image's collection. The model has never seen a photograph, let alone coins.
# It has seen drawn balls. For a picture of your own, use `mrcnn.data.read_picture("my.jpg")`.

# %%
from skimage import data

photograph = torch.from_numpy(data.coins()).expand(3, -1, -1)  # grey: the same in red, green and blue
flow(walk(model, photograph), model.labels)

# %% [markdown]
# Three things to look at: the batch is not square any more, and padded to a multiple of 32; there are more anchors; and
# whatever the model finds, it can only call it by one of the six names that it knows.
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

figure, axes = pictures.panels(len(damaged), side=2.5)
for (name, each), where in zip(damaged.items(), axes, strict=True):
    count = visualize.draw_objects(where, image, each.result, model.labels)
    pictures.caption(where, name, f"{len(each.proposals)} proposals, {count} things found")

for name, each in damaged.items():
    sure = each.result["scores"] >= 0.5
    overlap = boxes.iou(target["boxes"], each.result["boxes"][sure])  # (things, sure detections)
    right = (overlap >= 0.5) & (target["labels"][:, None] == each.result["labels"][sure])
    found_again = int(right.any(1).sum())
    print(f"{name:15} {found_again} of {len(things)} things found, {int(sure.sum()) - found_again} boxes too many")
print("you said:", hurts_most)
figure

# %% [markdown]
# Which hurts most? That depends on what you count. The lines above the pictures count two things: what was *lost* (a
# thing is found if a box of its class has IoU 0.5 or more with it), and what is *too much*. Lost things weigh more: a
# copy can still be removed afterwards, but nobody can bring back what was not found. So the one with the fewest things
# found hurts most. One scene is little, though; try another seed.
#
# - With swapped levels, anchors of one size look at features that were made for another. And you saw that nearly
#   every RoI is read from P2: the heads now find P3's numbers there. The places are right, but the numbers mean
#   something else.
# - Without normalisation every shape is right and nothing complains. The answer may even look good, only less sure,
#   or with something missing. Such a mistake stays hidden for long: the picture above is all the warning you get.
# - Without NMS each thing is found many times over. (The names lie on top of one another: each is one more copy.) The
#   places for proposals fill up with copies of the surest things, and less sure ones may find no place.
#
# ## How fast is it?
#
# First by arithmetic. A convolution makes each number of its output from all input channels, over a small square. Its
# cost is counted in **multiply-adds**: one multiplication and the addition of its result. Think of the RPN's 3 × 3
# convolution, from 64 channels to 64, on P2 with its 32 × 32 cells.


# %% exercise="multiply_adds"
def multiply_adds(channels_in, channels_out, kernel, height, width):
    """How many multiply-adds a convolution with a square kernel makes for an output of height by width. One line."""
    ...


# %% [markdown] solution="multiply_adds"
# <details><summary>Solution</summary>
#
# ```python
# def multiply_adds(channels_in, channels_out, kernel, height, width):
#     return channels_in * kernel * kernel * channels_out * height * width
# ```
#
# </details>

# %%
multiply_adds = check(tour.multiply_adds, multiply_adds)
for level, (height, width) in enumerate(cells):
    print(f"RPN, 3 by 3 convolution on P{level + 2}: {multiply_adds(64, 64, 3, height, width):12,} multiply-adds")

# %% [markdown]
# Each level has a quarter of the cells of the one before, so P2 costs more than all others together.
#
# Now all stages: their multiply-adds, counted while they run, and their time. Which stage do you expect to take
# longest? Two things help to guess. The backbone runs once. The box head runs for each of 128 proposals, the mask and
# keypoint heads for each detection.

# %%
heads = model.roi_heads
stages = {
    "backbone": lambda: model.backbone(batch.pixels),
    "RPN head": lambda: model.rpn.head(features),
    "proposals, NMS": lambda: model.rpn.propose(anchors, logits, deltas, batch.sizes),
    "box head": lambda: heads.predict("box", maps, 4, proposals),
    "mask head": lambda: heads.predict("mask", maps, 4, [found["boxes"]]),
    "keypoint head": lambda: heads.predict("keypoint", maps, 4, [found["boxes"]]),
    "keypoints read": lambda: keypoint_head.heatmaps_to_keypoints(heatmaps, found["boxes"]),
    "masks pasted": lambda: mask_head.paste_masks(found["masks"], result["boxes"], batch.original_sizes[0]),
}
counted = {name: count_multiply_adds(stage) / 1e6 for name, stage in stages.items()}
milliseconds = lab.timed(stages)

# %%
pictures.shares(
    {"millions of multiply-adds": counted, "milliseconds": milliseconds},
    {"millions of multiply-adds": "{:,.0f}", "milliseconds": "{:.1f}"},
)

# %% [markdown]
# The two sides do not agree everywhere. Where hardly anything is multiplied, time goes into moving data and into
# starting many small operations. Lesson 15 (to come) follows the milliseconds further.
#
# Each detection costs a mask and 17 heatmaps, however unlikely it is. What if the bar, `min_score`, were lower or
# higher?

# %%
for least in (0.001, box_settings.min_score, 0.5):
    with changed(model.roi_heads, "box", min_score=least):
        count = len(model([image])[0]["boxes"])
        total = count_multiply_adds(lambda: model([image])) / 1e6
    print(f"detections from {least:5} on: {count:3} of them, {total:6,.0f} million multiply-adds for the whole model")

# %% [markdown]
# ## Exercises
#
# **1.** A picture of twice the width and height, 256 × 256, is given to this model. It has room for it
# (`max_size=256`), but does it get it? Which tensors of the first picture become larger, and which keep their size?
# Then look: `walk(model, picture).batch.sizes`.
#
# <details><summary>Answer</summary>
#
# `min_size=(128,)` is the length of the *short* side after resizing: the picture is made 128 × 128 again, and only the
# answer becomes larger, as it is given in the picture's own pixels. To let it through, change the setting:
# `with changed(model, "settings", images=dataclasses.replace(model.settings.images, min_size=(256,))):`. Then the maps
# have four times as many cells, and there are four times as many anchors. Proposals, pooled features, and the maps of
# the mask and keypoint heads keep their shapes: their cost does not grow with the picture.
#
# </details>
#
# **2.** Let RoIs spread over the levels as the rule meant it: run the model inside
# `with changed(model.roi_heads, "box", canonical_size=56.0):` and draw what it finds. Better or worse? Why?
#
# <details><summary>Answer</summary>
#
# Worse, or at best the same. The heads were trained on features that were read from P2 almost always. Features of P3
# and P4 are other numbers, and nobody taught the heads what they mean. A setting that the weights were trained with
# is part of the weights.
#
# </details>
#
# **3.** Move the person with `move` until half of it is behind the ball, or out of the picture on one side (it comes
# back on the other). Which joints does the model still give? Look at their `keypoints_scores`.
#
# <details><summary>Answer</summary>
#
# It always gives all 17: each heatmap has a largest cell. The score, the height of the peak, says how far to trust
# it. Our drawings leave out joints whose score is below 0, and the limbs that end in them.
#
# </details>
#
# **4.** Give the model a picture of noise, `torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)`, and draw its
# flow. How many proposals are there, and how many detections? Why are there so many of the one and (we hope) few of
# the other?
#
# <details><summary>Answer</summary>
#
# The region proposal network gives its best boxes even where none is good: proposals are chosen by rank. Detections are
# chosen by a score, which must be high enough. The first stage must miss nothing; it is the second that says no.
#
# </details>
#
# ## What we left out
#
# How any of it is *learnt* (lessons 11 and 12, to come); how anchors and objects are matched for that (lesson 04); how
# well it works, in numbers (lesson 13, to come). The full-size models have a ResNet-50 for a backbone, 256 channels,
# and pictures of 800 pixels, but the same fifteen cards.
#
# Read on: `mrcnn/model.py`, which you now know; *Mask R-CNN* (He et al., 2017), figures 1, 3 and 4; *Feature Pyramid
# Networks* (Lin et al., 2017), figure 3 and section 4. The next lesson of this kind is 04, matching anchors.
