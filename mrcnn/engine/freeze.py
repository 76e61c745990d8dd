"""Which parts of a model a run leaves as they are."""

from torch import nn

from mrcnn.backbone import freeze_stages
from mrcnn.engine.settings import TrainSettings


def freeze(model: nn.Module, settings: TrainSettings) -> None:
    """Stops the training of the parts that the settings name: the first stages of the backbone, or all but the last
    layers."""
    if settings.last_layers_only:
        model.requires_grad_(False)
        for layer in last_layers(model):
            layer.requires_grad_(True)
    elif settings.frozen_stages:
        body = model.backbone.body
        freeze_stages(body, trainable=max(0, len(getattr(body, "stages", [])) - settings.frozen_stages))


def last_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that give the answers: objectness and deltas of the RPN, and the predictor of each head.

    To train these alone, on features made for other categories, is the few-shot baseline of Wang et al. 2020, section 3
    (https://arxiv.org/abs/2003.06957), which leaves the RPN's as they are; where the new objects look quite unlike the
    old ones, the RPN has to learn too.
    """
    heads = model.roi_heads.named_children()
    return [model.rpn.head.cls_logits, model.rpn.head.bbox_pred, *(m for n, m in heads if n.endswith("_predictor"))]


def to_training(model: nn.Module) -> None:
    """The model in training mode, but for layers that are not trained: their batch norms do not follow the new
    pictures either."""
    model.train()
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            layer.eval()
