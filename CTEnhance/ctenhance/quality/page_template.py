"""The page's HTML, style and script; `page` fills in what stands between @ signs."""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>@TITLE@</title>
<style>
:root { color-scheme: dark; --back: #0e1216; --panel: #171d23; --line: #2b353f; --text: #e8edf2;
  --muted: #9aa7b4; --accent: #ffc35c; --blue: #53b1ff; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; align-items: baseline;
  padding: .8rem 1.2rem .5rem; }
h1 { font-size: 1.15rem; margin: 0; }
.notice { color: var(--accent); font-weight: 600; }
main { display: grid; grid-template-columns: minmax(0, 1fr) 28rem; gap: 1rem; padding: 0 1.2rem 1rem; }
@media (max-width: 1050px) { main { grid-template-columns: minmax(0, 1fr); } }
.bar { display: flex; flex-wrap: wrap; gap: .45rem .9rem; align-items: center; margin: .35rem 0; }
.group { display: flex; gap: .3rem; align-items: center; }
.group > span, label { color: var(--muted); font-size: .85rem; }
button, select, input[type=number] { font: inherit; font-size: .88rem; color: var(--text);
  background: var(--panel); border: 1px solid var(--line); border-radius: .35rem; padding: .25rem .6rem; }
button { cursor: pointer; }
button:hover { border-color: var(--muted); }
button[aria-pressed=true] { background: #22405c; border-color: var(--blue); }
input[type=number] { width: 5.2rem; padding-right: .2rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
#view { position: relative; background: #000; border-radius: .4rem; overflow: hidden; touch-action: none;
  user-select: none; -webkit-user-select: none; height: min(74vh, 78vw); min-height: 18rem;
  cursor: crosshair; }
#view canvas { width: 100%; height: 100%; display: block; }
#divider { position: absolute; top: 0; bottom: 0; width: 44px; margin-left: -22px; cursor: ew-resize; }
#divider::before { content: ""; position: absolute; left: 21px; top: 0; bottom: 0; width: 2px;
  background: var(--accent); opacity: .85; }
#divider::after { content: "\\25C2\\2009\\25B8"; position: absolute; top: 50%; left: 4px; width: 36px;
  height: 36px;
  margin-top: -18px; border-radius: 50%; background: rgba(14, 18, 22, .8); border: 2px solid var(--accent);
  color: var(--accent); display: grid; place-items: center; font-size: 15px; }
.tag { position: absolute; top: .5rem; padding: .1rem .55rem; border-radius: .3rem;
  background: rgba(14, 18, 22, .72);
  font-weight: 600; pointer-events: none; }
#lefttag { left: .6rem; } #righttag { right: .6rem; }
.letter { position: absolute; color: var(--accent); font-weight: 600; pointer-events: none;
  text-shadow: 0 0 4px #000; }
#west { left: .6rem; top: 48%; } #east { right: .6rem; top: 48%; }
#north { top: .5rem; left: 53%; } #south { bottom: .5rem; left: 53%; }
#readout { position: absolute; left: .6rem; bottom: .5rem; padding: .1rem .5rem; border-radius: .3rem;
  background: rgba(14, 18, 22, .72); font-size: .85rem; font-variant-numeric: tabular-nums;
  pointer-events: none; }
#scale { position: absolute; right: .6rem; bottom: .5rem; padding: .15rem .5rem; border-radius: .3rem;
  background: rgba(14, 18, 22, .72); font-size: .8rem; display: none; }
#scale i { display: inline-block; width: 8rem; height: .6rem; margin: 0 .4rem; vertical-align: middle; }
.slices { display: flex; gap: .8rem; align-items: center; }
.slices input { flex: 1; min-width: 6rem; accent-color: var(--blue); }
output { font-variant-numeric: tabular-nums; white-space: nowrap; }
aside { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem;
  padding: .4rem .9rem .8rem;
  align-self: start; min-width: 0; overflow-x: auto; }
h2 { font-size: 1rem; margin: .5rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; font-variant-numeric: tabular-nums; }
thead th { color: var(--muted); font-weight: 500; text-align: right; padding: .1rem 0 .1rem .6rem; }
tbody th { text-align: left; font-weight: 400; padding: .1rem 0; }
tbody th[scope=rowgroup] { color: var(--accent); font-weight: 600; padding-top: .55rem;
  border-bottom: 1px solid var(--line); }
td { text-align: right; padding: .1rem 0 .1rem .6rem; white-space: nowrap; }
small, .facts, figcaption, .keys { color: var(--muted); font-size: .8rem; }
figure { margin: 1rem 0 0; } figure svg { width: 100%; height: auto; font-size: 11px; fill: var(--muted); }
kbd { border: 1px solid var(--line); border-radius: .25rem; padding: 0 .3rem; background: var(--panel); }
footer { padding: 0 1.2rem 1.2rem; }
</style>
</head>
<body>
<header><h1>@TITLE@</h1><span class="notice">@NOTICE@</span></header>
<main>
<section aria-label="Image comparison">
  <div class="bar">
    <div class="group"><label for="left">Left</label><select id="left"></select></div>
    <div class="group"><label for="right">Right</label><select id="right"></select></div>
    <div class="group">
      <button id="difference" aria-pressed="false"
        title="Colours show after minus before (key D)">Difference</button>
      <button id="flip" title="Show the other one at the same place (key F)">Flip</button>
    </div>
    <div class="group" id="presets" role="group" aria-label="Window"><span>Window</span></div>
    <div class="group"><label for="level">Level</label><input id="level" type="number" step="10">
      <label for="width">Width</label><input id="width" type="number" min="1" step="10"><span>HU</span></div>
    <div class="group"><button id="closer" aria-label="Zoom in" title="Zoom in (key +)">+</button>
      <button id="farther" aria-label="Zoom out" title="Zoom out (key −)">−</button>
      <button id="whole" title="Show all (key 0)">Fit</button></div>
  </div>
  <div id="view">
    <canvas id="canvas" role="img"
      aria-label="CT slice, one volume left of the divider, the other right of it"></canvas>
    <div id="divider" role="slider" tabindex="0" aria-label="Divider between the left and the right volume"
      aria-valuemin="0" aria-valuemax="100" aria-orientation="horizontal"></div>
    <span class="tag" id="lefttag"></span><span class="tag" id="righttag"></span>
    <span class="letter" id="west"></span><span class="letter" id="east"></span>
    <span class="letter" id="north"></span><span class="letter" id="south"></span>
    <span id="readout"></span><span id="scale"><b></b><i></i><b></b> HU</span>
  </div>
  <div class="slices"><label for="slice">Slice</label>
    <input id="slice" type="range" min="0" step="1"><output id="where" for="slice"></output></div>
  <p class="keys">Drag the divider or press <kbd>←</kbd> <kbd>→</kbd>. Slices: mouse wheel,
    <kbd>↑</kbd> <kbd>↓</kbd>. Window: <kbd>1</kbd>–<kbd>4</kbd>, or drag with the right button.
    <kbd>F</kbd> flips between the two, <kbd>D</kbd> shows the difference, <kbd>+</kbd> <kbd>−</kbd>
    <kbd>0</kbd> zoom; drag to move when zoomed.</p>
</section>
<aside aria-label="Measures"><h2>Measures</h2>
<table>
@TABLE@
</table>
@SPECTRUM@
<p class="facts">@FACTS@</p></aside>
</main>
<footer class="facts">Made with CTEnhance. @NOTICE@</footer>
<script type="application/json" id="data">@DATA@</script>
<script>
@SCRIPT@
</script>
</body>
</html>
"""
