"""What a judge is asked, and how its answer is read."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import orjson

from ...refusal import JSON, Refusal
from ...requests import JSONObject
from .records import Kind

Row: TypeAlias = dict[str, JSON]
Chatting: TypeAlias = Callable[[JSONObject], Awaitable[str]]
"""The text that answers the body of a chat."""

_FIELD = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Judging:
    """One evaluation's judge over its rows.

    Parameters
    ----------
    ask
        Answers a chat; what it refuses counts as a failure of the row.
    """

    def __init__(self, kind: Kind, parameters: JSONObject, ask: Chatting) -> None:
        self._kind = kind
        self._parameters = parameters
        self._ask = ask

    async def judge(self, row: Row) -> Row:
        """The row with what was answered, and what the judge made of it."""
        sources = ("model_a", "model_b") if self._kind == "compare" else ("model_to_evaluate",)
        answers: list[str] = []
        for source in sources:
            try:
                answers.append(await self._answer(self._parameters.get(source), row))
            except Refusal as exc:
                return {**row, "generation_error": exc.message}
        names = ("response_a", "response_b") if self._kind == "compare" else ("response",)
        judged: Row = {**row, **dict(zip(names, answers, strict=True))}
        judge: JSONObject = self._parameters["judge"]
        try:
            said = await self._ask(
                {
                    "model": judge["model"],
                    "temperature": 0,
                    "messages": [
                        {"role": "system", "content": f"{filled(judge['system_template'], row)}\n{self._task()}"},
                        {"role": "user", "content": "\n\n".join(answers)},
                    ],
                }
            )
        except Refusal as exc:
            return {**judged, "judge_error": exc.message}
        return {**judged, "judge_answer": said, "verdict": self._verdict(said)}

    async def _answer(self, source: object, row: Row) -> str:
        if isinstance(source, dict):
            return await self._ask(
                {
                    "model": source["model"],
                    "max_tokens": source["max_tokens"],
                    "temperature": source["temperature"],
                    "messages": [
                        {"role": "system", "content": filled(source["system_template"], row)},
                        {"role": "user", "content": filled(source["input_template"], row)},
                    ],
                }
            )
        if isinstance(source, str):
            if source not in row:
                raise Refusal(400, f"The row has no column {source!r}.")
            return str(row[source])
        return orjson.dumps(row).decode()

    def _task(self) -> str:
        if self._kind == "classify":
            return f"Answer with one of: {', '.join(self._parameters['labels'])}."
        if self._kind == "score":
            return f"Answer with a number from {self._parameters['min_score']} to {self._parameters['max_score']}."
        return "Answer with A, B or Tie."

    def _verdict(self, said: str) -> JSON:
        """The class, score or winner that an answer names first; None for none."""
        if self._kind == "score":
            found = _NUMBER.search(said)
            score = float(found[0]) if found else None
            least, most = self._parameters["min_score"], self._parameters["max_score"]
            return score if score is not None and least <= score <= most else None
        allowed: Sequence[str] = self._parameters["labels"] if self._kind == "classify" else ("A", "B", "Tie")
        # `A` is a word of its own, too.
        flags = re.IGNORECASE if self._kind == "classify" else 0
        matches = ((re.search(rf"\b{re.escape(label)}\b", said, flags), label) for label in allowed)
        places = [(match.start(), -len(label), label) for match, label in matches if match is not None]
        return min(places)[2] if places else None

    def results(self, rows: Sequence[Row]) -> dict[str, JSON]:
        """What the rows come to."""
        verdicts = [row["verdict"] for row in rows if row.get("verdict") is not None]
        failed: dict[str, JSON] = {
            "generation_fail_count": sum("generation_error" in row for row in rows),
            "judge_fail_count": sum("judge_error" in row for row in rows),
        }
        unread = sum("verdict" in row and row["verdict"] is None for row in rows)
        if self._kind == "classify":
            counts = Counter(str(one) for one in verdicts)
            passed = sum(counts[label] for label in self._parameters["pass_labels"])
            return failed | {
                "invalid_label_count": unread,
                "label_counts": orjson.dumps(counts).decode(),
                "pass_percentage": _percent(passed, len(verdicts)),
            }
        if self._kind == "score":
            scores = [float(str(one)) for one in verdicts]
            passed = sum(score >= self._parameters["pass_threshold"] for score in scores)
            return failed | {
                "aggregated_scores": {
                    "mean_score": statistics.fmean(scores) if scores else 0.0,
                    "std_score": statistics.pstdev(scores) if scores else 0.0,
                    "pass_percentage": _percent(passed, len(scores)),
                },
                "failed_samples": len(rows) - len(scores),
                "invalid_score_count": unread,
            }
        return failed | {
            "A_wins": verdicts.count("A"),
            "B_wins": verdicts.count("B"),
            "Ties": verdicts.count("Tie"),
            "num_samples": len(rows),
        }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def filled(template: str, row: Row) -> str:
    """A template with `{{column}}` replaced by the row's values."""
    return _FIELD.sub(lambda found: str(row.get(found[1], found[0])), template)
