"""Models that two chapters or more share. Each has `features` (what it sees) and `head` (what it decides)."""

from __future__ import annotations

import torch
from torch import nn


class Linear(nn.Module):
    """Softmax regression on the raw pixels.

    Parameters
    ----------
    classes : int
    inputs : int
        Values in one sample.

    Examples
    --------
    >>> Linear(10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10, inputs: int = 28 * 28):
        super().__init__()
        self.features = nn.Flatten()
        self.head = nn.Linear(inputs, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits, shape (N, classes)."""
        return self.head(self.features(inputs))


class CompactNet(Linear):
    """The network of both arenas: two strided convolutions with batch norm, 64 hidden units, no dropout.

    Chosen for the plain baseline on validation, among networks at equal seconds; see the chapter *Before any remedy*.

    Examples
    --------
    >>> CompactNet(10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10):
        super().__init__(classes, 64)
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU())


class Net(Linear):
    """The small network of the literature on long-tailed digits: two 5×5 convolutions, 50 hidden units, much dropout.

    Examples
    --------
    >>> Net(10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10):
        super().__init__(classes, 50)
        self.features = nn.Sequential(
            nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Dropout())


class ConvNet(Linear):
    """A wider network for garments: two 3×3 convolutions, 64 hidden units, light dropout.

    Pooling comes before the rectifier: the maximum commutes with it, and a quarter of the values is left to rectify.

    Examples
    --------
    >>> ConvNet(10).features(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 64])
    """

    def __init__(self, classes: int = 10):
        super().__init__(classes, 64)
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout2d(0.1),
            nn.Flatten(), nn.Linear(32 * 12 * 12, 64), nn.ReLU(), nn.Dropout(0.25))


class MLP(Linear):
    """One hidden layer on a feature vector.

    Examples
    --------
    >>> MLP(2, inputs=300)(torch.zeros(5, 300)).shape
    torch.Size([5, 2])
    """

    def __init__(self, classes: int, inputs: int, hidden: int = 64, dropout: float = 0.5):
        super().__init__(classes, hidden)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout))
