"""What may be trained, and how."""

from __future__ import annotations

from ...engine import LocalModel
from ...refusal import JSON, Refusal
from ...requests import JSONObject

MOST_BATCH = 64
_MOST = {"n_epochs": 20, "n_evals": 100, "n_checkpoints": 10}
_LEAST = {"n_epochs": 1, "n_evals": 0, "n_checkpoints": 0}


def model_limits(model: LocalModel) -> dict[str, JSON]:
    """The limits of a model."""
    batch: dict[str, JSON] = {
        "max_batch_size": MOST_BATCH,
        "max_batch_size_dpo": MOST_BATCH // 2,
        "min_batch_size": 1,
    }
    return {
        "model_name": model.id,
        "full_training": dict(batch),
        "lora_training": {
            **batch,
            "default_rank": 8,
            "max_rank": 64,
            "target_modules": ["k_proj", "o_proj", "q_proj", "v_proj"],
        },
        "default_gradient_accumulation_steps": 1,
        "max_learning_rate": 0.1,
        "min_learning_rate": 1e-9,
        "max_num_checkpoints": _MOST["n_checkpoints"],
        "max_num_epochs": _MOST["n_epochs"],
        "max_num_evals": _MOST["n_evals"],
        "max_seq_length_sft": model.context_length,
        "max_seq_length_dpo": model.context_length // 2,
        "min_max_seq_length": 16,
        "merge_output_lora": True,
        "supports_full_training": True,
        "supports_reasoning": "FEATURE_REASONING" in model.features,
        "supports_tools": "FEATURE_TOOL_CALLING" in model.features,
        "supports_vision": False,
    }


def check_limits(fields: JSONObject, model: LocalModel) -> None:
    """Raise `Refusal` for a request beyond a model's limits."""
    for name, most in _MOST.items():
        value = fields.get(name)
        if value is not None and not _LEAST[name] <= value <= most:
            raise Refusal(400, f"{name} must be {_LEAST[name]} to {most}, not {value}.", param=name)
    batch = fields.get("batch_size", "max")
    if batch != "max" and not 1 <= batch <= MOST_BATCH:
        raise Refusal(400, f"batch_size must be max or 1 to {MOST_BATCH}, not {batch}.", param="batch_size")
    length = fields.get("max_seq_length")
    if length is not None and not 16 <= length <= model.context_length:
        raise Refusal(
            400, f"max_seq_length must be 16 to {model.context_length}, not {length}.", param="max_seq_length"
        )
    if fields.get("n_evals") and not fields.get("validation_file"):
        raise Refusal(400, "n_evals needs a validation_file.", param="n_evals")
