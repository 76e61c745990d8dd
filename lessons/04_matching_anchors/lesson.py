# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Matching anchors to objects
#
# Thousands of anchors, a handful of objects: who answers for whom, and the object that nobody finds.
#
# **You will** work out a small example by hand, then write the same thing as a Python loop and in PyTorch, with the rule that
# saves the objects no anchor reaches.
#
# **Time** about 50 minutes. **Know first** Python, a little PyTorch, and what IoU is (lesson 00; it is said again below).
#
# **Files** `mrcnn/ops/matching.py`, `mrcnn/ops/reference.py`. The same in C++ and CUDA is lesson 04k.

# %%
import exercises
import pictures
import torch

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import lab, ops
from mrcnn.anchors import AnchorSettings, make_anchors
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.cases import overlap, random_boxes

# %matplotlib inline

# %% [markdown]
# ## A picture first
#
# An **anchor** is a box that stands at a fixed place, whatever the picture shows. The model looks at each anchor and
# says "there is an object here" or "there is none". To learn that, it must be told the truth: for each anchor, which
# **object** (the ground truth: a box that a person has drawn) it should find, if any. That is **matching**.
#
# Below is one scene with its objects, A to D. Dashed, in the object's colour, are the anchors that answer for it; the
# number behind the letter counts them. The small words above the pictures are explained next.

# %% tags=["cover"]
image, target = Playground(40, seed=0)[3]
objects = target["boxes"]  # (G, 4)

settings = mrcnn.playground_rcnn().settings.rpn
sizes = [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]  # (rows, columns) of the five levels
anchors = torch.cat(make_anchors(settings.anchors, (128, 128), sizes))  # (A, 4)

high, low = settings.positive_iou, settings.negative_iou
plain, _ = ops.match_anchors(anchors, objects, high, low)
full, _ = ops.match_anchors(anchors, objects, high, low, allow_low_quality_matches=True)
print(f"A = {len(anchors)} anchors, G = {len(objects)} objects, thresholds {high} and {low}")
pictures.scene(image, objects, anchors, {f"IoU of {high} or more": plain, "with low-quality matches": full})

# %% [markdown]
# The middle picture follows the simple rule: an anchor answers for an object if the two overlap enough. Two objects
# have nobody. The right picture mends that. You will write both.
#
# ## Three kinds of anchors
#
# How much two boxes overlap is told by their **IoU**: the area that they share (intersection), divided by the area
# that they cover together (union). It is 0 when they do not touch and 1 when they are the same.
#
# Each anchor looks at its *best* object, the one with the largest IoU:
#
# | best IoU | the anchor is | written |
# |---|---|---|
# | `high` or more | **positive**: it must find that object | the object's row, 0 or more |
# | less than `low` | **negative**, or background: it must say "nothing here" | -1 |
# | between the two | **ignored**: neither a good nor a bad example | -2 |
#
# Why ignore any? An anchor that half covers an object is no clear case. To punish the model for either answer would
# teach it noise.
#
# ## Predict
#
# Three objects, A, B and C, and six anchors, 0 to 5, on squared paper.

# %%
three = torch.tensor([[1.0, 1, 5, 5], [6, 2, 10, 6], [0, 6, 2, 8]])
six = torch.tensor([[1.0, 1, 5, 5], [2, 1, 6, 5], [4, 2, 8, 6], [6, 2, 10, 5], [7, 4, 11, 8], [0, 5, 3, 8]])
pictures.small_world(three, six)

# %% [markdown]
# Count squares. Anchor 1 and object A share 3 × 4 = 12; together they cover 16 + 16 - 12 = 20; so their IoU is 12 /
# 20 = 0.6. Do the same for anchor 5 and object C, then guess what becomes of all six, with 0.7 and 0.3.

# %%
my_iou = None  # of anchor 5 and object C
my_matches = ""  # six letters, of anchors 0 to 5: A, B, C, - for background, ? for ignored

# %% [markdown]
# Now the table: one row per object, one column per anchor. It is filled in anchor by anchor. The largest number of
# each column has a frame, and under the column is the anchor's fate.

# %%
pictures.filmstrip(three, six, high=0.7, low=0.3)

# %%
table = box_maths.iou(three, six)  # (G, A)
matches, _ = ops.match_anchors(six, three, 0.7, 0.3)
truth = "".join(pictures.verdict(match) for match in matches.tolist())
print(f"anchor 5 and object C: {table[2, 5]:.3f}, which is 4 / 9. You said: {my_iou}")
print(f"the six anchors: {truth}. You said: {my_matches or 'nothing yet'}")

# %% [markdown]
# Read a column and you know an anchor's fate. Read a row and you see who could answer for an object. Look at the row
# of object C. Its best anchor is number 5, and that is not good enough. With the simple rule nobody learns to find C.
# Keep this in mind.
#
# ## Build it: the decision
#
# Given each anchor's best object and the IoU with it, decide.

# %% exercise="decide"

# %% [markdown]
# ## Rung 1: a Python loop
#
# What is left is the search: for each anchor the best object and the IoU with it. We climb a ladder of two rungs
# here, and of more in lesson 04k; each must agree with the one before. At the bottom is the plainest thing that works.
#
# **The cost, before we measure it**: A × G pairs. Here that is 4,092 × 4, some 16,000. For a photograph it will be
# millions, as we shall see.

# %%
lab.show(overlap)

# %% exercise="best_loop"

# %% [markdown]
# ## Rung 2: PyTorch, the whole table
#
# In PyTorch you write no loops: `box_maths.iou` gives the whole table at once, and the best of each column is one
# more call. (In its source, `wide` makes short floats longer, and `area` is width times height.)

# %%
lab.show(box_maths.iou)

# %% exercise="best_torch"

# %% [markdown]
# Now the two rungs side by side, first for their answers, then for their time.


# %%
def agree(name, result, expected):
    same = torch.equal(result[0].long(), expected[0].long()) and torch.allclose(result[1], expected[1], atol=1e-6)
    print(f"{name}: {'agrees' if same else 'DIFFERS'}")


lists = anchors.tolist(), objects.tolist()
expected = tuple(torch.tensor(each) for each in best_loop(*lists))
agree("PyTorch against the loop", best_torch(anchors, objects), expected)
times = lab.timed(
    {
        f"Python loop, {lab.whose(best_loop)}": lambda: best_loop(*lists),
        f"PyTorch, {lab.whose(best_torch)}": lambda: best_torch(anchors, objects),
        "mrcnn.ops, the library's": lambda: ops.match_anchors(anchors, objects, high, low),
    }
)

# %% [markdown]
# ## The object that no anchor matches
#
# Back to the two objects that nobody answered for. The best IoU of each object is the largest number of its *row*.

# %%
table = box_maths.iou(objects, anchors)  # (G, A)
for letter, top in zip("ABCD", table.max(dim=1).values.tolist(), strict=True):
    print(f"object {letter}: its best anchor has an IoU of {top:.2f}{'' if top >= high else ', too little'}")

scenes = Playground(100, seed=0)
tops = torch.cat([box_maths.iou(scenes[i][1]["boxes"], anchors).max(dim=1).values for i in range(100)])
print(f"in 100 scenes: {(tops < high).sum()} of {len(tops)} objects reach {high} with no anchor at all")

# %% [markdown]
# This is no accident. Anchors come in a few sizes and three shapes, at fixed places. Many objects lie between them. A
# model trained with the simple rule alone would be told, of most objects, that there is nothing to be found.
#
# So there is a second rule, for **low-quality matches** (Faster R-CNN, section 3.1.2): *the anchors that overlap an
# object most of all anchors are positive too, however low their IoU.* The fine print:
#
# - All anchors that tie for an object's best are claimed.
# - A claimed anchor answers for the object that *it* overlaps most. That may be another than the one that claimed it.
# - An object whose best IoU is 0 claims none.

# %% exercise="claim"

# %%
best, ious = best_torch(anchors, objects)
matches = claim(table, best, decide(best, ious, high, low))
whose = ", ".join(f"{each.__name__} {lab.whose(each)}" for each in (best_torch, decide, claim))
print(f"equal to mrcnn.ops.match_anchors: {torch.equal(matches, full)} ({whose})")

# %% [markdown]
# Here is the small world of the beginning once more, to be touched, with the second rule as a switch. Give C an anchor in two
# ways: with the switch, and by dragging C. Can you place B so that the second rule gives it an anchor that answers for A?

# %%
lab.matching_dragger(three, six, (9, 12), title="Three objects and six anchors, to be dragged")

# %% [markdown]
# ### Break it: an object that overlaps nothing
#
# The last line of the fine print is easily forgotten. Let one object lie beside the picture: somebody cropped the
# picture and forgot the box. Its IoU with every anchor is 0, so its best IoU is 0, and *every anchor ties for that*.
# **Predict**: how many anchors are positive then, if the rule is followed to the letter?

# %%
stray = torch.cat([objects, objects.new_tensor([[400.0, 40, 440, 80]])])  # one more object, far to the right
to_the_letter = box_maths.iou(stray, anchors)
claimed = (to_the_letter == to_the_letter.max(dim=1, keepdim=True).values).any(dim=0)
ours = ops.match_anchors(anchors, stray, high, low, allow_low_quality_matches=True)[0]
print(f"to the letter, {int(claimed.sum())} of {len(anchors)} anchors are claimed")
print(f"mrcnn matches {int((ours >= 0).sum())}")
try:
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou
except ImportError:
    print("torchvision is not installed, so it is not compared")
else:
    theirs = Matcher(high, low, allow_low_quality_matches=True)(box_iou(stray, anchors))
    print(f"torchvision matches {int((theirs >= 0).sum())}")

# %% [markdown]
# Followed to the letter, the rule makes the whole picture "an object", and the lesson learned from that scene is
# nonsense. torchvision does so; this library does not. It is one of the few places where the two differ on purpose.
#
# ## What the table costs
#
# The table is simple, and it is thrown away at once: of A × G numbers only the largest of each column and of each row
# are wanted. How large is it for a photograph? The published models look at 800 × 1344 pixels, with five levels of
# cells of 4, 8, 16, 32 and 64 pixels, three anchors each.

# %%
cells = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
photo_anchors = torch.cat(make_anchors(AnchorSettings(), (800, 1344), cells))
print(f"A = 3 * ({' + '.join(f'{h} * {w}' for h, w in cells)}) = {len(photo_anchors):,} anchors")
print(f"the table with 200 objects: {len(photo_anchors):,} * 200 * 4 bytes = {len(photo_anchors) * 200 * 4:,} bytes")
print(f"its two results, 8 + 4 bytes per anchor: {len(photo_anchors) * 12:,} bytes")

# %% [markdown]
# And `box_maths.iou` makes several tensors of that size on its way: corners, widths, heights, unions. All of it per picture,
# in every step of the training. So the library's op goes back to the loop's idea, pair by pair, and remembers only the best
# so far: memory for A + G boxes instead of A × G numbers. **Predict** what that is worth in time, for a photograph with 20
# objects.

# %%
photo_objects = box_maths.scale(random_boxes(20, seed=5), (100, 100), (800, 1344)).contiguous()
photo_times = lab.timed(
    {
        f"PyTorch, {lab.whose(best_torch)}": lambda: best_torch(photo_anchors, photo_objects),
        "mrcnn.ops, the library's": lambda: ops.match_anchors(photo_anchors, photo_objects, high, low),
    },
    repeats=3,
)

# %% [markdown]
# How it does that, in C++ on a CPU and in CUDA on a GPU, you write yourself in lesson 04k.
#
# ## Now find it in the real file
#
# `mrcnn/ops/reference.py` has the op in plain PyTorch. You know every line of it:

# %%
lab.show(mrcnn.ops.reference.match_anchors)

# %% [markdown]
# ## Questions
#
# ### 1. Whose anchor is it?
#
# Object B claims anchor 7: of all anchors, 7 overlaps it most, with an IoU of 0.4. But 7's IoU with object A is 0.5. Which object does anchor 7 answer for? And who then answers for B?
#
# <details><summary>Answer</summary>
#
# Anchor 7 answers for A: a claimed anchor keeps the object that it overlaps most itself. If no other anchor matches
# B, nobody answers for B, in spite of the rule. That is how the published models are trained, so this library does
# the same. It is rare: it takes two objects that lie nearly on one another.
#
# </details>
#
# ### 2. One threshold
#
# The box head matches proposals to objects in the same way, with `high` = `low` = 0.5 and no low-quality matches.
# Which of the three kinds of boxes is then missing, and why does the box head not need the second rule?
#
# <details><summary>Answer</summary>
#
# There are no ignored ones: below 0.5 is background, from 0.5 on is positive. And proposals, unlike anchors, have
# been moved onto the objects already. During training the ground-truth boxes are also added to the proposals, so that
# every object has at least one with an IoU of 1.
#
# </details>
#
# ### 3. Wider
#
# Change `trial`, which stands for `high`, to 0.5 in the cell below. How many anchors are positive now, and for how many objects is the second
# rule still needed?

# %%
trial = 0.7
wider, _ = ops.match_anchors(anchors, objects, trial, low)
print(f"{int((wider >= 0).sum())} positive anchors in our scene")
print(f"in 100 scenes {int((tops < trial).sum())} of {len(tops)} objects have none")

# %% [markdown]
# ## What we left out, and where to read on
#
# - **Sampling.** A few positive anchors among thousands of negative ones: the loss takes only some of each. That is
#   lesson 05.
# - **Other ways to match.** Fixed thresholds are a choice. ATSS (Zhang et al., 2020) takes them from each object's own
#   statistics; DETR (Carion et al., 2020) gives each object exactly one query.
# - **The paper.** Faster R-CNN (Ren et al., 2015), section 3.1.2, has the two rules in one paragraph.
# - **Next.** Lesson 05 trains the region proposal network with these matches. Lesson 04k takes the op down to the single CUDA
#   thread.
