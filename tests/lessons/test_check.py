"""How answers are judged that are functions. Kernels: test_check_kernels.py; the exercises: test_exercises.py."""

import time

import pytest
import torch

from mrcnn import lab
from mrcnn.lab.check import Exercise, check, exercise, verdict
from mrcnn.lab.check import judge as judge_module

X = torch.arange(6.0).view(2, 3)


@exercise(
    cases=lambda: [(X,)],
    truth=lambda x: 2 * x,
    mistakes={"x + x ⇒ x * x": "this is the square: 2 * x was asked for", "x + x ⇒ x + int('x')": "x is no number yet"},
    hints=["?", "+", "x + x"],
)
def twice(x):
    """Twice x."""
    # A comment is no line.
    return x + x


def stub(x):
    """Twice x."""
    ...


def no_return(x):
    y = 2 * x  # noqa: F841


def in_place(x):
    return x.mul_(2)


def raises(x):
    y = x + 1
    return y[7]


def too_far(x):
    return x[:, 5]


def endless(x):
    while True:
        x = x + 1


RAISED_AT = raises.__code__.co_firstlineno + 2


def test_what_comes_from_a_record():
    assert twice.solution == 'def twice(x):\n    """Twice x."""\n    # A comment is no line.\n    return x + x'
    assert twice.stub == 'def twice(x):\n    """Twice x."""\n    ...  # your code, about 1 line'
    assert twice.mutants[0].endswith("return x * x")
    assert torch.equal(twice(X), 2 * X)
    missing = Exercise(twice.function, twice.cases, twice.truth, mistakes={"y ⇒ z": "no y"})
    with pytest.raises(ValueError, match="a mistake changes 'y', which is not in the solution"):
        missing.mutants  # noqa: B018


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (stub, "not written", "not written yet."),
        (..., "not written", "not written yet."),
        (None, "not written", "not written yet."),
        (lambda x: 2 * x, "right", ""),
        (no_return, "wrong", "it returns None. Is a `return` missing?"),
        (lambda x: x**2, "wrong", "this is the square"),
        (lambda x: x, "wrong", "5 of 6 values differ; the first, at [0, 1], is 1, expected 2"),
        (lambda x: 2 * x.T, "wrong", "expected shape (2, 3), got (3, 2)"),
        (lambda x: [2 * x], "wrong", "expected a tensor of shape (2, 3), got a list of 1"),
        (in_place, "wrong", "it changes `x` in place"),
        (raises, "wrong", f"it raised IndexError at your line {RAISED_AT}: "),
        (lambda: 3, "wrong", "it raised TypeError"),
        (3, "wrong", "expected a function, got int"),
    ],
)
def test_verdicts(answer, status, says):
    told, message = verdict(twice, answer)
    assert told == status
    assert message.startswith(says)
    assert torch.equal(X, torch.arange(6.0).view(2, 3))


@exercise(cases=lambda: [(X, 1), (X, 3)], truth=lambda x, n: n * x)
def times(x, n):
    """n times x."""
    return n * x


ROW = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])]


@exercise(cases=lambda: [(ROW, 2.0), ({"x": ROW[0]}, 3.0)], truth=lambda row, by: doubled.function(row, by))
def doubled(row, by):
    """Each of them, by so much."""
    return {name: each * by for name, each in row.items()} if isinstance(row, dict) else [each * by for each in row]


def test_tensors_in_a_list_or_a_dict_stay_as_they_are():
    """Or the next answer would be judged by what this one left behind."""

    def within(row, by):
        for each in row.values() if isinstance(row, dict) else row:
            each.mul_(by)
        return row

    def shrinks(row, by):
        while row:
            row.popitem() if isinstance(row, dict) else row.pop().zero_()
        return row[0]

    for answer, says in ((within, "it changes `row` in place"), (shrinks, "it raised IndexError"), (within, "it cha")):
        status, message = verdict(doubled, answer)
        assert (status, message[: len(says)]) == ("wrong", says)
        assert verdict(doubled, doubled.function) == ("right", "")
    assert [each.tolist() for each in ROW] == [[1, 2], [3]]


def test_what_backward_leaves_in_a_list_is_taken_away():
    """Or a mistake that adds to it would not behave as the answer that made the same mistake."""
    weight = torch.ones(2, requires_grad=True)

    @exercise(
        cases=lambda: [([weight],)],
        truth=lambda weights: torch.tensor([[2.0, 2], [3, 3]]),
        mistakes={"[0].grad = None ⇒ [0]": "gradients add up"},
    )
    def slopes(weights):
        """Those of two losses."""
        rows = []
        for factor in (2, 3):
            weights[0].grad = None
            (factor * weights[0].sum()).backward()
            rows.append(weights[0].grad.clone())
        return torch.stack(rows)

    def adds_up(weights):
        rows = []
        for factor in (2, 3):
            (factor * weights[0].sum()).backward()
            rows.append(weights[0].grad.clone())
        return torch.stack(rows)

    for answer, said in ((adds_up, ("wrong", "gradients add up")), (slopes.function, ("right", ""))):
        assert verdict(slopes, answer) == said
        assert weight.grad is None


def test_the_case_that_goes_wrong_is_named():
    says = "5 of 6 values differ; the first, at [0, 1], is 1, expected 3 (with n = 3)"
    assert verdict(times, lambda x, n: x) == ("wrong", says)


def test_an_answer_that_goes_wrong_as_a_mistake_does_gets_its_sentence():
    """Also where both raise an error: of the same kind, but with another text."""
    record = Exercise(
        twice.function, twice.cases, twice.truth, mistakes={"x + x ⇒ x[:, 9]": "there are 3 columns"}, hints=()
    )
    assert verdict(record, too_far) == ("wrong", "there are 3 columns")


def test_yes_and_no_as_numbers_get_no_tick():
    """What comes next may count on it: `dropped |= table[i]` goes wrong with floats."""

    @exercise(cases=lambda: [(torch.arange(4.0),)], truth=lambda x: x > 1)
    def above(x):
        """Whether each is above 1."""
        return x > 1

    assert verdict(above, lambda x: x > 1) == ("right", "")
    for answer in (lambda x: (x > 1).float(), lambda x: (x > 1).int()):
        status, said = verdict(above, answer)
        assert status == "wrong"
        assert said.startswith("right, but of type torch.")


def test_what_a_training_learns_from_must_let_the_gradient_through():
    """Where an argument asks for a gradient. Otherwise the cell that trains with the answer fails, after a tick."""
    asked = torch.arange(1.0, 4).requires_grad_()

    def losses(x, y):
        """The sum of x, and that of y."""
        return x.sum(), y.sum()

    record = Exercise(losses, cases=lambda: [(asked, torch.ones(2))], truth=losses)
    assert verdict(record, lambda x, y: (x.sum(), y.sum())) == ("right", "")
    assert verdict(record, lambda x, y: (x.sum(), y.sum().item())) == ("right", "")  # y asks for none
    says = "right, but cut off from what it was computed from: no gradient can go back"
    for cut in (torch.Tensor.item, torch.Tensor.detach, lambda total: torch.tensor(total.item())):
        status, said = verdict(record, lambda x, y, cut=cut: (cut(x.sum()), y.sum()))
        assert status == "wrong"
        assert said.startswith(says)
    assert verdict(record, lambda x, y: (x.sum().item() + 1, y.sum()))[1].startswith("result number 1 of 2: it is 7")
    calm = Exercise(losses, cases=lambda: [(asked.detach(), torch.ones(2))], truth=losses)
    assert verdict(calm, lambda x, y: (x.sum().item(), y.sum())) == ("right", "")


def test_of_two_results_too_each_must_be_of_its_type():
    """With cells as floats, or yes and no as numbers, the next cell of lesson 10 fails, which indexes by them."""

    @exercise(cases=lambda: [(torch.arange(4.0),)], truth=lambda x: (x.long(), x > 1))
    def whole(x):
        """Each as a whole number, int64, and whether it is above 1, bool."""
        return x.long(), x > 1

    @exercise(cases=lambda: [(torch.arange(4.0),)], truth=lambda x: (x.long(), x > 1))
    def any_number(x):
        """Each as a number, and whether it is above 1."""
        return x.long(), x > 1

    says = "result number {} of 2: right, but of type torch.float32: "
    assert verdict(whole, lambda x: [x.long(), x > 1]) == ("right", "")
    for answer, told in ((lambda x: (x, x > 1), says.format(1)), (lambda x: (x.long(), (x > 1) * 1.0), says.format(2))):
        status, said = verdict(whole, answer)
        assert status == "wrong"
        assert said.startswith(told)
    assert verdict(any_number, lambda x: (x, x > 1)) == ("right", "")  # its text asks for no type


def test_bytes_are_asked_for_by_the_stub():
    @exercise(cases=lambda: [(torch.arange(4.0),)], truth=lambda x: x.to(torch.uint8))
    def grey(x):
        """As bytes, uint8."""
        return x.to(torch.uint8)

    assert verdict(grey, lambda x: x.byte()) == ("right", "")
    says = "right, but of type torch.float32: what comes next needs torch.uint8, say by `.to(torch.uint8)`"
    assert verdict(grey, lambda x: x) == ("wrong", says)


def test_what_an_answer_does_to_a_model_is_seen():
    """Not only what it says of it."""
    learn = lambda result, model: {"weight": int(model.weight.requires_grad), "what is returned": result}  # noqa: E731

    @exercise(
        cases=lambda: [(torch.nn.Linear(2, 3, bias=False),)],
        truth=lambda model: {"weight": 0, "what is returned": 6},
        seen=learn,
        mistakes={"requires_grad_(False) ⇒ requires_grad_(True)": "it still learns"},
    )
    def freeze(model):
        """Freeze it; how many numbers?"""
        model.requires_grad_(False)
        return model.weight.numel()

    def too_few(model):
        return freeze(model) - 1

    for answer, says in (
        (lambda model: freeze(model), ("right", "")),
        (lambda model: model.weight.numel(), ("wrong", "it still learns")),
        (too_few, ("wrong", "what is returned: it is 5, expected 6")),
        (lambda model: print(end=""), ("wrong", "it returns None. Is a `return` missing?")),
        (lambda model: model.wait, ("wrong", "AttributeError")),
    ):
        status, said = verdict(freeze, answer)
        assert (status, says[1] in said) == (says[0], True)


def test_an_endless_loop_ends(monkeypatch):
    monkeypatch.setattr(judge_module, "SECONDS", 0.2)
    start = time.monotonic()
    assert verdict(twice, endless) == ("wrong", "it had not ended after 0.2 seconds: does a loop never end?")
    assert time.monotonic() - start < 60


def test_check_says_the_same_when_it_is_run_again(capsys):
    for answer, says, whose in (
        (lambda x: 2 * x, "✓ twice: right. The lesson goes on with yours.\n", "yours"),
        (stub, "· twice: not written yet.\n  The lesson goes on with its own version.\n", "the lesson's"),
        (in_place, None, "the lesson's"),
    ):
        first = check(twice, answer)
        told = capsys.readouterr().out
        again = check(twice, first)
        assert capsys.readouterr().out == told
        assert says in (told, None)
        assert lab.whose(first) == lab.whose(again) == whose
        assert torch.equal(again(X), 2 * X)
