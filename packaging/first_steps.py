"""What somebody does first who has installed a wheel. Run by wheels.py, far from the sources."""

import importlib.metadata
from pathlib import Path

import torch
from PIL import Image

import mrcnn
from mrcnn.data import Playground
from mrcnn.model_file import save_model

assert "site-packages" in Path(mrcnn.__file__).parts, f"{mrcnn.__file__} is not what was installed"
assert mrcnn.ops.built()["reason"], "the record of the build is missing"

boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
scores = torch.tensor([0.9, 0.8, 0.7])
for backend in ("native", "emulated", "reference"):
    with mrcnn.ops.use_backend(backend):
        kept = mrcnn.ops.nms(boxes, scores, 0.5).tolist()
    assert kept == [0, 2], f"nms, {backend}: {kept}"

picture, target = Playground(1, seed=7)[0]
with torch.no_grad():
    found = mrcnn.playground_rcnn(pretrained=True)([picture])[0]
iou = mrcnn.boxes.iou(target["boxes"], found["boxes"][found["scores"] > 0.5])
assert (iou.max(dim=1).values > 0.5).float().mean() > 0.5, f"the pretrained model misses most of a scene: {iou}"
print(f"nms and the pretrained model work: torch {torch.__version__}, {mrcnn.__file__}")

# The README's first example, from the wheel itself, but with random weights in place of those that are
# downloaded, and with a model's file, as training leaves one.
readme = importlib.metadata.metadata("mrcnn").get_payload()
example = readme.split("```python\n")[1].split("```")[0]
assert '"COCO_V1"' in example
torch.save(mrcnn.maskrcnn_resnet50_fpn().state_dict(), "published.pth")
save_model(mrcnn.playground_rcnn(pretrained=True), "model.pt")
Image.fromarray(picture.permute(1, 2, 0).numpy()).save("photo.jpg")
names = {"pictures": [picture], "targets": [target]}
exec(example.replace('"COCO_V1"', '"published.pth"'), names)
assert {"boxes", "labels", "names", "scores", "masks"} <= names["result"].keys()
assert {"loss_classifier", "loss_mask", "loss_keypoint"} <= names["losses"].keys()
print("the README's example works")
