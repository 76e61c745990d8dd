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
                for parameter in group["params"]:
                    self._move(parameter, group)
                    parameter.grad = None  # so that AdamW leaves it alone
        super().step()

    def _move(self, parameter: Tensor, group: dict) -> None:
        if parameter.grad is None:
            return
        state = self.state[parameter]
        if not state:  # under AdamW's names, by which it reads a state dict
            state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(parameter)
        state["step"] += 1
        state["exp_avg"].lerp_(parameter.grad, 1 - MOMENTUM)
        ahead = parameter.grad.lerp(state["exp_avg"], MOMENTUM)  # Nesterov's momentum
        direction = orthogonal(ahead.flatten(1))  # (C', C · h · w)
        rows, columns = direction.shape
        rate = RATE * group["lr"]
        parameter.mul_(1 - rate * group["weight_decay"])
        parameter.sub_(direction.view_as(parameter), alpha=rate * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Nearly U Vᵀ of a matrix U S Vᵀ (rows, columns): singular values of about 0.7 to 1.2, by Newton and Schulz's way.

    Each round applies a polynomial in the matrix to its singular values, without ever computing them.
    """
    a, b, c = POLYNOMIAL
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T  # the smaller square is the cheaper one
    x = x / (x.norm() + 1e-7)  # no singular value is above 1
    for _ in range(rounds):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def hidden_kernels(model: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: of convolutions from features to features. These have no bias, but a norm. Not the
    first layer, which sees pixels, and not the last ones, whose rows are answers."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return [layer.weight for layer in layers if layer.bias is None and layer.in_channels > 3]
