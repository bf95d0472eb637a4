"""The authors' propagation networks against outputs of the authors' code on the same weights and inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipelines.networks.attention_reader import AttentionReadSTCN, AttentionReadSTM, load_propagation
from pipelines.networks.memory import MemoryBank
from pipelines.networks.nano import NanoPropagation
from pipelines.networks.protocol import PropagationNetwork, Query
from pipelines.networks.reading import MemoryRules, affinity, difference_attention
from pipelines.networks.stcn import STCN
from pipelines.networks.stm import STM
from stores.errors import ModelError
from tests.pipelines.reference import FEATURES, SMALL, image, load, network, others, planes

close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True, scope="module")
def kept_for_this_file_only():
    yield
    network.cache_clear()


def memorise(net: PropagationNetwork, frame: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Query]:
    query = net.encode_key(image(frame))
    return *net.encode_memory(image(frame), query, masks, others(masks)), query


@pytest.mark.parametrize("name", ["propagation", "propagation_stcn"])
def test_propagation(golden: Path, name: str) -> None:
    shared = name == "propagation_stcn"
    data, net = load(golden / f"{'propagation_stcn' if shared else 'propagation_main'}.npz"), network(name)
    assert isinstance(net, STCN | STM)
    frames = dict(zip(data["frame_ids"].tolist(), data["frames"], strict=True))
    labels = dict(zip(data["label_ids"].tolist(), data["labels"], strict=True))
    stages: dict[str, Tensor] = {}
    if isinstance(net, STCN):
        parts = {"layer3": net.value_encoder.layer3, "block1": net.value_encoder.fuser.block1}
        parts["cbam"] = net.value_encoder.fuser.attention
        hooks = [part.register_forward_hook(_keep(stages, key)) for key, part in parts.items()]
    memory = []
    for at, index in enumerate((0, 3, 6)):
        key, value, query = memorise(net, frames[index], planes(labels[index], 1, 2))
        assert (key is query.key) == shared
        close(key, data["mem_k"][:, :, at], **FEATURES)
        close(value[:, ::4], data["mem_v_c4"][:, :, at], **FEATURES)
        memory.append((key, value))
        if shared and index == 3:
            close(stages["layer3"][:, ::4], data["v3_layer3_c4"], **FEATURES)
            close(stages["block1"][:, ::8], data["v3_block1_c8"], **FEATURES)
            close(stages["cbam"][:, ::8], data["v3_cbam_c8"], **FEATURES)
    if shared:
        for hook in hooks:
            hook.remove()
    key, value, _ = memorise(net, frames[0], planes(labels[0], 1))
    close(value[:, ::8], data["mem_v_single_c8"][:, :, 0], **FEATURES)
    u = torch.from_numpy(np.random.RandomState(11).uniform(0, 1, (3, 1, 96, 128)).astype(np.float32))
    soft_key, soft_value, _ = memorise(net, frames[2], u / u.sum(0, keepdim=True))
    close(soft_value[:, ::16], data["soft_v_c16"][:, :, 0], **FEATURES)
    if not shared:
        close(key, data["mem_k_single"][:, :, 0], **FEATURES)
        close(soft_key[:, ::4], data["soft_k_c4"][:, :, 0], **FEATURES)

    query = net.encode_key(image(frames[8]))
    for wanted, got in zip(("q_f16_c16", "q_f8_c16", "q_f4_c16"), net.encode_image(image(frames[8])), strict=True):
        close(got[:, ::16], data[wanted], **FEATURES)
    close(query.key, data["q_k16"], **FEATURES)
    close(query.features[0][:, ::4], data["q_thin_c4" if shared else "q_v16_c4"], **FEATURES)
    previous = planes(labels[6], 1, 2)
    for case in [key.removeprefix("seg_") for key in data if key.startswith("seg_")]:
        count, k = case[1:].split("_")
        bank = MemoryBank(rules_of(net, None if k == "full" else int(k[1:])))
        for pair in memory[: int(count)]:
            bank.add_certain(*pair)
        readout = bank.read(query.key)
        if f"read_{case}" in data:
            close(readout[:, ::4], data[f"read_{case}"], **FEATURES)
        close(torch.sigmoid(net.decode(readout, query, previous)), data[f"seg_{case}"], **SMALL)

    rules = rules_of(net, None)
    mem_key = memory[1][0]
    weights = torch.softmax(affinity(mem_key[0].flatten(1).T, query.key[0].flatten(1).T, rules), dim=1)
    close(weights.T[None], data["W"], **SMALL)
    objects = (0, 1, 2) if shared else (1, 2)
    change = planes(labels[3], *objects) - 0.75 * planes(labels[5], *objects)
    maps = difference_attention(mem_key, query.key, change.clamp(0, 1), (-change).clamp(0, 1), rules)
    close(maps, data["attention_with_bg" if shared else "attention"], **SMALL)


def rules_of(net: STM | STCN, top_k: int | None) -> MemoryRules:
    return MemoryRules(top_k=top_k, shared_keys=net.shared_keys, similarity=net.similarity, scale_dim=net.key_scale_dim)


def _keep(into: dict[str, Tensor], name: str):
    def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
        into[name] = output

    return hook


@pytest.mark.parametrize("name", ["propagation", "propagation_stcn"])
def test_a_batch_of_images_equals_one_after_another(name: str) -> None:
    net = network(name)
    g = torch.Generator().manual_seed(1)
    images, masks = torch.randn(2, 3, 32, 48, generator=g), torch.rand(3, 1, 32, 48, generator=g)
    rest, readout = torch.rand(3, 1, 32, 48, generator=g), torch.randn(3, 512, 2, 3, generator=g)
    owners = torch.tensor([1, 0, 1])
    query = net.encode_key(images)
    value = net.encode_memory(images, query, masks, rest, owners)[1]
    logits = net.decode(readout, query, masks, owners)
    for p, b in enumerate(owners.tolist()):
        one = net.encode_key(images[b : b + 1])
        own = net.encode_memory(images[b : b + 1], one, masks[p : p + 1], rest[p : p + 1])[1]
        close(value[p : p + 1], own, **FEATURES)
        close(logits[p : p + 1], net.decode(readout[p : p + 1], one, masks[p : p + 1]), **FEATURES)


@pytest.mark.parametrize("kind", ["main", "stcn"])
def test_attention_reader(golden: Path, kind: str) -> None:
    name = "propagation" if kind == "main" else "propagation_stcn"
    data = load(golden / f"attention_read_{kind}.npz")
    reader = (AttentionReadSTM if kind == "main" else AttentionReadSTCN)()
    load_propagation(reader.eval(), network(name).state_dict())
    reference, query = image(data["image"]), image(data["query"])
    masks = data["masks"][:, None, None]  # (4, 1, 1, h, w)
    got = reader(reference, *masks, query)
    close(got[0], data["attn1"], **SMALL)
    close(got[1], data["attn2"], **SMALL)
    twice = reader(torch.cat([query, reference]), *masks.expand(-1, 2, -1, -1, -1), torch.cat([reference, query]))
    close(twice[0][1:], data["attn1"], **SMALL)
    close(twice[1][1:], data["attn2"], **SMALL)


def test_attention_reader_refuses_another_network() -> None:
    with torch.device("meta"):
        state = STCN().state_dict()
        with pytest.raises(ModelError, match="has no entry 'mask_rgb_encoder"):
            load_propagation(AttentionReadSTM(), state)
        state["key_proj.key_proj.bias"] = torch.empty(5)
        with pytest.raises(ModelError, match=r"'key_proj.key_proj.bias'.*\[5\], expected \[64\]"):
            load_propagation(AttentionReadSTCN(), state)


def test_the_embedded_network_offers_the_same_interface() -> None:
    net: PropagationNetwork = NanoPropagation().eval()
    masks = torch.rand(2, 1, 64, 64)
    key, value, query = memorise(net, torch.zeros(64, 64, 3, dtype=torch.uint8), masks)
    assert key is query.key and value.shape == (2, 112, 4, 4)
    assert net.decode(value, query, masks).shape == masks.shape
