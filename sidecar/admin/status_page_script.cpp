#include "admin/status_page.h"

namespace carpool::admin {

std::string_view status_page_js() {
  return R"js('use strict';
const period = 2000;
const svg = 'http://www.w3.org/2000/svg';
let previous = null;  // the last /status and when it came, for rates

function element(tag, attributes, ...children) {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) out.setAttribute(name, value);
  out.append(...children);
  return out;
}

function seconds(value) {
  if (value === 0) return '0';
  if (value < 1e-3) return (value * 1e6).toFixed(0) + ' µs';
  if (value < 1) return (value * 1e3).toFixed(value < 0.01 ? 1 : 0) + ' ms';
  if (value < 120) return value.toFixed(1) + ' s';
  if (value < 7200) return Math.round(value / 60) + ' min';
  return Math.round(value / 3600) + ' h';
}

function count(value) {
  return value.toLocaleString('en', {maximumFractionDigits: value < 10 ? 1 : 0});
}

function figures(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value]) =>
    element('div', null, element('dt', null, name), element('dd', null, String(value)))));
  return list;
}

function states(values) {
  const some = Object.entries(values).filter(([name, n]) => name !== 'total' && n > 0);
  return some.length ? some.map(([name, n]) => n + ' ' + name).join(', ') : 'none';
}

// The share in use, with marks at 80% and 95%.
function bar(pool) {
  const percent = Math.min(100, pool.utilisation * 100);
  const out = document.createElementNS(svg, 'svg');
  const text = count(pool.utilisation * 100) + '% of ' + (pool.size + pool.overflow) + ' in use';
  for (const [name, value] of Object.entries({class: 'bar', role: 'img', 'aria-label': text,
      viewBox: '0 0 100 6', preserveAspectRatio: 'none'})) out.setAttribute(name, value);
  const add = (tag, attributes) => {
    const part = document.createElementNS(svg, tag);
    for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
    out.append(part);
  };
  add('rect', {class: 'track', width: 100, height: 6});
  add('rect', {class: 'fill', width: percent, height: 6});
  for (const x of [80, 95]) {
    add('line', {class: 'mark', x1: x, x2: x, y1: 0, y2: 6, 'vector-effect': 'non-scaling-stroke'});
  }
  return out;
}

function rate(pool, name, old, elapsed) {
  const before = old && old.pools.find(p => p.database === pool.database && p.user === pool.user);
  if (!before || elapsed <= 0) return '–';
  return count(Math.max(0, pool.counters[name] - before.counters[name]) / elapsed);
}

function timesTable(pool) {
  const rows = [['wait for a server', pool.waitSeconds], ['query', pool.querySeconds],
    ['transaction', pool.transactionSeconds]];
  const cell = (tag, text, scope) => element(tag, scope ? {scope} : null, text);
  return element('div', {class: 'scroll'}, element('table', null,
    element('thead', null, element('tr', null, cell('th', 'time', 'col'), cell('th', 'p50', 'col'),
      cell('th', 'p95', 'col'), cell('th', 'p99', 'col'))),
    element('tbody', null, ...rows.map(([name, t]) => element('tr', null, cell('th', name, 'row'),
      cell('td', seconds(t.p50)), cell('td', seconds(t.p95)), cell('td', seconds(t.p99)))))));
}

function poolCard(pool, old, elapsed) {
  const card = element('article', null,
    element('div', {class: 'head'}, element('h3', null, pool.database + ' / ' + pool.user),
      element('span', {class: 'badge ' + pool.level}, pool.level),
      element('span', {class: 'soft'}, pool.mode + ' mode'),
      ...(pool.paused ? [element('span', {class: 'badge warning'}, 'paused')] : [])));
  if (pool.connectingFails) {
    card.append(element('p', {class: 'why'},
      'PostgreSQL cannot be reached: ' + pool.lastConnectError));
  }
  card.append(bar(pool), figures(element('dl', {class: 'figures'}), [
    ['in use', pool.busy + ' of ' + pool.size + (pool.overflow ? ' + ' + pool.overflow : '')],
    ['servers', states(pool.servers)],
    ['clients', states(pool.clients)],
    ['waiting', pool.waiting],
    ['oldest wait', seconds(pool.oldestWaiterSeconds)],
    ['transactions/s', rate(pool, 'transactions', old, elapsed)],
    ['errors', count(pool.counters.errors)],
    ['timed out waiting', count(pool.counters.acquireTimeouts)],
    ['pins', states(pool.counters.pins)]]), timesTable(pool));
  return card;
}

function showStatus(status) {
  const now = performance.now() / 1000;
  const old = previous && previous.status;
  const elapsed = previous ? now - previous.at : 0;
  document.getElementById('version').textContent = status.version;
  document.title = (status.level === 'ok' ? '' : status.level + ' · ') + 'Carpool';
  figures(document.getElementById('now'), [
    ['level', status.level + (status.draining ? ', draining' : '')],
    ['clients', status.clients.connected + ' of ' + status.clients.max],
    ['servers', status.totals.servers],
    ['waiting', status.totals.waiting],
    ['up for', seconds(status.uptimeSeconds)]]);
  document.getElementById('pool-list').replaceChildren(...(status.pools.length
    ? status.pools.map(pool => poolCard(pool, old, elapsed))
    : [element('p', {class: 'notice'}, 'No client has connected yet: a pool is made when one does.')
    ]));
  previous = {status, at: now};
}

function lines(title, list) {
  return list.length ? [element('p', null, element('strong', null, title)),
    element('ul', null, ...list.map(line => element('li', null, line)))] : [];
}

function showConfig(config) {
  document.getElementById('config').replaceChildren(
    figures(element('dl', {class: 'figures'}), [
      ['from', config.source], ['hash', config.hash.slice(0, 12)],
      ['in force for', seconds(config.ageSeconds)], ['last change', config.lastResult],
      ['watched by', config.watch]]),
    ...lines('Rejected; the configuration before it stays in force:', config.errors),
    ...lines('Warnings:', config.warnings),
    ...lines('Waits for a restart:', config.needsRestart),
    ...lines('Applied by the last change:', config.applied));
  document.getElementById('effective').textContent = JSON.stringify(config.effective, null, 2);
}

async function fetchJson(path) {
  const answer = await fetch(path, {cache: 'no-store', signal: AbortSignal.timeout(5000)});
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || answer.statusText);
  return body;
}

let timer = 0;
async function poll() {
  const live = document.getElementById('live');
  try {
    showStatus(await fetchJson('status'));
    showConfig(await fetchJson('config'));
    live.textContent = 'Live';
    live.className = '';
  } catch (error) {
    const since = previous ? ' The figures below are ' +
      seconds(performance.now() / 1000 - previous.at) + ' old.' : '';
    live.textContent = (error instanceof TypeError || error.name === 'TimeoutError'
      ? 'The sidecar does not answer.' : 'The sidecar says: ' + error.message + '.') + since;
    live.className = 'gone';
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, period);
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(timer);
  if (!document.hidden) poll();
});
poll();
)js";
}

}  // namespace carpool::admin
