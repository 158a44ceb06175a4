"""Published scores of trained models, from the runs of a study."""

from collections.abc import Sequence

from experiments.certificates.certificate import Certificate, Check, number, ordering
from experiments.studies.rows import Row


def _row_of(rows: Sequence[Row], attention: str, task: str) -> Row:
    """Returns the only row of an attention on a task, whose spec is `task` or begins with it and continues with fields.

    Raises:
      ValueError: there is none, or more than one; one line.
    """
    found = [row for row in rows if row.attention == attention and f"{row.config['task']}:".startswith(f"{task}:")]
    if len(found) != 1:
        raise ValueError(f"the study must have one row of {attention} on {task}; it has {len(found)}.")
    return found[0]


def _beyond_training(row: Row) -> list[float]:
    """Returns, for each run, the mean accuracy over all lengths beyond those of training, each weighted equally.

    Raises:
      ValueError: a run has no test at such lengths, or diverged before it; one line.
    """
    found, longest = [], row.task.train_length or 0
    for result in row.results:
        total = lengths = 0.0
        for test in result["tests"]:
            ends = [int(end) for end in test["value"].split("-")] if test["kind"] == "length" else [0]
            if ends[0] > longest and test["accuracy"] is not None:
                lengths += ends[-1] - ends[0] + 1
                total += test["accuracy"] * (ends[-1] - ends[0] + 1)
        if not lengths:
            raise ValueError(f"run {result['run_id']} of {row.attention} has no accuracy beyond length {longest:g}.")
        found.append(total / lengths)
    return found


def best_beyond_training(rows: Sequence[Row], attention: str, task: str) -> float:
    """Returns the mean accuracy over all lengths beyond those of training, of the best run of a row.

    Raises:
      ValueError: there is no such row, or a run of it has no such accuracy; one line.
    """
    return max(_beyond_training(_row_of(rows, attention, task)))


def _parity_of_delta(rows: Sequence[Row]) -> list[Check]:
    def scaled(attention: str) -> float:
        return (best_beyond_training(rows, attention, "parity") - 0.5) / 0.5

    return [
        number("DeltaNet, eigenvalues in [-1, 1]", 1.0, scaled("delta:max_strength=2"), 0.02),
        number("DeltaNet, eigenvalues in [0, 1]", 0.017, scaled("delta"), 0.05),
        number("Gated DeltaNet, eigenvalues in [-1, 1]", 1.0, scaled("gated_delta:max_strength=2"), 0.02),
    ]


def _parity_of_networks(rows: Sequence[Row]) -> list[Check]:
    best = {name: best_beyond_training(rows, name, "parity") for name in ("lstm", "full")}
    return [
        number("LSTM", 1.0, best["lstm"], 0.01),
        number("Transformer", 0.52, best["full"], 0.03),
        ordering(
            "LSTM against Transformer", "above", f"{best['lstm']:.3f}, {best['full']:.3f}", best["lstm"] > best["full"]
        ),
    ]


def _arithmetic_of_networks(rows: Sequence[Row]) -> list[Check]:
    best = {name: best_beyond_training(rows, name, "modular_arithmetic") for name in ("lstm", "full")}
    return [number("LSTM", 1.0, best["lstm"], 0.02), number("Transformer", 0.242, best["full"], 0.05)]


def _markov_by_layers(rows: Sequence[Row]) -> list[Check]:
    def divergence(layers: int) -> float:
        deep = [row for row in rows if row.config["model.num_layers"] == layers]
        return _row_of(deep, "full", "markov_icl").mean("test_loss") or 0.0

    one, two, unigrams = divergence(1), divergence(2), rows[0].task.loss_floor or 0.0
    return [
        ordering(
            "one layer",
            "stays at unigram statistics",
            f"divergence {one:.3f}, unigrams' {unigrams:.3f}",
            abs(one - unigrams) < 0.2 * unigrams,
        ),
        ordering(
            "two layers against one", "reach bigram statistics", f"divergence {two:.3f}, {one:.3f}", two < 0.2 * one
        ),
    ]


CERTIFICATES = (
    Certificate(
        name="parity_negative_eigenvalues",
        claim="The delta rule solves parity at lengths never seen if its eigenvalues may be negative, else not at all.",
        source="Grazzi et al. 2024, arXiv:2411.12537, table 3; Gated DeltaNet: Mamba-3, 2026, table 5",
        configuration="configs/negative_eigenvalues.py: trained on up to 40 bits, mean over longer ones, best seed, "
        "scaled from chance. Two layers of width 64 where the paper has 128.",
        judge=_parity_of_delta,
        study="negative_eigenvalues",
    ),
    Certificate(
        name="parity_networks",
        claim="An LSTM learns parity at every length, a Transformer does not.",
        source="Deletang et al. 2023, arXiv:2207.02098, table 2",
        configuration="configs/state_tracking.py: trained on lengths up to 40, mean over 41 to 500, best run, no "
        "position encoding; theirs are of 10 seeds and 3 rates.",
        judge=_parity_of_networks,
        study="state_tracking",
    ),
    Certificate(
        name="modular_arithmetic_networks",
        claim="An LSTM learns arithmetic modulo 5 at every length, a Transformer does not.",
        source="Deletang et al. 2023, arXiv:2207.02098, table 2",
        configuration="As in parity_networks, and for 1000 steps at most.",
        judge=_arithmetic_of_networks,
        study="state_tracking",
    ),
    Certificate(
        name="markov_layers",
        claim="On Markov chains in context two layers of attention learn bigram statistics, one layer does not.",
        source="Edelman et al. 2024, arXiv:2402.11004",
        configuration="configs/markov_phases.py: three symbols, rows of 100, one head; divergence from the Bayes "
        "posterior, mean of three seeds. What is published is that one gets there and the other does not; no number.",
        judge=_markov_by_layers,
        study="markov_phases",
    ),
)
