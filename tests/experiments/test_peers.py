"""Other libraries beside the variants: they compute the same, and what does not is refused.

What PyTorch computes is tested where it is installed, which it need not be.
"""

import json

import jax
import numpy as np
import pytest

from attention_variants.registry import make_variant
from experiments import benchmark, cli
from experiments.benchmarks import peers
from experiments.config.run import Run
from experiments.config.schema import Config

SPECS = ("full", "sliding_window:window_size=31", "linear:chunk_size=16")
SMALL = ("--num_heads=2", "--head_dim=4", "--repeats=1")


def execute(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["benchmark", *arguments])
    return cli.execute(benchmark.run, benchmark.FLAGS)


def arrays(length=53):
    return tuple(jax.random.normal(jax.random.key(3), (3, 2, length, 3, 8)))


@pytest.mark.slow
def test_a_peer_has_a_row_beside_its_variant(monkeypatch, capsys, tmp_path):
    output = tmp_path / "figures.json"
    asked = ("--variants=full|linear", "--lengths=16,32", "--baseline_max_length=16", "--peers", f"--output={output}")
    assert execute(monkeypatch, *asked, *SMALL) == 0
    written = json.loads(output.read_text())
    figures = {(each["variant"], each["length"]): each for each in written["figures"]}
    theirs, ours = figures["flax.nnx (full)", 16], figures["full", 16]
    assert theirs["peer_of"] == "full" and theirs["peer_ratio"] == ours["gradient_ms"] / theirs["gradient_ms"]
    assert ("flax.nnx (full)", 32) not in figures, "it keeps length^2 weights"
    assert ours["peer_ratio"] is None and figures["linear", 32]["peer_of"] is None
    assert written["environment"]["peers"]["flax"]
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].endswith("variant / peer")
    assert (peers.missing("torch", "local_attention") is None) == ("is not installed" not in printed.err)


@pytest.mark.parametrize("causal", [True, False])
def test_flax_computes_the_same(causal):
    variant = make_variant("full")
    (peer, *_) = peers.peers_of(variant, causal)
    peers.check_equal(peer.name, peer.attend(*arrays()), variant(*arrays(), causal=causal))


def test_a_peer_that_computes_something_else_is_refused(monkeypatch, capsys):
    flax = peers._flax
    monkeypatch.setattr(peers, "_flax", lambda *arrays, causal: flax(*arrays, causal=False))
    assert execute(monkeypatch, "--variants=full", "--lengths=16", "--peers", *SMALL) == 2
    assert "flax.nnx (full) must compute the same function; its output differs by" in capsys.readouterr().err


def test_not_a_number_is_not_the_same():
    with pytest.raises(ValueError, match="differs by nan"):
        peers.check_equal("it", np.full(3, np.nan), np.zeros(3))


@pytest.mark.parametrize("spec", SPECS)
def test_pytorch_computes_the_same_with_the_same_gradient(spec):
    pytest.importorskip("torch", reason="optional: pip install torch local-attention")
    variant, given = make_variant(spec), arrays()

    def loss(query, key, value):
        return (variant(query, key, value, causal=True) * value).sum()

    (peer,) = [peer for peer in peers.peers_of(variant, True) if peer.is_torch]
    forward, gradient = peers.torch_calls(peer.attend, given)
    np.testing.assert_allclose(forward().numpy(), variant(*given, causal=True), atol=1e-5)
    for theirs, ours in zip(gradient(), jax.grad(loss, argnums=(0, 1, 2))(*given), strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-5)


@pytest.mark.slow
def test_a_twin_has_the_loss_and_the_gradient_of_its_model(monkeypatch):
    pytest.importorskip("torch", reason="optional: pip install torch local-attention")
    from experiments.benchmarks import torch_twin

    def run(**model):
        sizes = {"attention": "full", "num_layers": 2, "model_dim": 16, "num_heads": 2, "position": "rope"} | model
        return Run.read(Config.from_nested({"task": "mqar:length=16,num_pairs=2", "model": sizes}))

    for model in ({}, {"mlp_dim": 12}, {"position": "none", "num_heads": 1}):
        assert torch_twin.throughput(run(**model), 5) > 0
    assert "full attention; got linear" in (torch_twin.misfit(run(attention="linear")) or "")
    monkeypatch.setattr(torch_twin._Rope, "forward", lambda self, x: x)
    with pytest.raises(ValueError, match="must have the run's loss; got"):
        torch_twin.throughput(run(), 5)
