#include "admin/status_page.h"

namespace carpool::admin {

std::string_view status_page_js() {
  return R"js('use strict';
const pollMs = 2000;
const xmlns = 'http://www.w3.org/2000/svg';
const byId = id => document.getElementById(id);
const cards = new Map();   // pool key -> card
const past = new Map();    // pool key -> samples of the last ten minutes
let nextSample = 0;
let samplesMax = 120;
let sampleSeconds = 5;
let historyAt = -Infinity;
let answeredAt = 0;        // when the last good answer came
let timer = 0;

const keyOf = pool => pool.database + '\0' + pool.user;

function element(tag, attributes, ...children) {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) out.setAttribute(name, value);
  out.append(...children);
  return out;
}

function svgElement(tag, attributes) {
  const out = document.createElementNS(xmlns, tag);
  for (const [name, value] of Object.entries(attributes)) out.setAttribute(name, value);
  return out;
}

// Writes only what has changed, so that a selection and a screen reader's place survive a poll.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function seconds(value) {
  if (!(value > 0)) return '0';
  if (value < 1e-3) return (value * 1e6).toFixed(0) + ' µs';
  if (value < 1) return (value * 1e3).toFixed(value < 0.01 ? 1 : 0) + ' ms';
  if (value < 120) return value.toFixed(1) + ' s';
  if (value < 7200) return Math.round(value / 60) + ' min';
  if (value < 172800) return Math.round(value / 3600) + ' h';
  return Math.round(value / 86400) + ' d';
}

function count(value) {
  return value.toLocaleString('en', {maximumFractionDigits: value < 10 ? 1 : 0});
}

// A list of terms whose values are updated in place.
function figures(list, pairs) {
  pairs.forEach(([name, value, wide], i) => {
    let entry = list.children[i];
    if (!entry) {
      entry = element('div', wide ? {class: 'wide'} : null, element('dt'), element('dd'));
      list.append(entry);
    }
    say(entry.firstChild, name);
    say(entry.lastChild, String(value));
  });
  while (list.children.length > pairs.length) list.lastChild.remove();
}

function states(values) {
  const some = Object.entries(values).filter(([name, n]) => name !== 'total' && n > 0);
  return some.length ? some.map(([name, n]) => n + ' ' + name.replaceAll('_', ' ')).join(', ')
    : 'none';
}

function makeBar() {
  const fill = svgElement('rect', {class: 'fill', width: 0, height: 6});
  const svg = svgElement('svg', {role: 'img', viewBox: '0 0 100 6', preserveAspectRatio: 'none'});
  svg.append(svgElement('rect', {class: 'track', width: 100, height: 6}), fill);
  for (const x of [80, 95]) {
    svg.append(svgElement('line', {class: 'mark', x1: x, x2: x, y1: 0, y2: 6,
      'vector-effect': 'non-scaling-stroke'}));
  }
  const root = element('div', {class: 'bar'}, svg,
    element('span', {class: 'at80', 'aria-hidden': 'true'}, '80%'),
    element('span', {class: 'at95', 'aria-hidden': 'true'}, '95%'));
  return {root, update(pool) {
    fill.setAttribute('class', 'fill ' + pool.level);
    fill.setAttribute('width', Math.min(100, pool.utilisation * 100));
    svg.setAttribute('aria-label', count(pool.utilisation * 100) + ' percent of ' +
      (pool.size + pool.overflow) + ' servers in use');
  }};
}

const charts = [
  {name: 'servers in use', key: 'busy', limit: 'capacity', show: count},
  {name: 'clients waiting', key: 'waiting', show: count},
  {name: 'transactions/s', key: 'transactionsPerSecond', show: count},
  {name: 'query p99', key: 'querySecondsP99', show: seconds},
  {name: 'wait p99', key: 'waitSecondsP99', show: seconds},
  {name: 'errors/s', key: 'errorsPerSecond', show: count}];

function makeChart(chart) {
  const area = svgElement('path', {class: 'area'});
  const line = svgElement('path', {class: 'line'});
  const limit = svgElement('path', {class: 'limit'});
  const svg = svgElement('svg', {role: 'img', viewBox: '0 0 120 40', preserveAspectRatio: 'none',
    'aria-label': chart.name + ': nothing yet'});
  svg.append(area, limit, line);
  const value = element('span', {title: 'the highest of the last ten minutes'});
  const root = element('figure', null,
    element('figcaption', null, element('span', null, chart.name), value), svg);
  return {root, update(samples) {
    const values = samples[chart.key];
    const limits = chart.limit ? samples[chart.limit] : [];
    const top = Math.max(...values, ...limits) || 1;
    const path = list => list.map((v, i) => (i ? 'L' : 'M') +
      ((samplesMax - list.length + i) * 120 / (samplesMax - 1)).toFixed(1) + ' ' +
      (38 - 36 * v / top).toFixed(1)).join('');
    const drawn = path(values);
    line.setAttribute('d', drawn);
    area.setAttribute('d', values.length > 1 ? drawn + 'V40H' + drawn.slice(1).split(' ')[0] + 'Z'
      : '');
    limit.setAttribute('d', path(limits));
    const peak = values.length ? Math.max(...values) : 0;
    say(value, 'max ' + chart.show(peak));
    svg.setAttribute('aria-label', chart.name + ' over the last ' +
      seconds(values.length * sampleSeconds) + ': now ' + chart.show(values.at(-1) || 0) +
      ', at most ' + chart.show(peak));
  }};
}

function makeTimes() {
  const rows = [['wait for a server', 'waitSeconds'], ['query', 'querySeconds'],
    ['transaction', 'transactionSeconds']];
  const corner = element('th', {scope: 'col'});
  const cells = rows.map(() => ['p50', 'p95', 'p99'].map(() => element('td')));
  const body = rows.map(([name], i) =>
    element('tr', null, element('th', {scope: 'row'}, name), ...cells[i]));
  const heads = ['p50', 'p95', 'p99'].map(name => element('th', {scope: 'col'}, name));
  const root = element('div', {class: 'scroll'}, element('table', null,
    element('thead', null, element('tr', null, corner, ...heads)),
    element('tbody', null, ...body)));
  return {root, update(pool) {
    const times = pool.lastMinute || pool;
    say(corner, pool.lastMinute ? 'last ' + seconds(pool.lastMinute.seconds) : 'since the start');
    rows.forEach(([, key], i) => ['p50', 'p95', 'p99'].forEach((p, j) =>
      say(cells[i][j], times[key].count ? seconds(times[key][p]) : '–')));
  }};
}

function makeCard(pool) {
  const badge = element('span');
  const note = element('span', {class: 'soft'});
  const list = element('dl', {class: 'figures'});
  const parts = [makeBar(), makeTimes()];
  const drawn = charts.map(makeChart);
  const root = element('article', null,
    element('div', {class: 'head'},
      element('h3', null, pool.database + ' / ' + pool.user), badge, note),
    parts[0].root, list, element('div', {class: 'past'},
      element('div', {class: 'charts'}, ...drawn.map(chart => chart.root)), parts[1].root));
  return {root, draw(samples) {
    for (const chart of drawn) chart.update(samples);
  }, update(now) {
    const minute = now.lastMinute;
    badge.className = 'badge ' + now.level;
    say(badge, now.level);
    say(note, now.mode + ' mode' + (now.paused ? ', paused' : '') +
      (now.connectingFails ? ', cannot connect' : ''));
    for (const part of parts) part.update(now);
    figures(list, [
      ['in use', now.busy + ' of ' + now.size + (now.overflow ? ' + ' + now.overflow : '') +
        ', ' + count(now.utilisation * 100) + '%'],
      ['servers', states(now.servers)],
      ['clients', states(now.clients), 'wide'],
      ['waiting', now.waiting],
      ['oldest wait', seconds(now.oldestWaiterSeconds)],
      ['transactions/s', minute ? count(minute.transactionsPerSecond) : '–'],
      ['errors', count(now.counters.errors) +
        (minute && minute.errorsPerSecond ? ', ' + count(minute.errorsPerSecond) + '/s' : '')],
      ['timed out waiting', count(now.counters.acquireTimeouts)],
      ['pins', states(now.counters.pins)]]);
  }};
}

function showPools(pools) {
  const seen = new Set();
  for (const pool of pools) {
    const key = keyOf(pool);
    seen.add(key);
    if (!cards.has(key)) {
      cards.set(key, makeCard(pool));
      byId('pools').append(cards.get(key).root);
      if (past.has(key)) cards.get(key).draw(past.get(key));
    }
    cards.get(key).update(pool);
  }
  for (const [key, card] of cards) {
    if (seen.has(key)) continue;
    card.root.remove();
    cards.delete(key);
    past.delete(key);
  }
  byId('no-pools').hidden = pools.length > 0;
}

// Also where there is no pool yet that would say so.
function whatIsPaused(status) {
  const names = status.paused ? status.resumedDatabases : status.pausedDatabases;
  const some = names.slice(0, 3).join(', ') + (names.length > 3 ? ' and others' : '');
  if (status.paused) return ', all paused' + (some ? ' but ' + some : '');
  return some && ', paused: ' + some;
}

const causes = {
  paused: 'Paused',
  database_unreachable: 'PostgreSQL cannot be reached',
  cannot_open_more: 'PostgreSQL takes no more connections',
  opening_servers: 'Servers are being opened',
  pinned: 'Servers are pinned to their clients',
  idle_in_transaction: 'Transactions are left open',
  idle_in_session: 'Idle sessions keep their servers',
  slow_query: 'Long queries run',
  pool_too_small: 'The pool is too small'};

function makeReason() {
  const title = element('strong');
  const sentence = element('span');
  const key = element('code');
  const setting = element('p', {class: 'soft'}, 'Setting: ', key);
  const root = element('div', null, title, sentence, setting);
  // Without a reason nobody waits; `full` names the pools in which somebody soon might.
  return {root, update(why, full) {
    root.className = why ? 'reason' : full ? 'notice almost' : 'notice fine';
    say(title, why ? causes[why.cause] || why.cause : '');
    say(sentence, why ? why.sentence : 'Nobody waits for a server' +
      (full ? ', but hardly any is free: ' + full : '') + '.');
    setting.hidden = !why || !why.setting;
    say(key, why ? why.setting : '');
  }};
}

const reasonsShown = [];

function showWhy(pools) {
  const box = byId('why');
  const reasons = pools.filter(pool => pool.why);
  const wanted = reasons.length ? reasons.map(pool => pool.why) : [null];
  const full = pools.filter(pool => pool.level !== 'ok').map(pool => pool.database + ' / ' +
    pool.user + ' at ' + count(pool.utilisation * 100) + '%').join(', ');
  wanted.forEach((why, i) => {
    if (!reasonsShown[i]) {
      reasonsShown[i] = makeReason();
      box.append(reasonsShown[i].root);
    }
    reasonsShown[i].update(why, full);
  });
  while (reasonsShown.length > wanted.length) reasonsShown.pop().root.remove();
  // Read aloud when the reason changes, not each time a figure in it does.
  say(byId('news'), reasons.map(pool => pool.database + ': ' +
    (causes[pool.why.cause] || pool.why.cause)).join('; '));
}

function showStatus(status) {
  say(byId('version'), status.version);
  document.title = (status.level === 'ok' ? '' : status.level + ' · ') + 'Carpool';
  byId('now').className = 'figures level-' + status.level;
  figures(byId('now'), [
    ['level', status.level + (status.draining ? ', draining' : '') + whatIsPaused(status)],
    ['clients', status.clients.connected + ' of ' + status.clients.max],
    ['servers', status.totals.servers],
    ['in use', status.totals.busy],
    ['waiting', status.totals.waiting],
    ['up for', seconds(status.uptimeSeconds)]]);
  showWhy(status.pools);
  showPools(status.pools);
}

function showHistory(history) {
  nextSample = history.next;
  samplesMax = history.samplesMax;
  sampleSeconds = history.intervalSeconds;
  for (const pool of history.pools) {
    const key = keyOf(pool);
    const had = past.get(key);
    const joins = had && had.first + had.busy.length === pool.first;
    const all = {first: joins ? had.first : pool.first};
    for (const [name, values] of Object.entries(pool)) {
      if (Array.isArray(values)) all[name] = joins ? had[name].concat(values) : values;
    }
    const surplus = Math.max(0, all.busy.length - samplesMax);
    all.first += surplus;
    for (const name of Object.keys(all)) {
      if (Array.isArray(all[name])) all[name] = all[name].slice(surplus);
    }
    past.set(key, all);
    if (cards.has(key)) cards.get(key).draw(all);
  }
}

function showConfig(config) {
  figures(byId('config'), [
    ['from', config.source, 'wide'],
    ['hash', config.hash.slice(0, 12)],
    ['in force for', seconds(config.ageSeconds)],
    ['last change', config.lastResult],
    ['reloads', config.reloads.applied + ' applied, ' + config.reloads.rejected + ' rejected'],
    ['watched by', config.watch]]);
  byId('rejected').hidden = config.errors.length === 0;
  const lists = [
    ['Rejected; the configuration before it stays in force', config.errors, 'critical'],
    ['Waits for a restart', config.needsRestart, 'warning'],
    ['Late', config.late, 'warning'],
    ['Warnings', config.warnings, 'warning'],
    ['Applied by the last change', config.applied, 'soft']];
  const wanted = JSON.stringify(lists);
  const box = byId('config-lists');
  if (box.dataset.shown !== wanted) {
    box.dataset.shown = wanted;
    box.replaceChildren(...lists.filter(([, lines]) => lines.length).map(([title, lines, kind]) =>
      element('div', {class: 'notice'}, element('strong', {class: kind}, title),
        element('ul', null, ...lines.map(line => element('li', null, line))))));
  }
  say(byId('effective'), JSON.stringify(config.effective, null, 2));
}

async function fetchJson(path) {
  const answer = await fetch(path, {cache: 'no-store', signal: AbortSignal.timeout(5000)});
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || answer.statusText);
  return body;
}

async function poll() {
  clearTimeout(timer);
  const live = byId('live');
  const now = performance.now();
  try {
    showStatus(await fetchJson('status'));
    if (now - historyAt >= sampleSeconds * 1000) {
      showHistory(await fetchJson('history?since=' + nextSample));
      historyAt = now;
    }
    showConfig(await fetchJson('config'));
    answeredAt = now;
    say(live, 'Live');
    live.className = 'ok';
  } catch (error) {
    const gone = error instanceof TypeError || error.name === 'TimeoutError' ||
      error.name === 'SyntaxError';
    if (gone) {  // another process may come back: its samples are numbered anew
      nextSample = 0;
      historyAt = -Infinity;
    }
    say(live, (gone ? 'The sidecar is gone.' : 'The sidecar says: ' + error.message + '.') +
      (answeredAt ? ' What you see is ' + seconds((now - answeredAt) / 1000) + ' old.' : ''));
    live.className = 'gone';
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, pollMs);
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(timer);
    say(byId('live'), 'Paused while hidden');
  } else {
    poll();
  }
});
poll();
)js";
}

}  // namespace carpool::admin
