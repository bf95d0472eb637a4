"""The fast convolution gives what PyTorch's gives, for every shape, and stays out of the way elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipelines.networks import winograd
from pipelines.networks.blocks import conv, conv3x3

pytest.importorskip("numba")


def prepared(inputs: int, outputs: int) -> nn.Conv2d:
    torch.manual_seed(0)
    module = conv3x3(inputs, outputs)
    assert winograd.suits(module)
    winograd.attach(module)
    return module


@pytest.mark.parametrize(("inputs", "outputs", "tile"), [(128, 128, 6), (640, 512, 4)])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (12, 24), (31, 54)])
@pytest.mark.parametrize("images", [1, 2])
def test_it_equals_the_direct_convolution(
    inputs: int, outputs: int, tile: int, size: tuple[int, int], images: int
) -> None:
    module = prepared(inputs, outputs)
    assert module.__dict__[winograd.FAST].tile == tile
    x, add = torch.randn(images, inputs, *size), torch.randn(images, outputs, *size)
    with torch.inference_mode():
        for relu in (False, True):
            wanted = F.conv2d(
                (x.relu() if relu else x).double(), module.weight.double(), module.bias.double(), padding=1
            )
            with winograd.enabled():
                got = conv(module, x, relu=relu)
                added = conv(module, x, relu=relu, add=add)
            assert not torch.equal(got, conv(module, x, relu=relu)) or size == (1, 1)  # it was really taken
            torch.testing.assert_close(got.double(), wanted, atol=1e-4 * float(wanted.std()), rtol=0)
            torch.testing.assert_close(added, got + add, atol=1e-5, rtol=1e-5)


def test_rows_of_tiles_in_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = prepared(128, 192), torch.randn(2, 128, 40, 33)
    with torch.inference_mode(), winograd.enabled():
        whole = conv(module, x)
        monkeypatch.setattr(winograd, "WORK_BYTES", 1)
        torch.testing.assert_close(conv(module, x), whole, atol=1e-5, rtol=1e-5)


def test_slices_of_the_inputs_add_up() -> None:
    module, x = prepared(256, 128), torch.randn(1, 256, 14, 18)
    with torch.inference_mode(), winograd.enabled():
        first, rest = conv(module, x[:, :192], slice(0, 192)), conv(module, x[:, 192:], slice(192, None))
        torch.testing.assert_close(first + rest, conv(module, x), atol=1e-4, rtol=0)


def test_it_is_not_taken_where_it_must_not() -> None:
    module, x = prepared(128, 128), torch.randn(1, 128, 8, 8)
    direct = F.conv2d(x, module.weight, module.bias, padding=1)
    assert torch.equal(conv(module, x), direct)  # not enabled
    with winograd.enabled():
        assert conv(module, x).requires_grad  # gradients wanted
        with torch.inference_mode():
            assert conv(module, x.double().float()).dtype == torch.float32
            assert not winograd.applies(x.bfloat16())
    assert not winograd.suits(nn.Conv2d(128, 128, 3, stride=2, padding=1))
    assert not winograd.suits(nn.Conv2d(128, 128, 3, padding=2, dilation=2))
    assert not winograd.suits(nn.Conv2d(128, 128, 1))
    assert not winograd.suits(nn.Conv2d(64, 64, 3, padding=1))
