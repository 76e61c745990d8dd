# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # The region proposal network
#
# Thousands of anchors are asked two questions each, and twenty boxes are left that miss hardly an object.
#
# **You will** write every step from a feature cell to a proposal, train the network in seconds, and measure what each
# step is worth.
#
# **Time** about 60 minutes. **Know first** anchors, objectness, deltas and NMS (lesson 00), and matching (lesson 04).
#
# **Files** `mrcnn/rpn.py`, `mrcnn/sampling.py`.

# %%
import math

import exercises
import pictures
import torch
import torch.nn.functional as F

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import images, lab, ops
from mrcnn.anchors import make_anchors
from mrcnn.data import Playground
from mrcnn.lab import check
from mrcnn.lab.views import pictures as views
from mrcnn.lab.views.curves import Panel, curves
from mrcnn.lab.views.view import View
from mrcnn.lab.walk import walk
from mrcnn.rpn import DELTA_WEIGHTS, RegionProposalNetwork, RPNHead
from mrcnn.sampling import sample

torch.set_num_threads(1)  # the tensors are small: two threads would mostly wait for each other
# %matplotlib inline

# %% [markdown]
# ## A picture first
#
# One scene. Left: the anchors that should find something. Middle: for each object an anchor, dotted, and where the
# trained network moves it, solid. Right: the 20 boxes that it is surest of, the proposals.

# %% tags=["cover"]
model = mrcnn.playground_rcnn(pretrained=True).requires_grad_(False)
image, target = Playground(40, seed=5)[20]
objects = target["boxes"]  # (G, 4)
whole = walk(model, image)  # every tensor on the way through the model, as in lesson 00
anchors = torch.cat(whole.anchors)  # (A, 4)
matches, _ = ops.match_anchors(anchors, objects, 0.7, 0.3, allow_low_quality_matches=True)  # (A,), as in lesson 04

moved = box_maths.clip(box_maths.decode(torch.cat(whole.deltas, 1)[0], anchors, DELTA_WEIGHTS), whole.batch.sizes[0])
surest = torch.cat(whole.logits, 1)[0].topk(100).indices
best = surest[
    box_maths.iou(objects, moved[surest]).argmax(1)
]  # of the 100 surest anchors, the one that ends best on each
pictures.opening(image, objects, anchors[matches >= 0], anchors[best], moved[best], whole.proposals[:20])

# %% [markdown]
# The network that does this, the RPN, is small: it reads the features and answers, for each anchor, *is an object
# here?* and *how must the box move to fit?* It need not say what the object is.
#
# ## Predict
#
# 1. There are 4,092 anchors. How many of them are positive, that is, must find an object?
# 2. We shall train a new RPN for 100 steps, on top of the finished backbone. Of the objects in scenes that it has never
#    seen, what share will then have a box that overlaps them by an IoU of 0.5, among the 20 surest?

# %%
my_positives = None
my_share = None  # between 0 and 1

# %% [markdown]
# ## 1. From a feature cell to fifteen numbers
#
# The head is three convolutions. The first mixes each cell with its eight neighbours. The other two look at one cell
# alone: from its 64 numbers one makes 3 logits, one for each anchor of the cell, and the other 12 deltas, four for each.

# %%
trained = model.rpn.head
for name, weights in trained.named_parameters():
    print(f"{name:18} {tuple(weights.shape)!s:16} {weights.numel():6,} numbers")
print(f"together {sum(each.numel() for each in trained.parameters()):,}, and the same ones serve all five levels")

# %% [markdown]
# Below are the three anchors of one cell. They stand in one place, and the network reads the same 64 numbers for each.

# %%
logits, deltas = (torch.cat(each, 1)[0] for each in (whole.logits, whole.deltas))  # (A,), (A, 4)
cell = 3 * (int(logits.argmax()) // 3)  # the cell of the surest anchor: its first anchor
three = slice(cell, cell + 3)
names = [f"objectness {each:.2f}" for each in logits[three].sigmoid()]
View.written(
    views.moves(whole.seen, anchors[three], moved[three], names), "A cell's three anchors, dotted, and moved, solid"
)

# %% [markdown]
# ### Build it: the head
#
# Convolutions put channels first: (N, 3, H, W) has all cells of the first anchor, then all cells of the second. The list
# of anchors goes cell by cell, the three of a cell together. The head must answer in *that* order.

# %% exercise="head"


# %%
def ask(network, maps):
    """logits (N, A_l) and deltas (N, A_l, 4) of every level, by the exercise's `head` with a network's convolutions."""
    conv = network.conv[0][0]
    answers = [head(level, conv, network.cls_logits, network.bbox_pred) for level in maps]
    return [each for each, _ in answers], [each for _, each in answers]


same = all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ask(trained, whole.features)[0], whole.logits, strict=True))
print(f"the model's logits come out: {same} (head: {lab.whose(head)})")

# %% [markdown]
# ## 2. Who is asked
#
# From lesson 04: an anchor with an IoU of 0.7 or more is positive, and so is every object's best anchor; below 0.3 it is
# background; between the two it is ignored.

# %%
kinds = {"positive": matches >= 0, "ignored": matches == -2, "background": matches == -1}
print({name: int(each.sum()) for name, each in kinds.items()}, "You said:", my_positives)
asked = int((matches != -2).sum())
print(f"a network that always says 'nothing here' is right for {int((matches == -1).sum()) / asked:.2%} of those asked")

# %% [markdown]
# That is **class imbalance**: one answer is so common that to give it always looks like success. A loss over all anchors
# is nearly all about background. So the loss sees a sample: 256 anchors drawn at random, *at most* half of them
# positive (Faster R-CNN, section 3.1.3).
#
# ### Build it: draw 256 of 4,092
#
# Chance comes in as an argument, `order`: all rows, shuffled. So the rest has one right answer.

# %% exercise="draw"

# %%
torch.manual_seed(0)
positive, negative = draw(matches, 256, torch.randperm(len(matches)))
print(f"drawn by code that is {lab.whose(draw)}: {len(positive)} positive, {len(negative)} background")
everyone = [each.nonzero()[:, 0] for each in kinds.values()]
pictures.fates(whole.seen, anchors, {"all": everyone, "drawn": (positive, positive[:0], negative)})

# %% [markdown]
# Look at the counts. "Half and half" is the rule, and it is not what happened: there are not enough positive anchors.
# Half is a ceiling. We shall see what that does.
#
# ## 3. The two losses
#
# **Is an object here?** That is judged by the **binary cross-entropy**: minus the logarithm of the probability that the
# network gave to the truth. Where an object is and it says p, the loss is −ln p; where none is, −ln(1 − p). To be wrong is
# expensive, to be wrong and sure very expensive.
#
# **How must the box move?** Only positive anchors know. Each of their four deltas is compared with what it should be.
# **Smooth L1** takes the square of small errors, so that the slope fades as the answer gets right, and the plain size of
# large ones, so that one hopeless box cannot shout down all others. **Beta** is where the one becomes the other. Here it
# is 1/9; PyTorch's own is 1.

# %%
x, error = torch.linspace(-5, 5, 41), torch.linspace(-1, 1, 61)
smooth = {f"beta {name}": F.smooth_l1_loss(error, 0 * error, beta=beta, reduction="none")
          for name, beta in (("1/9", 1 / 9), ("1", 1.0))}  # fmt: skip
curves(
    Panel(
        "binary cross-entropy", "the logit", {"an object": (x, -x.sigmoid().log()), "none": (x, -(-x).sigmoid().log())}
    ),
    Panel("smooth L1", "the error of a delta", {name: (error, each) for name, each in smooth.items()}),
    height=3.0,
)

# %% [markdown]
# Both losses are divided by the number of anchors drawn, the boxes' too, although only positive ones have a part in it.

# %% exercise="losses"

# %% [markdown]
# **Predict**: a new head says nearly 0, as a logit, of every anchor. How large is its first loss?

# %%
my_first_loss = None

# %%
new = RPNHead(64, 3, 1)
wanted = box_maths.encode(objects[matches[positive]], anchors[positive], DELTA_WEIGHTS)  # (P, 4)
for name, network in (("new", new), ("trained", trained)):
    with torch.no_grad():
        said = [torch.cat(each, 1)[0] for each in ask(network, whole.features)]
    of_objectness, of_boxes = losses(*said, wanted, positive, negative)
    print(f"{name:8} objectness {of_objectness:.4f}, boxes {of_boxes:.4f} (losses: {lab.whose(losses)})")
print(f"a coin's: -ln 0.5 = {math.log(2):.4f}. You said: {my_first_loss}")

# %% [markdown]
# ## 4. From answers to proposals
#
# Now the way out. First **top-k**: of each level only the k surest anchors go on. k counts for each level, so large
# objects, whose level has few anchors, are not crowded out by P2. Only those k are moved. (The `DELTA_WEIGHTS` that
# `decode` divides by are all 1 here, as lesson 03 said.)

# %% exercise="candidates"

# %% [markdown]
# Then three cuts. **Clipping** moves sides that lie beyond the picture onto its border. Boxes with hardly a side left
# go. NMS leaves one of each heap, within each level.

# %% exercise="tidy"

# %% [markdown]
# Each step drawn, on a picture that is not square: the model pads it on the right, and anchors stand there too. The
# frame is the picture. Of each kind of box at most 40 are drawn. In step 3 the dashed boxes are those that are cut, as they
# were before. **Predict**: which step removes least? (Not counting steps 2 and 3, which only change boxes.)

# %%
removes_least = None  # 1, 4, 5 or 6

# %%
wide = walk(model, image[:, :96])
size, wide_anchors = wide.batch.sizes[0], torch.cat(wide.anchors)
taken, scores, levels = candidates(
    wide.anchors, [each[0] for each in wide.logits], [each[0] for each in wide.deltas], 256
)
clipped = box_maths.clip(taken, size)
cut, large = (clipped != taken).any(1), box_maths.large_enough(clipped, 1e-3)
alive = clipped[large]
kept = ops.batched_nms(alive, scores[large], levels[large], 0.7)
struck = torch.ones(len(alive), dtype=torch.bool).index_fill(0, kept, False)

chosen = torch.cat([rank < 256 for rank in (each[0].argsort(descending=True).argsort() for each in wide.logits)])
frame = torch.tensor([[0, 0, size[1], size[0]]])
steps = {
    "1. the best 256 of each level": (wide_anchors[chosen], wide_anchors[~chosen]),
    "2. moved": (taken, wide_anchors[:0]),
    "3. clipped": (clipped, taken[cut]),
    "4. too small": (alive, taken[~large]),
    "5. NMS": (alive[kept], alive[struck]),
    "6. the first 128": (alive[kept[:128]], alive[kept[128:]]),
}
least = min((name for name in steps if name[0] in "1456"), key=lambda name: len(steps[name][1]))
print(f"removes least: {least}. You said: {removes_least}")
beside = ((taken[:, :2] >= torch.tensor(size[::-1])) | (taken[:, 2:] <= 0)).any(1)
print(f"too small: {int((~large).sum())} boxes; of these {int(beside[~large].sum())} lay wholly beside the picture")
pictures.funnel(wide.seen, frame, steps)

# %% [markdown]
# Too small means, here, wholly beside the picture: nothing but a line is left of such a box after clipping, and a line
# has no area to look into.

# %%
same = torch.equal(tidy(taken, scores, levels, size, 128), wide.proposals)
print(f"equal to the model's proposals: {same} (candidates {lab.whose(candidates)}, tidy {lab.whose(tidy)})")

# %% [markdown]
# ## 5. A measure: recall
#
# What is a good list of proposals? The next stage can drop a bad box, but it cannot find what was never proposed. So we
# ask for their recall, as lesson 03 did for anchors: the share of all objects that some proposal finds, with an IoU of at
# least so much, when we may look only at the first n of each picture.

# %% exercise="recall"

# %% [markdown]
# ## 6. A hundred steps
#
# The trained model's backbone stays as it is, so the features can be made once. So can the matches: neither anchors nor
# objects move. We learn from 32 scenes and measure on 30 others.


# %%
def prepared(scenes):
    """The features of all scenes, a map (N, 64, H_l, W_l) per level, and their objects."""
    pixels, targets = zip(*(scenes[i] for i in range(len(scenes))), strict=True)
    batch, _ = images.prepare(list(pixels), None, model.settings.images, training=False)
    return model.backbone(batch.pixels), [each["boxes"] for each in targets]


def propose(logits, deltas, n=128):
    """The proposals of each picture, by the exercises' `candidates` and `tidy`."""
    found = []
    for i in range(len(logits[0])):
        all_taken = candidates(whole.anchors, [each[i] for each in logits], [each[i] for each in deltas], 256)
        found.append(tidy(*all_taken, (128, 128), n))
    return found


study_maps, study_objects = prepared(Playground(32, seed=1))
test_maps, test_objects = prepared(Playground(30, seed=2))
study_matches = [
    ops.match_anchors(anchors, each, 0.7, 0.3, allow_low_quality_matches=True)[0] for each in study_objects
]
counts = torch.tensor([int((each >= 0).sum()) for each in study_matches])
print(f"positive anchors in a scene: {counts.min()} to {counts.max()}, {counts.float().mean():.1f} on average")


# %%
def train(count, every, steps=100):
    """A new head after so many steps; its recalls at IoUs of 0.5 and 0.7, every so many steps; its losses."""
    torch.manual_seed(0)
    network = RPNHead(64, 3, 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    recalls, history = {}, []
    for step in range(steps + 1):
        if step % every == 0:
            with torch.no_grad():
                found = propose(*ask(network, test_maps), 20)
            recalls[step] = [recall(found, test_objects, 20, iou) for iou in (0.5, 0.7)]
        scenes = torch.randint(len(study_objects), (4,))
        logits, deltas = (torch.cat(each, 1) for each in ask(network, [level[scenes] for level in study_maps]))
        both = []
        for row, scene in enumerate(scenes.tolist()):
            positive, negative = draw(study_matches[scene], count, torch.randperm(len(anchors)))
            theirs = study_objects[scene][study_matches[scene][positive]]
            wanted = box_maths.encode(theirs, anchors[positive], DELTA_WEIGHTS)
            both.append(torch.stack(losses(logits[row], deltas[row], wanted, positive, negative)))
        mean = torch.stack(both).mean(0)  # (2,): of the objectness, of the boxes
        history.append(mean.tolist())
        optimiser.zero_grad()
        mean.sum().backward()
        optimiser.step()
    return network, recalls, history


mine, recalls, history = train(256, every=10)
print(f"head {lab.whose(head)}, draw {lab.whose(draw)}, losses {lab.whose(losses)}, recall {lab.whose(recall)}")
print(f"recall of 20 proposals at an IoU of 0.5, after 100 steps: {recalls[100][0]:.2f}. You said: {my_share}")
steps = list(recalls)
curves(
    Panel("recall of 20 proposals", "step", {f"IoU {iou} or more": (steps, [each[i] for each in recalls.values()])
                                             for i, iou in enumerate((0.5, 0.7))}, limits=(0, 1.03)),
    Panel("loss of the objectness", "step", {"": (range(101), [each[0] for each in history])}),
    Panel("loss of the boxes", "step", {"": (range(101), [each[1] for each in history])}),
)  # fmt: skip

# %% [markdown]
# It goes fast because the features help: they come from a training that had an RPN on top. The boxes' loss looks like
# noise: a step sees four scenes, with a few positive anchors each. The recall at 0.7 shows that it falls all the same.
#
# ### What is the sample worth?
#
# **Predict**: draw 16 anchors for each scene, 64, 256, or all of them. Which learns most in 100 steps, judged at an IoU
# of 0.7?

# %%
my_count = None  # 16, 64, 256 or 4092

# %%
trials = {256: recalls}
for count in (16, 64, 4092):
    trials[count] = train(count, every=25)[1]
for count, each in sorted(trials.items()):
    drawn = [draw(one, count, torch.arange(len(one))) for one in study_matches]
    share = sum(len(p) for p, _ in drawn) / sum(len(p) + len(q) for p, q in drawn)
    print(
        f"{count:5} drawn, {share:6.2%} of them positive: recall {each[100][0]:.2f} at 0.5, {each[100][1]:.2f} at 0.7"
    )
print(f"The best at 0.7: {max(trials, key=lambda count: trials[count][100][1])}. You said: {my_count}")

# %% [markdown]
# There are as many positive anchors as before, so the more are drawn, the smaller is their share in both losses. With
# all of them drawn, the boxes' loss is the errors of a few anchors divided by about four thousand, and moving is hardly
# learnt. "Half and half" matters for what it keeps out. (The playground's own settings say 128, the published ones
# 256, for photographs with many more anchors. A hundred steps and one seed do not decide between 16 and 64.)
#
# ## 7. How many proposals are enough?
#
# Now the model's own RPN, trained to the end. Beside it stands torchvision's, given the same features and the same
# weights. And two that lack a step: without the deltas, the anchors stay where they are; without NMS, the surest come
# as they are. **Predict** which of the two costs more, at an IoU of 0.5 and at 0.7.

# %%
costs_more = None  # "deltas" or "NMS", at 0.5 and at 0.7

# %%
logits, deltas = ask(trained, test_maps)
still = [torch.zeros_like(each) for each in deltas]


def without_nms(i):
    taken, scores, _ = candidates(whole.anchors, [each[i] for each in logits], [each[i] for each in deltas], 256)
    return box_maths.clip(taken, (128, 128))[scores.argsort(descending=True)]


lists = {
    f"ours (tidy: {lab.whose(tidy)})": propose(logits, deltas),
    "without the deltas": propose(logits, still),
    "without NMS": [without_nms(i) for i in range(len(test_objects))],
}
try:
    from torchvision.models.detection import rpn as theirs
    from torchvision.models.detection.image_list import ImageList
except ImportError:
    print("torchvision is not installed, so it is not compared")
else:
    settings = model.settings.rpn.anchors
    their_head = theirs.RPNHead(64, 3)
    their_head.load_state_dict(trained.state_dict())  # the same names, the same weights
    generator = theirs.AnchorGenerator(settings.sizes, (settings.ratios,) * 5)
    at_most = {"training": 256, "testing": 256}, {"training": 128, "testing": 128}
    network = theirs.RegionProposalNetwork(generator, their_head, 0.7, 0.3, 256, 0.5, *at_most, 0.7).eval()
    pictures_of = ImageList(torch.zeros(len(test_objects), 3, 128, 128), [(128, 128)] * len(test_objects))
    with torch.no_grad():
        lists["torchvision's"] = network(pictures_of, dict(enumerate(test_maps)))[0]
    pairs = list(zip(*lists.values(), strict=True))
    apart = [float((own - other).abs().max()) for own, *_, other in pairs if own.shape == other.shape]
    print(f"proposals, box by box: {len(apart)} of {len(pairs)} lists as long, at most {max(apart):.1g} pixels apart")

numbers = [1, 2, 3, 5, 10, 20, 50, 100, 128]
for name, found in lists.items():
    at = {iou: [f"{recall(found, test_objects, n, iou):.3f}" for n in (5, 20, 128)] for iou in (0.5, 0.7)}
    print(f"{name:26} of 5, 20 and 128 proposals at 0.5: {', '.join(at[0.5])}   at 0.7: {', '.join(at[0.7])}")
print(f"You said: {costs_more}")
curves(
    *(
        Panel(f"recall at an IoU of {iou}", "proposals looked at", {
            name: (numbers, [recall(found, test_objects, n, iou) for n in numbers]) for name, found in lists.items()
        }, log=True, limits=(0, 1.03))
        for iou in (0.5, 0.7)
    ),
    height=4.2,
)  # fmt: skip

# %% [markdown]
# - **torchvision's** curve lies on ours: with the same weights the two find the same.
# - **Without the deltas** most objects are still found roughly, and few are found well. To move the box is what makes a
#   proposal out of an anchor. (The head that learnt from all anchors was no better at 0.7: it had not learnt to move.)
# - **Without NMS** the first places go to copies of the same few boxes, and that costs where few are looked at. Where
#   many are, it turns round: at 0.7 more objects are found *without*. NMS keeps the surest box of a heap, which need not
#   be the one that fits best.
#
# ## 8. Break it: the right numbers in the wrong order
#
# The commonest mistake in this file is a head without `permute`. Every shape is right, nothing complains, the numbers
# are the same ones, at other anchors. **Predict** the recall of 20 proposals at an IoU of 0.5.

# %%
my_recall = None

# %%
hidden = [trained.conv(level) for level in test_maps]
wrong_logits = [trained.cls_logits(each).flatten(1) for each in hidden]  # (N, 3, H, W) -> (N, 3·H·W)
wrong_deltas = [trained.bbox_pred(each).reshape(len(each), -1, 4) for each in hidden]
print("the shapes agree:", [each.shape for each in wrong_deltas] == [each.shape for each in deltas])
for name, both in {
    "right": (logits, deltas),
    "wrong deltas": (logits, wrong_deltas),
    "both wrong": (wrong_logits, wrong_deltas),
}.items():
    found = propose(*both, 20)
    print(
        f"{name:13} recall {recall(found, test_objects, 20, 0.5):.2f} at 0.5, {recall(found, test_objects, 20, 0.7):.2f} at 0.7"
    )
print(f"You said: {my_recall}")

# %% [markdown]
# Wrong deltas are worse than none (section 7). With wrong logits too, the surest anchors are just any anchors. No test of
# shapes sees this mistake, and a training would even learn something in spite of it. A picture like that of section 1
# shows it at once, and so does one number: the recall.
#
# ## Now find it in the real file
#
# `mrcnn/rpn.py` does what you did, for a batch at once. First the way out:

# %%
lab.show(RegionProposalNetwork.propose, start="for level, (level_anchors", end="groups.append")
lab.show(RegionProposalNetwork.propose, start="clipped = box_maths.clip", end="proposals.append")

# %% [markdown]
# And the draw, which makes its own order, one for each kind:

# %%
lab.show(sample, start="positive, negative = positive")

# %% [markdown]
# ## Questions
#
# ### 1. A picture without objects
#
# What are the two losses then, and what can the RPN learn from it?
#
# <details><summary>Answer</summary>
#
# All 256 drawn are background. The boxes' loss is a sum over nothing, 0, divided by 256: still 0. The objectness learns
# where nothing is. If the loss were divided by the positive anchors it would be 0 / 0.
#
# </details>
#
# ### 2. Why no gradient through the proposals?
#
# `propose` runs under `torch.no_grad()`. So the box head's loss does not reach the RPN's deltas. Does that cost anything?
#
# <details><summary>Answer</summary>
#
# A little. The place of a box is chosen, by top-k and NMS, and choices have no gradient; the coordinates themselves
# could have one, through RoIAlign. Faster R-CNN leaves it out, calls that an approximation, and trains well (section
# 3.2).
#
# </details>
#
# ## What we left out, and where to read on
#
# - **Harder negatives.** Background is drawn blindly. Focal loss (Lin et al., 2017) keeps all anchors and turns down the
#   easy ones instead.
# - **No anchors.** FCOS (Tian et al., 2019) lets each cell say how far the four sides are.
# - **The papers.** Faster R-CNN (Ren et al., 2015), section 3; *Feature Pyramid Networks* (Lin et al., 2017), section 4.1.
# - **Next.** Lesson 06, NMS itself; lesson 07, from proposals back to the features.
