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
            kernels = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["orthogonal"] and kernels:
                self._move(kernels, group)
        super().step()

    def _move(self, kernels: list[Tensor], group: dict) -> None:
        """One step for all kernels; their gradients are used up, so that AdamW leaves them."""
        directions = orthogonal([gradient.flatten(1) for gradient in self._ahead(kernels)])  # each (C', C · h · w)
        rate = RATE * group["lr"]
        torch._foreach_mul_(kernels, 1 - rate * group["weight_decay"])
        for kernel, direction in zip(kernels, directions, strict=True):
            rows, columns = direction.shape
            kernel.sub_(direction.view_as(kernel), alpha=rate * max(1.0, rows / columns) ** 0.5)
            kernel.grad = None

    def _ahead(self, kernels: list[Tensor]) -> tuple[Tensor, ...]:
        """The gradients with Nesterov's momentum."""
        states = [self.state[kernel] for kernel in kernels]
        for kernel, state in zip(kernels, states, strict=True):
            if not state:  # under AdamW's names, by which it reads a state dict
                state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(kernel)
            state["step"] += 1
        gradients, means = [kernel.grad for kernel in kernels], [state["exp_avg"] for state in states]
        torch._foreach_lerp_(means, gradients, 1 - MOMENTUM)
        return torch._foreach_lerp(gradients, means, MOMENTUM)


def orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """Nearly U Vᵀ of each matrix U S Vᵀ: singular values of about 0.7 to 1.2, by Newton and Schulz's way, but less for
    those that were below a hundredth of the matrix.

    Each round multiplies by a polynomial q in the square X Xᵀ. As all these squares are polynomials in the first one,
    the rounds can be taken on the small squares alone, all of one size at once; X is multiplied once, by the product.
    """
    wide = [matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    wide = [matrix / (matrix.norm() + 1e-7) for matrix in wide]  # no singular value is above 1
    sizes = [len(matrix) for matrix in wide]
    results: list[Tensor] = list(wide)
    for size in set(sizes):
        rows = [row for row, each in enumerate(sizes) if each == size]
        products = rounds(torch.stack([wide[row] @ wide[row].mT for row in rows]))
        for row, product in zip(rows, products, strict=True):
            result = product @ wide[row]
            results[row] = result.mT if result.shape != matrices[row].shape else result
    return results


def rounds(square: Tensor, count: int = 5) -> Tensor:
    """The product of the polynomials of all rounds, from the squares X Xᵀ (K, n, n) of the matrices."""
    a, b, c = POLYNOMIAL
    unit = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
    product = q = a * unit + b * square + c * square @ square
    for _ in range(count - 1):
        square = q @ q @ square  # of q X, as q commutes with X Xᵀ
        q = a * unit + b * square + c * square @ square
        product = q @ product
    return product


def hidden_kernels(model: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: of convolutions from features to features. These have no bias, but a norm. Not the
    first layer, which sees pixels, and not the last ones, whose rows are answers."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return [layer.weight for layer in layers if layer.bias is None and layer.in_channels > 3]
