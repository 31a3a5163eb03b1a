"use strict";
// The page keeps what it was sent and draws it again with each event. Texts from outside (names of tools, messages of
// errors) only ever become text nodes.

const $ = (id) => document.getElementById(id);
const state = { numbers: {}, spans: {}, tools: new Map(), traces: [], history: [], span: "1m", sort: "calls", down: true,
  shown: 100, tracesShown: 12, cpu: null, next: null };
const HISTORY_MAX = 300, TRACES_MAX = 300, SPANS = ["1s", "1m", "5m", "1h"];
const ROOMS = ["parse", "lookup", "dispatch", "queue", "handler", "encode", "upstream"];

function make(tag, text, className) {
  const found = document.createElement(tag);
  if (text !== undefined) found.textContent = text;
  if (className) found.className = className;
  return found;
}

function fill(parent, children) { parent.replaceChildren(...children); }

function count(value) {
  if (value >= 1e6) return (value / 1e6).toFixed(2) + " M";
  if (value >= 1e5) return (value / 1e3).toFixed(0) + " k";
  return Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(value < 10 ? 2 : 1);
}

function time(us) {
  if (!us) return "0";
  if (us < 1000) return us.toFixed(us < 10 ? 1 : 0) + " \u00b5s";
  if (us < 1e6) return (us / 1000).toFixed(us < 1e4 ? 2 : 1) + " ms";
  return (us / 1e6).toFixed(2) + " s";
}

// A step of an axis, which is a power of ten.
function stepTime(us) { return us >= 1e6 ? `${us / 1e6} s` : us >= 1000 ? `${us / 1000} ms` : `${us} \u00b5s`; }

function bytes(value) { return (value / 1048576).toFixed(1) + " MiB"; }

// ---- tiles

function tiles() {
  const span = state.spans[state.span] || {}, numbers = state.numbers;
  const share = span.calls ? (100 * span.errors / span.calls) : 0;
  const rows = [
    ["rate", "Requests a second", count(span.rate || 0)],
    ["errors", "Errors", share.toFixed(share && share < 1 ? 2 : 1) + " %", `${count(span.errors || 0)} of ${count(span.calls || 0)}`, share > 1],
    ["p50", "p50", time(span.p50)], ["p95", "p95", time(span.p95)], ["p99", "p99", time(span.p99)],
    ["p999", "p99.9", time(span.p999)],
    ["inflight", "In flight", count(numbers.erlmcp_inflight_requests || 0), "of " + count(numbers.erlmcp_inflight_max || 0)],
    ["overload", "Overload", ["none", "some", "high", "refusing"][numbers.erlmcp_overload_level || 0], `${count(numbers.erlmcp_shed_total || 0)} refused`, numbers.erlmcp_overload_level > 2],
    ["threads", "In threads", count(numbers.erlmcp_thread_calls || 0), "of " + count(numbers.erlmcp_thread_count_max || 0)],
    ["sessions", "Sessions", count(numbers.erlmcp_sessions || 0)],
    ["connections", "Connections", count(Object.values(state.connections || {}).reduce((sum, each) => sum + each, 0))],
    ["subscriptions", "Subscriptions", count(numbers.erlmcp_subscriptions || 0)],
    ["cpu", "CPU", state.cpu === null ? "\u2013" : state.cpu.toFixed(0) + " %"],
    ["memory", "Memory", bytes(numbers.process_resident_memory_bytes || 0)],
  ];
  fill($("tiles"), rows.map(([id, label, value, small, isBad]) => {
    const box = make("div", undefined, isBad ? "bad" : "");
    const shown = make("dd", value);
    shown.id = "tile-" + id;
    if (small) shown.append(" ", make("small", small));
    box.append(make("dt", label), shown);
    return box;
  }));
}

// ---- charts

const SVG = "http://www.w3.org/2000/svg";
function draw(tag, attributes, text) {
  const found = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  if (text !== undefined) found.textContent = text;
  return found;
}

function niceMax(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) || 10 * power;
}

class Chart {
  constructor(box, lines, format, step, isLog) {
    Object.assign(this, { box, lines, format, step, isLog, at: null });
    this.svg = draw("svg", { role: "img", tabindex: "0" });
    this.said = make("p", "", "quiet");
    box.append(this.svg, this.said);
    this.svg.addEventListener("pointermove", (event) => {
      const place = this.svg.getBoundingClientRect();
      this.point(Math.round((event.clientX - place.left - 52) / Math.max(1, place.width - 102) * (HISTORY_MAX - 1)));
    });
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
      if (event.key === "Escape") this.point(null);
      if (step) { this.point((this.at === null ? HISTORY_MAX - 1 : this.at) + step); event.preventDefault(); }
    });
  }

  point(at) {
    this.at = at === null ? null : Math.max(0, Math.min(HISTORY_MAX - 1, at));
    this.update();
  }

  update() {
    const width = Math.max(280, this.box.clientWidth), height = 220, left = 52, right = width - 50, top = 10, low = 195;
    const rows = state.history, last = rows.length ? rows[rows.length - 1][0] : 0;
    const x = (second) => left + (right - left) * (1 - (last - second) / (HISTORY_MAX - 1));
    const values = rows.flatMap((row) => this.lines.map((line) => row[line.index])).filter((value) => value > 0);
    const highest = Math.max(...values, this.isLog ? 10 : 1), lowest = Math.min(...values, highest);
    const max = this.isLog ? 10 ** Math.ceil(Math.log10(highest)) : niceMax(highest);
    const min = this.isLog ? 10 ** Math.floor(Math.log10(lowest)) : 0;
    const y = (value) => this.isLog
      ? low - (low - top) * Math.log10(Math.max(value, min) / min) / (Math.log10(max / min) || 1)
      : low - (low - top) * value / max;
    const steps = this.isLog
      ? Array.from({ length: Math.round(Math.log10(max / min)) + 1 }, (_, power) => min * 10 ** power)
      : [0, .25, .5, .75, 1].map((part) => part * max);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [];
    for (const step of steps) {
      parts.push(draw("line", { x1: left, x2: right, y1: y(step), y2: y(step), class: "grid" }));
      parts.push(draw("text", { x: left - 6, y: y(step) + 4, "text-anchor": "end" }, this.step(step)));
    }
    for (const minutes of [5, 4, 3, 2, 1, 0]) {
      parts.push(draw("text", { x: x(last - minutes * 60), y: height - 8, "text-anchor": "middle" }, minutes ? `\u2212${minutes} min` : "now"));
    }
    let free = Infinity;
    const ends = this.lines.map((line) => ({ line, y: rows.length ? y(rows[rows.length - 1][line.index]) : low })).sort((a, b) => b.y - a.y);
    for (const line of this.lines) {
      let path = "", isDown = false;
      for (const row of rows) {
        const isGap = this.isLog && !row[line.index];
        if (!isGap) path += `${isDown ? "L" : "M"}${x(row[0]).toFixed(1)} ${y(row[line.index]).toFixed(1)}`;
        isDown = !isGap;
      }
      parts.push(draw("path", { d: path || "M0 0", class: "line " + line.colour }));
    }
    for (const end of ends) {
      free = Math.min(end.y + 4, free - 14);
      parts.push(draw("text", { x: right + 4, y: free, class: end.line.colour }, end.line.name));
    }
    const second = this.at === null ? last : last - (HISTORY_MAX - 1 - this.at);
    const row = rows.find((each) => each[0] === second);
    if (this.at !== null) parts.push(draw("line", { x1: x(second), x2: x(second), y1: top, y2: low, class: "cursor" }));
    const told = row ? this.lines.map((line) => `${line.name} ${this.format(row[line.index])}`).join(", ") : "nothing recorded";
    this.said.textContent = `${this.at === null ? "last second" : `${last - second} s ago`}: ${told}`;
    this.svg.setAttribute("aria-label", `Line chart of the last five minutes. ${this.said.textContent}`);
    fill(this.svg, parts);
  }
}

const charts = [
  new Chart($("throughput"), [{ name: "calls", index: 1, colour: "a" }, { name: "errors", index: 2, colour: "b" }], count, count, false),
  new Chart($("latency"), [{ name: "p50", index: 3, colour: "a" }, { name: "p95", index: 4, colour: "b" }, { name: "p99", index: 5, colour: "c" }], time, stepTime, true),
];

// ---- tools

const COLUMNS = [["name", "Tool", String, "name"], ["rate", "A second", count], ["calls", "Calls", count],
  ["errors", "Errors", count], ["p50", "p50", time], ["p95", "p95", time], ["p99", "p99", time], ["p999", "p99.9", time],
  ["total", "Since start", count], ["failed", "Failed", count]];

function toolHead() {
  fill($("tools-table").tHead.rows[0], COLUMNS.map(([key, label]) => {
    const cell = make("th", undefined, key === "name" ? "name" : "number"), button = make("button", label);
    cell.scope = "col";
    cell.setAttribute("aria-sort", state.sort !== key ? "none" : state.down ? "descending" : "ascending");
    if (state.sort === key) button.append(state.down ? " \u25bc" : " \u25b2");
    button.type = "button";
    button.dataset.key = key;
    button.addEventListener("click", () => {
      [state.sort, state.down] = [key, state.sort === key ? !state.down : key !== "name"];
      toolHead();
      tools();
      $("tools-table").querySelector(`[data-key="${key}"]`).focus();
    });
    cell.append(button);
    return cell;
  }));
}

function tools() {
  const wanted = $("filter").value.toLowerCase(), key = state.sort, sign = state.down ? -1 : 1;
  const rows = [...state.tools.values()].filter((row) => row.name.toLowerCase().includes(wanted));
  rows.sort((a, b) => (key === "name" ? a.name.localeCompare(b.name) : a[key] - b[key]) * sign || a.name.localeCompare(b.name));
  $("tools-count").textContent = wanted ? `${rows.length} of ${state.tools.size}` : `${state.tools.size}`;
  fill($("tools-table").tBodies[0], rows.slice(0, state.shown).map((row) => {
    const line = make("tr");
    line.dataset.name = row.name;
    for (const [field, , format] of COLUMNS) {
      const isBad = (field === "errors" || field === "failed") && row[field];
      const cell = make("td", format(row[field]), (field === "name" ? "name" : "number") + (isBad ? " bad" : ""));
      cell.dataset.field = field;
      cell.dataset.value = row[field];
      line.append(cell);
    }
    return line;
  }));
  $("tools-more").hidden = rows.length <= state.shown;
}

// ---- traces

function rooms(trace) {
  const box = make("td"), names = Object.keys(trace.rooms), total = names.reduce((sum, name) => sum + trace.rooms[name], 0);
  if (!names.length) return box;
  const bar = make("div", undefined, "rooms");
  for (const name of names) {
    const part = make("span", undefined, "room-" + Math.max(0, ROOMS.indexOf(name)));
    part.style.flexGrow = total ? trace.rooms[name] / total : 1;
    part.title = `${name} ${time(trace.rooms[name])}`;
    bar.append(part);
  }
  box.append(bar, make("div", names.map((name) => `${name} ${time(trace.rooms[name])}`).join(", "), "roomtext"));
  return box;
}

function traces() {
  const wanted = $("reason").value, rows = state.traces.filter((trace) => !wanted || trace.reason === wanted);
  $("traces-count").textContent = rows.length ? `${rows.length}` : "";
  $("traces-none").hidden = rows.length > 0;
  $("traces-more").hidden = rows.length <= state.tracesShown;
  fill($("traces-table").tBodies[0], rows.slice(-state.tracesShown).reverse().map((trace) => {
    const line = make("tr"), outcome = trace.error ? [trace.error, trace.message].filter(Boolean).join(": ") : trace.reason;
    line.append(make("td", new Date(trace.at * 1000).toLocaleTimeString(), "time"));
    line.append(make("td", `${trace.method} ${trace.name}`, "name"), make("td", time(trace.us), "number"));
    line.append(make("td", outcome, "name" + (trace.error ? " bad" : "")), rooms(trace));
    return line;
  }));
}

// ---- small tables

function table(id, groups) {
  const head = make("tr"), body = make("tbody");
  for (const label of ["", "A second", "p50", "p95", "p99"]) head.append(make("th", label, label ? "number" : "name"));
  for (const [title, rows] of groups) {
    if (title) {
      const line = make("tr", undefined, "group"), cell = make("th", title);
      cell.colSpan = 5;
      line.append(cell);
      body.append(line);
    }
    for (const row of rows) {
      const line = make("tr");
      line.append(make("td", row.name, "name"), make("td", count(row.rate), "number"));
      for (const key of ["p50", "p95", "p99"]) line.append(make("td", time(row[key]), "number"));
      body.append(line);
    }
  }
  const top = make("thead");
  top.append(head);
  fill($(id), [top, body]);
}

const KINDS = { text: String, state: String, count, time, share: (value) => (100 * value).toFixed(value && value < .1 ? 1 : 0) + " %" };
const BAD = ["open", "down", "back"];

// Tables that the server describes: title, columns, rows.
function sections(found) {
  fill($("sections"), found.map((section) => {
    const box = make("section"), title = make("h2", section.title), scroll = make("div", undefined, "scroll");
    const list = make("table"), head = make("tr"), top = make("thead"), body = make("tbody");
    title.id = `section-${section.id}-title`;
    box.id = `section-${section.id}`;
    box.setAttribute("aria-labelledby", title.id);
    scroll.tabIndex = 0;
    scroll.setAttribute("aria-label", `Table of ${section.title}`);
    const isNumber = (kind) => kind !== "text" && kind !== "state";
    for (const [, label, kind] of section.columns) {
      const cell = make("th", label, isNumber(kind) ? "number" : "name");
      cell.scope = "col";
      head.append(cell);
    }
    for (const row of section.rows) {
      const line = make("tr");
      line.dataset.name = row.name;
      for (const [key, , kind] of section.columns) {
        const value = row[key], isBad = kind === "state" && BAD.includes(value);
        const text = value === null || value === undefined || value === "" ? "" : KINDS[kind](value);
        const cell = make("td", isBad ? `\u26a0 ${text}` : text, (isNumber(kind) ? "number" : "name") + (isBad ? " bad" : ""));
        cell.dataset.field = key;
        cell.dataset.value = value ?? "";
        if (isBad && key === "state" && row.why) cell.append(make("div", row.why, "roomtext"));
        line.append(cell);
      }
      body.append(line);
    }
    top.append(head);
    list.append(top, body);
    scroll.append(list);
    box.append(title, scroll);
    if (section.left_out) box.append(make("p", `${section.left_out} more are in /metrics.`, "quiet"));
    return box;
  }));
}

function more(rows) {
  $("more-section").hidden = !rows.length;
  fill($("more"), rows.map((row) => {
    const box = make("div"), list = make("table"), body = make("tbody");
    for (const [labels, value] of row.values.slice(0, 50)) {
      const line = make("tr");
      line.append(make("td", labels, "name"), make("td", count(value), "number"));
      body.append(line);
    }
    list.append(body);
    box.append(make("h3", row.name), make("p", row.help, "quiet"), list);
    return box;
  }));
}

async function sessions(cursor) {
  const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
  const answer = await fetch(`/metrics/dashboard/sessions${query}`);
  if (!answer.ok) return;
  const page = await answer.json(), head = make("thead"), line = make("tr"), body = make("tbody");
  for (const label of ["Digest", "Client", "Transport", "Revision", "In flight", "Age"]) line.append(make("th", label));
  head.append(line);
  for (const row of page.sessions) {
    const each = make("tr");
    for (const text of [row.id, row.client, row.transport, row.version, row.inflight, `${row.age_s} s`]) each.append(make("td", String(text ?? "")));
    body.append(each);
  }
  fill($("sessions-table"), page.sessions.length ? [head, body] : []);
  state.next = page.next;
  $("sessions-next").disabled = !page.next;
}

// ---- what comes

function take(data, isFirst) {
  if (isFirst) {
    Object.assign(state, { tools: new Map(), traces: [], history: [], facts: data.facts, cpu: null });
    const facts = data.facts;
    document.title = `${facts.name} - erlmcp`;
    $("name").textContent = facts.name;
    $("facts").textContent = `${facts.version} \u00b7 erlmcp ${facts.erlmcp} (${facts.core}) \u00b7 Python ${facts.python} \u00b7 pid ${facts.pid} \u00b7 since ${new Date(facts.started * 1000).toLocaleString()}`;
    sessions(null);
  }
  const before = state.numbers.process_cpu_seconds_total, second = state.second;
  Object.assign(state, { numbers: data.numbers, spans: data.spans, connections: data.connections, second: data.second });
  if (!isFirst && data.second > second) state.cpu = 100 * (data.numbers.process_cpu_seconds_total - before) / (data.second - second);
  for (const row of data.tools) state.tools.set(row.name, row);
  for (const name of data.gone) state.tools.delete(name);
  state.traces = state.traces.concat(data.traces).slice(-TRACES_MAX);
  state.history = state.history.concat(data.history).slice(-HISTORY_MAX);
  tiles();
  for (const chart of charts) chart.update();
  if (isFirst || data.tools.length || data.gone.length) tools();
  if (isFirst || data.traces.length) traces();
  table("points-table", [["", data.points]]);
  table("ways-table", [["Transport", data.transports], ["Protocol revision", data.versions], ["Method", data.methods]]);
  fill($("flags"), Object.entries(data.flags).map(([name, isOn]) => make("li", name, isOn ? "" : "off")));
  sections(data.sections);
  more(data.more);
  $("sessions-count").textContent = count(data.numbers.erlmcp_sessions || 0);
  $("state").textContent = "live";
  $("state").className = "state live";
  document.body.dataset.second = data.second;
}

let source = null, wait = 500, timer = 0;
function connect() {
  clearTimeout(timer);
  if (source) source.close();
  source = new EventSource(`/metrics/dashboard/feed?span=${state.span}`);
  source.addEventListener("first", (event) => { wait = 500; take(JSON.parse(event.data), true); });
  source.addEventListener("tick", (event) => take(JSON.parse(event.data), false));
  source.addEventListener("error", () => {
    source.close();
    $("state").textContent = "lost, trying again";
    $("state").className = "state lost";
    timer = setTimeout(connect, wait);
    wait = Math.min(5000, wait * 2);
  });
}

function choose(span) {
  state.span = $("span").value = span;
  connect();
}

function keep(name, value) { try { localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } }
function kept(name) { try { return localStorage.getItem(name) || ""; } catch { return ""; } }

$("span").addEventListener("change", () => choose($("span").value));
$("look").addEventListener("change", () => { document.documentElement.dataset.look = $("look").value; keep("look", $("look").value); });
$("filter").addEventListener("input", () => { state.shown = 100; tools(); });
$("tools-more").addEventListener("click", () => { state.shown += 200; tools(); });
$("reason").addEventListener("change", traces);
$("traces-more").addEventListener("click", () => { state.tracesShown += 50; traces(); });
$("sessions-first").addEventListener("click", () => sessions(null));
$("sessions-next").addEventListener("click", () => state.next && sessions(state.next));
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { $("filter").focus(); event.preventDefault(); }
  if ("1234".includes(event.key)) choose(SPANS[event.key - 1]);
});
addEventListener("resize", () => charts.forEach((chart) => chart.update()));
if (location.search.includes("token=")) history.replaceState(null, "", location.pathname);
$("look").value = document.documentElement.dataset.look = kept("look");
$("traces-key").textContent = "No arguments, results or session ids are kept.";
toolHead();
connect();
