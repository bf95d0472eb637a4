"""How many operations a model needs: the floor under its time is that number over the machine's rate."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.networks import registry
from pipelines.networks.protocol import Query
from pipelines.stages.tensors import Padding


def count_operations(model: str, height: int, width: int, objects: int, *, shared: bool = True) -> float:
    """Operations of the propagation network per frame with direct convolutions, 1e9, two per multiply and add.

    Memory reading, interaction and fusion are not counted. Nothing is computed: the tensors have no data.

    Args:
        height, width: of the frames; shared: what objects have in common is computed once, otherwise for each.
    """
    spec = registry.model_spec(model)
    left, right, top, bottom = Padding.of(height, width).sides
    size = (top + height + bottom, left + width + right)
    with torch.device("meta"), torch.no_grad():
        network: Any = spec.propagation.build().eval()
        image, masks = torch.empty(1, 3, *size), torch.empty(objects if shared else 1, 1, *size)
        query: Query = network.encode_key(image)
        _, value = network.encode_memory(image, query, masks, masks)

        def count(method: str, *arguments: Any) -> float:
            with FlopCounterMode(display=False) as counter:
                getattr(network, method)(*arguments)
            return counter.get_total_flops()

        memory = count("encode_memory", image, query, masks, masks) / (1 if spec.rules.temporary else spec.rules.every)
        repeated = 1 if shared else objects
        return (count("encode_key", image) + repeated * (count("decode", value, query, masks) + memory)) / 1e9
