#include "admin/status_page.h"

namespace carpool::admin {

std::string_view status_page_html() {
  return R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Carpool</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css">
<script src="page.js" defer></script>
</head>
<body>
<a class="skip" href="#pools">Skip to the pools</a>
<header>
<h1>Carpool <span id="version"></span></h1>
<p id="live" role="status">Loading…</p>
</header>
<main>
<section aria-labelledby="why-title">
<h2 id="why-title">Is anybody waiting?</h2>
<div id="why"></div>
<p id="rejected" class="reason" hidden><strong>The last change of the configuration was
rejected.</strong> The one before it stays in force. <a href="#config-title">Why</a></p>
<p id="news" class="unseen" role="status"></p>
</section>
<section aria-labelledby="now-title">
<h2 id="now-title">Now</h2>
<dl id="now" class="figures"></dl>
</section>
<section aria-labelledby="pools-title">
<h2 id="pools-title">Pools</h2>
<div id="pools" tabindex="-1"><p class="notice" id="no-pools" hidden>No client has connected yet:
a pool is made when its first one does.</p></div>
</section>
<section aria-labelledby="config-title">
<h2 id="config-title">Configuration</h2>
<dl id="config" class="figures"></dl>
<div id="config-lists"></div>
<details><summary>The configuration in force</summary><pre id="effective" tabindex="0"></pre>
</details>
</section>
</main>
<footer><p>The same as data: <a href="status?detailed=1">status</a>, <a href="history">history</a>,
<a href="config">config</a>, <a href="metrics">metrics</a></p></footer>
<noscript><p class="notice">This page needs JavaScript; the same figures are at
<a href="status">/status</a>, as JSON.</p></noscript>
</body>
</html>
)html";
}

std::string_view status_page_css() {
  return R"css(:root {
  color-scheme: light dark;
  --ink: #1b1f24; --soft: #59636e; --paper: #fff; --card: #f6f8fa; --line: #d1d9e0;
  --ok: #1a7f37; --warning: #8a5a00; --critical: #cf222e; --busy: #0969da; --track: #dfe5eb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #f0f6fc; --soft: #9aa4ae; --paper: #0d1117; --card: #151b23; --line: #3d444d;
    --ok: #3fb950; --warning: #d29922; --critical: #ff7b72; --busy: #4493f8; --track: #2b333d;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none; }
body {
  margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif;
}
header, footer { display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: baseline; }
h1 { font-size: 1.4rem; margin: 0; }
h1 span { color: var(--soft); font-weight: normal; font-size: 1rem; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0; }
ul { margin: .25rem 0; padding-left: 1.25rem; overflow-wrap: anywhere; }
a { color: var(--busy); }
.skip, .unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
}
.skip:focus {
  width: auto; height: auto; clip-path: none; background: var(--paper); padding: .5rem; z-index: 1;
}
.gone { color: var(--critical); font-weight: 600; }
.soft { color: var(--soft); }
.figures {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr));
  gap: .4rem 1.25rem; margin: 0;
}
.figures .wide { grid-column: span 2; }
dt, figcaption { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
article, .notice, .reason {
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .75rem 1rem; margin: 0 0 .75rem; overflow-wrap: anywhere;
}
.reason { border-left: .4rem solid var(--critical); }
.fine { border-left: .4rem solid var(--ok); }
.almost { border-left: .4rem solid var(--warning); }
.reason strong { display: block; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
.reason code {
  background: var(--paper); border: 1px solid var(--line); border-radius: .3rem;
  padding: .1rem .4rem; user-select: all;
}
.head { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline; }
.badge { border: 1px solid; border-radius: 1rem; padding: 0 .6rem; font-size: .85rem; }
.ok { color: var(--ok); }
.warning { color: var(--warning); }
.level-ok > :first-child dd { color: var(--ok); font-weight: 600; }
.level-warning > :first-child dd { color: var(--warning); font-weight: 600; }
.level-critical > :first-child dd { color: var(--critical); font-weight: 600; }
.critical { color: var(--critical); }
.bar { position: relative; margin: .5rem 0 1.5rem; }
.bar svg { display: block; width: 100%; height: 1.1rem; border-radius: .2rem; }
.bar .track { fill: var(--track); }
.bar .fill { fill: var(--busy); }
.bar .fill.warning { fill: var(--warning); }
.bar .fill.critical { fill: var(--critical); }
.bar .mark { stroke: var(--ink); }
.bar span {
  position: absolute; top: 1.15rem; font-size: .75rem; color: var(--soft);
  transform: translateX(-50%); white-space: nowrap;
}
.bar .at80 { left: 80%; }
.bar .at95 { left: 95%; }
.past { display: flex; flex-wrap: wrap; gap: .75rem 2rem; margin-top: 1rem; }
.charts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: .75rem 1rem;
  flex: 3 1 20rem;
}
figure { margin: 0; min-width: 0; }
figcaption {
  display: flex; justify-content: space-between; gap: .5rem; white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
figure svg { display: block; width: 100%; height: 2.75rem; border-bottom: 1px solid var(--line); }
figure path {
  fill: none; stroke: var(--busy); stroke-width: 1.5; vector-effect: non-scaling-stroke;
}
figure .area { fill: var(--busy); stroke: none; opacity: .15; }
figure .limit { stroke: var(--soft); stroke-dasharray: 3 3; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td {
  text-align: right; padding: .1rem 0 .1rem 1.25rem; font-weight: normal; white-space: nowrap;
}
thead th { color: var(--soft); font-size: .85rem; }
tr > :first-child { text-align: left; padding-left: 0; }
@media (max-width: 30rem) { th, td { padding-left: .35rem; font-size: .8rem; } }
#config-lists { margin-top: .75rem; }
.scroll { overflow-x: auto; flex: 0 1 auto; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); padding: .75rem; }
summary { cursor: pointer; }
:focus-visible { outline: 2px solid var(--busy); outline-offset: 2px; }
)css";
}

}  // namespace carpool::admin
