"""Published scores of trained models, from the runs of a study."""

from collections.abc import Sequence

from experiments.certificates.certificate import Certificate, Check, number, ordering
from experiments.studies.rows import Row


def _row(rows: Sequence[Row], attention: str, task: str) -> Row:
    found = [row for row in rows if row.attention == attention and row.config["task"].split(":")[0] == task]
    if len(found) != 1:
        raise ValueError(f"the study must have one row of {attention} on {task}; it has {len(found)}.")
    return found[0]


def _beyond_training(row: Row) -> list[float]:
    """Returns for each run the mean accuracy over all lengths that it was not trained on, each length alike."""
    found = []
    for result in row.results:
        tests = [test for test in result["tests"] if test["kind"] == "length"]
        spans = [[int(end) for end in test["value"].split("-")] for test in tests]
        sizes = [span[-1] - span[0] + 1 for span in spans]
        found.append(sum(t["accuracy"] * size for t, size in zip(tests, sizes, strict=True)) / sum(sizes))
    return found


def _parity_of_delta(rows: Sequence[Row]) -> list[Check]:
    def scaled(attention: str) -> float:
        return (max(_beyond_training(_row(rows, attention, "parity"))) - 0.5) / 0.5

    return [
        number("DeltaNet, eigenvalues in [-1, 1]", 1.0, scaled("delta:max_strength=2"), 0.02),
        number("DeltaNet, eigenvalues in [0, 1]", 0.017, scaled("delta"), 0.05),
        number("Gated DeltaNet, eigenvalues in [-1, 1]", 1.0, scaled("gated_delta:max_strength=2"), 0.02),
    ]


def _parity_of_networks(rows: Sequence[Row]) -> list[Check]:
    best = {name: max(_beyond_training(_row(rows, name, "parity"))) for name in ("lstm", "full")}
    return [
        number("LSTM", 1.0, best["lstm"], 0.01),
        number("Transformer", 0.52, best["full"], 0.03),
        ordering(
            "LSTM against Transformer", "above", f"{best['lstm']:.3f}, {best['full']:.3f}", best["lstm"] > best["full"]
        ),
    ]


def _arithmetic_of_networks(rows: Sequence[Row]) -> list[Check]:
    best = {name: max(_beyond_training(_row(rows, name, "modular_arithmetic"))) for name in ("lstm", "full")}
    return [number("LSTM", 1.0, best["lstm"], 0.02), number("Transformer", 0.242, best["full"], 0.05)]


CERTIFICATES = (
    Certificate(
        name="parity_negative_eigenvalues",
        claim="The delta rule solves parity at lengths never seen if its eigenvalues may be negative, else not at all.",
        source="Grazzi et al. 2024, arXiv:2411.12537, table 3; Gated DeltaNet: Mamba-3, 2026, table 5",
        configuration="Trained on 1 to 40 bits, read at 41 to 256, best of 3 seeds, scaled from chance. Two layers of "
        "width 64 where the paper has 128.",
        judge=_parity_of_delta,
        study="negative_eigenvalues",
    ),
    Certificate(
        name="parity_networks",
        claim="An LSTM learns parity at every length, a Transformer does not.",
        source="Deletang et al. 2023, arXiv:2207.02098, table 2",
        configuration="Trained on lengths 1 to 40, mean over 41 to 500, best of 2 seeds; the paper has 10 and 3 rates.",
        judge=_parity_of_networks,
        study="state_tracking",
    ),
    Certificate(
        name="modular_arithmetic_networks",
        claim="An LSTM learns arithmetic modulo 5 at every length, a Transformer does not.",
        source="Deletang et al. 2023, arXiv:2207.02098, table 2",
        configuration="As in parity_networks. The committed runs train for 1000 steps at one rate.",
        judge=_arithmetic_of_networks,
        study="state_tracking",
    ),
)
