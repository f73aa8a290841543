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
<a class="skip" href="#pools">To the pools</a>
<header>
<h1>Carpool <span id="version"></span></h1>
<p id="live" role="status">Loading…</p>
</header>
<main>
<section aria-labelledby="now-title">
<h2 id="now-title">Now</h2>
<dl id="now" class="figures"></dl>
</section>
<section id="pools" aria-labelledby="pools-title" tabindex="-1">
<h2 id="pools-title">Pools</h2>
<div id="pool-list"></div>
</section>
<section aria-labelledby="config-title">
<h2 id="config-title">Configuration</h2>
<div id="config"></div>
<details><summary>The configuration in force</summary><pre id="effective"></pre></details>
</section>
</main>
<footer><p>Data: <a href="status">status</a>, <a href="config">config</a>,
<a href="metrics">metrics</a></p></footer>
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
  --ok: #1a7f37; --warning: #9a6700; --critical: #cf222e; --busy: #0969da; --idle: #b6c3d1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #f0f6fc; --soft: #9198a1; --paper: #0d1117; --card: #151b23; --line: #3d444d;
    --ok: #3fb950; --warning: #d29922; --critical: #f85149; --busy: #4493f8; --idle: #3d4a59;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif;
}
header, footer { display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: baseline; }
h1 { font-size: 1.4rem; margin: 0; }
h1 span { color: var(--soft); font-weight: normal; font-size: 1rem; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0; }
a { color: var(--busy); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; background: var(--paper); padding: .5rem; }
.gone { color: var(--critical); font-weight: 600; }
.soft { color: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: .25rem 1.75rem; margin: 0; }
.figures div { min-width: 5.5rem; }
.figures dt { color: var(--soft); font-size: .85rem; }
.figures dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
article, .notice {
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .75rem 1rem; margin: 0 0 .75rem;
}
.head { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline; }
.badge { border: 1px solid; border-radius: 1rem; padding: 0 .6rem; font-size: .85rem; }
.badge.ok { color: var(--ok); }
.badge.warning { color: var(--warning); }
.badge.critical { color: var(--critical); }
.why { margin: .5rem 0; font-weight: 600; }
.bar { display: block; width: 100%; height: 1.1rem; margin: .5rem 0 .25rem; }
.bar .track { fill: var(--idle); }
.bar .fill { fill: var(--busy); }
.bar .mark { stroke: var(--ink); stroke-width: 1; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .1rem .9rem .1rem 0; font-weight: normal; }
th { color: var(--soft); font-size: .85rem; }
th[scope="row"] { text-align: left; }
.scroll { overflow-x: auto; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); padding: .75rem; }
summary { cursor: pointer; }
:focus-visible { outline: 2px solid var(--busy); outline-offset: 2px; }
)css";
}

}  // namespace carpool::admin
