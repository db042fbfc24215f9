"""The hardware that the management API offers, and the configs and profiles made from it.

The prices are made up in the range of real ones, so that a test can tell hardware apart by what it costs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..refusal import JSON

PUBLIC_PROJECT = "proj_public"
PUBLIC_REVISION = "rv_public"


@dataclass(frozen=True)
class InstanceType:
    """Hardware for one replica."""

    name: str
    gpu_type: str
    gpu_count: int
    gpu_memory_gib: int
    price_cents_per_hour: int

    def wire(self) -> dict[str, JSON]:
        """The instance type as the API shows it."""
        return {
            "id": f"it_{self.name}",
            "name": self.name,
            "description": f"{self.gpu_count}x {self.gpu_type} {self.gpu_memory_gib} GiB",
            "gpuCount": self.gpu_count,
            "gpuMemoryGib": self.gpu_memory_gib,
            "gpuType": self.gpu_type,
            "priceCentsPerHour": self.price_cents_per_hour,
            "regions": [{"name": "local", "headroom": {"relation": "RELATION_GTE", "value": 8}}],
        }


def instance_types() -> tuple[InstanceType, ...]:
    """All hardware, the cheapest first."""
    return (
        InstanceType("1xnvidia-h100-80gb", "H100", 1, 80, 549),
        InstanceType("2xnvidia-h100-80gb", "H100", 2, 80, 1098),
        InstanceType("1xnvidia-b200-180gb", "B200", 1, 180, 995),
    )


def config_id(model_id: str, hardware: str, adapter_mode: str) -> str:
    """The id of a model's config for some hardware and adapter mode, the same at every start."""
    return f"cr_{model_id.removeprefix('ml_')}-{hardware}-{adapter_mode}"


def profile(model_id: str, name: str) -> dict[str, JSON]:
    """The certified profile of a model: on the cheapest hardware, without adapters."""
    hardware = instance_types()[0]
    config = config_id(model_id, hardware.name, "disabled")
    return {
        "adapterMode": "ADAPTER_MODE_DISABLED",
        "certifiedConfigRevisionId": config,
        "certifiedModelRevisionId": PUBLIC_REVISION,
        "config": f"projects/{PUBLIC_PROJECT}/configs/{config}",
        "gpuCount": hardware.gpu_count,
        "gpuType": hardware.gpu_type,
        "model": f"projects/{PUBLIC_PROJECT}/models/{model_id}",
        "modelName": name,
        "parallelism": "",
        "performanceBenchmarks": {},
        "profileId": config,
        "quantization": "",
    }
