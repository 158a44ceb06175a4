"""The lists of what there is to choose from."""

import pytest

from attention_variants.positions import POSITIONS
from attention_variants.registry import VARIANTS
from experiments.components.registry import MIXERS
from experiments.reporting import listings
from experiments.tasks.registry import TASKS, make_task


def test_every_variant_is_listed_once_family_by_family():
    entries = listings.entries()
    assert sorted(entry.name for entry in entries) == sorted(VARIANTS)
    families = [listings.FAMILIES.index(entry.family) for entry in entries]
    assert families == sorted(families) and all(entry.summary.endswith(".") and entry.paper for entry in entries)


def test_a_variant_of_an_unknown_family_is_refused(monkeypatch):
    monkeypatch.setattr(VARIANTS["full"], "family", "folklore")
    with pytest.raises(ValueError, match="`family` of full must be one of softmax.*; got 'folklore'"):
        listings.entries()


def test_the_texts_name_everything_with_its_fields():
    heads = {line.partition(":")[0] for line in listings.variants_text().splitlines() if not line.startswith(" ")}
    assert heads >= VARIANTS.keys() | MIXERS.keys()
    assert {line.partition(":")[0] for line in listings.tasks_text().splitlines()} >= TASKS.keys()
    assert {line.partition(":")[0] for line in listings.positions_text().splitlines()} >= POSITIONS.keys()
    assert "sliding_window:window_size=" in listings.variants_text()


def test_sizes_and_floors_of_a_task_are_words():
    assert (
        listings.sizes_text(make_task("mqar:length=32,num_pairs=4,vocab_size=64")) == "32 tokens a row, vocabulary 64"
    )
    assert "positions of 2 numbers a row, answers right within 0.04" in listings.sizes_text(make_task("adding"))
    assert "with a context of" in listings.sizes_text(make_task("translation"))
    assert "always answer 1 (mean squared error) 0.167" in listings.floors_text(make_task("adding"))
    chain = make_task("markov_icl:length=5")
    assert listings.sizes_text(chain) == "5 tokens a row, vocabulary 3, distributions right within 0.05"
    assert any(text.startswith("answer uniformly (KL divergence) 0.") for text in listings.floors_text(chain))
