"""What the page's film shows: the model's answer, and with it some of the numbers on the way there."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mrcnn.anchors import make_anchors
from mrcnn.export import OnePicture
from mrcnn.lab.walk import changed


class Film(OnePicture):
    """A joint model of one picture, with more outputs after the answer's own.

    strength_l (H_l, W_l) and objectness_l (H_l, W_l) of the levels l = 2 … 6: how large a cell's features are, and
    the score of its best anchor. candidates (B, 4) and proposals (P, 4), in pixels of the batch: the moved anchors that
    go into NMS, and those that come out. seen (2,): height and width of the picture in the batch. small_masks
    (K, M, M) and heatmaps (K, J, H, H) of the objects found, before they are laid into the picture.
    """

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        model, heads = self.model, self.model.roi_heads
        parts = {
            "rpn": model.rpn,
            "head": model.rpn.head,
            "masks": heads.mask_predictor,
            "heatmaps": heads.keypoint_predictor,
        }
        with noted(parts) as (given, made):
            answer = model([image])[0]
        batch, features, _ = given["rpn"]
        (proposals,), _ = made["rpn"]
        logits, deltas = made["head"]
        shown = dict(answer)
        for level, (map_, scores) in enumerate(zip(features, logits, strict=True), start=2):
            shown[f"strength_{level}"] = map_[0].square().mean(0).sqrt()
            shown[f"objectness_{level}"] = scores.view(map_.shape[2], map_.shape[3], -1).amax(2).sigmoid()
        rows = torch.arange(answer["labels"].shape[0])
        return shown | {
            "candidates": self.candidates(batch, features, logits, deltas),
            "proposals": proposals,
            "seen": torch.stack([torch.scalar_tensor(side, dtype=torch.int64) for side in batch.sizes[0]]),
            "small_masks": made["masks"][rows, answer["labels"]].sigmoid(),
            "heatmaps": made["heatmaps"],
        }

    def candidates(self, batch, features, logits, deltas) -> Tensor:
        """The boxes (B, 4) that go into the RPN's NMS, by falling score: it lets all pass, as in `mrcnn.lab.walk`."""
        rpn = self.model.rpn
        cells = [(map_.shape[2], map_.shape[3]) for map_ in features]
        anchors = make_anchors(rpn.settings.anchors, tuple(batch.pixels.shape[2:]), cells)
        most = len(cells) * rpn.settings.pre_nms_top_n_test
        with changed(rpn, "settings", nms_iou=1.0, post_nms_top_n_test=most):
            return rpn.propose(anchors, logits, deltas, batch.sizes)[0]


@contextlib.contextmanager
def noted(parts: dict[str, nn.Module]) -> Iterator[tuple[dict, dict]]:
    """Inside the `with`, what each of the parts is given and what it makes is kept, under its name."""
    given, made = {}, {}

    def note(name: str):
        def hook(_, arguments, result):
            given[name], made[name] = arguments, result

        return hook

    handles = [part.register_forward_hook(note(name)) for name, part in parts.items()]
    try:
        yield given, made
    finally:
        for handle in handles:
            handle.remove()
