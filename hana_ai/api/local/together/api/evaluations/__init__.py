"""Together's evaluations: a model judges each row of a file, by classes, by a score, or by comparing two answers.

Shapes are those of Together's OpenAPI document; what is asked of the judge, and how its answer is read, is this
server's own.
"""

from .handlers import evaluation_routes
from .jobs import Evaluations
from .records import Evaluation, EvaluationDials

__all__ = ["Evaluation", "EvaluationDials", "Evaluations", "evaluation_routes"]
