# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Many losses, one network
#
# Six losses pull at one backbone: how hard each of them pulls, whether they pull the same way, what a head is worth to the
# others, and a head of your own beside them.
#
# **You will** take the gradient of each loss apart, foretell what a step does to all of them, compare trainings over seeds,
# and write a branch with a loss of its own.
#
# **Time** about 70 minutes; to rest, stop before "A branch of your own". **Know first** the heads and their losses (lessons
# 05, 08, 09, 10), backbone (00), AP (02).
#
# **Files** `mrcnn/model.py`, `mrcnn/roi_heads.py`.

# %%
import copy
import json
from dataclasses import dataclass, fields
from pathlib import Path

import exercises
import pictures
import torch
import torch.nn.functional as F
from torch import nn

import mrcnn
from mrcnn import images, lab
from mrcnn.data import Playground, augment, collate
from mrcnn.engine import train
from mrcnn.lab import check
from mrcnn.lab.views.curves import Panel, curves
from mrcnn.model import MaskRCNN, ModelSettings
from mrcnn.roi_heads import Head, HeadSettings, RoIHeads
from mrcnn.sampling import Samples

torch.set_num_threads(1)  # our pictures are so small that a second thread would mostly wait
play = Playground(260, seed=3)
scenes = [play[i] for i in range(len(play))]  # 150 to learn from, 10 to measure losses on, 100 to test the last head on


def batch(numbers):
    """Images and targets. Each target has a seed, so that all models see the same random samples of it."""
    some, targets = collate([scenes[i] for i in numbers])
    return some, [target | {"seed": i} for i, target in zip(numbers, targets, strict=True)]


probe = batch(range(150, 158))

# %% [markdown]
# ## A picture first
#
# A scene, and six maps over it, one per loss of the trained model. Light is where that loss would change the features
# most: the length of its gradient in each cell, over all levels of the pyramid. Each map has its own scale.

# %% tags=["cover"]
model = mrcnn.playground_rcnn(pretrained=True).train()
image, target = scenes[158]
ready, scaled = images.prepare([image], [target | {"seed": 0}], model.settings.images, training=True)
levels = [level.detach().requires_grad_() for level in model.backbone(ready.pixels)]
proposals, losses = model.rpn(ready, levels, scaled)
losses |= model.roi_heads.train_step(levels[:-1], 4, proposals, scaled)
maps = {}
for name, loss in losses.items():
    for level in levels:
        level.grad = None
    loss.backward(retain_graph=True)
    squares = [level.grad.square().sum(1, keepdim=True) for level in levels if level.grad is not None]
    spread = [F.interpolate(each, size=(128, 128)) * each.numel() / 128**2 for each in squares]
    maps[name] = sum(spread)[0, 0].sqrt()
pictures.pulls(image, maps)

# %% [markdown]
# The first two maps are the losses of the region proposal network (RPN). They pull where anchors were sampled, on the coarse
# levels too, hence the large squares. The heads' losses pull inside the sampled boxes, the keypoint loss at people alone. All
# of them pull at *the same numbers*.
#
# ## Predict
#
# The loss that is minimised is the plain sum of the six. Here they are in a network that has learned nothing yet, over the
# eight scenes of `probe`:

# %%
torch.manual_seed(0)
untrained = mrcnn.playground_rcnn()
fresh = copy.deepcopy(untrained)
names = list(fresh(*probe))
for name, loss in fresh(*probe).items():
    print(f"{name:<20}{loss:6.2f}")

# %% [markdown]
# How hard does each pull at the backbone? Take the gradient of one loss for all the backbone's parameters as one long arrow:
# its length says how hard, its direction which way.
#
# 1. Which of the six gradients is the longest, which the shortest?
# 2. How many times as long as the shortest is the longest?
# 3. Do two losses mostly pull the same way, against each other, or neither?

# %%
my_longest, my_shortest = "", ""  # names, as above
my_ratio = None
my_way = ""  # "the same", "against" or "neither"

# %% [markdown]
# ## Build it: one gradient per loss
#
# `backward()` on the sum gives one gradient, and nobody can tell any more who pulled how. So ask loss by loss. Run the forward
# pass only once: it takes time, and a second one would draw other samples.

# %% exercise="gradient_rows"


# %%
def pulls(network, data=probe):
    """Gradients (6, P) of the losses for the backbone; and the losses."""
    shared = [each for each in network.backbone.parameters() if each.requires_grad]
    kept = {}

    def compute():
        kept.update(network(*data))
        return kept

    return gradient_rows(compute, shared), [loss.item() for loss in kept.values()]


rows, values = pulls(fresh)
lengths = rows.norm(dim=1)
for name, value, length in zip(names, values, lengths.tolist(), strict=True):
    print(
        f"{name:<20} loss {value:5.2f}   gradient in the backbone {length:6.3f}   gradient / loss {length / value:5.2f}"
    )
order = lengths.argsort()
print(f"longest {names[order[-1]]}, shortest {names[order[0]]}: {lengths.max() / lengths.min():.0f} times as long")
print(f"{rows.shape[1]:,} parameters; code: {lab.whose(gradient_rows)}")
print(f"You said: {my_longest}, {my_shortest}, {my_ratio}")

other = copy.deepcopy(untrained)
print(f"\nfirst weights of the RPN have a spread of {other.rpn.head.conv[0][0].weight.std():.2f}; with larger ones:")
for layer in other.rpn.modules():
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight)
        print(f"  {tuple(layer.weight.shape)}: spread {layer.weight.std():.2f}")
for name, length in list(zip(names, pulls(other)[0].norm(dim=1).tolist(), strict=True))[:2]:
    print(f"{name:<20} gradient in the backbone {length:6.3f}")

# %% [markdown]
# The **gradient norm**, as the length is called, does not follow the loss. What counts is how the loss *changes* with the
# features. The RPN's losses hardly move the backbone here, and the reason is dull: its layers start with weights near
# zero, and a gradient on its way back is multiplied by them. With larger first weights the same two losses pull a
# hundred times as hard. Without good proposals no head can work: a short gradient does not mean an unimportant task.
#
# ## Over a training
#
# Now train, and measure every 15 steps. The measured scenes are never trained on.


# %%
def fit(network, steps, groups=None, watch=lambda step: None):
    """A plain training: four scenes a step, all losses added."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(groups or network.parameters(), lr=1e-3)
    for step in range(steps + 1):
        if step % 15 == 0:
            watch(step)
        losses = network(*batch(torch.randperm(150)[:4].tolist()))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return network


at, norms = [], []


def watch(step):
    at.append(step)
    norms.append(pulls(fresh)[0].norm(dim=1))


fit(fresh, 60, watch=watch)
by_loss = {
    name.removeprefix("loss_"): (at, lengths.tolist())
    for name, lengths in zip(names, torch.stack(norms).T, strict=True)
}
first, second = list(by_loss)[:2], list(by_loss)[2:]
curves(
    Panel("Proposals: gradient norm in the backbone", "steps", {name: by_loss[name] for name in first}),
    Panel("Heads: gradient norm in the backbone", "steps", {name: by_loss[name] for name in second}),
)

# %% [markdown]
# Mind the two scales. The balance is not fixed: after 15 steps the class loss pulls three times as hard as before, and
# the objectness loss ten times. A weight that balances the losses at the start does not do so later.
#
# ## The same way, or against each other?
#
# Two gradients are two arrows with as many coordinates as the backbone has parameters. The cosine of the angle between
# them is 1 where they point the same way, 0 at a right angle, and below 0 where a step for one hurts the other.

# %% exercise="cosines"

# %%
short = [name.removeprefix("loss_")[:10] for name in names]
rows, _ = pulls(fresh)
others, _ = pulls(fresh, batch(range(100, 108)))
table = cosines(rows)
print(" " * 12 + "".join(f"{name:>12}" for name in short))
for name, row in zip(short, table.tolist(), strict=True):
    print(f"{name:<12}" + "".join(f"{value:12.2f}" for value in row))
print("\nThe same loss, on eight other scenes:")
print(" " * 12 + "".join(f"{value:12.2f}" for value in cosines(torch.cat([rows, others]))[:6, 6:].diag().tolist()))
print(f"code: {lab.whose(cosines)}. You said: {my_way}")

# %% [markdown]
# No pair is near 1, and none near -1. "The tasks fight" is often said; look before you believe it.
#
# The last line is the yardstick: how far a loss agrees with *itself* when the scenes are others. Hardly at all! Much of every
# gradient is the luck of its batch. So one small cosine between two losses, of either sign, says little: measure many batches.
#
# ## Weights
#
# The losses need not be added as they are: each may have a weight. Before you turn such knobs, foretell what they do. If the
# step is small, the gradients do not change on the way, and the table of gradients tells all. This exercise is extra: without
# an answer the lesson goes on with its own.

# %% exercise="forecast"


# %% [markdown]
# Now the forecast against the truth. The backbone takes one plain step, once small and once larger: first for the
# sum of the losses, then with the mask loss weighted ten times. Proposals and samples are held fixed, for they are choices,
# and jump. **Predict**: with that weight, do the *other* losses fall faster, slower, or as before?

# %%
my_others = ""


# %%
with torch.no_grad():
    ready, scaled = images.prepare(*probe, fresh.settings.images, training=True)
    held, _ = fresh.rpn(ready, fresh.backbone(ready.pixels), scaled)


def with_held_proposals(network):
    features = network.backbone(ready.pixels)
    losses = network.rpn(ready, features, scaled)[1]
    return losses | network.roi_heads.train_step(features[:-1], 4, held, scaled)


def parameters(network):
    return list(network.backbone.parameters())


start = with_held_proposals(fresh)
before = torch.stack(list(start.values())).detach()
rows = gradient_rows(lambda: with_held_proposals(fresh), parameters(fresh))
print(" " * 20 + "".join(f"{name:>12}" for name in short))
for rate in (1e-4, 1e-2):
    for told, weights in (("all 1", torch.ones(6)), ("mask 10", torch.tensor([1.0, 1, 1, 1, 10, 1]))):
        moved = copy.deepcopy(fresh)
        sizes = [each.numel() for each in parameters(moved)]
        with torch.no_grad():
            for each, part in zip(parameters(moved), (weights @ rows).split(sizes), strict=True):
                each -= rate * part.view_as(each)
            after = torch.stack(list(with_held_proposals(moved).values()))
        print(f"step {rate:g}, weights {told}")
        for what, change in (("foretold", forecast(rows, weights, rate)), ("true", after - before)):
            print(f"  {what:<18}" + "".join(f"{value:+12.1e}" for value in change.tolist()))
print(f"code: {lab.whose(forecast)}. You said: {my_others}")

# %% [markdown]
# Minus means that the loss falls. For the small step the forecast holds, except for changes so small that they drown in
# rounding. For the larger one it fails: the gradients change on the way. And the mask loss's weight moves the others too.
# A loss whose gradient agrees with the mask loss's falls further; one that disagrees may even rise, as the class loss
# does. (The mask column of the cosines has the signs.)
#
# ### Break it: a weight that does nothing
#
# A plain step (SGD) is the rate times the gradient. Adam, another rule for steps, first divides each parameter's gradient by
# how large it usually was; in the first step, by its own size. **Predict**: the mask loss gets weight 100. How many times
# as far does each part move in the first step, by either rule?

# %%
my_sgd = {"mask head": None, "keypoint head": None, "backbone": None}
my_adam = {"mask head": None, "keypoint head": None, "backbone": None}

# %%
parts = {"mask head": "roi_heads.mask", "keypoint head": "roi_heads.keypoint", "backbone": "backbone"}


def first_step(kind, weight):
    """How each part moves, as one long arrow per part."""
    moved = copy.deepcopy(fresh)
    optimizer = kind(moved.parameters(), lr=1e-3)
    losses = with_held_proposals(moved)
    (sum(losses.values()) + (weight - 1) * losses["loss_mask"]).backward()
    optimizer.step()
    pairs = [(name, new - old) for (name, new), old in zip(moved.named_parameters(), fresh.parameters(), strict=True)]
    return {
        part: torch.cat([change.detach().flatten() for name, change in pairs if name.startswith(prefix)])
        for part, prefix in parts.items()
    }


for kind, mine in ((torch.optim.SGD, my_sgd), (torch.optim.Adam, my_adam)):
    plain, heavy = first_step(kind, 1.0), first_step(kind, 100.0)
    for part in parts:
        far = heavy[part].norm() / plain[part].norm()
        turned = F.cosine_similarity(heavy[part], plain[part], dim=0)
        print(
            f"{kind.__name__:<5}{part:<15}{far:6.2f} times as far, cosine with before {turned:5.2f}   You said: {mine[part]}"
        )

# %% [markdown]
# "Cosine with before" compares the step with weight 100 with that of weight 1. With Adam the mask head itself does not notice
# its weight: a hundredfold gradient is divided by a hundredfold size. The weight acts only where losses *meet*, in the
# backbone, and there it turns this step and does not lengthen it. With SGD it lengthens the step as well.
#
# ## Heads switched off
#
# Does it help a task to share the backbone with others? Leave two heads out and train again, with the same scenes in the
# same order, and the same first weights for what is left.

# %%
torch.manual_seed(0)
alone = fit(mrcnn.playground_rcnn(mask=None, keypoint=None), 60)
without = {name: loss.item() for name, loss in alone(*probe).items()}
for name, loss in fresh(*probe).items():
    if name in without:
        print(f"{name:<20} with all heads {loss.item():.3f}, box head alone {without[name]:.3f}")

# %% [markdown]
# One pair of trainings. Which of the two is better? You cannot know: with another seed, that is other first weights and
# other scenes, the order may turn. So train each several times, and compare *within* each seed, where both had the same
# luck.
#
# What is the mean of the differences, and how sure is it? The spread (standard deviation, `.std()`) of a mean over N seeds is
# that of one difference, divided by the root of N: this is its *standard error*.

# %% exercise="paired_difference"

# %% [markdown]
# Here are longer trainings on many more scenes, done beforehand by `benchmarks/heads_off.py`. **Predict** first: by how much
# does the AP of boxes rise (+) or fall (-) without the mask head, and without the keypoint head?

# %%
my_changes = {"no mask head": None, "no keypoint head": None}

# %%
study = json.loads(Path("../../benchmarks/results/heads_off.json").read_text())
cells = study["cells"]
print(
    f"{study['steps']} steps on {study['scenes']} scenes, {study['test']} others to measure on; {', '.join({cell['cpu'] for cell in cells.values()})}"
)
whole = {seed: cells[f"all heads, seed {seed}"] for seed in study["seeds"] if f"all heads, seed {seed}" in cells}
WIDER = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # Student's t: so many standard errors hold the truth 95 times in 100
for kind, told in (("bbox", "boxes"), ("segm", "masks"), ("keypoints", "keypoints")):
    print(f"\nAP of {told}, with all heads:", ", ".join(f"{each[kind]['AP']:.3f}" for each in whole.values()))
    for off in my_changes:
        pairs = [
            (whole[seed][kind]["AP"], cells[f"{off}, seed {seed}"][kind]["AP"])
            for seed in whole
            if kind in cells.get(f"{off}, seed {seed}", {})
        ]
        if len(pairs) > 1:
            mean, error = paired_difference(*torch.tensor(pairs, dtype=torch.float64).T)
            bar = WIDER[len(pairs)] * error
            verdict = "not told apart from 0" if abs(mean) <= bar else "AP rises" if mean > 0 else "AP falls"
            print(
                f"  {off:<18} {mean:+.3f}, in {len(pairs)} seeds; 95 % from {mean - bar:+.3f} to {mean + bar:+.3f}: {verdict}"
            )
print(f"code: {lab.whose(paired_difference)}. You said: {my_changes}")

# %% [markdown]
# The first number of a line is the mean difference: AP without the head minus AP with it. Read the end first: the interval
# holds the truth 95 times in 100. Where it holds 0, the honest sentence is "we could not tell", and not "it makes
# no difference". With so few seeds the interval is many standard errors wide, and only a large effect shows. These
# trainings are short, too, and their APs low: after a full training the answer may be another. And of several intervals
# of 95 %, one may miss by luck: the more you compare, the more you will "find".
#
# The paper made this comparison at full size (section 5): there the mask branch helped boxes and keypoints a little, and the
# keypoint branch cost boxes and masks a little. Boxes, masks and poses lie close together. How tasks that lie further apart
# share, nobody can say beforehand: measure.
#
# ## A branch of your own
#
# Is a person's left hand raised, and the right? Two questions of yes or no, per box. COCO has no such label, but it
# follows from the keypoints. First the targets.

# %% exercise="raised_hands"

# %% [markdown]
# Now the loss. A head's loss gets the logits of all *samples*: proposals that hold an object. Several may hold the same one, and
# some objects have none. So each sample has its object's row in the target: with `objects` (2, 0, 2) the first and the third
# sample are of the third object.

# %% exercise="raised_loss"

# %% [markdown]
# And the branch around them: a subclass of `Head`, its settings, and one line in the model's settings. That is all of it.


# %%
@dataclass(frozen=True)
class HandsSettings(HeadSettings):
    resolution: int = 7

    def head(self):
        return HandsHead(self)


class HandsHead(Head):
    name, target = "hands", "raised"  # its loss is "loss_hands"; it learns from what each target has as "raised"

    def layers(self, channels, num_classes, norm):
        """The features of a box (channels, 7, 7) become 64 numbers, and these two logits."""
        hidden = nn.Sequential(nn.Flatten(), nn.Linear(channels * self.settings.resolution**2, 64), nn.ReLU())
        return hidden, nn.Linear(64, 2)

    def learn_from(self, samples, target):
        """The samples of one picture that the loss sees: those of people with a hand that is known."""
        return samples.positive((target["raised"] >= 0).any(1))

    def loss(self, logits, samples, targets):
        return raised_loss(logits, samples, targets)

    def results(self, logits, found):
        """What is added to the boxes, labels and scores that are found in a picture."""
        return {"raised": logits.sigmoid()}


@dataclass(frozen=True)
class WithHands(ModelSettings):
    hands: HandsSettings | None = None  # the one line


# %% [markdown]
# The trained model is the start, with the new branch beside its heads. Old layers take small steps and the new ones larger.
# **Predict**: how many of 100 hands are judged right on new scenes, before and after? And how hard will the new loss pull at
# the backbone, beside the other six?

# %%
my_before, my_after = None, None

# %%
for _, target in scenes:
    target["raised"] = raised_hands(target["keypoints"]).float()
trained = mrcnn.playground_rcnn(pretrained=True)
settings = {each.name: getattr(trained.settings, each.name) for each in fields(trained.settings)}
torch.manual_seed(0)
model = MaskRCNN("with_hands", WithHands(**settings, hands=HandsSettings()))
model.load_state_dict(trained.state_dict(), strict=False)  # all but the new branch
model.labels = trained.labels


@torch.no_grad()
def pooled(data, network=trained):
    """Of people with a hand that is known: the features of their boxes, and the answers."""
    features, answers = [], []
    for first in range(0, len(data), 10):
        some, targets = zip(*data[first : first + 10], strict=True)
        known = [(target["raised"] >= 0).any(1) for target in targets]
        boxes = [target["boxes"][each] for target, each in zip(targets, known, strict=True)]
        ready, _ = images.prepare(some, None, network.settings.images, training=False)
        maps = network.backbone(ready.pixels)[:-1]
        features.append(mrcnn.roi_heads.multiscale_roi_align(maps, 4, boxes, 7, network.settings.box.canonical_size))
        answers += [target["raised"][each] for target, each in zip(targets, known, strict=True)]
    return torch.cat(features), torch.cat(answers)


def right(layers, features, answers, only=None):
    """The share of known hands that are judged right; or of these alone."""
    with torch.no_grad():
        hits = (layers(features) > 0) == (answers > 0)
    return float(hits[(answers >= 0) if only is None else only].float().mean())


def layers_of(network):
    return nn.Sequential(network.roi_heads.hands_head, network.roi_heads.hands_predictor)


test = scenes[160:]
first = right(layers_of(model), *pooled(test, model.eval()))
new = list(layers_of(model).parameters())
old = [each for each in model.parameters() if not any(each is one for one in new)]
probe = batch(range(150, 158))
_, values = pulls(model.train(), probe)
fit(model, 90, [{"params": old, "lr": 2e-5}, {"params": new, "lr": 2e-3}])
rows, later = pulls(model, probe)
answers = pooled(test)[1]
guess = float((answers[answers >= 0] == 0).float().mean())
last = right(layers_of(model), *pooled(test, model.eval()))
print(f"of {int((answers >= 0).sum())} hands on {len(test)} new scenes, right before {first:.0%}, after {last:.0%}")
print(f"who always says 'down' is right in {guess:.0%}. You said: {my_before} and {my_after}")
for name, was, now, length in zip([*names, "loss_hands"], values, later, rows.norm(dim=1).tolist(), strict=True):
    print(f"{name:<20} loss {was:.3f} before, {now:.3f} after   gradient in the backbone {length:.2f}")
print(f"raised_hands {lab.whose(raised_hands)}, raised_loss {lab.whose(raised_loss)}")

# %% [markdown]
# It has learned from 150 scenes: what it must beat is not one half, but always saying "down". The other six losses are about what
# they were, and the new loss pulls at the backbone with the rest. These are its answers for what the model itself found (left
# and right are the person's own, and so the other way round for us). Above 50% it says "raised". Find a wrong answer:

# %%
one_person = [(image, target) for image, target in test if (target["labels"] == 1).sum() == 1]
shown = [image for image, target in one_person if (target["raised"] > 0).any()][:4]
with torch.no_grad():
    results = model.eval()(shown)
sure = [(each["labels"] == 1) & (each["scores"] > 0.5) for each in results]
pictures.hands(
    shown,
    [each["boxes"][yes] for each, yes in zip(results, sure, strict=True)],
    [each["raised"][yes] for each, yes in zip(results, sure, strict=True)],
    "People, and how probable the model holds it that the left and the right hand are raised",
)

# %% [markdown]
# ### Break it: the mirror
#
# More data for nothing: mirror every picture. The library's mirror knows boxes, masks and keypoints. It does not know your
# label, and says so. Suppose it had said nothing, and the label stayed as it was. We train the branch alone, on fixed
# features of the true boxes, three ways: without a mirror; with one, the label as it was; with one, the label's two columns
# exchanged. **Predict** which is the worst, and for which people.

# %%
my_worst = ""

# %%
try:
    augment.mirror(*scenes[0], play.keypoint_flip)
except ValueError as problem:
    print(f"{problem}\n")


def mirrored(image, target):
    """The pair in the mirror; its label stays as it was."""
    rest = {name: value for name, value in target.items() if name != "raised"}
    image, rest = augment.mirror(image, rest, play.keypoint_flip)
    return image, rest | {"raised": target["raised"]}


features, answers = pooled(scenes[:150])
twins, stale = pooled([mirrored(*each) for each in scenes[:150]])
ways = {
    "no mirror": (features, answers),
    "mirror, label stays": (torch.cat([features, twins]), torch.cat([answers, stale])),
    "mirror, label follows": (torch.cat([features, twins]), torch.cat([answers, stale.flip(1)])),
}
new_features, new_answers = pooled(test)
one_up = (new_answers.sum(1, keepdim=True) == 1).expand(-1, 2) & (new_answers >= 0).all(1, keepdim=True)
for name, (x, wanted) in ways.items():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.AdamW(layers.parameters(), lr=1e-3)
    for _ in range(100):
        drawn = torch.randint(len(x), (32,))
        samples = [Samples(torch.zeros(32, 4), torch.ones(32).long(), drawn)]
        loss = raised_loss(layers(x[drawn]), samples, [{"raised": wanted}])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shares = right(layers, new_features, new_answers), right(layers, new_features, new_answers, one_up)
    print(f"{name:<24} right {shares[0]:.2f}; of people with exactly one hand up {shares[1]:.2f}")
print(f"You said: {my_worst}")

# %% [markdown]
# In a mirror a left hand is a right hand. With the label as it was, the branch is told both, and can no longer say *which*:
# people with one hand up show it. No line of code fails. (The right mirror gained nothing here, either.) A label of your own
# must go through everything that is done to pictures; make it *after* that, from the keypoints, and it cannot be stale.
#
# ## Questions
#
# **a.** At first the keypoint loss is about ln(56 · 56), and the objectness loss about ln 2. Must both be divided by that, to
# be fair?
#
# <details><summary>Answer</summary>
#
# No. A start at ln(n) says only that there are n choices and that the network guesses; the gradient is what acts. Division is
# a weight: it may help, but measure it by what you want in the end, the APs.
#
# </details>
#
# **b.** You set weights so that all six gradient norms are equal. What would go wrong here?
#
# <details><summary>Answer</summary>
#
# The shortest would get a weight of some hundreds, only because of the RPN's small first weights. Its gradient is
# mostly the luck of its batch, and all of that would be enlarged. And the balance is another after a few steps, so the
# weights would have to follow (GradNorm does so).
#
# </details>
#
# **c.** Extra, about 30 minutes: a branch that is all yours, in under 40 lines. Which way does the face look: is the nose to the
# left or to the right of the middle between the ears? Copy the cell with `HandsHead` and change three things.
#
# <details><summary>Answer</summary>
#
# The target: 0 or 1 by x of keypoint 0 against the mean of 3 and 4; -1 where one of the three has v = 0, or where the two
# places are less than a pixel apart. The layers: one logit. The loss: as before, over one column. Do not expect much from so
# few scenes: the nose stands out by a few pixels, and features of 7 × 7 are coarse for that. Try a resolution of 14.
#
# </details>
#
# ## Now find it in the real file
#
# Every field of a model's settings that is a head's becomes a head. No list of heads is kept anywhere:

# %%
lab.show(ModelSettings.heads)

# %% [markdown]
# Each head takes its samples, and puts its loss into one dict; yours as well:

# %%
lab.show(RoIHeads.train_step, "losses = box_losses", 'losses[f"loss_')

# %% [markdown]
# The model joins them with the proposals' losses, and the training adds them up. This is where many losses become one:

# %%
lab.show(MaskRCNN.forward, "if self.training:", "return losses |")
lab.show(train.Run.take_step, "self.optimizer.zero_grad()", "backward()")

# %% [markdown]
# There are no weights in the sum: a head that has one multiplies its own loss (`loss_weight` in `mrcnn/keypoint_head.py`).
#
# ## What we left out, and where to read on
#
# - **A semantic branch**, a class for every pixel, does not look into boxes. It would be a stage beside the region proposal
#   network: one more line in `forward`, and a loss in the same dict.
# - **Weights that are learned**, or follow the gradients: A. Kendall, Y. Gal, R. Cipolla, *Multi-Task Learning Using Uncertainty
#   to Weigh Losses* (2018), section 3; Z. Chen et al., *GradNorm* (2018), section 3.
# - **Gradients that are turned** where they disagree: T. Yu et al., *Gradient Surgery for Multi-Task Learning* (2020), section 2. And
#   a sober look: V. Kurin et al., *In Defense of the Unitary Scalarization for Deep Multi-Task Learning* (2022): a plain sum,
#   well trained, is hard to beat.
# - K. He et al., *Mask R-CNN* (2017), sections 3 and 5: the sum, and what the branches did for one another.
# - Which APs all this is in the end about: lesson 13.
