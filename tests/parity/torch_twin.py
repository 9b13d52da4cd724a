"""A network's twin in PyTorch: the same weights, PyTorch's own functions, gradients by autograd.

Importing this module skips the importing tests where PyTorch is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import mlp
from mlp.losses import Loss
from mlp.random import permutation

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: pip install fused-mlp[bench]"
)
F = torch.nn.functional

ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    # PyTorch goes over to softplus(z) = z above its threshold of 20, where that is wrong by 2e-9;
    # a threshold of 100 leaves the formula to itself in the whole range that is tested.
    "softplus": lambda z: F.softplus(z, threshold=100),
    "softmax": lambda z: torch.softmax(z, dim=-1),
}


def row_losses(loss: Loss, activation: str, z, a, y):
    """Loss of each row (B,), by PyTorch's function for it; z and a belong to the output layer."""
    if loss.name == "cross_entropy":
        smoothing = loss.label_smoothing
        if activation == "softmax":
            return F.cross_entropy(z, y, label_smoothing=smoothing, reduction="none")
        t = F.one_hot(y, a.shape[1]).to(a.dtype) if y.ndim == 1 else y
        t = t * (1 - smoothing) + smoothing / a.shape[1]
        return -(t * a.log()).sum(dim=1)
    if loss.name == "binary_cross_entropy":
        if activation == "sigmoid":
            values = F.binary_cross_entropy_with_logits(z, y, reduction="none")
        else:
            values = F.binary_cross_entropy(a, y, reduction="none")
    elif loss.name == "half_squared_error":
        values = F.mse_loss(a, y, reduction="none") / 2
    elif loss.name == "mse":
        values = F.mse_loss(a, y, reduction="none")
    elif loss.name == "mae":
        values = F.l1_loss(a, y, reduction="none")
    elif loss.name == "huber":
        values = F.huber_loss(a, y, delta=loss.delta, reduction="none")
    else:
        assert loss.name == "poisson"
        values = F.poisson_nll_loss(a, y, log_input=True, full=False, reduction="none")
    return values.mean(dim=1)


class Twin:
    """The network's weights as leaves of PyTorch graphs, in float64."""

    def __init__(self, network: mlp.Network, loss: Loss) -> None:
        self.activations = [layer.activation for layer in network.spec.layers]
        self.loss_function = loss
        self.weights = [torch.tensor(W, requires_grad=True) for W in network.weights]
        self.biases = [torch.tensor(b, requires_grad=True) for b in network.biases]
        self.parameters = [*self.weights, *self.biases]

    def forward(self, X) -> tuple[list, list]:
        """Every layer's z and a."""
        zs, activations = [], []
        a = torch.as_tensor(X)
        for W, b, name in zip(self.weights, self.biases, self.activations, strict=True):
            z = a @ W + b
            a = ACTIVATIONS[name](z)
            zs.append(z)
            activations.append(a)
        return zs, activations

    def loss(self, X, y, weight=None):
        """Mean loss of a batch, by the sample weights if there are any."""
        zs, activations = self.forward(X)
        target = torch.as_tensor(y)
        values = row_losses(
            self.loss_function, self.activations[-1], zs[-1], activations[-1], target
        )
        if weight is None:
            return values.mean()
        w = torch.as_tensor(weight)
        return (w * values).sum() / w.sum()

    def snapshot(self) -> list[np.ndarray]:
        return [p.detach().numpy().copy() for p in self.parameters]

    def train(
        self,
        optimizer,
        X,
        y,
        batch_size: int,
        epochs: int,
        seed: int,
        *,
        penalty: Callable = lambda: 0.0,
        before_update: Callable = lambda: None,
        after_update: Callable = lambda: None,
    ) -> Iterator[list[np.ndarray]]:
        """PyTorch's training loop over the same batches; yields the parameters after each epoch."""
        X, y = torch.as_tensor(X), torch.as_tensor(y)
        for epoch in range(epochs):
            order = torch.from_numpy(permutation(seed, epoch, len(X)))
            for index in order.split(batch_size):
                optimizer.zero_grad()
                (self.loss(X[index], y[index]) + penalty()).backward()
                before_update()
                optimizer.step()
                after_update()
            yield self.snapshot()
