# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Features and the pyramid
#
# What one cell of a feature map sees of the picture, measured by a gradient, and how the pyramid makes small cells see more.
#
# **You will** write a residual block, measure receptive fields, let a coarse map flow into a fine one, and fold a batch
# norm into a convolution.
#
# **Time** about 60 minutes. **Know first** what a convolution is, and `backward()`; lesson 00.
#
# **Files** `mrcnn/backbone.py`, `mrcnn/layers.py`.

# %%
import copy
import math

import exercises
import pictures
import torch
import torch.nn.functional as F
from torch import nn

import mrcnn
from mrcnn import lab
from mrcnn.backbone import BasicBlock, FeaturePyramid
from mrcnn.data import Playground
from mrcnn.engine.evaluate import evaluate
from mrcnn.fused_conv import fold_batch_norm
from mrcnn.lab import check

# %matplotlib inline

torch.set_num_threads(1)  # on maps as small as ours, threads mostly wait for each other
model = mrcnn.playground_rcnn(pretrained=True).requires_grad_(False)  # we train none of it here
backbone = model.backbone  # body: picture -> C2 to C5; fpn, the pyramid: C2 to C5 -> P2 to P6

# %% [markdown]
# ## A picture first
#
# Nine playground scenes side by side. Take the one cell of P2 that stands at the middle, and ask: which pixels does it
# depend on? Those on which it depends much are in colour, the others grey. The same for P3 to P6.


# %%
def mosaic(seed):
    """Nine scenes of 128 x 128 pixels as one picture, uint8 (3, 384, 384)."""
    scenes = Playground(9, seed=seed)
    return torch.cat([torch.cat([scenes[3 * row + i][0] for i in range(3)], dim=2) for row in range(3)], dim=1)


def normalised(image):
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (model.settings.images.mean, model.settings.images.std)
    )
    return (image.float() / 255 - mean) / std


def all_of_it(field):
    """The box (4,) around all pixels of a field (H, W) that are not zero."""
    where = field.nonzero()
    return torch.cat([where.amin(0).flip(0), where.amax(0).flip(0) + 1]).float()


def most_of_it(field, y, x, share=0.9):
    """The smallest square (4,) around pixel (y, x) that holds this share of a field."""
    for half in range(max(field.shape)):
        square = [max(x - half, 0), max(y - half, 0), x + half + 1, y + half + 1]
        if field[square[1] : square[3], square[0] : square[2]].sum() >= share * field.sum():
            return torch.tensor(square).float()


MIDDLE = 192


def look(network, stride, measure=exercises.receptive_field):
    """What the cell at the middle of a map sees, the mean over four mosaics: a field, and its two boxes."""
    row = MIDDLE // stride
    fields = [measure(network, normalised(mosaic(seed)), row, row) for seed in range(1, 5)]
    field = sum(each / each.sum() for each in fields) / len(fields)
    return field, all_of_it(field), most_of_it(field, MIDDLE, MIDDLE)


# %% tags=["cover"]
pyramid = {f"P{k + 2}": look(lambda x, k=k: backbone(x)[k], 4 * 2**k) for k in range(5)}
pictures.sees(mosaic(1), pyramid)

# %% [markdown]
# The dotted box holds everything that the cell can see, the solid square nine tenths of what it does see. By the end you
# will have computed the first by hand, measured the second, and you will know why the dotted box of P2 is so large, and
# why it is not in the middle.
#
# ## 1. A block that can be stacked
#
# A **residual block** computes a *correction*, and adds it to its input: $y = \text{ReLU}(x + f(x))$. The way of $x$
# around $f$ is the **skip connection**. Here $f$ is convolution, **batch norm** (it brings each channel to mean 0 and spread
# 1, then scales and shifts it by learnt numbers; more in section 5), ReLU, convolution, batch norm. Where the shape changes,
# $x$ must change too: `block.downsample`, a convolution of 1 × 1 with a norm, does it.

# %% exercise="residual_block"

# %% [markdown]
# What is it good for? We stack 20 of them, 40 convolutions, and train 40 steps: which of six things is on a thumbnail of
# 16 × 16 pixels? Then the same stack with the skips cut. **Predict** which learns faster. And at the bottom, far from the
# loss, is the gradient without skips much smaller than with them, about equal, or much larger?

# %%
my_faster = None  # "with skips", "without skips" or "no difference"
my_gradient = None  # without skips: "smaller", "equal" or "larger"


# %%
def plain_block(x, block):
    return F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))


class Stack(nn.Module):
    def __init__(self, one_block, depth=20, channels=16):
        super().__init__()
        self.one_block = one_block
        self.first = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(BasicBlock(channels, channels, 1, nn.BatchNorm2d) for _ in range(depth))
        self.last = nn.Linear(channels, 6)
        for block in self.blocks:  # as in ResNet: the sizes of signals are kept through ReLU
            nn.init.kaiming_normal_(block.conv1.weight, nonlinearity="relu")
            nn.init.kaiming_normal_(block.conv2.weight, nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.first(x))
        for block in self.blocks:
            x = self.one_block(x, block)
        return self.last(x.mean((2, 3)))


def thumbnails(scenes):
    """Every object of at least 6 pixels (K, 3, 16, 16), and its class from 0 to 5."""
    cut, labels = [], []
    for i in range(len(scenes)):
        image, target = scenes[i]
        for (x1, y1, x2, y2), label in zip(target["boxes"].int().tolist(), target["labels"].tolist(), strict=True):
            if min(x2 - x1, y2 - y1) >= 6:
                cut.append(F.interpolate(normalised(image)[None, :, y1:y2, x1:x2], (16, 16), mode="area")[0])
                labels.append(label - 1)
    return torch.stack(cut), torch.tensor(labels)


def train(one_block, seed, steps=40):
    """The loss of each step, and the gradient's norm in each block before the first."""
    torch.manual_seed(seed)
    net, losses = Stack(one_block), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03)
    for step in range(steps):
        chosen = torch.multinomial(equally, 32)
        loss = F.cross_entropy(net(small[chosen]), kinds[chosen])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            norms = [block.conv1.weight.grad.norm().item() for block in net.blocks]
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses), torch.tensor(norms)


small, kinds = thumbnails(Playground(150, seed=11))
equally = (1 / kinds.bincount())[kinds]  # each class is drawn as often
runs = {
    "with skips": [train(residual_block, seed) for seed in range(3)],
    "without skips": [train(plain_block, seed) for seed in range(3)],
}
losses = {name: torch.stack([each for each, _ in run]) for name, run in runs.items()}
gradients = {name: torch.stack([each for _, each in run]) for name, run in runs.items()}

print(f"{len(small)} thumbnails; the block is {lab.whose(residual_block)}")
for name in runs:
    ends = losses[name][:, -5:].mean(1)
    ratio = (gradients[name][:, 0] / gradients[name][:, -1]).mean()
    print(
        f"{name:14} loss of the last 5 steps {ends.mean():.2f} (seeds: {', '.join(f'{each:.2f}' for each in ends)}),",
        end=" ",
    )
    print(f"gradient in the first block / in the last: {ratio:.0f}")
print("you said:", my_faster, "and", my_gradient)
pictures.first_steps(losses, gradients, math.log(6))

# %% [markdown]
# Thin lines are three seeds, the thick one their mean. The dotted line, log 6, is what guessing costs. The plain stack stays
# near it; the residual one has begun to learn, with every seed.
#
# One often reads that gradients *vanish* in a deep stack. In this one they *explode* on the way back: batch norm keeps
# the signal's size going forward, not the gradient's going backward. Either way no step suits both the first
# convolution and the last. With the skip, the derivative of $x + f(x)$ is $1 + f'(x)$: some of the gradient passes as it is.
#
# ## 2. What a cell can see
#
# The pixels that a cell depends on are its **receptive field**. It follows from two numbers of each layer: `kernel`, how
# many cells wide it reads, and `stride`, how many cells it moves from one output to the next. By hand, for the first three layers of our body:
#
# | layer | `kernel`, `stride` | sees | neighbours are apart |
# |---|---|---|---|
# | the picture | | 1 | 1 |
# | convolution | 7, 2 | 1 + 6 · 1 = 7 | 1 · 2 = 2 |
# | max pool | 3, 2 | 7 + 2 · 2 = 11 | 2 · 2 = 4 |
# | convolution | 3, 1 | 11 + 2 · 4 = 19 | 4 |
#
# A layer that reads 3 cells sees two more than one cell. Each of the two lies as many pixels further as neighbours were
# apart *before* this layer.

# %% exercise="reach"

# %% [markdown]
# The *body* is the backbone without its pyramid; its four maps are C2 to C5. After the first convolution and the max pool,
# ours has four stages of one residual block (two 3 × 3 convolutions); the first convolution of stages 2, 3 and 4 has
# `stride` 2. ResNet-50 begins alike. Its stages have 3, 4, 6 and 3 residual blocks of 1 × 1, 3 × 3, 1 × 1; in the first
# of stages 2, 3 and 4, the 3 × 3 has `stride` 2. **Predict** how wide a cell of C5 sees in each.

# %%
my_playground, my_resnet50 = None, None  # pixels

# %%
start = [(7, 2), (3, 2)]  # convolution, max pool
ours = [[*start, (3, 1), (3, 1)]]
for _ in range(3):
    ours.append(ours[-1] + [(3, 2), (3, 1)])  # C3, C4, C5
resnet50 = list(start)
for blocks, stride in ((3, 1), (4, 2), (6, 2), (3, 2)):
    resnet50 += [(1, 1), (3, stride), (1, 1)] + (blocks - 1) * [(1, 1), (3, 1), (1, 1)]
print(f"by code that is {lab.whose(reach)}:")
print("our C2 to C5:", [reach(layers)[0] for layers in ours], " ResNet-50's C5:", reach(resnet50)[0])
print("you said:", my_playground, "and", my_resnet50)

# %% [markdown]
# ## Measure it
#
# That is a claim about a program, so test it. A cell depends on a pixel if the cell's gradient with respect to the pixel is
# not zero. One `backward()` from one cell gives it for all pixels at once.

# %% exercise="receptive_field"

# %%
print(f"by code that is {lab.whose(receptive_field)}; the cell stands at pixel {MIDDLE}")
for k, layers in enumerate(ours):
    field, whole, most = look(lambda x, k=k: backbone.body(x)[k], 4 * 2**k, receptive_field)
    x1, _, x2, _ = whole.int().tolist()
    print(
        f"C{k + 2}: by hand {reach(layers)[0]:3}, measured {x2 - x1:3}, from pixel {x1} to {x2 - 1}, middle "
        f"{(x1 + x2 - 1) // 2}; 90 % in a square of {most[2] - most[0]:.0f}, "
        f"{100 * (most[2] - most[0]) ** 2 / (x2 - x1) ** 2:.0f} % of the area"
    )

# %% [markdown]
# By hand and measured agree to the pixel. Two things are worth a second look.
#
# - **It sees less than it can.** Nine tenths of the gradient lie in about half of the area: a middle pixel reaches the cell on
#   many paths, a corner on one. This smaller region is the **effective receptive field** (Luo et al., 2016).
# - **Where its middle is.** Cell 48 of C2 covers pixels 192 to 195, and yet its field's middle is pixel 192, its *top left*
#   one. The same for C5, whose cell is 32 pixels wide. That is why anchors here stand at `column × stride`, with nothing
#   added (lesson 03).
#
# ## 3. The pyramid: top down
#
# C2 has fine cells, but each was made by a few layers and sees few pixels. C5 has seen much, in coarse cells. The pyramid
# brings C5 down, step by step. A step enlarges the coarser map to the finer one's size (each cell is copied: "nearest"), and
# adds the finer one, which a 1 × 1 convolution has brought to as many channels: the **lateral connection**. The chain of
# steps is the **top-down path**.

# %% exercise="top_down"


# %%
def pyramid_by_steps(maps, fpn, step):
    """C2 ... C5 -> P2 ... P6, by a step (coarse, fine, lateral) -> merged; a 3 x 3 convolution smooths each level."""
    merged = fpn.inner_blocks[-1](maps[-1])
    levels = [fpn.layer_blocks[-1](merged)]
    for k in (2, 1, 0):
        merged = step(merged, maps[k], fpn.inner_blocks[k])
        levels.insert(0, fpn.layer_blocks[k](merged))
    return [*levels, levels[-1][:, :, ::2, ::2]]


def without(coarse, fine, lateral):
    return lateral(fine)  # nothing comes down


maps = backbone.body(normalised(mosaic(1))[None])
pairs = zip(pyramid_by_steps(maps, backbone.fpn, top_down), backbone.fpn(maps), strict=True)
print(f"the step is {lab.whose(top_down)}; largest difference from the library's pyramid:", end=" ")
print(f"{max((a - b).abs().max().item() for a, b in pairs):.1e}")
p2 = {
    name: look(lambda x, step=step: pyramid_by_steps(backbone.body(x), backbone.fpn, step)[0], 4, receptive_field)
    for name, step in {"P2, nothing comes down": without, "P2 as it is": top_down}.items()
}
for name, (_, whole, most) in p2.items():
    print(f"{name}: from pixel {whole[0]:.0f} to {whole[2] - 1:.0f}; 90 % in {most[2] - most[0]:.0f} pixels")
pictures.sees(mosaic(1), p2, side=3.6)

# %% [markdown]
# P2's cell, four pixels wide, now sees as far as C5. Its field is not centred. The 3 × 3 convolution that smooths P2 reads
# cells 47, 48 and 49. "Nearest" gives cell 47 what belongs to C5's cell 5, cells 48 and 49 that of cell 6, and these two
# stand at pixels 160 and 192, left of the middle or on it. (P6 is every second cell of P5, and so sees the same.)
#
# ### Break it: cut the path
#
# How well boxes are found is measured by **AP**, average precision, from 0 to 1 (lesson 13). APs counts only objects
# under 32 × 32 pixels. The heads of our model read mostly P2 (lesson 00). **Predict** the box AP over 40 scenes with the
# top-down path cut.

# %%
my_ap = None

# %%
scenes = Playground(40, seed=77)
whole = evaluate(model, scenes)["bbox"]
backbone.fpn.forward = lambda maps: pyramid_by_steps(maps, backbone.fpn, without)
cut = evaluate(model, scenes)["bbox"]
del backbone.fpn.forward  # as it was
for name, each in (("as it is", whole), ("path cut", cut)):
    print(f"{name}: AP {each['AP']:.3f}, small objects {each['APs']:.3f}, share of objects found {each['AR']:.3f}")
print("you said:", my_ap)

# %% [markdown]
# A great fall, but not a fair trial: the heads were trained on sums, and now get one summand. So ask the features
# themselves. How well does a *linear* classifier, trained afresh on either, tell a thing's class from one cell of the finest
# map? Every class counts the same, so guessing gets one sixth. **Predict** for small and for large things.

# %%
my_without, my_as_it_is = None, None  # the share that is right: (small, large)


# %%
def cells_of(scenes, first, last, step):
    """Cells of the finest merged map on objects (K, 64), their classes, and the sides of their objects (K,)."""
    rows = []
    for i in range(first, last):
        image, target = scenes[i]
        *maps, merged = backbone.body(normalised(image)[None])
        merged = backbone.fpn.inner_blocks[-1](merged)
        for k in (2, 1, 0):
            merged = step(merged, maps[k], backbone.fpn.inner_blocks[k])
        sides = (target["boxes"][:, 2:] - target["boxes"][:, :2]).prod(1).sqrt()
        for mask, label, side in zip(target["masks"], target["labels"], sides, strict=True):
            inside = mask[::4, ::4] > 0  # the pixels at which the cells stand
            features = merged[0][:, inside].T
            rows.append((features, label.expand(len(features)), side.expand(len(features))))
    return [torch.cat(each) for each in zip(*rows, strict=True)]


def probe(step):
    """Per size, the mean over classes of the share of cells that are classified rightly."""
    features, labels, _ = cells_of(others, 0, 80, step)
    mean, std = features.mean(0), features.std(0)
    linear = nn.Linear(64, 7)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=60)
    weight = 1 / labels.bincount(minlength=7).clamp(min=1)

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(linear((features - mean) / std), labels, weight) + 1e-3 * linear.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    features, labels, sides = cells_of(others, 80, 160, step)
    right = (linear((features - mean) / std).argmax(1) == labels).float()
    return [
        torch.stack([right[(labels == label) & which].mean() for label in labels[which].unique()]).mean().item()
        for which in (sides < 24, (sides >= 24) & (sides < 48), sides >= 48)
    ]


others = Playground(160, seed=31)
torch.manual_seed(0)
for name, step in {"nothing comes down": without, "as it is": top_down}.items():
    print(f"{name:18} side < 24: {{:.2f}}   24 to 48: {{:.2f}}   48 and more: {{:.2f}}".format(*probe(step)))
print("you said:", my_without, "and", my_as_it_is)

# %% [markdown]
# Now it is fair, and the answer stands: what comes down tells *what* it is, to small things and to large ones.
#
# ## 4. Which level for which size?
#
# A region is read from one level, chosen by its size (lesson 00): $k = \lfloor 4 + \log_2(\sqrt{wh} / 224) \rfloor$, from 2 to
# 5. **Predict**: of 1,000 objects of the playground, how many belong to P2? And if its pictures were shown with a side
# of 800 pixels, as the published models show theirs?

# %%
my_p2, my_p2_at_800 = None, None

# %% [markdown]
# An extra exercise, if you like to count them yourself:

# %% exercise="level_counts"

# %%
targets = [target for _, target in map(Playground(300, seed=21).__getitem__, range(300))]
objects = torch.cat([target["boxes"] for target in targets])[:1000]  # (1000, 4)
rules = {"shown as it is, 128 pixels": 1.0, "shown with 800 pixels": 800 / 128}
print(f"{len(objects)} objects, counted by code that is {lab.whose(level_counts)}:")
for name, scale in rules.items():
    print(f"{name}: {level_counts(objects * scale, 224.0).tolist()} on P2 to P5")
print("you said:", my_p2, "and", my_p2_at_800)
sides = (objects[:, 2:] - objects[:, :2]).prod(1).sqrt()
pictures.sides({name: sides * scale for name, scale in rules.items()}, 224.0)

# %% [markdown]
# The rule is about pixels of what the network is *shown*. Its 224 is the side of the pictures that backbones are pretrained
# on: a thing that fills such a picture goes to P4. On small pictures everything goes to P2, and the coarse levels serve the
# anchors only; and P2 through what comes down from them.

# %% [markdown]
# ## 5. Why batch norm is frozen
#
# In training, batch norm takes each channel's mean and variance over the *batch*, and remembers a moving average of them,
# the **running statistics**, for use afterwards. Detectors train with two large pictures a step. Is that too few? One scene
# has 64 × 64 cells after the first convolution, so two have 8,192 numbers per channel. **Predict**: the mean over such a
# batch scatters as if it were the mean of how many *independent* numbers?

# %%
my_independent = None

# %%
many = torch.stack([normalised(image) for image, _ in map(Playground(256, seed=5).__getitem__, range(256))])
first = backbone.body.conv1(many)  # (256, 32, 64, 64)
means = {n: first.mean((2, 3)).view(-1, n, first.shape[1]).mean(1) for n in (2, 8, 32)}  # (batches, 32)
for n, each in means.items():
    independent = (first.var((0, 2, 3)) / each.var(0)).median()
    print(
        f"batches of {n:2}: {n * first[0, 0].numel():7,} numbers per channel, as good as {independent:.0f} independent ones"
    )
print("you said:", my_independent)
channel = int((first.var((0, 2, 3)) / means[2].var(0)).sort().indices[16])
frozen = backbone.body.bn1.running_mean[channel].item()
pictures.batch_means({n: each[:, channel] for n, each in means.items()}, frozen)

# %% [markdown]
# About eight for each picture, whose 4,096 numbers are much alike: one scene is dark, another pink. What counts is the
# number of *pictures*. What does that scatter cost? The trained backbone, evaluated with the statistics of each batch
# instead of the running ones:


# %%
def by_batch(module):
    """A copy whose batch norms take the statistics of each batch."""
    module = copy.deepcopy(module)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = norm.running_var = None
            norm.track_running_stats = False
    return module


print(f"running statistics: AP {whole['AP']:.3f}")
model.backbone = by_batch(backbone)
for n in (1, 2, 4, 8, 32):
    print(f"statistics of {n:2} pictures: AP {evaluate(model, scenes, batch_size=n)['bbox']['AP']:.3f}")
model.backbone = backbone

# %% [markdown]
# With one or two pictures the answers are worse. From eight on they are on a par with the running statistics, here a little
# better; other scenes shuffle the order of these (try `seed=177` for `scenes`, under "cut the path"). And this is only the
# answering: in training such noise is in every step. So what was learnt with large batches, as backbones are on the
# photographs of ImageNet, is **frozen**: mean, variance, scale and shift become constants. `FrozenBatchNorm2d` is that.
#
# ### Break it: who is in the batch?
#
# Statistics of the batch also break something that section 2 took for granted. **Predict** how much of the picture a cell
# of C2 sees then, 27 pixels wide by hand; and whether it sees the *other* picture of the batch.

# %%
my_share, my_other = None, None

# %%
mine, other = many[0], many[1]
loose = by_batch(backbone.body)
row = 64 // 4
own = receptive_field(lambda x: loose(torch.stack([x[0], other]))[0], mine, row, row)
others_part = receptive_field(lambda x: loose(torch.stack([mine, x[0]]))[0], other, row, row)
print(f"{(own > 0).float().mean():.0%} of its own picture, {(others_part > 0).float().mean():.0%} of the other")
print(f"of the whole gradient, {others_part.sum() / (own.sum() + others_part.sum()):.0%} comes from the other picture")
print("you said:", my_share, "and", my_other)

# %% [markdown]
# ### Fold it
#
# A frozen norm is $y \cdot \text{scale} + \text{shift}$ per channel, after a convolution, which is linear too. Two linear
# maps in a row are one: the norm can disappear into the weights. PyTorch's norm is
# $(y - \text{mean}) / \sqrt{\text{var} + \varepsilon} \cdot \text{weight} + \text{bias}$.

# %% exercise="fold"

# %%
conv, norm = backbone.body.layer2[0].conv2, backbone.body.layer2[0].bn2
x = torch.randn(8, 64, 64, 64, generator=torch.Generator().manual_seed(0))
weight, bias = fold(conv, norm)
folded = nn.Conv2d(64, 64, 3, padding=1)
folded.weight.data, folded.bias.data = weight, bias
with torch.no_grad():
    print(f"fold is {lab.whose(fold)}; largest difference: {(folded(x) - norm(conv(x))).abs().max():.1e}")
    times = lab.timed({"convolution, then norm": lambda: norm(conv(x)), "folded": lambda: folded(x)})

# %% [markdown]
# ## Now find it in the real file
#
# On a CPU the norm costs little beside the convolution, so folding it saves little time. A residual block, the pyramid and
# the folding in the library: `convolve(x, conv, norm, relu, plus=x)` is `relu(norm(conv(x)) + x)`, where a frozen norm is
# folded.

# %%
lab.show(BasicBlock.forward)
lab.show(FeaturePyramid.forward)
lab.show(fold_batch_norm)

# %% [markdown]
# ## Questions
#
# ### 1. A wider view for less
#
# Which sees wider: three 3 × 3 convolutions in a row or one 7 × 7? What does each cost per channel pair?
#
# <details><summary>Answer</summary>
#
# Both see 7 wide: `reach([(3, 1)] * 3)` and `reach([(7, 1)])`. Three cost 27 multiply-adds, the one 49; and with ReLU in
# between they can do more.
#
# </details>
#
# ### 2. Another mode
#
# Enlarge with `mode="bilinear"` in a `top_down` of your own, and measure P2 again. Is its field still off the middle?
#
# <details><summary>Answer</summary>
#
# Not this one: each step now reads two coarse cells along each side instead of one, so the field grows to the right and
# below until it is as wide as that of P5. But a model trained with "nearest" would have to be trained anew.
#
# </details>
#
# ## What we left out, and where to read on
#
# - **Group norm** (Wu and He, 2018) takes statistics inside one picture, so no batch is too small.
# - **Paths upward.** PANet (Liu et al., 2018) adds a second, bottom-up path; deformable convolutions (Dai et al., 2017) let a
#   cell choose where it looks.
# - **The papers.** *Deep Residual Learning* (He et al., 2015), figure 5; *Feature Pyramid Networks* (Lin et al., 2017),
#   section 3; *Understanding the Effective Receptive Field* (Luo et al., 2016); *The Shattered Gradients Problem* (Balduzzi
#   et al., 2017) on what happens to gradients without skips.
# - **Next.** Lesson 03, boxes and anchors.
