# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # What instance segmentation is
#
# Three people touch, and a map of classes has lost which pixels are whose: what a mask for each thing adds, and how
# masks are written down without losing a pixel.
#
# **You will** draw a polygon by hand, and write the functions that turn masks into a map of classes, into boxes and into
# run lengths, and a polygon into a mask.
#
# **Time** about 60 minutes. **Know first** Python, a little PyTorch, and what IoU is (lesson 00).
#
# **Files** `mrcnn/data/masks.py`, `mrcnn/data/annotations.py`, `mrcnn/data/coco.py`.

# %%
import json
import math
import tempfile
from collections import Counter
from pathlib import Path

import exercises
import numpy as np
import pictures
import torch
from PIL import Image
from pycocotools import mask as rle
from skimage import measure

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import lab
from mrcnn.data import CocoDataset, Playground, coco
from mrcnn.data.annotations import run_lengths
from mrcnn.data.masks import tight_boxes
from mrcnn.lab import check

# %% [markdown]
# ## A picture first
#
# Three people and a box: one scene, described in three ways.

# %% tags=["cover"]
playground = Playground(209, seed=1)
image, target = playground[208]
masks, labels = target["masks"], target["labels"]  # (K, H, W) of 0 and 1; (K,)
height, width = image.shape[1:]
pictures.three_ways(image, target, exercises.semantic_map(masks, labels), playground.categories)

# %% [markdown]
# - **Semantic segmentation** gives every *pixel* a class: person, box, or 0 for the background.
# - **Object detection** gives every *thing* a class and a box.
# - **Instance segmentation** gives every thing a class and a **mask**: a map as large as the picture, 1 where the thing
#   is seen, else 0. Each thing is called an **instance** of its class.
#
# This is what Mask R-CNN answers. But why so much? Four masks are four times the numbers of one class map.
#
# ## Build it: from instances to classes
#
# One direction is easy. Lay the masks on an empty map, one after another.

# %% exercise="semantic_map"

# %%
semantic = semantic_map(masks, labels)
print(f"by code that is {lab.whose(semantic_map)}:", Counter(semantic.flatten().tolist()))

# %% [markdown]
# ## Predict: the way back
#
# Now you get only the class map, and want the people. An old idea: people are islands. A **connected component** is a
# set of pixels of one class that can all be reached from each other by steps to a neighbour of that class, here also
# diagonally. Find the islands, and you have the people?
#
# 1. How many islands do our three people make?
# 2. Now many scenes, and every thing that has just two others of its kind beside it. In how many per cent of the cases
#    is an island exactly that thing?

# %%
my_islands = None
my_share = None


# %%
def islands_of(semantic, label):
    """Each pixel's island, int64 (H, W): 0 where the class is another, 1, 2, ... elsewhere."""
    return torch.from_numpy(measure.label(semantic.numpy() == label, connectivity=2))


islands = islands_of(semantic, 1)  # 1 is "person"
print(f"islands of people: {islands.max()}. You said: {my_islands}")
pictures.masks_in_a_row(
    image,
    {
        "the three people": [mask for mask, label in zip(masks, labels, strict=True) if label == 1],
        "the islands": [islands == number for number in range(1, int(islands.max()) + 1)],
    },
)

# %% [markdown]
# They touch, so they are one. Islands also fail the other way: a ball in front of somebody cuts one person in two. Let
# us count how often, over 200 scenes. An instance comes back *whole* if one island is exactly its mask. It is *merged*
# if its island holds pixels of somebody else, and *in pieces* if it has several islands to itself.


# %%
def fate(mask, islands):
    """What becomes of one instance (H, W) among the islands of its class."""
    mine = islands[mask.bool()].unique()
    if torch.isin(islands, mine).sum() > mask.sum():
        return "merged"
    return "whole" if len(mine) == 1 else "in pieces"


scenes = [playground[i] for i in range(200)]
tally = {}  # how many of its kind there are: what becomes of an instance
for _, truth in scenes:
    flat = semantic_map(truth["masks"], truth["labels"])
    for label, many in Counter(truth["labels"].tolist()).items():
        each = tally.setdefault(many, dict.fromkeys(("whole", "merged", "in pieces"), 0))
        islands = islands_of(flat, label)
        for mask in truth["masks"][truth["labels"] == label]:
            each[fate(mask, islands)] += 1
of_three = tally[3]["whole"] / sum(tally[3].values())
print(f"one of three: {100 * of_three:.0f}% come back whole. You said: {my_share}")
sixes = [Counter(truth["labels"].tolist()).most_common(1)[0] for _, truth in scenes]
print("six of a kind are:", {playground.categories[label] for label, many in sixes if many == 6})
print(f"class maps by code that is {lab.whose(semantic_map)}")
pictures.fates(tally)

# %% [markdown]
# The more of a kind there are, the more merge. Then, at six, nearly all come back: these scenes are tables with coins,
# which the playground calls balls, and coins lie apart. Islands work where nothing touches. And even a thing that is
# alone of its kind may come back in pieces.
#
# Would a cleverer method do better? Here is a second truth: the same pixels of people, dealt out to three people by
# chance.

# %%
dealt = torch.randint(0, 3, (height, width), generator=torch.Generator().manual_seed(0))
person = semantic == 1
other_masks = torch.stack([*(person & (dealt == i) for i in range(3)), semantic == 3])
same = torch.equal(semantic, semantic_map(other_masks, torch.tensor([1, 1, 1, 3])))
ways = int(person.sum()) * math.log10(3) - math.log10(6)  # three owners for each pixel, in whichever order
print(f"another truth, the same class map: {same}. There are about 10^{ways:.0f} such truths, all with three people")

# %% [markdown]
# A method that sees only the class map must answer alike for all of these. It can be right for one of them at most.
# What was lost is not hard to find, it is *gone*.
#
# ## Build it: from a mask to its box
#
# A box follows from a mask. Pixel (x, y) covers the square from (x, y) to (x + 1, y + 1), and the box holds these
# squares whole. So x2 and y2 are one more than the last pixel's number, and x2 - x1 is the width.

# %% exercise="mask_to_box"

# %% [markdown]
# Not everybody means this by a box. torchvision's `masks_to_boxes` gives the last pixel's own number. **Predict**: what
# is the IoU of two such boxes, on average over all things in the 200 scenes? They differ by one pixel on two sides.

# %%
my_iou = None

# %%
ours = torch.stack([mask_to_box(mask) for _, truth in scenes for mask in truth["masks"]])
theirs = ours - torch.tensor([0.0, 0, 1, 1])
try:
    from torchvision.ops import masks_to_boxes

    same = torch.equal(theirs, torch.cat([masks_to_boxes(truth["masks"]) for _, truth in scenes]))
    print(f"ours less one pixel is torchvision's: {same}")
except ImportError:
    pass
iou = box_maths.iou(ours, theirs).diagonal()
print(
    f"boxes by code that is {lab.whose(mask_to_box)}: IoU {iou.mean():.3f}, at worst {iou.min():.3f}. You said: {my_iou}"
)

# %% [markdown]
# Neither is wrong. But a perfect answer in the one meaning, measured in the other, gets only that IoU. So the library
# says what it means in one place, `masks.py`.
#
# Is the box perhaps all that was missing? Cut the class map along the box of each thing, and call that its mask.


# %%
def cut(semantic, label, box):
    """A mask (H, W): the pixels of this class inside the box."""
    x1, y1, x2, y2 = box.int().tolist()
    mask = torch.zeros_like(semantic, dtype=torch.bool)
    mask[y1:y2, x1:x2] = semantic[y1:y2, x1:x2] == label
    return mask


def mask_iou(a, b):
    """Of two masks: the pixels that they share, divided by the pixels that they cover together."""
    a, b = a.bool(), b.bool()
    return float((a & b).sum() / (a | b).sum())


def in_three_ways(truth, found=None):
    """For each thing: how many of its kind there are, and the IoU of its island, its cut, its best detection."""
    flat, counted = semantic_map(truth["masks"], truth["labels"]), Counter(truth["labels"].tolist())
    rows = []
    for mask, label in zip(truth["masks"], truth["labels"].tolist(), strict=True):
        islands = islands_of(flat, label)
        island = islands == islands[mask.bool()].mode().values  # the one with most of it
        rows.append([counted[label], mask_iou(island, mask), mask_iou(cut(flat, label, mask_to_box(mask)), mask)])
        if found is not None:
            alike = found["masks"][(found["labels"] == label) & (found["scores"] >= 0.5), 0] >= 0.5
            rows[-1].append(max((mask_iou(each, mask) for each in alike), default=0.0))
    return rows


rows = np.array([row for _, truth in scenes for row in in_three_ways(truth)])
for many in range(1, 7):
    _, by_island, by_cut = rows[rows[:, 0] == many].mean(0)
    print(f"{many} of a kind: mean IoU of islands {by_island:.2f}, of cuts {by_cut:.2f}")
print(f"({lab.whose(semantic_map)} semantic_map, {lab.whose(mask_to_box)} mask_to_box)")

# %% [markdown]
# Much better, though not exact: what is still wrong lies *inside* a box, pixels of one person in the box of another.
# That is the plan of Mask R-CNN: first a box, then a mask within it (lesson 09).
#
# Islands and cuts were given the true class map, and cuts the true boxes. The small trained model gets neither, only
# the picture. **Predict** its mean IoU, for things that are three of a kind.

# %%
my_model = None

# %%
model = mrcnn.playground_rcnn(pretrained=True)
threes = [scene for scene in scenes if 3 in Counter(scene[1]["labels"].tolist()).values()][:12]
with torch.no_grad():
    rows = np.array([row for picture, truth in threes for row in in_three_ways(truth, model([picture])[0])])
_, by_island, by_cut, by_model = rows[rows[:, 0] == 3].mean(0)
print(f"{(rows[:, 0] == 3).sum()} things, three of a kind: islands {by_island:.2f}, cuts {by_cut:.2f}")
print(f"the model, from the picture alone: {by_model:.2f}. You said: {my_model}")

# %% [markdown]
# It does not reach the cuts, which were given the truth. But it beats the islands: the picture still holds what the
# class map has lost.
#
# ## Writing a mask down: run lengths
#
# A mask is mostly long runs of one value. So COCO, the data set whose files everybody reads, writes **run lengths**:
# how many zeros, then how many ones, then zeros again. It goes down the first column, then down the second. The first
# number always counts zeros, even if there are none.
#
# **Predict** the run lengths of this mask; the cells are numbered as the walk goes.

# %%
small = exercises.shape("...##. ..#### .##.#. ..###.")
pictures.cells(small)

# %%
my_counts = []

# %% exercise="encode_runs"

# %%
print(f"{encode_runs(small)}, by code that is {lab.whose(encode_runs)}. You said: {my_counts}")

# %% [markdown]
# And back again.

# %% exercise="decode_runs"

# %% [markdown]
# A model is trained on masks and measured with them. So there and back must be *exact*, for every mask, not nearly. And
# short it is, too. **Predict**: how many numbers does a mask of 128 × 128 = 16,384 pixels become? And would it be more
# or fewer if one walked along the rows?

# %%
my_numbers = None
my_order = None  # "fewer down the columns", "fewer along the rows"

# %%
some = [mask for _, truth in scenes[:60] for mask in truth["masks"]]
counts = [encode_runs(mask) for mask in some]
exact = sum(
    torch.equal(decode_runs(each, *mask.shape).bool(), mask.bool()) for each, mask in zip(counts, some, strict=True)
)
strings = [rle.encode(np.asfortranarray(mask.numpy()))["counts"].decode() for mask in some]
agree = sum(run_lengths(text) == each for text, each in zip(strings, counts, strict=True))
print(f"exactly back: {exact} of {len(some)}; the same counts as pycocotools: {agree} of {len(some)}")
print(f"numbers in a mask: {np.mean([len(each) for each in counts]):.0f}. You said: {my_numbers}")
print(f"along the rows it would be {np.mean([len(encode_runs(mask.T)) for mask in some]):.0f}. You said: {my_order}")
tall = [mask for mask in some if mask.any(1).sum() > mask.any(0).sum()]  # more rows than columns
print(f"{len(tall)} of {len(some)} masks are taller than wide")
print(f"characters in COCO's string: {np.mean([len(text) for text in strings]):.0f}")
print(f"(encode_runs: {lab.whose(encode_runs)}; decode_runs: {lab.whose(decode_runs)})")

# %% [markdown]
# Every column that a thing covers costs about two numbers, and most things here are taller than wide. COCO's order is
# that in which Fortran and Matlab keep an array: hence `asfortranarray`.
#
# ## Break it: which test would notice?
#
# Somebody misreads the order, and walks along the rows, in both functions. Six tests: **predict** which of them notice.

# %%
my_suspects = []  # some of the names below


# %%
def encode_rows(mask):
    return encode_runs(mask.T)


def decode_rows(counts, height, width):
    return decode_runs(counts, width, height).T


def another_program(counts, height, width):
    """What pycocotools reads from these counts."""
    return torch.from_numpy(rle.decode(rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)))


def tests_of(encode, decode, mask):
    size = mask.shape
    back, seen = decode(encode(mask), *size), another_program(encode(mask), *size)
    return {
        "there and back is exact": torch.equal(back, mask),
        "the counts add up to all pixels": sum(encode(mask)) == mask.numel(),
        "an empty mask and a full one": [encode(mask * 0), encode(mask * 0 + 1)] == [[mask.numel()], [0, mask.numel()]],
        "another program finds the same area": bool(seen.sum() == mask.sum()),
        "another program finds the same box": torch.equal(mask_to_box(seen), mask_to_box(mask)),
        "another program finds the same mask": torch.equal(seen, mask),
    }


mine, broken = tests_of(encode_runs, decode_runs, masks[1]), tests_of(encode_rows, decode_rows, masks[1])
says = {True: "passes", False: "FAILS"}
for name in mine:
    print(f"{name:38} down: {says[mine[name]]}   along: {says[broken[name]]}")
print("you said:", my_suspects)
half = masks[1, 32:]  # not square
seen = {name: torch.zeros_like(masks[1]) for name in ("a square picture, misread", "its lower part, misread")}
seen["a square picture, misread"] |= another_program(encode_rows(masks[1]), *masks[1].shape)
seen["its lower part, misread"][32:] |= another_program(encode_rows(half), *half.shape)
pictures.masks_in_a_row(image, {"the mask": [masks[1]], **{name: [mask] for name, mask in seen.items()}})

# %% [markdown]
# The pair of functions is wrong in one way, both times, and so agrees with itself. Even the area survives. A round trip
# shows that nothing is lost. That it is *COCO's* form, only another reader of COCO's form can show. In a square picture
# it finds the mask mirrored, rows for columns. In any other, rows and columns differ in length, and the mask falls to
# shreds.
#
# ## A polygon, by hand
#
# Nobody paints pixels for hours. Most of COCO's masks are **polygons**: people clicked corners around things. Do it:
# move the corners of this quick try until the person in the middle is covered well. Then copy the text below the picture.
# (There is none while a polygon is open. Choose its first corner, the square, to close it.)

# %%
quick_try = [59, 46, 68, 42, 78, 48, 84, 35, 93, 48, 82, 70, 96, 127, 86, 127, 74, 104, 62, 112, 66, 90, 54, 68]
lab.polygon_drawer(image, quick_try, title="Cover the person in the middle")

# %% [markdown]
# This is all of an **annotation**, COCO's record of one thing: whose picture, which class, area, box as x, y, *width*,
# *height*, and the segmentation, a list of polygons. Paste yours between the quotes. The library reads it from a file,
# as it would read COCO's own.

# %%
pasted = """
{"id":1,"image_id":1,"category_id":1,"iscrowd":0,"area":2012.5,"bbox":[54,35,42,92],
 "segmentation":[[59,46,68,42,78,48,84,35,93,48,82,70,96,127,86,127,74,104,62,112,66,90,54,68]]}
"""

# %%
with tempfile.TemporaryDirectory() as folder:
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(f"{folder}/1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [json.loads(pasted)],
    }
    (Path(folder) / "instances.json").write_text(json.dumps(content))
    _, drawn = CocoDataset(folder, f"{folder}/instances.json")[0]

(drawn_mask,) = drawn["masks"]
print(f"area in the file {drawn['area'].item():g}, pixels in the mask {drawn_mask.sum()}")
in_file = [round(each, 2) for each in drawn["boxes"][0].tolist()]
print(f"box in the file {in_file}, around the mask {mask_to_box(drawn_mask).tolist()}")
print(
    f"corners: {len(json.loads(pasted)['segmentation'][0]) // 2}, IoU with the truth: {mask_iou(drawn_mask, masks[1]):.2f}"
)

# %% [markdown]
# The quick try has its tip at y = 35, and yet its mask begins at row 36: the tip is so thin that it holds no pixel's
# middle.
#
# ## Build it: from a polygon to its mask
#
# Which pixels belong to it? Those whose middles are inside. From the middle walk to the right, out of the picture. Each
# side that you cross leads out or in, so you were inside if you crossed an odd number of them.
#
# A corner that lies at just the height of the walk is an end of two sides, and must not count twice. So let a side have
# its upper end but not its lower one. A level side then has neither, and is never crossed.

# %% exercise="polygon_to_mask"

# %%
(polygon,) = json.loads(pasted)["segmentation"]
print(
    f"your polygon: {polygon_to_mask(polygon, height, width).sum()} pixels by code that is {lab.whose(polygon_to_mask)},"
)
print(f"{drawn_mask.sum()} as the library read it from the file")

# %% [markdown]
# The first is the drawer's number too. The library reads with pycocotools, which has a rule of its own. It moves every
# corner to a grid five times as fine, and follows the sides there in whole steps. **Predict**: for the triangle (1, 1),
# (11, 3), (9, 8), in how many cells do the two rules differ? (`o`: only by your rule; `x`: only by theirs.)

# %%
my_difference = None


# %%
def by_pycocotools(polygons, height, width):
    return torch.from_numpy(rle.decode(rle.merge(rle.frPyObjects(polygons, height, width)))).bool()


triangle = [1, 1, 11, 3, 9, 8]
mine, theirs = polygon_to_mask(triangle, 9, 12), by_pycocotools([triangle], 9, 12)
print(f"{mine.sum()} cells by code that is {lab.whose(polygon_to_mask)}, {theirs.sum()} by pycocotools")
print(f"{(mine ^ theirs).sum()} of them differ. You said: {my_difference}")
pictures.cells(mine, triangle, theirs)

# %% [markdown]
# In the cells with an `x` the middle is exactly on a side: at x = 3.5 the upper side is at y = 1 + 2.5 · 2 / 10 = 1.5.
# There neither rule is wrong, and if yours counts such middles as inside, only the `o` is left. But one triangle says little. Here are discs of five sizes, 200 of each at random places. How
# many cells differ, and does one of the rules make things larger than they are?


# %%
def disc(x, y, radius, corners=24):
    turns = torch.arange(corners) * 2 * math.pi / corners
    return torch.stack([x + radius * turns.cos(), y + radius * turns.sin()], dim=1).flatten().tolist()


random = np.random.default_rng(0)
for radius in (2, 5, 10, 20, 40):
    off = []
    for x, y in random.uniform(60, 68, (200, 2)):
        polygon = disc(x, y, radius)
        mine, theirs = polygon_to_mask(polygon, 128, 128), by_pycocotools([polygon], 128, 128)
        area = radius**2 * 12 * math.sin(2 * math.pi / 24)  # of a disc with 24 corners
        off.append((int((mine ^ theirs).sum()), mask_iou(mine, theirs), mine.sum() - area, theirs.sum() - area))
    differ, iou, mine_more, theirs_more = np.array(off).mean(0)
    print(
        f"radius {radius:2}: {differ:4.1f} cells differ, IoU {iou:.3f}; pixels too many: {mine_more:+.1f} and {theirs_more:+.1f}"
    )

# %% [markdown]
# Neither rule is better: on average both come within a pixel of the area. They differ in a few cells along the outline,
# and there is more outline, compared with what is inside, the smaller a thing is. So whoever reads COCO's files reads
# them with pycocotools, as this library does: a second rule would be a second truth.
#
# ## How far is a polygon off?
#
# Now the other way round: a mask's outline becomes a polygon, and that a mask again. Corners may be left out as long as
# the outline moves by no more than a tolerance. **Predict** the IoU with a tolerance of 1 pixel.

# %%
my_polygon_iou = None


# %%
def outlines(mask, tolerance):
    """The polygons around a mask (H, W), with corners left out as far as the tolerance, in pixels, allows."""
    found = measure.find_contours(np.pad(mask.numpy(), 1).astype(float), 0.5)  # [y, x], of pixels' middles
    fewer = [measure.approximate_polygon(each, tolerance)[:-1, ::-1] for each in found]
    return [(each - 0.5).flatten().tolist() for each in fewer if len(each) > 2]  # one pixel of padding, half of middle


solid = [mask for _, truth in scenes[:60] for mask in truth["masks"][truth["labels"] != 6]]  # 6 is "ring"
for tolerance in (0, 0.5, 1, 2, 4):
    polygons = [outlines(mask, tolerance) for mask in solid]
    back = [by_pycocotools(each, *mask.shape) if each else mask * 0 for each, mask in zip(polygons, solid, strict=True)]
    iou = np.array([mask_iou(a, b) for a, b in zip(back, solid, strict=True)])
    size = np.mean([sum(map(len, each)) for each in polygons])
    print(
        f"tolerance {tolerance:3}: {size:4.0f} numbers a mask, IoU {iou.mean():.3f}, exact {100 * np.mean(iou == 1):3.0f}%"
    )
print(f"run lengths: {np.mean([len(encode_runs(mask)) for mask in solid]):4.0f} numbers a mask, always exact")
print(f"You said, for 1 pixel: {my_polygon_iou}")

# %% [markdown]
# A polygon is short and can be drawn by hand, but it is not exact. With as many numbers as the run lengths it is still
# off, and even with five times as many not every mask comes back. Compare your own corners and your IoU.
#
# ## A hole and a crowd
#
# Two things that a list of polygons cannot say. COCO fills every polygon of the list, and all of them together are the
# mask. **Predict** the IoU of a ring with its mask from two polygons, one around the outside and one around the hole.

# %%
my_ring = None

# %%
shown, ring = next(
    (picture, mask)
    for picture, truth in scenes
    for mask in truth["masks"][truth["labels"] == 6]
    if len(outlines(mask, 0)) == 2
)
filled = by_pycocotools(outlines(ring, 0), height, width)
kept = decode_runs(encode_runs(ring), height, width)
print(
    f"IoU with the ring: from polygons {mask_iou(filled, ring):.2f}, from run lengths {mask_iou(kept, ring):.2f}. You said: {my_ring}"
)
pictures.masks_in_a_row(shown, {"the ring": [ring], "from polygons": [filled], "from run lengths": [kept]})

# %% [markdown]
# And where people stand too close to be told apart, COCO's annotators gave up. They wrote one record for all, with
# `iscrowd` 1 and run lengths: a **crowd**. It is a class map again, for a part of the picture.
#
# It would be unfair to call somebody found in there wrong. So for a crowd, IoU is taken otherwise: what is shared,
# divided by the area of what was *found* alone. **Predict** both numbers for the person in the middle, found perfectly,
# among our three as a crowd.

# %%
my_ious = None  # as usual, and for a crowd


# %%
def packed(mask):
    return rle.encode(np.asfortranarray(mask.to(torch.uint8).numpy()))


usual, crowd = (rle.iou([packed(masks[1])], [packed(person)], [is_crowd]).item() for is_crowd in (0, 1))
print(f"as usual {usual:.2f}, for a crowd {crowd:.2f}. You said: {my_ious}")

# %% [markdown]
# ## How fast is it
#
# A data set has hundreds of thousands of masks. **Predict** how many times as fast C is, which is what pycocotools is
# written in.

# %%
my_ratio = None

# %%
in_columns = np.asfortranarray(masks[1].numpy())
times = lab.timed(
    {
        f"encode_runs, {lab.whose(encode_runs)}": lambda: encode_runs(masks[1]),
        "pycocotools, with its string": lambda: rle.encode(in_columns),
    }
)
print("You said:", my_ratio)

# %% [markdown]
# ## Extra: the string
#
# In COCO's files run lengths are a string. The thing's next column is much like the one before, so the count two places
# before, which is of the same value, is a good guess. From the *fourth* number on, only the change from that is
# written.
#
# Each number is cut into parts of five bits, the lowest first. If more of the number follows, 32 is added to the part.
# The last part's bit of value 16 is the sign: set, it counts as -16. So the parts of 3 are `[3]`, of -3 `[29]`, as
# 29 = 16 + 13 and -16 + 13 = -3, and of 16 `[48, 0]`: a second part says that there is no minus. Later 48 is added to
# each part, and that is a letter's number.

# %% exercise="compress"

# %%
text = "".join(chr(48 + part) for part in compress(encode_runs(small)))
print(
    f"{encode_runs(small)} is {text!r} (compress: {lab.whose(compress)}); pycocotools: {packed(small)['counts'].decode()!r}"
)

# %% [markdown]
# ## Now find it in the real file
#
# Your box, for many masks at once. `any` says which columns and rows have a pixel; `argmax` of yes and no finds the
# first yes, and from behind, with `[::-1]`, the last.

# %%
lab.show(tight_boxes)

# %% [markdown]
# And here polygons, run lengths and strings become one. `merge` is the union of polygons.

# %%
lab.show(coco.encode_mask)
lab.show(run_lengths)

# %% [markdown]
# ## What we left out, and where to read on
#
# - **Everything at once.** Panoptic segmentation (Kirillov et al., 2019) asks for instances of things *and* classes of
#   the rest: sky, grass, road.
# - **From the class map after all.** Some methods predict, with the class, how deep inside its thing a pixel is, so
#   that touching things come apart (Bai and Urtasun, 2017).
# - **Soft masks.** A true border runs through pixels. Ours say 0 or 1.
#
# **Read on** *Microsoft COCO: Common Objects in Context* (Lin et al., 2014) tells how the masks were made and what they
# cost. *Mask R-CNN* (He et al., 2017).
