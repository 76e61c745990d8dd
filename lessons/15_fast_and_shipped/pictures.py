"""Where the time goes, as bars, and a roofline."""

from collections.abc import Mapping

from mrcnn.lab.views.pictures import BLUE, GREEN, GREY, INK, LETTERS, ORANGE, PAPER, PINK, RED, page
from mrcnn.lab.views.view import View

KINDS = (BLUE, ORANGE, PINK, "#d0d0d0", GREEN)  # in the order of a first bar's kinds
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
SIZE = LETTERS + 1


def spent(parts: Mapping[str, Mapping[str, float]], kinds: Mapping[str, str] | None = None) -> View:
    """A bar for each part, of milliseconds by kind. kinds: a letter and the name of each; None: no kinds are shown."""
    figure = page(9.2, 0.42 * len(parts) + 1.15)
    axes = figure.add_axes((0.15, 0.62 / figure.get_figheight(), 0.83, 1 - 1.1 / figure.get_figheight()))
    whole = sum(sum(each.values()) for each in parts.values())
    most = max(sum(each.values()) for each in parts.values())
    told = []
    for row, (name, by_kind) in enumerate(parts.items()):
        total, left = sum(by_kind.values()), 0.0
        for (kind, value), colour in zip(by_kind.items(), KINDS, strict=False):
            axes.barh(row, value, 0.72, left, color=colour if kinds else BLUE, edgecolor=PAPER if kinds else BLUE)
            if kinds and value > 0.025 * most:
                ink = PAPER if colour == BLUE else INK
                axes.text(left + value / 2, row, kinds[kind], color=ink, ha="center", va="center", fontsize=SIZE)
            left += value
        axes.text(total + 0.01 * most, row, f"{total:.1f} ms, {total / whole:.0%}", va="center", fontsize=SIZE)
        words = ", ".join(f"{kind} {value:.1f}" for kind, value in by_kind.items()) if kinds else ""
        told.append(f"{name} {total:.1f}" + f" ({words})" * bool(words))
    if kinds:
        for (kind, letter), colour in zip(kinds.items(), KINDS, strict=False):
            axes.barh(0, 0, color=colour, label=f"{letter}: {kind}")
        axes.legend(
            fontsize=SIZE, frameon=False, ncols=len(kinds), loc="lower left", bbox_to_anchor=(-0.02, 0.98),
            borderpad=0.1, columnspacing=1.2,
        )  # fmt: skip
    axes.set_yticks(range(len(parts)), parts, fontsize=SIZE)
    axes.set(xlim=(0, 1.22 * most))
    axes.set_xlabel("milliseconds", fontsize=SIZE)
    _tidy(axes)
    axes.invert_yaxis()
    return View.of(figure, f"Milliseconds of each part: {'; '.join(told)}.")


def roofline(peak: float, bandwidth: float, dots: Mapping[str, tuple[float, float]]) -> View:
    """peak: operations a second; bandwidth: bytes a second; dots: operations per byte, and operations a second."""
    figure = page(9.2, 4.2)
    axes = figure.add_axes((0.095, 0.14, 0.475, 0.8))
    ridge, (low, high) = peak / bandwidth, (0.1, 2000.0)
    axes.plot([low, ridge, high], [low * bandwidth / 1e9, peak / 1e9, peak / 1e9], color=INK, linewidth=2)
    axes.plot([ridge, ridge], [1e-3, peak / 1e9], color=GREY, linestyle=":")
    told = []
    for number, (name, (intensity, rate)) in enumerate(dots.items()):
        colour = (BLUE, RED, GREEN, PINK, ORANGE, INK)[number % 6]
        share = rate / min(peak, intensity * bandwidth)
        axes.plot(intensity, rate / 1e9, MARKS[number], color=colour, markersize=9, linestyle="", markeredgecolor=PAPER,
                  label=f"{'ABCDEFGH'[number]}  {name}, {share:.0%} of the roof")  # fmt: skip
        axes.annotate("ABCDEFGH"[number], (intensity, rate / 1e9), (8, -10), textcoords="offset points", fontsize=SIZE)
        words = f"{intensity:.3g} operations per byte, {rate / 1e9:.3g} billion a second, {share:.0%} of the roof"
        told.append(f"{'ABCDEFGH'[number]}, {name}: {words}")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(0.3 * low * bandwidth / 1e9, 3 * peak / 1e9))
    axes.text(ridge * 1.2, peak / 1e9 * 1.25, f"the core: {peak / 1e9:.0f} billion a second", fontsize=SIZE)
    rising = f"memory:\n{bandwidth / 1e9:.0f} GB a second"
    axes.text(0.4 * ridge, 0.55 * peak / 1e9, rising, ha="right", va="bottom", fontsize=SIZE)
    axes.set_xlabel("operations per byte", fontsize=SIZE)
    axes.set_ylabel("billion operations a second", fontsize=SIZE)
    _tidy(axes)
    if dots:
        figure.legend(fontsize=SIZE, frameon=False, loc="upper left", bbox_to_anchor=(0.575, 0.95), labelspacing=0.9)
    words = f"The roof rises with {bandwidth / 1e9:.0f} GB a second to {peak / 1e9:.0f} billion operations a second"
    return View.of(figure, f"{words}, which it reaches at {ridge:.1f} operations per byte. {'; '.join(told)}.")


def _tidy(axes) -> None:
    axes.tick_params(labelsize=SIZE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
