"""Parameters that chat models and completions share, each with a value."""

from __future__ import annotations

from typing import Any

PARAMETERS: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.1,
    "max_tokens": 7,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.3,
    "logit_bias": {"105": 21.4},
    "seed": 42,
    "n": 2,
    "stop": ["a", "b"],
    "logprobs": 3,
    "echo": True,
    "safety_model": "some/guard",
}
