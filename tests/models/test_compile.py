"""`torch.compile` of the whole model: the same answers, and one graph where its lengths may depend on values.

The graph is run by "aot_eager", which computes with the same kernels, and by inductor, which writes its own: only the
order of sums differs.
"""

import pytest
import torch
from torch._inductor import config as inductor

import mrcnn
from mrcnn.data import Playground

# By default torch.compile ends a graph at each operator whose result's length depends on values: nonzero and NMS.
WHOLE = {"capture_scalar_outputs": True, "capture_dynamic_output_shape_ops": True}


@pytest.fixture(autouse=True)
def _afresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def scenes(count):
    images, targets = zip(*(Playground(count, seed=5)[index] for index in range(count)), strict=True)
    seeded = [{**target, "seed": place} for place, target in enumerate(targets)]
    return [image.float() / 255 for image in images], seeded


@pytest.mark.parametrize(("backend", "batches"), [("aot_eager", 3), ("inductor", 2)])
def test_evaluation_is_one_graph_with_the_models_answers(backend, batches):
    """The third batch, of two pictures, is a second compilation, for which inductor takes a minute."""
    model = mrcnn.playground_rcnn(pretrained=True)
    with torch._dynamo.config.patch(WHOLE), inductor.patch(layout_optimization=False), torch.no_grad():
        compiled = torch.compile(model, backend=backend, fullgraph=True)  # raises where there is a second graph
        images, _ = scenes(4)
        for batch in (images[:1], images[1:2], [images[2], images[3][:, :90, :70]])[:batches]:
            for expected, found in zip(model(batch), compiled(batch), strict=True):
                assert len(expected["boxes"]) >= 1
                assert found.keys() == expected.keys()
                for name, value in expected.items():
                    torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)


def test_without_further_settings_graphs_end_where_lengths_depend_on_values():
    model = mrcnn.playground_rcnn(pretrained=True)
    (image, *_), _ = scenes(1)
    with torch.no_grad():
        told = torch._dynamo.explain(model)([image])
    reasons = {str(each.reason).split("Developer debug context: ")[-1].split()[0] for each in told.break_reasons}
    assert reasons == {"aten.nonzero.default", "mrcnn.nms.default"}


def test_training_has_the_models_losses_and_gradients():
    model = mrcnn.playground_rcnn(pretrained=True).train()
    images, targets = scenes(2)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected, gradients = step(model, model, images, targets)
    model.load_state_dict(state)  # batch norm's statistics have moved
    found, others = step(torch.compile(model, backend="aot_eager"), model, images, targets)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    for name, value in gradients.items():  # that of a bias before a softmax is 0 but for rounding: hence 1e-7
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-4 * value.abs().max().item() + 1e-7)


def step(call, model, images, targets):
    """The losses, and the gradient of their sum by each parameter."""
    model.zero_grad()
    losses = call(images, targets)
    sum(losses.values()).backward()
    return {name: each.detach() for name, each in losses.items()}, {
        name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None
    }
