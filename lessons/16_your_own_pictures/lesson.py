# ---
# jupyter:
#   jupytext:
#     custom_cell_magics: cuda,cpp
# ---

# %% [markdown]
# # Your own pictures
#
# From a photograph without labels to a model that finds a new class in it: label, check, train, measure, predict, hand on.
#
# **You will** write polygons by hand and a COCO file of them, keep test and training apart, fine-tune the small model, choose a
# threshold, and see what goes wrong most often.
#
# **Time** about 75 minutes; to rest, stop before "Fine-tune". **Know first** polygons and annotations (lesson 01), AP, precision
# and recall (13), fine-tuning (14).
#
# **Files** `mrcnn/zoo.py`, `mrcnn/cli.py`, `mrcnn/data/coco.py`.

# %%
import copy
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import exercises
import pictures
import torch
from exercises import cross
from PIL import Image
from skimage import data

import mrcnn
from mrcnn import boxes as box_maths
from mrcnn import lab, model_file, zoo
from mrcnn.data import CocoDataset, labels_of
from mrcnn.engine import build_model
from mrcnn.engine.build_model import model_to_train
from mrcnn.engine.evaluate import evaluate
from mrcnn.engine.predict import detect
from mrcnn.engine.runs import default_settings
from mrcnn.engine.train import train
from mrcnn.lab import by_pycocotools, check
from mrcnn.lab.views.curves import Panel, curves

torch.set_num_threads(1)  # our pictures are so small that a second thread would mostly wait; so for the commands, too
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
scratch = tempfile.TemporaryDirectory()  # all files go here; put the name of a folder to keep them
FOLDER = Path(scratch.name)


def shell(command):
    """Run a command of a terminal in that folder, and show what it says."""
    program, *options = shlex.split(command)
    print("$", command)
    done = subprocess.run(
        [sys.executable, "-m", program, *options], cwd=FOLDER, env=ENVIRONMENT, capture_output=True, text=True
    )
    print((done.stdout + done.stderr).rstrip())


# %% [markdown]
# ## A picture first
#
# A photograph of a wall comes with scikit-image. We take two parts of it: bricks on the left to learn from, bricks on the right
# to be tested with. Nobody has labelled them.

# %%
wall = torch.from_numpy(data.brick()).expand(3, -1, -1).contiguous()  # grey: three equal channels


def part(window):
    x, y, width, height = window
    return wall[:, y : y + height, x : x + width]


left, right = part(exercises.LEFT), part(exercises.RIGHT)
nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
pictures.beside({"labels of the left": (left, nothing), "labels of the right": (right, nothing)}, {})

# %% [markdown]
# ## Predict
#
# The small trained model of this course knows person, ball, box, triangle, star and ring. It has never seen a photograph, nor a
# brick. Which of these names will it give to what it sees here? Write them down, such as `["star"]`.

# %%
my_names = []

# %%
shipped = mrcnn.playground_rcnn(pretrained=True)
before = {name: detect(shipped, image) for name, image in (("left", left), ("right", right))}
for name, found in before.items():
    sure = found["labels"][found["scores"] >= 0.5].tolist()
    print(name, dict(Counter(shipped.labels["categories"][label] for label in sure)))
print(f"You said: {my_names}")
pictures.beside({"left": (left, before["left"]), "right": (right, before["right"])}, shipped.labels)

# %% [markdown]
# It has outlines for some and names that do not fit. "brick" is not among its words, and no threshold will put it there. That takes
# labels.
#
# ## Label by hand
#
# We wrote the corners of most bricks: four each, as these are slanted. (A program that follows the mortar proposed them; we looked
# at each and mended some.) Two of the left part are yours. The quick tries below lie badly: pull their corners to the brick's. Then
# press "copy the annotation", and paste the text in place of the old one, in the cell after them. (7 is our number for "brick"; more
# on it soon.)

# %%
lab.polygon_drawer(left, [116, 38, 140, 36, 135, 150, 108, 152], title="Cover the brick under this try", category_id=7)

# %%
lab.polygon_drawer(left, [187, 102, 214, 98, 214, 228, 184, 226], title="Cover this one, too", category_id=7)

# %%
pasted_1 = """
{"id":1,"image_id":1,"category_id":7,"iscrowd":0,"area":2894,"bbox":[108,36,32,116],
 "segmentation":[[116,38,140,36,135,150,108,152]]}
"""
pasted_2 = """
{"id":1,"image_id":1,"category_id":7,"iscrowd":0,"area":3618,"bbox":[184,98,30,130],
 "segmentation":[[187,102,214,98,214,228,184,226]]}
"""

# %%
mine = [json.loads(text)["segmentation"][0] for text in (pasted_1, pasted_2)]
left_polygons = exercises.polygons(exercises.LEFT_CORNERS) + mine
right_polygons = exercises.polygons(exercises.RIGHT_CORNERS)
print(f"left: {len(left_polygons)} bricks, two of them yours; right: {len(right_polygons)}")

# %% [markdown]
# ## Build it: the annotation
#
# A polygon is not yet a record. COCO also wants the box, as x, y, *width*, *height*, and the area of the thing itself. A brick
# behind a pole is seen in two pieces: one thing, one record, two polygons.

# %% exercise="box_and_area"


# %%
def content(name, window, polygons):
    """A COCO file for one picture."""
    *_, width, height = window
    annotations = []
    for number, polygon in enumerate(polygons, start=1):
        box, area = box_and_area([polygon])
        box, area = [float(value) for value in box], float(area)  # JSON has no numbers of NumPy or PyTorch
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": 7,
                "iscrowd": 0,
                "bbox": box,
                "area": area,
                "segmentation": [polygon],
            }
        )
    return {
        "images": [{"id": 1, "file_name": f"{name}.png", "width": width, "height": height}],
        "categories": [{"id": 7, "name": "brick"}],
        "annotations": annotations,
    }


def save(name, content):
    (FOLDER / f"{name}.json").write_text(json.dumps(content))


files = {
    "left": content("left", exercises.LEFT, left_polygons),
    "right": content("right", exercises.RIGHT, right_polygons),
}
for name, image in (("left", left), ("right", right)):
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(FOLDER / f"{name}.png")
    save(name, files[name])
print(f"by code that is {lab.whose(box_and_area)}:", json.dumps(files["left"]["annotations"][0]))

# %% [markdown]
# Our category has the id 7, to show that any whole number will do. A model has an output for each label, and labels are counted
# without gaps: 0 is the background, and the categories follow from 1 in the order of their ids.

# %% exercise="labels_of_ids"

# %%
left_set = CocoDataset(FOLDER, FOLDER / "left.json")
given_ids = [each["category_id"] for each in files["left"]["annotations"]]
numbers = labels_of_ids([each["id"] for each in files["left"]["categories"]], given_ids)
print(f"labels of our bricks: {set(numbers)}, by code that is {lab.whose(labels_of_ids)}")
print(f"as the library reads them: {set(left_set[0][1]['labels'].tolist())}; their names: {left_set.categories}")

# %% [markdown]
# ## Check the file before you train
#
# `mrcnn doctor` reads every record and every picture, and draws some.

# %%
shell("mrcnn doctor --data . --annotations left.json --out labels.png")

# %% [markdown]
# ### Break it: boxes written as corners
#
# Somebody writes all boxes as x1, y1, x2, y2. Four numbers are a box either way. But each record has a mask, too. **Predict**: how
# many of the 19 records does `doctor` complain about? And how many when the file has boxes only?

# %%
my_complaints, my_complaints_without_masks = None, None

# %%
slipped = copy.deepcopy(files["left"])
for each in slipped["annotations"]:
    x, y, width, height = each["bbox"]
    each["bbox"] = [x, y, x + width, y + height]
save("slipped", slipped)
shell("mrcnn doctor --data . --annotations slipped.json --out slipped.png")

for each in slipped["annotations"]:
    del each["segmentation"]
save("boxes", slipped)
shell("mrcnn doctor --data . --annotations boxes.json --out boxes.png")
print(f"You said: {my_complaints} with masks, {my_complaints_without_masks} without")

# %%
slipped_set = CocoDataset(FOLDER, FOLDER / "slipped.json")
labels = labels_of(left_set)
pictures.beside({"as it should be": left_set[0], "boxes as corners": slipped_set[0]}, labels)

# %% [markdown]
# Where two things in a record say the same, a program can compare them: here the masks gave the boxes away (`doctor` names five
# records, and counts the rest). Not all: near the upper left corner of the picture both readings are nearly one box. And without masks nothing is left to compare with, so `doctor` is
# content. But one look is enough, and that is why it draws. **Look at your labels, drawn by the program that will train on them.**
# It costs a minute, and finds what no rule knows.
#
# ## Keep the test apart
#
# Why not cut the photograph into many small pictures, and deal them out like cards? Let us do it: windows of 128 × 128 pixels,
# one every 64, and every fifth is for the test. **Predict**: how much of a test window has training seen, in percent?

# %%
my_share = None

# %% exercise="seen"

# %%
windows = [[x, y, 128, 128] for y in range(0, 385, 64) for x in range(0, 385, 64)]
dealt = seen(windows[::5], [window for place, window in enumerate(windows) if place % 5])
ours = seen([exercises.RIGHT], [exercises.LEFT])
print(f"of {len(windows)} windows {len(dealt)} are for the test; seen of them: {100 * sum(dealt) / len(dealt):.0f}%")
print(f"of our right part: {100 * ours[0]:.0f}%. By code that is {lab.whose(seen)}. You said: {my_share}")

# %% [markdown]
# This is **leakage**: the test asks about pixels that were in the training. The AP would be high, and worth nothing. The same
# happens with two frames of one film, or two photographs of one dog. So deal out by the photograph, the film, the dog, *before*
# anything is cut. Our two parts share no pixel and no brick; they still share a wall, a camera and a day.
#
# ## Fine-tune
#
# Fine-tuning (lesson 14) begins with a trained model's weights. Not all can be used. The layers that give scores, boxes and masks
# *per class* mean nothing now. They start afresh even where the shapes agree: six old classes may meet six new ones. Nobody has
# labelled keypoints, so the new model has no head for them.

# %% exercise="taken_over"

# %%
model, fresh = model_to_train(left_set, None, "playground")
wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
given = {name: tuple(value.shape) for name, value in shipped.state_dict().items()}
taken = taken_over(wanted, given, build_model.OF_CLASSES)
print(f"{sum(taken)} of {len(wanted)} tensors are taken over, by code that is {lab.whose(taken_over)}")
print("afresh:", [name for name, yes in zip(wanted, taken, strict=True) if not yes])
print("the library agrees:", sorted(fresh) == sorted(name for name, yes in zip(wanted, taken, strict=True) if not yes))

# %% [markdown]
# 50 steps of 4 pictures, which are one picture and its mirror image. **Predict** the AP of boxes on the right part. And what would it
# be on the left part, which the training has seen?

# %%
my_right, my_left = None, None

# %%
shell(
    "mrcnn train --data . --annotations left.json --val-data . --val-annotations right.json "
    "--weights playground --steps 50 --batch-size 4 --out tuned"
)

# %%
right_set = CocoDataset(FOLDER, FOLDER / "right.json")
shell("mrcnn eval --weights tuned/model.pt --data . --annotations left.json")
print(f"You said: {my_right} on the right, {my_left} on the left")

# %% [markdown]
# The table that `train` printed, of the right part, is the honest one. That of `eval`, of the left part, is what leakage would have
# told you.
#
# ## In Python, and what each thing is worth
#
# The same training as a function, so that we can take things away, one at a time. First the trained weights: the model starts from
# nothing. Then, with the weights, the labels: somebody was tired, and drew only 6 of the 19 bricks. **Predict**: which costs more AP
# on the right part, "weights" or "labels"? (A minute to run: five trainings.)

# %%
my_costlier = ""


# %%
def fine_tune(dataset, weights="playground", seed=0):
    torch.manual_seed(seed)
    model, _ = model_to_train(dataset, "playground", weights)
    settings = replace(default_settings(model.builder, 4, steps=50), augment="flip", seed=seed, tensorboard=False)
    train(model, dataset, settings)
    return model


save("six", files["left"] | {"annotations": files["left"]["annotations"][::3][:6]})
six_set = CocoDataset(FOLDER, FOLDER / "six.json")
tuned = zoo.load_model(FOLDER / "tuned" / "model.pt")
models = {
    "fine-tuned": [tuned, fine_tune(left_set, seed=1)],
    "from nothing": [fine_tune(left_set, None, seed) for seed in (0, 1)],
    "6 of 19 labelled": [fine_tune(six_set, seed=seed) for seed in (0, 1)],
}
print("AP with two seeds      right: boxes          masks   left: boxes")
for name, pair in models.items():
    on_right, on_left = ([evaluate(model, some) for model in pair] for some in (right_set, left_set))
    rows = [
        [each["bbox"]["AP"] for each in on_right],
        [each["segm"]["AP"] for each in on_right],
        [each["bbox"]["AP"] for each in on_left],
    ]
    print(f"{name:<22}", "   ".join(" ".join(f"{value:6.3f}" for value in row) for row in rows))
print(f"You said: {my_costlier}")

# %% tags=["cover"]
shown = {"truth": right_set[0]} | {name: (right, detect(pair[0], right)) for name, pair in models.items()}
pictures.beside(shown, labels)

# %% [markdown]
# - **From nothing** the model learns its own picture by heart, and knows far less of the next. On the left part alone nobody would
#   have noticed.
# - **What is not labelled is labelled "nothing here".** 13 bricks told the model that this is no brick. Rather label few
#   pictures whole than many in part; cut away, or make a crowd of, what you cannot label.
# - **Two seeds are not one number.** With so little data luck is large: look how far the two of one row are apart. Compare only
#   what differs by more. That weights *and* all labels are best is plain. The other two rows are nearer to one another, and two
#   seeds are few: which costs more, trust only with more runs.
#
# ## From when on shall we believe it?
#
# AP judges the whole list; a user wants an answer. **F1** makes one number of precision and recall at one threshold: twice the hits,
# divided by all that was kept plus all that is there. It is 1 if all is right and nothing missing, and low if either is bad.

# %% exercise="best_threshold"


# %%
def judged(model, dataset):
    """Scores and hits of what a model finds in the set's one picture, the best first, and the number of objects."""
    image, target = dataset[0]
    found = detect(model, image)
    objects = by_pycocotools.matches(box_maths.iou(found["boxes"], target["boxes"]), 0.5)
    return found["scores"], torch.tensor(objects) >= 0, len(target["boxes"])


def f1(threshold, scores, hits, objects):
    kept = scores >= threshold
    return 2 * int((hits & kept).sum()) / (int(kept.sum()) + objects)


on_left, on_right = judged(tuned, left_set), judged(tuned, right_set)
threshold = best_threshold(*on_left)
cuts = [step / 20 for step in range(1, 20)]
print(
    f"best on the left: from {threshold:.2f} on, by code that is {lab.whose(best_threshold)}; F1 {f1(threshold, *on_left):.2f}"
)
print(
    f"F1 there on the right: {f1(threshold, *on_right):.2f}; the best threshold of the right would have {f1(best_threshold(*on_right), *on_right):.2f}"
)
lines = {"left": (cuts, [f1(cut, *on_left) for cut in cuts]), "right": (cuts, [f1(cut, *on_right) for cut in cuts])}
curves(Panel("F1 of boxes", "keep scores from", lines, limits=(0, 1.04)), width=6)

# %% [markdown]
# We chose on the left, so that the right stays a test. It is a poor place to choose: a model is surer of what it was trained on,
# and there a whole range of thresholds may be equally good. Better is a third part, used for nothing but choices.
#
# ## Predict, and hand on
#
# `mrcnn predict` keeps what has at least this score, in drawings and in COCO's format. Whoever measures AP needs the whole list:
# `--min-score 0`.

# %%
shell(f"mrcnn predict right.png --weights tuned/model.pt --min-score {threshold:.2f} --out found")
results = json.loads((FOLDER / "found" / "results.json").read_text())
print(sorted(file.name for file in (FOLDER / "found").iterdir()), "with", len(results), "results; the first:")
print({name: value for name, value in results[0].items() if name != "segmentation"})

# %% [markdown]
# What do you give to somebody else? `model.pt`, alone. It says how to build its model, and what the outputs mean. **Predict**: are
# the answers of the loaded model *nearly* the same, or exactly?

# %%
my_same = ""

# %%
contents = model_file.read(FOLDER / "tuned" / "model.pt")
print(list(contents), contents["labels"]["categories"], contents["labels"]["category_ids"])
model_file.save_model(tuned, FOLDER / "copy.pt")
again = zoo.load_model(FOLDER / "copy.pt")
a, b = detect(tuned, right), detect(again, right)
print("exactly the same:", all(torch.equal(a[name], b[name]) for name in a), f"You said: {my_same}")
plain = mrcnn.to_torchvision(tuned)
print(f"and for another program: a plain dict of {len(plain)} tensors, such as {next(iter(plain))}")

# %% [markdown]
# The plain dict is for torchvision, where torchvision has a model of that build; of the playground's it has none. Programs
# without Python, on phones or in web pages, read **ONNX**: the whole model in one file, from the picture to the outlines. It is kept
# only if it finds what the model finds:

# %%
shell("mrcnn export --weights tuned/model.pt --out bricks.onnx --check right.png")

# %% [markdown]
# ## Larger models, published weights
#
# The small model makes every picture small first. For real work start from a large one that has learnt COCO's classes. Its
# weights are downloaded once. Without a GPU training is slow, so this runs only if you say so.

# %%
DOWNLOAD = False
if DOWNLOAD:
    shell(
        "mrcnn train --model maskrcnn_resnet50_fpn --weights COCO_V1 --data . --annotations left.json "
        "--val-data . --val-annotations right.json --steps 200 --out large"
    )

# %% [markdown]
# ## When it does not work
#
# In this order:
#
# | what you see | what it often is | the check |
# |---|---|---|
# | AP near 0 everywhere | labels: corners for sizes, x and y swapped, another picture | `mrcnn doctor`, and look at the drawing |
# | it misses many, also in training pictures | objects without a label | `mrcnn predict` on training pictures: are its "false" ones true? |
# | AP too good to be true | leakage | `seen`; list which photographs are on both sides |
# | good on training pictures, bad on others | too few of them, or too much alike | `--augment full`; label ten more, measure again |
# | bad on training pictures too | too short, or a rate too low | `losses.csv`: does it still fall? Twice the `--steps` |
# | the loss jumps, or is not a number | a rate too high | a third of the `--lr` |
# | small things are missed | they vanish when the picture is made smaller | their size then, against the smallest anchor's |
# | right outlines, wrong names | ids and names | the labels in `model.pt` |
# | two boxes on one, or none on neighbours | the NMS threshold | draw from a low `--min-score` |
#
# ## Now find it in the real file
#
# What a file holds becomes a model again:

# %%
lab.show(zoo.load_model, "source =", "return")

# %% [markdown]
# Ids become labels; and the tensors that fit are taken over:

# %%
lab.show(CocoDataset.__init__, "self.categories =", "self.category_ids =")
lab.show(build_model.transfer, "given =", "return")

# %% [markdown]
# And the settings, with the new number of classes:

# %%
lab.show(build_model.fitted, "keypoints =", "return")

# %% [markdown]
# ## What we left out, and where to read on
#
# - **One photograph is no proof.** 18 bricks of one wall say nothing about other walls. Take the test from where the model will be used.
# - **Labelling tools** save hours: CVAT, Label Studio and labelme write COCO's format, or convert to it.
# - J. Yosinski et al., *How transferable are features in deep neural networks?* (2014), section 4: what trained layers are worth.
# - K. He et al., *Rethinking ImageNet Pre-training* (2019), section 5: when starting from nothing catches up, and when not.
# - S. Kapoor, A. Narayanan, *Leakage and the reproducibility crisis in machine-learning-based science* (2023): the kinds of leakage.
# - S. Northcutt et al., *Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks* (2021).
