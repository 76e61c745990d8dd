"""RoIAlign: from boxes of any size to feature maps of one size (Mask R-CNN, section 3; He et al. 2017)."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor

from . import backend, reference
from .checks import check_finite, check_flag, check_number, check_same_device, check_tensor, values_visible

WHOLE = (Integral, torch.SymInt)  # numpy's are, and those of a size that is left open while a graph is captured


def roi_align(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Pool the features under each RoI to a grid of bins; each bin is the mean of bilinear samples, nothing is rounded.

    Args:
        features: (N, C, H, W) in any strides; float64, float32, float16 or bfloat16. channels_last is the fast path.
        rois: (K, 5) rows of [image, x1, y1, x2, y2], or a list of N tensors (K_i, 4) of [x1, y1, x2, y2], in pixels of
            the picture the features were made from. Any floating dtype: it is used in float32, or in float64 with
            float64 features.
        output_size: bins (ph, pw), or one number for both; at most 2^20 bins.
        spatial_scale: cells of the feature map per pixel, 1/16 for a map of stride 16.
        sampling_ratio: samples per bin along each axis, at most 4,096; 0 or less takes about one per cell,
            min(ceil(RoI side / bins), 4096).
        aligned: subtract half a pixel, so that a sample falls where its pixel's middle is. Without it RoIs smaller than
            one cell are widened to one cell, as models trained before it was known (torchvision's among them) expect.

    Returns:
        (K, C, ph, pw), dtype and memory format those of `features`. Sums are kept in float32 at least. A sample more
        than a cell off the map counts as zero: a RoI wholly outside pools to zeros, however far or large. A RoI of no
        area with aligned=True and sampling_ratio=-1 does too. Differentiable in `features`; `rois` are constants.

    Raises:
        ValueError, TypeError: wrong shape, dtype or device; on the CPU also an image index out of range or not whole,
        and NaN or infinite boxes. Where looking would mean waiting (on CUDA, or inside torch.compile) such a RoI
        pools to NaN instead, and gives no gradient.

    Same signature and results as torchvision.ops.roi_align, up to the rounding of sums, and to the limit of 4,096
    samples, which a bin reaches when it is more than 4,096 cells long.
    """
    pooled = _pair(output_size)
    rois = _as_one_tensor(rois, features)
    spatial_scale = check_number("spatial_scale", spatial_scale)
    check_flag("aligned", aligned)
    _check(features, rois, spatial_scale, sampling_ratio)
    sampling_ratio = max(int(sampling_ratio), -1)  # all below mean the same, also those that no int64 holds
    # Coordinates never in half precision: a float16 cannot tell pixel 2049 from pixel 2048.
    rois = rois.detach().to(reference.accumulate_dtype(features.dtype)).contiguous()
    # torch.func and forward-mode differentiation go through plain PyTorch: the compiled op has a backward only.
    if backend.current() == "reference" or backend.transformed():
        return reference.roi_align(features, rois, pooled, spatial_scale, sampling_ratio, aligned)
    return backend.compiled_ops().roi_align(features, rois, spatial_scale, *pooled, sampling_ratio, aligned)


def _pair(output_size) -> tuple[int, int]:
    pair = tuple(output_size) if isinstance(output_size, Iterable) else (output_size, output_size)
    if len(pair) != 2 or not all(isinstance(each, WHOLE) and each >= 1 for each in pair):
        raise ValueError(f"output_size must be one or two whole numbers of at least 1; got {output_size}")
    if pair[0] * pair[1] > reference.MOST_BINS:
        raise ValueError(f"output_size must be at most {reference.MOST_BINS} bins; got {pair[0]} x {pair[1]}")
    return tuple(int(each) if isinstance(each, Integral) else each for each in pair)


def _as_one_tensor(rois, features: Tensor) -> Tensor:
    """A list of per-image boxes becomes rows with the image's index in front; a tensor stays as it is."""
    if isinstance(rois, Tensor):
        return rois
    for i, boxes in enumerate(rois):
        check_tensor(f"rois[{i}]", boxes, "(K, 4)", 2, last=4)
    if len(rois) != len(features):
        raise ValueError(
            f"rois must be (K, 5) or one (K, 4) tensor for each of {len(features)} images; got {len(rois)}"
        )
    if not rois:
        return features.new_zeros(0, 5)
    # In float32 at least: a bfloat16 cannot tell image 257 from image 256.
    wide = [boxes.to(torch.promote_types(boxes.dtype, torch.float32)) for boxes in rois]
    images = [boxes.new_full((len(boxes), 1), i) for i, boxes in enumerate(wide)]
    return torch.cat([torch.cat(images), torch.cat(wide)], dim=1)  # (K, 5)


def _check(features: Tensor, rois: Tensor, spatial_scale: float, sampling_ratio: int) -> None:
    check_tensor("features", features, "(N, C, H, W)", 4)
    check_tensor("rois", rois, "(K, 5)", 2, last=5)
    check_same_device("rois", rois, "features", features)
    if not 0 < spatial_scale < math.inf:
        raise ValueError(f"spatial_scale must be finite and above 0; got {spatial_scale}")
    if not isinstance(sampling_ratio, Integral) or sampling_ratio > reference.MOST_SAMPLES:
        raise ValueError(
            f"sampling_ratio must be a whole number of at most {reference.MOST_SAMPLES}; got {sampling_ratio}"
        )
    check_finite("rois", rois)
    if rois.dtype == torch.float64 and features.dtype != torch.float64:
        check_finite("rois in float32", rois.to(torch.float32))
    if values_visible(rois) and len(rois):
        image = rois[:, 0]
        bad = (image < 0) | (image >= len(features)) | (image != image.floor())
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"rois[:, 0] must be the index of an image, 0 to {len(features) - 1}; row {row} has {image[row].item()}"
            )


def _register(namespace: str) -> None:
    """Tell PyTorch the shapes (for torch.compile) and the gradient of the compiled op."""

    @torch.library.register_fake(f"{namespace}::roi_align")
    def _(features, rois, spatial_scale, ph, pw, sampling_ratio, aligned):
        format = torch.channels_last if _is_channels_last(features) else torch.contiguous_format
        return torch.empty(
            (rois.shape[0], features.shape[1], ph, pw),
            dtype=features.dtype,
            device=features.device,
            memory_format=format,
        )

    @torch.library.register_fake(f"{namespace}::roi_align_backward")
    def _(grad, rois, scale, ph, pw, *shape_and_settings):
        *shape, _, _, channels_last, _ = shape_and_settings  # (N, C, H, W); sampling_ratio, aligned; ...; deterministic
        format = torch.channels_last if channels_last else torch.contiguous_format
        return torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=format)

    def setup_context(ctx, inputs, output):
        features, rois, *ctx.settings = inputs  # spatial_scale, ph, pw, sampling_ratio, aligned
        ctx.shape = features.shape
        ctx.channels_last = _is_channels_last(features)
        ctx.save_for_backward(rois)

    def backward(ctx, grad):
        (rois,) = ctx.saved_tensors
        spatial_scale, ph, pw, sampling_ratio, aligned = ctx.settings
        op = getattr(torch.ops, namespace).roi_align_backward
        how = (ctx.channels_last, torch.are_deterministic_algorithms_enabled())
        grad = op(grad, rois, spatial_scale, ph, pw, *ctx.shape, sampling_ratio, aligned, *how)
        return grad, None, None, None, None, None, None

    torch.library.register_autograd(f"{namespace}::roi_align", backward, setup_context=setup_context)

    # The gradient is linear in `grad`, and its own gradient is pooling once more.
    def setup_context_of_backward(ctx, inputs, output):
        _, rois, spatial_scale, ph, pw, *_, sampling_ratio, aligned, _, _ = inputs
        ctx.settings = spatial_scale, ph, pw, sampling_ratio, aligned
        ctx.inputs = len(inputs)
        ctx.save_for_backward(rois)

    def backward_of_backward(ctx, grad):
        (rois,) = ctx.saved_tensors
        pooled = getattr(torch.ops, namespace).roi_align(grad, rois, *ctx.settings)
        return pooled, *[None] * (ctx.inputs - 1)

    torch.library.register_autograd(
        f"{namespace}::roi_align_backward", backward_of_backward, setup_context=setup_context_of_backward
    )


def _is_channels_last(features: Tensor) -> bool:
    """As csrc/checks.h has it: channels lie side by side, and the tensor is not plainly contiguous as well. While a
    graph is captured a stride may be a symbol, which depends on a size: so it is not 1."""
    stride = features.stride(1)
    return isinstance(stride, int) and stride == 1 and not features.is_contiguous()


for _namespace in backend.namespaces():
    _register(_namespace)
