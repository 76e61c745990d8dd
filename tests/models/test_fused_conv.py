"""Convolutions in one pass against torch's own modules, one after the other, in every order of calls."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import mrcnn
from mrcnn import fused_conv, processor
from mrcnn.layers import ConvNorm, FrozenBatchNorm2d, convolve, fully_connected

NORMS = {"none": None, "frozen": FrozenBatchNorm2d, "trainable": nn.BatchNorm2d}
X = torch.randn(2, 16, 13, 9, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


def block(norm: type | None = FrozenBatchNorm2d) -> ConvNorm:
    """A convolution and a norm whose statistics are none of the usual 0 and 1, in evaluation mode."""
    torch.manual_seed(1)
    made = ConvNorm(16, 16, 3, norm)
    for name, tensor in made.state_dict().items():
        if norm is not None and name.startswith("1.") and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return made.eval()


def plainly(made: ConvNorm, x: torch.Tensor, plus: torch.Tensor | None = None) -> torch.Tensor:
    """The same in float64, by functions that this package has no part in."""
    conv, *norms = made
    bias = None if conv.bias is None else conv.bias.double()
    y = F.conv2d(x.double(), conv.weight.double(), bias, conv.stride, conv.padding, conv.dilation)
    for norm in norms:
        statistics = (tensor.double() for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
        y = F.batch_norm(y, *statistics, eps=norm.eps)
    return F.relu(y if plus is None else y + plus.double())


def assert_right(made: ConvNorm, plus: torch.Tensor | None = None) -> None:
    with torch.no_grad():
        found = made(X, None if plus is None else plus.clone())
        torch.testing.assert_close(found, plainly(made, X, plus).float(), rtol=1e-4, atol=1e-4)


def kept(module: nn.Module) -> int:
    return sum(layer in fused_conv._kept for layer in module.modules())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("added", [False, True])
def test_it_is_the_modules_one_after_the_other(norm, added):
    made = block(NORMS[norm])
    assert_right(made, torch.randn(2, 16, 13, 9) if added else None)
    assert kept(made) == 1


@pytest.mark.parametrize("shape", [(1, 16, 50, 70), (7, 16, 3, 3), (2, 16, 1, 1)])
def test_kept_weights_fit_maps_of_any_size(shape):
    made = block()
    assert_right(made)
    x = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(made(x), plainly(made, x).float(), rtol=1e-4, atol=1e-4)


# What may happen between two predictions


def step_of_fused_adamw(made):
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.1, fused=True)
    made(X).sum().backward()
    optimizer.step()


def change_data(made):
    made[0].weight.data.mul_(1.5)


def change_one_number(made):
    made[0].weight.data[3, 2, 1, 1] += 0.5


def change_order(made):
    made[0].weight.data.copy_(made[0].weight.detach().flip(1))


def change_statistics(made):
    made[-1].state_dict()["bias"].data.add_(1)


def change_eps(made):
    made[-1].eps = 0.5


def load(made):
    made.load_state_dict({name: tensor * 2 for name, tensor in made.state_dict().items()})


def give_other_storage(made):
    made[0].weight.data = torch.randn_like(made[0].weight)


CHANGES = (
    step_of_fused_adamw,
    change_data,
    change_one_number,
    change_order,
    change_statistics,
    change_eps,
    load,
    give_other_storage,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("norm", ["none", "frozen"])
def test_no_change_goes_unseen(norm, change):
    if norm == "none" and change is change_eps:
        return  # without a norm there is no eps
    made = block(NORMS[norm])
    assert_right(made)
    before = made(X).detach()
    change(made)
    assert_right(made)
    with torch.no_grad():
        assert not torch.allclose(made(X), before, atol=1e-3), "the change was none"


def test_forward_mode_differentiation_goes_past_it():
    """A tangent flows through the plain layers: against a finite difference of a map that is linear but for ReLU."""
    made, along = block().double(), torch.randn(X.shape, dtype=torch.float64)
    made.requires_grad_(False)
    _, tangent = torch.func.jvp(made, (X.double(),), (along,))
    step = 1e-6
    difference = (made(X.double() + step * along) - made(X.double() - step * along)) / (2 * step)
    assert tangent.abs().max() > 0.1
    torch.testing.assert_close(tangent, difference, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        _, in_float32 = torch.func.jvp(made.float(), (X,), (along.float(),))
    torch.testing.assert_close(in_float32.double(), tangent, rtol=1e-3, atol=1e-3)


def test_an_ensemble_by_vmap_goes_past_it():
    models = [block(), block()]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(0.5)
        expected = torch.stack([model(X) for model in models])
        weights, buffers = torch.func.stack_module_state(models)
        found = torch.vmap(lambda w, b: torch.func.functional_call(models[0], (w, b), (X,)))(weights, buffers)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # another order of float32 sums


def test_a_change_is_seen_in_bfloat16_too():
    made = block().bfloat16()
    x = X.bfloat16()
    with torch.no_grad():
        before = made(x)
        change_data(made)
        torch.testing.assert_close(made(x).double(), plainly(made, x), rtol=0.05, atol=0.05)
    assert not torch.equal(made(x), before)


def test_what_is_kept_belongs_to_no_copy():
    made = block()
    size = len(pickle.dumps(made))
    with torch.no_grad():
        made(X)
    assert kept(made) == 1
    assert len(pickle.dumps(made)) == size
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert kept(other) == 0
        change_data(other)
        assert_right(other)
    assert_right(made)


@pytest.mark.parametrize(
    "event",
    [
        lambda model: model.train(),
        lambda model: model.load_state_dict(model.state_dict()),
        lambda model: model.double(),
        lambda model: model.to(memory_format=torch.channels_last),
    ],
    ids=["train", "load", "cast", "layout"],
)
def test_the_model_lets_go_of_what_is_kept(event):
    model = mrcnn.playground_rcnn().eval()
    with torch.no_grad():
        model([torch.rand(3, 64, 64)])
    assert kept(model) > 20
    event(model)
    assert kept(model) == 0


def test_what_is_kept_goes_with_its_layer():
    made = block()
    assert_right(made)
    before = len(fused_conv._kept)
    del made
    assert len(fused_conv._kept) == before - 1


def test_a_model_made_in_inference_mode():
    with torch.inference_mode():
        made = block()
        inside = made(X)
    torch.testing.assert_close(inside, plainly(made, X).float(), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(made(X), inside)


def test_weights_kept_in_inference_mode_serve_outside_it():
    made = block()
    with torch.inference_mode():
        made(X)
    assert_right(made)


def test_what_is_kept_carries_no_graph():
    """Kept before the layer was frozen, used afterwards with gradients on: nobody asks for one."""
    made = block()
    assert_right(made)
    made.requires_grad_(False)
    assert kept(made) == 1
    assert not made(X).requires_grad
    assert not fused_conv._kept[made[0]].weight.requires_grad


# Where it stands aside


@pytest.mark.parametrize("place", [0, 1], ids=["convolution", "norm"])
def test_hooks_run_and_see_what_they_should(place):
    made, seen = block(), {}
    made[place].register_forward_hook(lambda module, inputs, output: seen.update(y=output))
    made[place].register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    plus = torch.randn(2, 16, 13, 9)
    assert_right(made, plus)
    with torch.no_grad():
        torch.testing.assert_close(seen["y"], made[place](seen["x"]), msg="the map was changed after the hook saw it")


def test_a_hook_on_a_fully_connected_layer():
    layer, seen = nn.Linear(16 * 13 * 9, 5), []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        torch.testing.assert_close(fully_connected(X, layer), F.relu(F.linear(X.flatten(1), layer.weight, layer.bias)))
    assert len(seen) == 1


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(16, 16, 3, padding="same"), nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect")],
    ids=["same", "reflect"],
)
def test_any_other_padding_is_the_modules(conv):
    with torch.no_grad():
        torch.testing.assert_close(convolve(X, conv, relu=True), F.relu(conv(X)))


@pytest.mark.parametrize("norm", [nn.GroupNorm(4, 16), nn.Identity(), nn.BatchNorm2d(16, track_running_stats=False)])
def test_any_other_norm_is_called(norm):
    conv = nn.Conv2d(16, 16, 3)
    with torch.no_grad():
        torch.testing.assert_close(convolve(X, conv, norm.eval()), norm(conv(X)))


def test_torch_compile_and_export_see_plain_layers():
    made = block()
    with torch.no_grad():
        expected = made(X)
        compiled = torch.compile(made, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(X), expected, rtol=1e-4, atol=1e-4)
        for strict in (True, False):
            exported = torch.export.export(made, (X,), strict=strict).module()
            torch.testing.assert_close(exported(X), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_who_writes_down_what_is_computed_sees_plain_layers():
    made = block()
    expected = plainly(made, X).float()
    traced = torch.jit.trace(made, X, check_trace=False)  # which would call it once more, untraced
    torch.testing.assert_close(traced(X), expected, rtol=1e-4, atol=1e-4)
    graph = make_fx(made)(X)
    torch.testing.assert_close(graph(X), expected, rtol=1e-4, atol=1e-4)
    assert "aten.convolution" in graph.code
    with FlopCounterMode(display=False) as counter:
        made(X)
    assert counter.get_total_flops() == 2 * expected.numel() * 16 * 9  # to multiply and to add
    assert kept(made) == 0


@pytest.mark.parametrize("name", ["padding", "stride", "dilation"])
def test_one_number_for_both_sides(name):
    """torch's constructor makes a pair of it; who sets it afterwards need not."""
    made = block()
    setattr(made[0], name, 2)
    with torch.no_grad():
        torch.testing.assert_close(made(X), plainly(made, X).float(), rtol=1e-4, atol=1e-4)


def test_the_switch():
    made = block()
    with fused_conv.use_fused_conv(False):
        assert_right(made)
    assert kept(made) == 0
    environment = {**os.environ, "MRCNN_FUSED_CONV": "perhaps"}
    command = [sys.executable, "-c", "import mrcnn.fused_conv"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "MRCNN_FUSED_CONV in the environment must be 0 or 1; got 'perhaps'" in run.stderr


# Nothing to compute


def test_no_regions():
    assert fully_connected(torch.zeros(0, 3, 7, 7), nn.Linear(147, 5)).shape == (0, 5)


# A processor without AVX-512: torch and oneDNN keep to AVX2 in a process of its own

WITHOUT_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
PREDICT = """
import torch, mrcnn
from mrcnn.processor import multiplies_bfloat16
assert not multiplies_bfloat16()
model = mrcnn.playground_rcnn(pretrained=True)
picture = [mrcnn.data.Playground(1, seed=1)[0][0]]
pixels = torch.rand(1, 3, 64, 64)
with torch.no_grad():
    expected, maps = model(picture)[0], model.backbone(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        found, half = model(picture)[0], model.backbone(pixels)
assert len(expected["boxes"]) > 0
for name, value in expected.items():
    torch.testing.assert_close(found[name], value)  # float32 throughout: the same numbers
for one, other in zip(maps, half):
    assert other.dtype == torch.bfloat16, other.dtype
    torch.testing.assert_close(other.float(), one, rtol=0.05, atol=0.05)
"""


def test_bfloat16_without_avx512():
    run = subprocess.run(
        [sys.executable, "-c", PREDICT], env={**os.environ, **WITHOUT_AVX512}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("has", [False, True])
def test_a_slow_autocast_is_left(monkeypatch, dtype, has):
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: has)
    forward = processor.without_slow_autocast(lambda x: x @ x)
    with torch.autocast("cpu", dtype):
        assert forward(torch.eye(3)).dtype == (dtype if has and dtype == torch.bfloat16 else torch.float32)
