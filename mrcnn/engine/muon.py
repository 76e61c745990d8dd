"""Muon, an optimiser for short runs from scratch: whatever a gradient's size, every direction in it moves as far.

A gradient of a convolution has a few strong directions, in which a step by its size (SGD) goes far, and many weak ones,
which learn late. Muon replaces the gradient by the orthogonal matrix nearest to it (Jordan et al. 2024, "Muon: An
optimizer for hidden layers in neural networks").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
# An orthogonal step of this many times AdamW's rate is about as long as the steps that AdamW takes.
RATE = 10.0
# Of a polynomial which, applied a few times to the singular values in (0, 1], brings all of them near to 1 (ibid.).
POLYNOMIAL = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.AdamW):
    """Muon for the parameters of groups that are marked `"orthogonal": True`, and AdamW for those of the others."""

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            if group["orthogonal"]:
                for same in by_shape([parameter for parameter in group["params"] if parameter.grad is not None]):
                    self._move(same, group)
        super().step()

    def _move(self, kernels: list[Tensor], group: dict) -> None:
        """One step for kernels of one shape, all at once; their gradients are used up, so that AdamW leaves them."""
        directions = orthogonal(torch.stack([self._ahead(kernel).flatten(1) for kernel in kernels]))
        rows, columns = directions.shape[1:]  # (K, C', C · h · w)
        rate = RATE * group["lr"]
        for kernel, direction in zip(kernels, directions, strict=True):
            kernel.mul_(1 - rate * group["weight_decay"])
            kernel.sub_(direction.view_as(kernel), alpha=rate * max(1.0, rows / columns) ** 0.5)
            kernel.grad = None

    def _ahead(self, kernel: Tensor) -> Tensor:
        """The gradient with Nesterov's momentum."""
        state = self.state[kernel]
        if not state:  # under AdamW's names, by which it reads a state dict
            state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(kernel)
        state["step"] += 1
        state["exp_avg"].lerp_(kernel.grad, 1 - MOMENTUM)
        return kernel.grad.lerp(state["exp_avg"], MOMENTUM)


def by_shape(tensors: list[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.Size, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.shape, []).append(tensor)
    return list(groups.values())


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Nearly U Vᵀ of matrices U S Vᵀ (K, rows, columns): singular values of about 0.7 to 1.2, by Newton and Schulz's
    way, less for those that were below a hundredth of the matrix.

    Each round multiplies by a polynomial q in the square X Xᵀ. As all these squares are polynomials in the first one,
    the rounds can be taken on the small square alone (that of q X is q² X Xᵀ); X is multiplied once, by their product.
    """
    a, b, c = POLYNOMIAL
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)  # no singular value is above 1
    square = x @ x.mT
    unit = torch.eye(len(square[0]), dtype=x.dtype, device=x.device)
    product = unit.expand_as(square)
    for _ in range(rounds):
        q = a * unit + b * square + c * square @ square
        product = q @ product
        square = q @ q @ square
    x = product @ x
    return x.mT if tall else x


def hidden_kernels(model: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: of convolutions from features to features. These have no bias, but a norm. Not the
    first layer, which sees pixels, and not the last ones, whose rows are answers."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return [layer.weight for layer in layers if layer.bias is None and layer.in_channels > 3]
