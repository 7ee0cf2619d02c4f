#pragma once
// The style sheet of report.html. Colours are pairs for light and dark with a contrast of at
// least 4.5 for text.

namespace realfake {

inline constexpr char report_style[] = R"css(
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b1f27; --soft: #596273; --line: #dfe3ea; --track: #e9ecf1;
  --real: #2f6fd6; --base: #7c8594; --fake: #c2410c; --other: #5b7f95; --good: #16703c; --bad: #b3261e;
  --s0: #c2410c; --s1: #2f6fd6; --s2: #16803c; --s3: #8b3fc7; --s4: #8a6a00; --s5: #0f7f8c; }
@media (prefers-color-scheme: dark) { :root {
  --page: #101319; --card: #191d25; --ink: #e8ebf1; --soft: #a3adbd; --line: #2d3440; --track: #272d38;
  --real: #6ea2f5; --base: #8d97a8; --fake: #fb8a4c; --other: #7fa5bc; --good: #5fcf8d; --bad: #ff8d84;
  --s0: #fb8a4c; --s1: #6ea2f5; --s2: #5fcf8d; --s3: #c592f5; --s4: #dfb950; --s5: #56c8d6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main, header, footer { max-width: 1100px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 44px; }
h1 { font-size: clamp(1.7rem, 5vw, 2.5rem); line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; letter-spacing: -.01em; margin: 0 0 .3rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: 0 0 .9rem; max-width: 75ch; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.lead { font-size: 1.12rem; }
td.num .sub { white-space: nowrap; }
.soft, .fine, .sub { color: var(--soft); }
.fine, .sub { font-size: .86rem; }
.sub { display: block; font-weight: 400; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 24px; margin: 22px 0; }
.tiles { display: grid; gap: 14px; margin: 24px 0 4px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 210px), 1fr)); }
.tile { background: var(--card); border: 1px solid var(--line); border-top: 4px solid var(--tone);
  border-radius: 12px; padding: 14px 18px; }
.tile strong { display: block; font-size: 2.1rem; line-height: 1.2; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; }
.real { --tone: var(--real); } .base { --tone: var(--base); }
.fake { --tone: var(--fake); } .other { --tone: var(--other); }

.scroll { overflow-x: auto; margin: 14px -24px 0; padding: 0 24px 4px; }
.scroll:focus-visible { outline: 2px solid var(--real); outline-offset: -2px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 8px 18px 8px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
th:last-child, td:last-child { padding-right: 0; }
thead th { overflow-wrap: normal; }
thead th.num { white-space: normal; }
thead th { font-size: .82rem; font-weight: 600; color: var(--soft); vertical-align: bottom; line-height: 1.3; }
tbody th { font-weight: 500; min-width: 9.5rem; }
th code { font-size: .8rem; }
tbody tr:last-child > * { border-bottom: 0; }
.num { text-align: right; white-space: nowrap; }
.big { font-weight: 650; font-size: 1.05rem; }
tr.group th { padding-top: 24px; font-weight: 650; }
.bar { position: relative; display: block; width: 100%; min-width: 110px; height: 12px; border-radius: 4px;
  background: var(--track); }
.bar i { position: absolute; left: 0; top: 0; bottom: 0; border-radius: 4px; background: var(--tone); }
.bar b { position: absolute; top: -3px; bottom: -3px; min-width: 2px; border: solid var(--ink);
  border-width: 0 2px; background: linear-gradient(var(--ink), var(--ink)) center / 100% 2px no-repeat; }
.after { margin: 14px 0 0; }
.mark { width: 1%; padding-right: 28px; font-weight: 650; white-space: nowrap; }
.mark.yes { color: var(--good); } .mark.no { color: var(--bad); }

.pictures { display: grid; gap: 10px 22px; align-items: center; margin-top: 16px; }
.pictures .head { font-weight: 600; font-size: .9rem; }
.class { font-weight: 600; }
.cell { margin: 0; min-width: 0; }
.cell figcaption { display: none; }
.strip { position: relative; display: block; border-radius: 3px; overflow: hidden; }
.strip img { display: block; width: 100%; height: auto; image-rendering: pixelated; }
.strip::after { content: ""; position: absolute; inset: 0; background: var(--down), var(--across); }
@media (min-width: 721px) {
  .pictures { grid-template-columns: minmax(3.2rem, max-content) repeat(var(--n), minmax(0, 1fr)); }
  .pictures .row { display: contents; } }
@media (max-width: 720px) {
  body { font-size: 15.5px; }
  main, header, footer { padding-left: 12px; padding-right: 12px; }
  header { padding-top: 28px; }
  section { padding: 18px 14px; border-radius: 12px; margin: 16px 0; }
  .scroll { margin-left: -14px; margin-right: -14px; padding: 0 14px 4px; }
  .pictures { gap: 20px; }
  .pictures .row { display: grid; gap: 6px; }
  .pictures .row.heads { display: none; }
  .cell { display: grid; grid-template-columns: 5rem minmax(0, 1fr); gap: 10px; align-items: center; }
  .cell figcaption { display: block; font-size: .8rem; line-height: 1.25; color: var(--soft); }
  .tile { padding: 10px 14px; }
  .plots .plot text { font-size: 16px; } }

.plots { display: grid; gap: 28px; margin-top: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.plot { margin: 0; max-width: 640px; min-width: 0; }
.plot > svg { display: block; width: 100%; height: auto; }
.plot text { fill: var(--soft); font-size: 12.5px; font-variant-numeric: tabular-nums; }
.plot .end { text-anchor: end; } .plot .mid { text-anchor: middle; }
.plot path { fill: none; stroke-linejoin: round; }
.line { stroke: var(--line); } .axis, .tick { stroke: var(--soft); }
.raw { stroke-width: 1; opacity: .38; } .mean { stroke-width: 2.6; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); }
.s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); }
.mean.s1 { stroke-dasharray: 9 4; } .mean.s2 { stroke-dasharray: 3 3; } .mean.s3 { stroke-dasharray: 10 3 2 3; }
.mean.s4 { stroke-dasharray: 14 5; } .mean.s5 { stroke-dasharray: 5 2; }
.key { display: inline-flex; align-items: center; gap: 8px; margin: 4px 18px 0 0; font-size: .9rem; }
.swatch { width: 26px; height: 8px; flex: none; }
.plot figcaption .fine { display: block; margin-top: 4px; }

.groups { display: grid; gap: 24px 36px; margin-top: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
.groups > div { min-width: 0; }
dl { margin: 0; font-size: .92rem; }
dl div { display: flex; gap: 14px; justify-content: space-between; padding: 4px 0; border-bottom: 1px solid var(--line); }
dt { color: var(--soft); min-width: 5rem; } dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.missing { border-left: 4px solid var(--bad); padding-left: 12px; }
ul { margin: 8px 0 0; padding-left: 1.2rem; } li { margin: 4px 0; max-width: 75ch; }
footer { padding-bottom: 48px; }
@media print { section, .tile { break-inside: avoid; } body { background: #fff; } }
)css";

}  // namespace realfake
