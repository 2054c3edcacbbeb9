"""Figures as inline SVG, whose text takes the colour of the page."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

# Okabe and Ito's palette, told apart with any colour vision; its blue a little lighter, so that it
# stands out on dark pages as well.
PALETTE = ("#8c8c8c", "#1f86c8", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure for the page.

    Attributes:
        title: heading.
        svg: one or several `<svg>` elements, which the page sets side by side as space allows.
        caption: what one must know to read it.
    """

    title: str
    svg: str
    caption: str = ""


@contextlib.contextmanager
def panel(
    label: str, *, width: float, height: float, ids: str = ""
) -> Iterator[tuple[Axes, list[str]]]:
    """Gives axes to draw on and a list that holds the finished SVG afterwards.

    `ids` begins the ids of its elements, which must be unique on a page; by default the label does.
    """
    svg: list[str] = []
    with mpl.rc_context(_STYLE | {"svg.hashsalt": label}):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        yield canvas.add_subplot(), svg
        svg.append(_inline_svg(canvas, label, ids or label))


def _inline_svg(canvas: Canvas, label: str, ids: str) -> str:
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # Ids are only unique within one file; several figures share a page.
    prefix = re.sub(r"\W+", "-", ids)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    return text.replace("<svg ", str(Markup('<svg role="img" aria-label="{}" ').format(label)), 1)
