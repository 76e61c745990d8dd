"""The box over a map, in a browser: its numbers against torchvision's, by pointer and keys."""

import pytest
import torch
from test_box_dragger_browser import drag
from touch_page import Touched, write_page

from mrcnn import lab

BOX = torch.tensor([1.5, 2.0, 6.3, 7.1])
CASES = 24


def random_case(number):
    """A map of 5 … 12 cells a side, a box on it whose corners are multiples of a tenth, bins and samples."""
    random = torch.Generator().manual_seed(number)
    height, width, bins, samples = (
        int(torch.randint(low, high, (), generator=random)) for low, high in ((5, 13), (5, 13), (1, 6), (1, 4))
    )
    values = (torch.rand(height, width, generator=random) * 100 - 50).round(decimals=2)
    corner = torch.rand(2, generator=random) * torch.tensor([width - 1.0, height - 1.0])
    side = 0.6 + torch.rand(2, generator=random) * (torch.tensor([width, height]) - corner - 0.6)
    box = torch.cat([corner, torch.minimum(corner + side, torch.tensor([width, height]))])
    if number == 0:  # without the half pixel some samples are more than a cell outside
        box, samples = torch.tensor([width - 0.5, height - 0.5, width, height]), 3
    return values, (box * 10).floor() / 10, bins, samples


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with one map that counts its cells, and one of a single row of values."""
    counting = lab.roi_dragger(torch.arange(90.0).view(9, 10), BOX, title="Ninety cells")
    return write_page(tmp_path_factory.mktemp("roi_dragger"), counting, counting)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    views = [lab.roi_dragger(*random_case(number)) for number in range(CASES)]
    return write_page(tmp_path_factory.mktemp("many"), *views)


class Dragger(Touched):
    def press(self, selector, *keys):
        for key in keys:
            self.one(selector).send_keys(key)

    def numbers(self, selector, attribute):
        script = (
            "return [...arguments[0].querySelectorAll(arguments[1])].map((e) => Number(e.getAttribute(arguments[2])))"
        )
        return torch.tensor(self.driver.execute_script(script, self.root, selector, attribute), dtype=torch.float64)

    def grid(self, name):
        return self.numbers(f'[data-grid="{name}"] [data-bin]', "data-value")

    @property
    def weights(self):
        return self.numbers(".cell", "data-weight")

    @property
    def box(self):
        x, y, width, height = (self.numbers("rect.handle", name).item() for name in ("x", "y", "width", "height"))
        return torch.tensor([x, y, x + width, y + height])


def align(values, box, bins, samples, aligned=True):
    """torchvision's, with the gradient of the sum of its outputs, and that of each of them."""
    theirs = pytest.importorskip("torchvision.ops", reason="torchvision, the yardstick, is not installed")
    values = values.double().requires_grad_()
    roi = torch.cat([torch.zeros(1), box])[None].double()
    pooled = theirs.roi_align(values[None, None], roi, bins, 1.0, samples, aligned)[0, 0]
    (whole,) = torch.autograd.grad(pooled.sum(), values, retain_graph=True)
    (first,) = torch.autograd.grad(pooled[0, 0], values)
    return pooled.detach().flatten(), whole.flatten(), first.flatten()


def pool(values, box, bins):
    theirs = pytest.importorskip("torchvision.ops", reason="torchvision, the yardstick, is not installed")
    roi = torch.cat([torch.zeros(1), box])[None]
    return theirs.roi_pool(values[None, None], roi, bins)[0, 0].double().flatten()


def test_random_maps_and_boxes_give_torchvisions_numbers(chromium, many):
    chromium.get(many)
    for number in range(CASES):
        values, box, bins, samples = random_case(number)
        view = Dragger(chromium, number)
        pooled, whole, first = align(values, box, bins, samples)
        torch.testing.assert_close(view.grid("RoIAlign"), pooled, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(view.grid("RoIPool"), pool(values, box, bins), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(view.weights, first, rtol=1e-5, atol=1e-6)
        view.click("gradient")
        torch.testing.assert_close(view.weights, whole, rtol=1e-5, atol=1e-6)
        view.click("half pixel")
        pooled, whole, _ = align(values, box, bins, samples, aligned=False)
        torch.testing.assert_close(view.grid("RoIAlign"), pooled, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(view.weights, whole, rtol=1e-5, atol=1e-6)
    assert [log for log in chromium.get_log("browser") if "favicon" not in log["message"]] == []


def test_keys_move_the_box_and_choose_a_bin(chromium, page):
    from selenium.webdriver import Keys

    chromium.get(page)
    first = Dragger(chromium, 0)
    values = torch.arange(90.0).view(9, 10)
    first.press('[data-handle="whole box"]', Keys.ARROW_RIGHT, Keys.SHIFT + Keys.ARROW_DOWN)
    box = BOX + torch.tensor([0.1, 1, 0.1, 1])
    assert first.box.tolist() == pytest.approx(box.tolist())
    torch.testing.assert_close(first.grid("RoIAlign"), align(values, box, 3, 2)[0], rtol=1e-5, atol=1e-5)
    assert first.says.startswith("The box goes from (1.6, 3) to (6.4, 8.1), in cells. Bin in row 1, column 1: ")
    first.press('[data-grid="RoIPool"]', Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert "Bin in row 3, column 2: " in first.says
    assert f"RoIPool {pool(values, box, 3)[7]:g}, the largest of" in first.says
    first.press('[data-handle="bottom right corner"]', *[Keys.SHIFT + Keys.ARROW_RIGHT] * 5)
    assert first.box[2] == 10, "not over the edge"
    assert Dragger(chromium, 1).box.tolist() == pytest.approx(BOX.tolist()), "the other stands where it stood"
    first.click("start again")
    assert first.box.tolist() == pytest.approx(BOX.tolist())


def test_pointer(chromium, page):
    chromium.get(page)
    first = Dragger(chromium, 0)
    cell = chromium.execute_script("return arguments[0].getScreenCTM().a", first.one("rect.handle"))
    drag(chromium, first.one('[data-handle="whole box"]'), round(cell), round(-cell))
    assert first.box.tolist() == pytest.approx((BOX + torch.tensor([1.0, -1, 1, -1])).tolist(), abs=0.11)
    assert (first.box * 10).round().tolist() == pytest.approx((first.box * 10).tolist()), "in tenths of a cell"
    first.one('[data-grid="RoIAlign"] [data-bin="1 2"]').click()
    assert "Bin in row 2, column 3: " in first.says


def test_what_it_is_made_of():
    view = lab.roi_dragger(torch.arange(30.0).view(5, 6), torch.tensor([1.0, 1, 4, 4]), bins=2)
    # Cells hold 6 · row + column; the bins' middles are 1.75 and 3.25, half a cell less in the tensor's coordinates.
    assert view.description.endswith("row by row: 8.75, 10.2; 17.8, 19.2.")
    with pytest.raises(ValueError, match="the box must lie on the map, 6 x 5 cells"):
        lab.roi_dragger(torch.zeros(5, 6), torch.tensor([1.0, 1, 7, 4]))
