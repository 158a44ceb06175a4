"""Tasks by name. A new task is one import and one line here."""

from typing import Any

from attention_variants import specs
from experiments.tasks.base import Task
from experiments.tasks.continuous.adding import Adding
from experiments.tasks.continuous.in_context_regression import InContextRegression
from experiments.tasks.formal.arithmetic import ModularArithmetic, ModularArithmeticBrackets
from experiments.tasks.formal.automata_icl import AutomataICL
from experiments.tasks.formal.dyck import Dyck
from experiments.tasks.formal.flip_flop import FlipFlop
from experiments.tasks.formal.group_word import GroupWord
from experiments.tasks.formal.listops import ListOps
from experiments.tasks.formal.machines import BinaryAddition, StackManipulation
from experiments.tasks.formal.multi_stack import MultiStack
from experiments.tasks.formal.permutation_hops import PermutationHops
from experiments.tasks.formal.prefix_arithmetic import PrefixArithmetic
from experiments.tasks.formal.regular import CycleNavigation, EvenPairs, Parity
from experiments.tasks.formal.strings import BucketSort, DuplicateString, MissingDuplicate, OddsFirst, ReverseString
from experiments.tasks.images.captioning import Captioning
from experiments.tasks.images.image_shapes import ImageShapes
from experiments.tasks.images.pathfinder import Pathfinder
from experiments.tasks.recall.facts import Facts
from experiments.tasks.recall.fuzzy_recall import FuzzyRecall
from experiments.tasks.recall.in_context_recall import InContextRecall, NoisyRecall
from experiments.tasks.recall.induction import Induction
from experiments.tasks.recall.joint_recall import JointRecall
from experiments.tasks.recall.markov_icl import MarkovICL
from experiments.tasks.recall.markov_lags import MarkovLags
from experiments.tasks.recall.memorization import Memorization
from experiments.tasks.recall.mqar import MQAR
from experiments.tasks.recall.mqar_nback import NbackMQAR
from experiments.tasks.recall.mqar_variants import CompositionalMQAR, ForgettingMQAR
from experiments.tasks.recall.needle import Needle
from experiments.tasks.recall.ngram_lookup import NgramLookup
from experiments.tasks.recall.set_intersection import SetIntersection
from experiments.tasks.sequences.common_words import CommonWords
from experiments.tasks.sequences.compression import Compression
from experiments.tasks.sequences.copying import Copying, Reverse, Sorting
from experiments.tasks.sequences.duplicate_ngram import DuplicateNgram
from experiments.tasks.sequences.selective_copying import SelectiveCopying
from experiments.tasks.sequences.skill_pairs import SkillPairs
from experiments.tasks.sequences.translation import Translation
from experiments.tasks.sequences.variable_tracking import VariableTracking

TASKS: dict[str, type[Task]] = {
    "mqar": MQAR,
    "selective_copying": SelectiveCopying,
    "induction": Induction,
    "in_context_recall": InContextRecall,
    "noisy_recall": NoisyRecall,
    "fuzzy_recall": FuzzyRecall,
    "memorization": Memorization,
    "facts": Facts,
    "copying": Copying,
    "reverse": Reverse,
    "sorting": Sorting,
    "needle": Needle,
    "variable_tracking": VariableTracking,
    "common_words": CommonWords,
    "mqar_forgetting": ForgettingMQAR,
    "mqar_compositional": CompositionalMQAR,
    "joint_recall": JointRecall,
    "ngram_lookup": NgramLookup,
    "mqar_nback": NbackMQAR,
    "set_intersection": SetIntersection,
    "markov_icl": MarkovICL,
    "markov_lags": MarkovLags,
    "duplicate_ngram": DuplicateNgram,
    "skill_pairs": SkillPairs,
    "parity": Parity,
    "even_pairs": EvenPairs,
    "cycle_navigation": CycleNavigation,
    "modular_arithmetic": ModularArithmetic,
    "modular_arithmetic_brackets": ModularArithmeticBrackets,
    "reverse_string": ReverseString,
    "duplicate_string": DuplicateString,
    "missing_duplicate": MissingDuplicate,
    "odds_first": OddsFirst,
    "bucket_sort": BucketSort,
    "stack_manipulation": StackManipulation,
    "binary_addition": BinaryAddition,
    "dyck": Dyck,
    "listops": ListOps,
    "compression": Compression,
    "adding": Adding,
    "in_context_regression": InContextRegression,
    "translation": Translation,
    "pathfinder": Pathfinder,
    "image_shapes": ImageShapes,
    "captioning": Captioning,
    "group_word": GroupWord,
    "flip_flop": FlipFlop,
    "prefix_arithmetic": PrefixArithmetic,
    "multi_stack": MultiStack,
    "permutation_hops": PermutationHops,
    "automata_icl": AutomataICL,
}


def task_facts(task: Task) -> dict[str, Any]:
    """Returns `task.facts()` with the name under which the task is registered, if any."""
    facts = task.facts()
    return facts | {"name": next((name for name, kind in TASKS.items() if kind is type(task)), facts["name"])}


def make_task(spec: str, **fields: Any) -> Task:
    """Builds a task from a spec string such as `mqar:length=64,num_pairs=4`; raises SpecError."""
    return specs.build(spec, TASKS, "task", **fields)
