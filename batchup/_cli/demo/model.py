"""The network of the demo, in plain NumPy: one hidden layer, trained with Adam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

HIDDEN_UNITS = 512

# Adam's usual constants: how long gradients and their squares are remembered, and a number
# that keeps it from dividing by zero.
MOMENTUM = 0.9
SQUARES_MOMENTUM = 0.999
TINY = 1e-8


class Network:
    """Features, a hidden layer of rectified linear units, and the log-probability of each class.

    Parameters
    ----------
    n_features, n_classes : int
        The numbers of inputs and outputs.
    rng : Generator
        Draws the first weights.

    Attributes
    ----------
    arrays : dict of arrays, float32
        All that training changes, besides `steps`: the weights and biases, and for each
        of them the means of its gradients and of their squares.
    steps : int
        The number of training steps so far.
    """

    def __init__(self, n_features: int, n_classes: int, rng: np.random.Generator) -> None:
        self._weights = {
            'hidden_weight': _he_normal(n_features, HIDDEN_UNITS, rng),
            'hidden_bias': np.zeros(HIDDEN_UNITS, np.float32),
            'output_weight': _he_normal(HIDDEN_UNITS, n_classes, rng),
            'output_bias': np.zeros(n_classes, np.float32),
        }
        self._means = {name: np.zeros_like(weight) for name, weight in self._weights.items()}
        self._squares = {name: np.zeros_like(weight) for name, weight in self._weights.items()}
        self.steps = 0

    @property
    def arrays(self) -> dict[str, Floats]:
        groups = (('', self._weights), ('mean_', self._means), ('square_', self._squares))
        return {f'{prefix}{name}': array for prefix, group in groups for name, array in group.items()}

    def load(self, arrays: Mapping[str, NDArray[Any]], steps: int) -> None:
        """Take over the `arrays` and `steps` of a network of the same size.

        Raises
        ------
        ValueError
            If names, shapes or dtypes differ.
        """
        own = self.arrays
        if {name: (array.shape, array.dtype) for name, array in arrays.items()} != {
            name: (array.shape, array.dtype) for name, array in own.items()
        }:
            raise ValueError('these are the arrays of another network')
        for name, array in own.items():
            array[...] = arrays[name]
        self.steps = steps

    def train(self, x: Floats, y: NDArray[np.integer], learning_rate: float) -> float:
        """Take one step on a batch; return the sum of its losses."""
        inputs, hidden, log_probabilities = self._forward(x)
        losses = _pick(log_probabilities, y)
        # The derivative of the mean loss by the outputs: probabilities less the one of the label.
        d_outputs = np.exp(log_probabilities)
        d_outputs[np.arange(len(y)), y] -= 1
        d_outputs /= len(y)
        d_hidden = (d_outputs @ self._weights['output_weight'].T) * (hidden > 0)
        gradients = {
            'hidden_weight': inputs.T @ d_hidden,
            'hidden_bias': d_hidden.sum(axis=0),
            'output_weight': hidden.T @ d_outputs,
            'output_bias': d_outputs.sum(axis=0),
        }
        self._descend(gradients, learning_rate)
        return -float(losses.sum(dtype=np.float64))

    def sum_losses_and_errors(self, x: Floats, y: NDArray[np.integer]) -> tuple[float, int]:
        """Return the sum of the losses of a batch, and how many samples are classified wrongly."""
        log_probabilities = self._forward(x)[-1]
        wrong = log_probabilities.argmax(axis=1) != y
        return -float(_pick(log_probabilities, y).sum(dtype=np.float64)), int(wrong.sum())

    def predict(self, x: Floats) -> NDArray[np.intp]:
        """Return the most probable class of every sample."""
        classes: NDArray[np.intp] = self._forward(x)[-1].argmax(axis=1)
        return classes

    def _forward(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the inputs as (n, features), the hidden units and the log-probabilities."""
        inputs = x.reshape(len(x), -1)
        hidden = np.maximum(inputs @ self._weights['hidden_weight'] + self._weights['hidden_bias'], 0)
        outputs = hidden @ self._weights['output_weight'] + self._weights['output_bias']
        outputs -= outputs.max(axis=1, keepdims=True)
        return inputs, hidden, outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))

    def _descend(self, gradients: dict[str, Floats], learning_rate: float) -> None:
        """Move the weights against the gradients, as Adam does."""
        self.steps += 1
        rate = learning_rate * np.sqrt(1 - SQUARES_MOMENTUM**self.steps) / (1 - MOMENTUM**self.steps)
        for name, gradient in gradients.items():
            mean, square = self._means[name], self._squares[name]
            mean += (1 - MOMENTUM) * (gradient - mean)
            square += (1 - SQUARES_MOMENTUM) * (gradient**2 - square)
            self._weights[name] -= np.float32(rate) * mean / (np.sqrt(square) + TINY)


def _he_normal(n_in: int, n_out: int, rng: np.random.Generator) -> Floats:
    """Draw weights that keep the size of rectified signals."""
    return rng.standard_normal((n_in, n_out), dtype=np.float32) * np.float32(np.sqrt(2 / n_in))


def _pick(log_probabilities: Floats, y: NDArray[np.integer]) -> Floats:
    """Return the log-probability of every sample's label."""
    picked: Floats = log_probabilities[np.arange(len(y)), y]
    return picked
