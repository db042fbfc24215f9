"""Whether a passage is near enough to a question to hold its answer.

Each embedding model has a similarity of its own for texts that have nothing to do with each other. So the bar is
measured: questions about unrelated things are asked, and what is no nearer than they come is not an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, pstdev

UNRELATED = (
    "How do penguins keep their eggs warm?",
    "What is the best way to bake sourdough bread?",
    "How tall is Mount Everest?",
    "Which team won the football match on Saturday?",
    "When do cherry trees bloom in Kyoto?",
    "How long does it take to boil an egg?",
    "What did the king say to his daughter?",
    "Why is the sky blue?",
    "How many strings does a violin have?",
    "Where do whales go in winter?",
    "Who wrote Romeo and Juliet?",
    "What should I wear to a wedding?",
    "How can I remove a stain from a shirt?",
    "Is it safe to eat raw mushrooms?",
    "When was the Roman Empire at its largest?",
    "How do I teach my dog to sit?",
    "What causes earthquakes?",
    "Which planet has the most moons?",
    "How are diamonds formed?",
    "What is the population of Iceland?",
    "How do vaccines work?",
    "Who discovered penicillin?",
    "When should tomatoes be planted?",
    "How do I train for a marathon?",
    "What is the recipe for pancakes?",
    "Who was the first woman in space?",
    "Why do cats purr?",
    "How deep is the Pacific Ocean?",
    "What does a lighthouse keeper do?",
    "How do I fold a paper crane?",
    "Which instruments are in a string quartet?",
    "When did the dinosaurs die out?",
    "How is cheese made?",
    "What do bees do in winter?",
    "Where does the Danube begin?",
    "How much sleep does a baby need?",
    "What are the rules of chess?",
    "How do I get to the railway station?",
    "Which wine goes with fish?",
    "Who invented the telescope?",
)
"""One subject each, so that documents about one of them raise few scores."""

_RELATED = 0.1
"""The share of them that documents may happen to be about."""
_DEVIATIONS = 4


def bar(best_scores: Sequence[float]) -> float:
    """The similarity from which on a passage is near.

    Parameters
    ----------
    best_scores : sequence of float
        For each question of `UNRELATED` the similarity of the passage that is nearest to it.

    Returns
    -------
    float
        Four standard deviations above the mean, the highest tenth left aside.
    """
    kept = sorted(best_scores)[: max(1, round(len(best_scores) * (1 - _RELATED)))]
    return fmean(kept) + _DEVIATIONS * pstdev(kept)


def measured_bar(
    embed: Callable[[Sequence[str]], Sequence[Sequence[float]]], best_score: Callable[[Sequence[float]], float]
) -> float:
    """Ask `UNRELATED` of a store.

    Parameters
    ----------
    embed : callable
        Gives the vectors of questions.
    best_score : callable
        Gives the similarity of the passage that is nearest to a vector.
    """
    return bar([best_score(vector) for vector in embed(UNRELATED)])
