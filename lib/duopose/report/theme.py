"""The colours of the report in both colour schemes, and its style sheet.

Figures are drawn once, in the colours of `INK`, `GRID`, `SERIES` and `RAMP`. `svg.embed` replaces
these by the CSS variables below, so that one figure is readable on light and dark ground.
"""

from __future__ import annotations

# Colours in the figures -> CSS variable, light value, dark value. The values in the figures only
# need to differ from one another and from all other colours.
BLACK = "#000000"  # of the curves of a training
INK = "#010203"
FAINT = "#010204"
GRID = "#010205"
PAPER = "#010206"
SERIES = tuple(f"#0102{16 + index:02x}" for index in range(8))
RAMP = tuple(f"#0103{16 + index:02x}" for index in range(10))
KIND = tuple(f"#0104{16 + index:02x}" for index in range(7))

SERIES_LIGHT = (
    "#2166ac", "#d6604d", "#1b8a5a", "#8e44ad", "#b07d00", "#c2185b", "#00838f", "#5d6d7e",
)  # fmt: skip
SERIES_DARK = (
    "#6cb2f5", "#ff9b85", "#5fd39c", "#cf9be8", "#e8bd4a", "#ff86b3", "#5fd0dc", "#b3c0cd",
)  # fmt: skip
# From the loosest OKS threshold to the strictest.
RAMP_LIGHT = (
    "#9cc3e6", "#86b4de", "#70a5d6", "#5b96cd", "#4787c3", "#3577b7", "#2567a8", "#195797",
    "#0f4783", "#08376d",
)  # fmt: skip
RAMP_DARK = (
    "#e3f1ff", "#cde5fd", "#b6d8fa", "#9fcbf6", "#88bef2", "#70b0ec", "#599fdf", "#448dce",
    "#327aba", "#2468a5",
)  # fmt: skip
# good, jitter, inversion, swap, miss, no position, no person: as joint_errors.KINDS
KIND_LIGHT = (
    "#8fb3d1", "#e3b23c", "#8e44ad", "#1b8a5a", "#d6493b", "#7f8c8d", "#bdc3c7",
)  # fmt: skip
KIND_DARK = (
    "#3f6b92", "#e3b23c", "#c58be0", "#52c78f", "#ff7a6b", "#8a9697", "#4f585b",
)  # fmt: skip


def colour_variables() -> dict[str, str]:
    """Colour in the figures -> CSS value."""
    variables = {
        BLACK: "currentColor",
        INK: "currentColor",
        FAINT: "var(--faint)",
        GRID: "var(--grid)",
        PAPER: "var(--paper)",
    }
    for name, colours in (("series", SERIES), ("ramp", RAMP), ("kind", KIND)):
        variables |= {colour: f"var(--{name}{index})" for index, colour in enumerate(colours)}
    return variables


def _declarations(series: tuple[str, ...], ramp: tuple[str, ...], kind: tuple[str, ...]) -> str:
    lines = []
    for name, colours in (("series", series), ("ramp", ramp), ("kind", kind)):
        lines += [f"--{name}{index}: {colour};" for index, colour in enumerate(colours)]
    return " ".join(lines)


LIGHT = (
    "--paper: #ffffff; --ink: #1c2329; --faint: #5d6873; --grid: #dfe4e8; --panel: #f5f7f9; "
    "--link: #1b5fa8; --good: #1b7a4b; --bad: #b3372b; "
    + _declarations(SERIES_LIGHT, RAMP_LIGHT, KIND_LIGHT)
)
DARK = (
    "--paper: #14181c; --ink: #e6eaee; --faint: #a3adb7; --grid: #333b43; --panel: #1d2329; "
    "--link: #8ec1f7; --good: #6fd6a0; --bad: #ff9488; "
    + _declarations(SERIES_DARK, RAMP_DARK, KIND_DARK)
)

STYLE = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
""" + """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.5rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--grid); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p, li { max-width: 46rem; }
a { color: var(--link); }
.faint, figcaption { color: var(--faint); font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0;
  margin: .8rem 0 0; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .28rem .7rem; text-align: right; border-bottom: 1px solid var(--grid);
  vertical-align: top; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid var(--grid); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
table.text td, table.text th { text-align: left; overflow-wrap: anywhere; }
table.text td { min-width: 9rem; }
table.text tbody th { white-space: nowrap; }
tbody th { font-weight: 400; }
td { white-space: nowrap; }
table.text td { white-space: normal; }
td.main { font-weight: 700; }
figure { margin: 1rem 0; }
figure svg { display: block; max-width: 100%; height: auto; color: var(--ink);
  fill: currentColor; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
figcaption { margin-top: .3rem; max-width: 46rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--link); }
.note { background: var(--panel); border-left: 3px solid var(--bad); padding: .5rem .8rem;
  max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
.summary { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.summary div { background: var(--panel); border-radius: .4rem; padding: .6rem 1rem;
  min-width: 8rem; }
.summary div { border-left: .3rem solid var(--grid); }
.summary b { display: block; font-size: 1.5rem; line-height: 1.2; }
.summary span { color: var(--faint); font-size: .85rem; }
.images { margin: 1.2rem 0; break-inside: avoid; }
.images .row { display: grid; gap: .6rem; }
.images figure { margin: 0; }
.images img { width: 100%; height: auto; display: block; background: var(--panel); }
code { font-size: .9em; overflow-wrap: anywhere; }
footer { margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media screen and (max-width: 44rem) {
  figure { overflow-x: auto; }
  figure svg { max-width: none; min-width: 40rem; }
  .images .row { grid-template-columns: 1fr !important; }
}
@media print {
  :root { PRINT_COLOURS }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  figure, table, .images { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .35rem; }
  nav { display: none; }
}
""".replace("PRINT_COLOURS", LIGHT)
STYLE += "\n".join(
    f".summary .source{index} {{ border-color: var(--series{index}); }}"
    for index in range(len(SERIES))
)
