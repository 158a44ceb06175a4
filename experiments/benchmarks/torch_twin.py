"""A plain PyTorch twin of a model, for `experiments.benchmark --training --peers`.

The twin takes a run's own parameters and batches, and its loss and gradients must equal the run's before it is timed.
It is written as is usual in PyTorch: `nn.Linear`, `scaled_dot_product_attention`, `torch.optim.AdamW` and
`clip_grad_norm_`. Its batches are drawn beforehand, whereas the run draws them within each step; its learning rate is
constant. This file needs PyTorch, and nothing imports it where PyTorch is not installed.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from attention_variants.positions import NoPosition, RotaryPosition
from experiments.components.norms import RmsNorm
from experiments.components.optimizers import AdamW
from experiments.config.run import Run
from experiments.model.objective import gradient_step
from experiments.model.streams import TRAIN, split_key
from experiments.model.transformer import make_model
from experiments.tasks.base import Batch

_BATCHES, _CHUNKS = 20, 5
_TOLERANCE = 1e-4  # of the loss, and of the sum of all squared gradients, relative


def misfit(run: Run) -> str | None:
    """Returns what a twin of the run would need, expected and actual; None where there is one."""
    model, plain = run.model, run.model.layer == "plain" and not run.model.short_conv and not run.model.num_kv_heads
    if set(model.attention.split("+")) != {"full"} or not plain:
        return f"plain layers of full attention; got {model.attention}"
    rotated = isinstance(run.position, RotaryPosition) and run.position.fraction == 1
    if not (rotated or isinstance(run.position, NoPosition)) or not isinstance(run.norm, RmsNorm):
        return f"positions none or rope and norm rms; got {model.position} and {model.norm}"
    if not isinstance(run.optimizer, AdamW) or model.tied_embeddings or run.task.context or not run.causal:
        return "AdamW, causal attention, and embeddings of its own for input and output"
    return None


def throughput(run: Run, steps: int) -> float:
    """Returns training tokens per second of the twin: the median over five chunks of about `steps` / 5.

    Raises:
      ValueError: there is no twin, see `misfit`, or its loss or gradient differs; one line.
    """
    if reason := misfit(run):
        raise ValueError(f"a PyTorch twin needs {reason}.")
    batches = [_tensors(_batch(run, step)) for step in range(_BATCHES)]
    model = _Twin(run)
    _check(run, model, batches[0])
    optimizer = _optimizer(run, model)
    chunk, seconds = max(steps // _CHUNKS, 1), []
    for _ in range(_CHUNKS + 1):  # the first one warms up
        started = time.perf_counter()
        for step in range(chunk):
            optimizer.zero_grad(set_to_none=True)
            model(*batches[step % len(batches)]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), run.train.clip_norm)
            optimizer.step()
        seconds.append(time.perf_counter() - started)
    return chunk * run.train.batch_size * run.task.input_length / statistics.median(seconds[1:])


def _batch(run: Run, step: int) -> Batch:
    """Returns the batch of a step of the run."""
    rng = jax.random.fold_in(split_key(jax.random.key(run.seed), TRAIN), step)
    return run.task.training_batch(run.task.sample(rng, run.train.batch_size))


def _tensors(batch: Batch) -> Sequence[torch.Tensor]:
    integers = (batch.inputs, batch.positions, batch.targets)
    return *(_tensor(each).long() for each in integers), _tensor(batch.weights)


def _optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    assert isinstance(run.optimizer, AdamW)
    groups = [
        {"params": [leaf for leaf in model.parameters() if leaf.ndim > 1], "weight_decay": run.optimizer.weight_decay},
        {"params": [leaf for leaf in model.parameters() if leaf.ndim < 2], "weight_decay": 0.0},
    ]
    betas = run.optimizer.beta1, run.optimizer.beta2
    return torch.optim.AdamW(groups, lr=run.train.learning_rate, betas=betas, eps=run.optimizer.epsilon)


def _check(run: Run, twin: nn.Module, batch: Sequence[torch.Tensor]) -> None:
    """Raises ValueError unless the loss and the squared norm of the gradient are the run's."""
    graph, params = make_model(run)
    loss, gradient = gradient_step(run, graph, params, _batch(run, 0))
    theirs = twin(*batch)
    theirs.backward()
    both = {
        "loss": (float(loss), theirs.item()),
        "gradient": (
            sum(float(np.square(leaf).sum()) for leaf in jax.tree.leaves(gradient)),
            sum(leaf.grad.square().sum().item() for leaf in twin.parameters()),
        ),
    }
    for name, (ours, other) in both.items():
        if not abs(ours - other) <= _TOLERANCE * abs(ours):
            raise ValueError(f"the PyTorch twin must have the run's {name}; got {other:.6g} in place of {ours:.6g}.")


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _linear(leaf: Any) -> nn.Linear:
    made = nn.Linear(*leaf["kernel"].shape, bias="bias" in leaf)
    made.weight.data = _tensor(leaf["kernel"]).T.contiguous()
    if "bias" in leaf:
        made.bias.data = _tensor(leaf["bias"])
    return made


def _norm(leaf: Any, epsilon: float) -> nn.RMSNorm:
    made = nn.RMSNorm(leaf["scale"].shape[0], eps=epsilon)
    made.weight.data = _tensor(leaf["scale"])
    return made


class _Rope(nn.Module):
    """Rotates channel i with i + head_dim / 2."""

    def __init__(self, length: int, head_dim: int, base: float) -> None:
        super().__init__()
        powers = torch.arange(head_dim // 2) / (head_dim // 2)
        angles = torch.arange(length)[:, None] * base**-powers
        self.cos, self.sin = angles.cos(), angles.sin()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)


class _Layer(nn.Module):
    """Attention, then the MLP where there is one, each after a norm."""

    def __init__(self, leaf: Any, run: Run, rope: nn.Module) -> None:
        super().__init__()
        self.heads, self.rope = run.model.num_heads, rope
        self.norm = _norm(leaf["norm"], run.norm.epsilon)
        self.query, self.key, self.value, self.output = (
            _linear(leaf["mixer"][name]) for name in ("query", "key", "value", "output")
        )
        self.mlp = nn.Sequential()
        if "mlp" in leaf:
            up, down = _linear(leaf["mlp"]["up"]), _linear(leaf["mlp"]["down"])
            self.mlp = nn.Sequential(_norm(leaf["mlp_norm"], run.norm.epsilon), up, nn.GELU("tanh"), down)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normal = self.norm(x)
        query, key, value = (
            project(normal).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        read = functional.scaled_dot_product_attention(self.rope(query), self.rope(key), value, is_causal=True)
        x = x + self.output(read.transpose(1, 2).flatten(2))
        return x + self.mlp(x) if len(self.mlp) else x


class _Twin(nn.Module):
    """The whole model; maps a batch to its loss."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        params, head_dim = make_model(run)[1], run.model.model_dim // run.model.num_heads
        rope: nn.Module = nn.Identity()
        if isinstance(run.position, RotaryPosition):
            rope = _Rope(run.task.input_length, head_dim, run.position.base)
        self.tokens = nn.Embedding(*params["embedding"]["tokens"].shape)
        self.tokens.weight.data = _tensor(params["embedding"]["tokens"])
        self.layers = nn.Sequential(*(_Layer(params["layers"][place], run, rope) for place in sorted(params["layers"])))
        self.norm = _norm(params["norm"], run.norm.epsilon)
        self.unembedding = nn.Parameter(_tensor(params["unembedding"]))

    def forward(
        self, inputs: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        x = self.layers(functional.rms_norm(self.tokens(inputs), (self.tokens.embedding_dim,), eps=1e-6))
        scored = torch.take_along_dim(x, positions[..., None], dim=1)
        logits = self.norm(scored) @ self.unembedding
        losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum()
