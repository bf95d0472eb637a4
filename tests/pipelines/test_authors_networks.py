"""State dicts of the authors' networks, and S2M and fusion against outputs of the authors' code."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipelines.networks.attention_reader import AttentionReadSTCN, AttentionReadSTM
from pipelines.networks.resnet import BasicBlock, ResNet, fold_batch_norm
from pipelines.networks.s2m import S2M, PyramidPooling
from pipelines.networks.synthetic_weights import synthetic_state
from tests.pipelines.reference import FEATURES, NETWORKS, SMALL, image, load, network, others

close = torch.testing.assert_close
LOGITS = {"atol": 1e-4, "rtol": 0.0}
READERS = {"attention_read": AttentionReadSTM, "attention_read_stcn": AttentionReadSTCN}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True, scope="module")
def kept_for_this_file_only():
    yield
    network.cache_clear()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("name", [*NETWORKS, "fusion_stcn", *READERS])
def test_state_dict_is_the_published_one(golden: Path, name: str) -> None:
    with torch.device("meta"):
        module = {**NETWORKS, **READERS, "fusion_stcn": NETWORKS["fusion"]}[name]()
    got = [
        {"key": key, "dtype": str(value.dtype).removeprefix("torch."), "shape": "x".join(map(str, value.shape))}
        for key, value in module.state_dict().items()
    ]
    wanted = rows(golden.parent / "state_dicts" / f"{name}.tsv")
    assert got == [{**row, "shape": row["shape"].replace("scalar", "")} for row in wanted]


@pytest.mark.parametrize("name", NETWORKS)
def test_synthetic_weights_follow_the_documented_rule(golden: Path, name: str) -> None:
    state = network(name).state_dict()
    wanted = {row["key"]: row for row in rows(golden / "weights_check.tsv") if row["network"] == name}
    assert wanted.keys() == {key for key, value in state.items() if value.is_floating_point()}
    for key, row in wanted.items():
        value = state[key].double()
        got = [float(value.flatten()[0]), float(value.sum()), float(value.abs().sum())]
        assert got == pytest.approx([float(row[k]) for k in ("first", "sum", "abs_sum")], rel=1e-6, abs=1e-5), key


def test_s2m(golden: Path) -> None:
    data, net = load(golden / "s2m_forward.npz"), network("s2m")
    assert isinstance(net, S2M)
    marks = torch.stack([data[key].float() for key in ("prev", "pos", "neg")])[None]
    x = torch.cat([image(data["frame"]), marks], dim=1)
    close(net(x), data["logits"], **LOGITS)
    close(net(torch.cat([x[:, :3], torch.zeros_like(marks)], dim=1)), data["logits_empty"], **LOGITS)
    f4, _, _, f16 = net.backbone(x)
    close(f4[:, ::8], data["low_level_c8"], **FEATURES)
    close(f16[:, ::16], data["layer4_c16"], **FEATURES)
    close(net.classifier.aspp(f16)[:, ::4], data["aspp_c4"], **FEATURES)
    close(net.classifier(f4, f16), data["head"], **LOGITS)


def test_the_pyramid_looks_6_12_and_18_positions_far() -> None:
    """The golden maps are too small to tell."""
    point = torch.zeros(1, 1, 49, 49)
    point[..., 24, 24] = 1
    for branch, reach in zip(PyramidPooling(1).convs[1:4], (6, 12, 18), strict=True):
        rows_seen = branch[0](point).abs().amax(dim=(0, 1, 3)).nonzero().flatten().tolist()
        assert rows_seen == [24 - reach, 24, 24 + reach]


def test_s2m_of_two_objects_at_once(golden: Path) -> None:
    data = load(golden / "s2m_forward.npz")
    drawn = F.pad(data["ctrl_scribble"], (3, 3, 6, 6), value=255)
    frame = image(data["ctrl_frame"])[0]
    inputs = [
        torch.cat([frame, torch.stack([data["ctrl_prev"] == k, drawn == k, (drawn != k) & (drawn != 255)])])
        for k in (1, 2)
    ]
    close(torch.sigmoid(network("s2m")(torch.stack(inputs))), data["ctrl_prob"], **SMALL)


def shared_flops(run: Callable[[int], object]) -> int:
    """Floating-point operations of `run(objects)` that do not depend on the number of objects."""
    counts = []
    for objects in (1, 2):
        with FlopCounterMode(display=False) as counter:
            run(objects)
        counts.append(counter.get_total_flops())
    return 2 * counts[0] - counts[1]


@pytest.mark.parametrize("name", ["propagation", "propagation_stcn", "fusion"])
def test_what_the_image_determines_is_computed_once(name: str) -> None:
    def convolutions(count: int, inputs: int, outputs: int, positions: int, size: int = 3) -> int:
        return 2 * count * inputs * outputs * positions * size**2

    with torch.device("meta"):
        net, frame = NETWORKS[name]().eval(), torch.zeros(1, 3, 32, 48)
        masks = {k: torch.zeros(k, 1, 32, 48) for k in (1, 2)}
        if name == "fusion":
            fuse = lambda k: net(frame, masks[k], masks[k], masks[k].repeat(1, 2, 1, 1), torch.zeros(k, 2))  # noqa: E731
            assert shared_flops(fuse) == convolutions(1, 3, 32, 32 * 48)
            return
        query, blocks = net.encode_key(frame), 3 if name == "propagation" else 1
        skips = convolutions(blocks, 512, 512, 24) + convolutions(blocks, 256, 256, 96)
        decode = shared_flops(lambda k: net.decode(torch.zeros(k, 512, 2, 3), query, masks[k]))
        assert decode == skips + convolutions(2, 512, 512, 6)
        fuser = 0 if name == "propagation" else convolutions(2, 1024, 512, 6)
        encode = shared_flops(lambda k: net.encode_memory(frame, query, masks[k], masks[k]))
        assert encode == fuser + convolutions(1, 3, 64, 16 * 24, size=7)


def test_fusion(golden: Path) -> None:
    data, net = load(golden / "fusion_forward.npz"), network("fusion")
    seg1, seg2 = (data[key][None, None].float() / 255 for key in ("seg1", "seg2"))
    attention = F.interpolate(data["attn_lowres"][None].float() / 255, size=(96, 128), mode="bilinear")
    frame, time = image(data["frame"]), data["time"]
    close(net(frame, seg1, seg2, attention, time), data["logits"], **LOGITS)
    pair = [x.repeat(2, *[1] * (x.dim() - 1)) for x in (seg1, seg2, attention)]
    both = net(frame, *pair, torch.cat([time, time.flip(1)]))  # two objects share one image
    close(both[:1], data["logits"], **LOGITS)
    close(both[1:], data["logits_time_swapped"], **LOGITS)


@pytest.mark.parametrize("name", ["s2m", "propagation", "propagation_stcn"])
def test_folding_changes_nothing(name: str) -> None:
    net, folded = network(name), copy.deepcopy(network(name))
    assert fold_batch_norm(folded) is folded
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    g = torch.Generator().manual_seed(2)
    if name == "s2m":
        x = torch.randn(1, 6, 64, 96, generator=g)
        pairs = [(net(x), folded(x))]
    else:
        picture, masks = torch.randn(1, 3, 64, 96, generator=g), torch.rand(2, 1, 64, 96, generator=g)
        query, other = net.encode_key(picture), folded.encode_key(picture)
        pairs = [(query.key, other.key), *zip(query.features, other.features, strict=True)]
        memory = (n.encode_memory(picture, q, masks, others(masks)) for n, q in ((net, query), (folded, other)))
        pairs += zip(*memory, strict=True)
        readout = torch.randn(2, 512, 4, 6, generator=g)
        pairs.append((net.decode(readout, query, masks), folded.decode(readout, other, masks)))
    for wanted, got in pairs:
        assert float((got - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())


def test_folding_wants_eval_mode_and_a_convolution() -> None:
    with pytest.raises(ValueError, match="eval mode"):
        fold_batch_norm(ResNet(BasicBlock, (1, 1, 1)))
    with pytest.raises(ValueError, match="follows no convolution"):
        fold_batch_norm(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)).eval())


def test_loading_is_strict() -> None:
    state = synthetic_state("fusion", network("fusion"))
    state["conv9.weight"] = state.pop("conv1.0.bias")
    with pytest.raises(RuntimeError, match="conv1.0.bias"):
        NETWORKS["fusion"]().load_state_dict(state)
