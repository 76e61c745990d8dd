"""Many losses, one network: what the learner writes."""

import statistics

import torch
import torch.nn.functional as F
from torch import Tensor

from mrcnn.lab.check import exercise
from mrcnn.sampling import Samples


def two_losses() -> tuple:
    """Two losses that share a part of the way, and two tensors that both of them use."""
    a = torch.tensor([0.5, -1, 2], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[0.5, -1], [1.5, 0.25]], dtype=torch.float64, requires_grad=True)

    def compute():
        luck = torch.rand(())  # a network draws samples: no forward pass is as the one before
        hidden = (a.square().sum() + luck) * b
        return {"loss_a": hidden.sum(), "loss_b": hidden.square().mean()}

    return compute, [a, b]


def one_loss() -> tuple:
    """A loss that leaves one of two tensors aside."""
    _, (a, b) = two_losses()
    return lambda: {"loss": a.pow(3).sum()}, [a, b]


def by_differences(compute, shared: list[Tensor], step: float = 1e-5) -> Tensor:
    """Gradients without any: each number is moved a little to both sides."""
    columns = []
    for tensor in shared:
        for i in range(tensor.numel()):
            ends = []
            for way in (step, -step):
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    tensor.view(-1)[i] += way
                    ends.append(torch.stack(list(compute().values())))
                    tensor.view(-1)[i] -= way
            columns.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(columns, dim=1)


GRAD = "parts = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True, materialize_grads=True)"


@exercise(
    cases=lambda: [two_losses(), one_loss()],
    truth=by_differences,
    mistakes={
        "retain_graph=True, ⇒ ": "the first loss used up what the forward pass kept; keep it by `retain_graph=True`",
        ", allow_unused=True, materialize_grads=True ⇒ ": "a loss may leave a tensor unused: see `allow_unused`",
        ", materialize_grads=True ⇒ ": "a tensor that a loss does not use: None, or zeros by `materialize_grads=True`",
        (", materialize_grads=True ⇒ ", "in parts ⇒ in parts if part is not None"): "unused: zeros, not nothing",
        f"{GRAD} ⇒ loss.backward(retain_graph=True); parts = [each.grad for each in shared]": "gradients add up "
        "in `.grad` until they are cleared, and of a tensor that no loss has used it is None",
        "torch.stack(rows) ⇒ torch.stack(rows).cumsum(0)": "each row has those before it in it: clear `.grad`",
        "loss in compute().values(): ⇒ loss in (compute()[name] for name in compute()):": "each forward pass "
        "takes long, and draws other samples, so that its losses are others: call `compute()` once",
        "compute().values() ⇒ compute()": "a loop over a dict gives its names: `.values()` are the losses",
        "compute().values() ⇒ [sum(compute().values())]": "this is the gradient of the sum: each loss has its own row",
        "torch.stack(rows) ⇒ torch.stack(rows).norm(dim=1)": "these are the lengths; the rows themselves are wanted",
        "grad(loss, shared, ⇒ grad(loss, shared[:1],": "only the first tensor of `shared` was asked for",
    },
    hints=[
        "After one forward pass, how do you ask for the gradient of one loss alone, without `.backward()` and `.grad`?",
        "`torch.autograd.grad(loss, shared, …)` gives one gradient per tensor. Keep the graph for the next loss.",
        "`torch.autograd.grad(…, retain_graph=True, allow_unused=True, materialize_grads=True)`; flatten; `torch.cat`",
    ],
)  # fmt: skip
def gradient_rows(compute, shared):
    """The gradients of all L losses, a row for each, as a table (L, P). P: how many numbers `shared` has in all.

    compute(): one forward pass, to be called once; gives a dict from L names to losses. shared: a list of tensors; the
    columns of the table are their numbers in order. A loss that does not use a tensor has zeros there.
    """
    rows = []
    for loss in compute().values():
        parts = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


ROWS = torch.tensor([[3.0, 0, 4, 0], [-6, 0, -8, 0], [0, 2, 0, -1], [1, 1, 1, 1]])


@exercise(
    cases=lambda: [(ROWS,), (torch.cat([ROWS[:2], torch.zeros(1, 4)]),), (ROWS[2:].repeat(1, 2),)],
    truth=lambda rows: F.cosine_similarity(rows[:, None], rows[None], dim=-1),
    mistakes={
        ".clamp(min=1e-12) ⇒ ": "a row of zeros has no direction, and 0 / 0 is no number: clamp the lengths",
        "unit @ unit.T ⇒ rows @ rows.T": "products of whole gradients: first divide each by its length",
        "unit @ unit.T ⇒ unit @ rows.T": "divided by one of the two lengths; both have to go",
        "unit @ unit.T ⇒ rows @ unit.T": "divided by one of the two lengths, the column's; both have to go",
        "return unit @ unit.T ⇒ return (unit @ unit.T).fill_diagonal_(1)": "with a row of zeros it is 0, itself too",
        "unit @ unit.T ⇒ (unit @ unit.T).abs()": "the sign matters: -1 is two losses against each other",
        "rows.norm(dim=1, keepdim=True) ⇒ rows.square().sum(dim=1, keepdim=True)": "a length is the ROOT of that",
        "rows.norm(dim=1, keepdim=True) ⇒ rows.abs().sum(dim=1, keepdim=True)": "the root of the sum of SQUARES",
        "dim=1, ⇒ dim=0,": "each row has a length: sum along it, dim=1",
        "rows.norm(dim=1, keepdim=True) ⇒ rows.norm()": "that is one length of the whole table; each row has its own",
        ", keepdim=True ⇒ ": "a length per row has shape (L,), and divides columns: `keepdim=True` makes it (L, 1)",
    },
    hints=[
        "The cosine is the product, divided by both lengths. Which rows have a product that is it already?",
        "Divide each row by its length, at least 1e-12. Then one matrix product gives all pairs.",
        "`unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)`, then `unit @ unit.T`",
    ],
)
def cosines(rows):
    """The cosine between every two rows of (L, P): (L, L), 1 for the same direction, 0 for none, -1 for the opposite.

    With a row of zeros it is 0.
    """
    unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit @ unit.T


def by_stepping(rows: Tensor, weights: Tensor, rate: float) -> Tensor:
    """Losses that are straight, with these gradients: the step is taken, and what changes is measured."""
    place = torch.ones(rows.shape[1], requires_grad=True)
    before = torch.stack([(row * place).sum() for row in rows])
    (slope,) = torch.autograd.grad(sum(w * loss for w, loss in zip(weights, before, strict=True)), place)
    after = torch.stack([(row * (place - rate * slope)).sum() for row in rows])
    return (after - before).detach()


@exercise(
    cases=lambda: [
        (ROWS, torch.tensor([1.0, 0.5, 2, 0]), 0.25), (ROWS[1:], torch.ones(3), 0.1), (ROWS[:1], torch.ones(1), 0.5),
    ],
    truth=by_stepping,
    mistakes={
        "-rate ⇒ rate": "the step goes up the slope: it is MINUS the rate times the gradient",
        "-rate * (weights ⇒ -(weights": "the rate is missing: the step is so long a part of the gradient",
        "weights @ rows ⇒ rows.sum(0)": "the weights are missing from the step",
        "rows @ step ⇒ weights * (rows @ (-rate * rows.sum(0)))": "weigh the step: it changes all losses",
        "return rows @ step ⇒ return weights * (rows @ step)": "the weights belong in the step, and there alone",
        "rows @ step ⇒ -rate * weights * rows.square().sum(1)": "all take ONE step: the others' gradients are in it",
        "return rows @ step ⇒ return (rows @ step).sum()": "one number for all; each loss has its own change",
        "return rows @ step ⇒ return step": "this is the step. By how much does a loss change along it?",
        "weights @ rows) ⇒ weights @ rows) / weights.sum()": "no division by the sum of the weights: losses are added",
        "(weights @ rows) ⇒ (weights @ rows) / len(rows)": "the losses are added: no division by how many they are",
        "(weights @ rows) ⇒ F.normalize(weights @ rows, dim=0)": "a plain step does not bring the gradient to length 1",
    },
    extra=True,
    hints=[
        "What is the gradient of the weighted sum, from `rows`? Where does a plain step go?",
        "The step is (P,). Along it a loss changes by the product of its own gradient with the step.",
        "`step = -rate * (weights @ rows)`, then each row times the step: `rows @ step`",
    ],
)  # fmt: skip
def forecast(rows, weights, rate):
    """By how much each loss changes, (L,), in one plain step: minus `rate` times the gradient of the weighted sum.

    rows (L, P): the losses' gradients; weights (L,). Take it that along the step no gradient changes.
    """
    step = -rate * (weights @ rows)
    return rows @ step


def by_statistics(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    pairs = [b - a for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    return torch.tensor(statistics.mean(pairs)), torch.tensor(statistics.stdev(pairs) / len(pairs) ** 0.5)


@exercise(
    cases=lambda: [
        (torch.tensor([0.30, 0.42, 0.35]), torch.tensor([0.31, 0.45, 0.35])),
        (torch.tensor([3.0, 1, 4, 1, 5]), torch.tensor([2.0, 7, 1, 8, 2])),
    ],
    truth=by_statistics,
    mistakes={
        "other - one ⇒ one - other": "the sign: what is gained from `one` to `other`",
        "change.std() ⇒ (one.var() + other.var()).sqrt()": "a seed's two share their luck: the DIFFERENCES' spread",
        "change.std() ⇒ change.std(correction=0)": "squares divided by N - 1, not by N: `.std()` as it is",
        " / len(change) ** 0.5 ⇒ ": "this is the spread of single differences; their mean is surer, by the root of N",
        "len(change) ** 0.5 ⇒ (len(change) - 1) ** 0.5": "N - 1 is in `.std()` already: here it is the root of N",
        " / len(change) ** 0.5 ⇒ / len(change)": "a mean of N is surer by the ROOT of N, not by N",
        "change.std() / len(change) ** 0.5 ⇒ change.var() / len(change)": "that is the standard error's square",
    },
    hints=[
        "The two numbers of one seed have much in common. What is left when you subtract them?",
        "Mean and spread of the differences; and how much surer than one of them is the mean of N?",
        "`change = other - one`; `change.mean()` and `change.std() / len(change) ** 0.5`",
    ],
)
def paired_difference(one, other):
    """Two numbers: the mean of what changes from `one` to `other`, and that mean's standard error.

    one, other (N,): a number for each of N seeds, in the same order.
    """
    change = other - one
    return change.mean(), change.std() / len(change) ** 0.5


def some_poses() -> Tensor:
    """Poses of which some keypoints are hidden (v 1) or not labelled (v 0); two wrists are as high as the shoulder."""
    random = torch.Generator().manual_seed(5)
    poses = (torch.rand(9, 17, 3, generator=random) * 40).round()
    poses[..., 2] = torch.randint(0, 6, (9, 17), generator=random).clamp(max=2)
    poses[:2, :, 2], poses[2:4, :, 2] = 2, 1
    poses[0, 9:11, 1] = poses[0, 5:7, 1]
    poses[4, [5, 9]], poses[4, [6, 10], 2] = torch.tensor([0.0, 0, 0]), 2
    return poses


def asked_one_by_one(keypoints: Tensor) -> Tensor:
    pairs = [(pose[a], pose[b]) for pose in keypoints.tolist() for a, b in ((9, 5), (10, 6))]
    return torch.tensor([-1.0 if 0 in (a[2], b[2]) else float(a[1] < b[1]) for a, b in pairs]).view(-1, 2)


@exercise(
    cases=lambda: [(some_poses(),), (some_poses()[:4],), (some_poses()[:0],)],
    truth=asked_one_by_one,
    mistakes={
        "wrist[..., 1] < shoulder[..., 1] ⇒ wrist[..., 1] > shoulder[..., 1]": "y grows DOWN: raised has the smaller y",
        "wrist[..., 1] < shoulder[..., 1] ⇒ wrist[..., 1] <= shoulder[..., 1]": "as high is not above",
        "wrist[..., 1] < shoulder[..., 1] ⇒ wrist[..., 0] < shoulder[..., 0]": "0 is x; how high a keypoint is, is y",
        "torch.where(known, up, -1.0) ⇒ torch.where(known, up, -1.0).flip(1)": "the left hand comes first",
        "[:, [9, 10]] ⇒ [:, [7, 8]]": "7 and 8 are the elbows; the wrists are 9 and 10",
        "> 0) & ⇒ > 0) |": "both must be labelled, wrist and shoulder: `&`",
        "[:, [9, 10]] ⇒ [:, [10, 9]]": "a left wrist is held against the right shoulder: the orders differ",
        " & (shoulder[..., 2] > 0) ⇒ ": "a shoulder that is not labelled is at 0, 0, and tells nothing",
        "(wrist[..., 2] > 0) & ⇒ ": "a wrist that is not labelled is at 0, 0, and seems high up",
        "2] > 0 ⇒ 2] > 1": "v = 1 is hidden but known: it counts",
        "torch.where(known, up, -1.0) ⇒ up": "v was not asked: where a keypoint is not labelled, x and y mean nothing",
        "torch.where(known, up, -1.0) ⇒ torch.where(known, up, 0.0)": "not known is no answer: -1, and not 0",
        "torch.where(known, ⇒ torch.where(known.all(1, keepdim=True),": "one hand is not known; the other still counts",
    },
    hints=[
        "Which of two points is higher in a picture? When is the question void?",
        "`keypoints[:, [9, 10]]` are both wrists (K, 2, 3). Compare y; both v must be above 0.",
        "`torch.where(known, (wrist[..., 1] < shoulder[..., 1]).float(), -1.0)`",
    ],
)  # fmt: skip
def raised_hands(keypoints):
    """Is the person's left hand raised, and the right? Float (K, 2): 1 yes, 0 no, -1 not known.

    keypoints (K, 17, 3) [x, y, v]: 5 and 6 are the left and the right shoulder, 9 and 10 the wrists. Raised: the wrist
    is above its shoulder. Known: both are labelled, v > 0. A picture may have no people: K is 0.
    """
    wrist, shoulder = keypoints[:, [9, 10]], keypoints[:, [5, 6]]
    up = (wrist[..., 1] < shoulder[..., 1]).float()
    known = (wrist[..., 2] > 0) & (shoulder[..., 2] > 0)
    return torch.where(known, up, -1.0)


def some_samples(answers: list, objects: list) -> tuple:
    """Logits, samples and targets of two pictures; the objects have these answers, the samples are of these objects."""
    logits = torch.randn(sum(map(len, objects)), 2, generator=torch.Generator().manual_seed(1)).mul(2)
    samples = [
        Samples(torch.zeros(len(each), 4), torch.ones(len(each)).long(), torch.tensor(each).long()) for each in objects
    ]
    return logits.requires_grad_(), samples, [{"raised": torch.tensor(each).view(-1, 2)} for each in answers]


def one_hand_at_a_time(logits: Tensor, samples: list[Samples], targets: list[dict]) -> Tensor:
    rows = iter(logits)
    terms = [logits.sum() * 0]
    for picture, target in zip(samples, targets, strict=True):
        for number in picture.objects.tolist():
            for logit, answer in zip(next(rows), target["raised"][number].tolist(), strict=True):
                if answer >= 0:
                    terms.append(-torch.log(torch.sigmoid(logit if answer else -logit)))
    return sum(terms) / max(len(terms) - 1, 1)


ROWS_OF = 'torch.cat([target["raised"][s.objects] for s, target in zip(samples, targets, strict=True)])'


@exercise(
    cases=lambda: [
        some_samples([[[1.0, 0], [0, -1]], [[-1.0, 1]]], [[1, 0, 1], [0]]),
        some_samples([[[1.0, 0], [0, 1]], [[1.0, 1]]], [[1, 0], [0]]), some_samples([[[-1.0, -1]], []], [[0, 0], []]),
    ],
    truth=one_hand_at_a_time,
    mistakes={
        'target["raised"][s.objects] ⇒ target["raised"]': "rows of OBJECTS; `s.objects` says whose each sample is",
        "logits[known], wanted[known] ⇒ logits, wanted": "-1 is no answer: leave these out",
        ("logits[known], wanted[known] ⇒ logits, wanted", "max(int(known.sum()), 1) ⇒ wanted.numel()"): "-1 is no "
        "answer: leave these out, of the sum and of its divisor",
        "logits[known], wanted[known] ⇒ logits, wanted.clamp(min=0)": "a hand that is not known counts as not raised",
        ("logits[known], wanted[known] ⇒ logits, wanted.clamp(min=0)", "max(int(known.sum()), 1) ⇒ wanted.numel()"):
        "a hand that is not known counts as not raised, in the sum and in its divisor",
        "max(int(known.sum()), 1) ⇒ wanted.numel()": "divide by the answers that count, not by all",
        f"{ROWS_OF} ⇒ torch.cat([t['raised'] for t in targets])[torch.cat([s.objects for s in samples])]": "`objects` "
        "begins at 0 in each picture: take the rows there, and join then",
        "max(int(known.sum()), 1) ⇒ known.sum()": "no hand known, and 0 / 0 is no number: divide by at least 1",
        "max(int(known.sum()), 1) ⇒ len(wanted)": "divide by the answers that count, not by the samples",
        "max(int(known.sum()), 1) ⇒ 1": "the sum grows with the number of people: divide by the answers that count",
        "wanted >= 0 ⇒ wanted > 0": "0 is an answer, too: from raised hands alone it learns to say yes",
        "wanted >= 0 ⇒ (wanted >= 0).all(1, keepdim=True).expand(-1, 2)": "if one hand is known, that one counts",
        "(logits[known], ⇒ (logits[known].sigmoid(),": "the sigmoid is in the loss already: give it logits",
    },
    hints=[
        "Which row of `target[\"raised\"]` belongs to which sample? Which of the answers count?",
        "Join `target[\"raised\"][s.objects]` over the pictures; `known` is where that is at least 0.",
        "`F.binary_cross_entropy_with_logits(logits[known], wanted[known], reduction=\"sum\")`, divided by at least 1",
    ],
)  # fmt: skip
def raised_loss(logits, samples, targets):
    """The mean binary cross-entropy over all answers that are known. If none is: 0, still computed from `logits`.

    logits (S, 2): of the samples of all pictures, one after the other. targets: for each picture a dict with "raised"
    (K_i, 2): 1, 0 or -1, a row per object. samples: for each picture, `.objects` (S_i,): of each sample, the row there.
    """
    wanted = torch.cat([target["raised"][s.objects] for s, target in zip(samples, targets, strict=True)])
    known = wanted >= 0
    total = F.binary_cross_entropy_with_logits(logits[known], wanted[known], reduction="sum")
    return total / max(int(known.sum()), 1)
