"""What `train.optimizer` can name. An optimizer here has no learning rate: a schedule gives it, step by step.

So runs that differ only in the learning rate share one compiled program.
"""

import abc
import dataclasses
import functools
import operator
from typing import Any, ClassVar

import jax
import optax
from optax import contrib

from attention_variants import specs
from attention_variants.checks import check_integer, check_number

_LARGEST_DECAY = 1e30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(abc.ABC):
    """An optimizer's hyperparameters. Weight decay is decoupled and acts on the parameters marked for it."""

    summary: ClassVar[str]

    @abc.abstractmethod
    def direction(self, decayed: Any) -> optax.GradientTransformation:
        """Returns the transformation of a clipped gradient such that params -= learning_rate * direction.

        Args:
          decayed: a tree of bools like the parameters: True where weight decay acts.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    References:
      Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", arXiv:1711.05101.
    """

    summary = "Adam with decoupled weight decay"

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        _check_rates(self, "beta1", "beta2")
        check_number("epsilon", self.epsilon, 0.0, 1.0)
        check_number("weight_decay", self.weight_decay, 0.0, _LARGEST_DECAY)

    def direction(self, decayed: Any) -> optax.GradientTransformation:
        """Returns Adam's step and the decay."""
        adam = optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon)
        return optax.chain(adam, _decay(self.weight_decay, decayed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum."""

    summary = "stochastic gradient descent with momentum"

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_rates(self, "momentum")
        check_number("weight_decay", self.weight_decay, 0.0, _LARGEST_DECAY)

    def direction(self, decayed: Any) -> optax.GradientTransformation:
        """Returns the momentum and the decay."""
        return optax.chain(optax.trace(self.momentum, self.nesterov), _decay(self.weight_decay, decayed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lion(Optimizer):
    """The sign of a momentum; needs a learning rate 3 to 10 times smaller than AdamW's.

    References:
      Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675.
    """

    summary = "the sign of a momentum"

    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        _check_rates(self, "beta1", "beta2")
        check_number("weight_decay", self.weight_decay, 0.0, _LARGEST_DECAY)

    def direction(self, decayed: Any) -> optax.GradientTransformation:
        """Returns Lion's step and the decay."""
        return optax.chain(optax.scale_by_lion(b1=self.beta1, b2=self.beta2), _decay(self.weight_decay, decayed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(Optimizer):
    """Orthogonalised momentum for the matrices of linear layers, Adam for everything else.

    Embeddings, unembedding, tables of positions and the taps of convolutions are left to Adam.

    Steps of matrices are scaled to a root mean square of 0.2, that of Adam's steps, so that learning rates carry over.

    References:
      Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the scale is that of Liu et al.
      2025, "Muon is Scalable for LLM Training", arXiv:2502.16982, equation 4.
    """

    summary = "orthogonalised momentum for the matrices of linear layers, Adam elsewhere"

    beta: float = 0.95
    iterations: int = 5  # of Newton-Schulz
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        _check_rates(self, "beta")
        check_integer("iterations", self.iterations, 1, 20)
        check_number("weight_decay", self.weight_decay, 0.0, _LARGEST_DECAY)

    def direction(self, decayed: Any) -> optax.GradientTransformation:
        """Returns Muon's step, Adam's step and the decay."""
        muon = contrib.muon(
            1.0,
            ns_steps=self.iterations,
            beta=self.beta,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=functools.partial(_hidden_matrices, decayed),
        )
        return optax.chain(muon, optax.scale(-1.0), _decay(self.weight_decay, decayed))


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": AdamW,
    "sgd": Sgd,
    "lion": Lion,
    "muon": Muon,
}


def make_optimizer(spec: str) -> Optimizer:
    """Builds an optimizer from its name or a spec string such as `adamw:beta2=0.98`; raises SpecError."""
    return specs.build(spec, OPTIMIZERS, "optimizer")


def _decay(rate: float, decayed: Any) -> optax.GradientTransformation:
    return optax.add_decayed_weights(rate, mask=decayed)


def _hidden_matrices(decayed: Any, params: Any) -> Any:
    """Returns a tree that names the matrices of linear layers; `mixer.kernel` is the taps of a gated convolution.

    None of them is free of decay. `params` may have gaps where Optax hides what is not Muon's.
    """

    def dimensions(path: Any, leaf: Any) -> contrib.MuonDimensionNumbers | None:
        names = [key.key for key in path]
        linear = leaf.ndim == 2 and names[-1] == "kernel" and names[-2] != "mixer" and "embedding" not in names
        is_decayed = functools.reduce(operator.getitem, names, decayed)
        return contrib.MuonDimensionNumbers() if linear and is_decayed else None

    return jax.tree_util.tree_map_with_path(dimensions, params)


def _check_rates(optimizer: Optimizer, *names: str) -> None:
    """Raises ValueError for a decay rate of an average that is not below 1."""
    for name in names:
        check_number(name, getattr(optimizer, name), 0.0, 1 - 1e-6)
