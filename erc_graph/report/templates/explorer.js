"use strict";
const explorer = (() => {
  const { labels, streams, trust, conversations } = JSON.parse(document.getElementById("data").textContent);
  const free = conversations.every((c) => c.y.every((y) => y < 0)); // what a model says alone: nothing is right or wrong
  const kinds = labels.length, lanes = streams.length;
  const byId = (id) => document.getElementById(id);
  const [app, list, chat, stage, wires, detail, search, order, filter] =
    ["app", "list", "chat", "stage", "wires", "detail", "search", "order", "filter"].map(byId);
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // What a corpus says only ever becomes text, never markup.
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const draw = (tag, values, parent) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
    parent.append(element);
    return element;
  };
  const emotion = (kind) => {
    const element = make("span", "emotion", kind < 0 ? "unlabelled" : labels[kind]);
    element.style.setProperty("--c", `var(--e${kind})`);
    return element;
  };
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const signed = (value) => (value === null ? "–" : (value > 0 ? "+" : "") + value.toFixed(1));
  const wrong = (c, t) => c.y[t] >= 0 && c.p[t] >= 0 && c.y[t] !== c.p[t];
  const speaker = (c, t) => (c.n ? c.n[c.s[t]] : `turn ${t}`);
  const sure = (c, t) => (c.q && c.p[t] >= 0 ? c.q[t * kinds + c.p[t]] : null);
  const decimal = (percent) => (percent / 100).toFixed(2);
  const splits = new Set(conversations.map((c) => c.d));
  for (const c of conversations) {
    c.judged = c.y.filter((y, t) => y >= 0 && c.p[t] >= 0).length;
    c.wrong = c.y.filter((_, t) => wrong(c, t)).length;
    c.unsure = new Set(c.u);
  }

  let order_ = [], current = -1, chosen = 0, shown = -1, only = null;

  // -- the list of conversations --------------------------------------------------------------
  const matches = (c, t) => !only || (c.y[t] === only[0] && c.p[t] === only[1]);
  const words = (c) => (c.words ??= [c.i, ...(c.n ?? []), ...(c.t ?? [])].join("\n").toLowerCase());
  const strip = (c) => {
    const size = 100 / c.y.length;
    const colour = (t) => (free ? `var(--e${c.p[t]})` : c.y[t] < 0 || c.p[t] < 0 ? "var(--line)" : wrong(c, t) ? "var(--bad)" : "color-mix(in oklab, var(--good) 45%, var(--card))");
    return `linear-gradient(to right,${c.y.map((_, t) => `${colour(t)} ${(t * size).toFixed(2)}% ${((t + 1) * size).toFixed(2)}%`).join(",")})`;
  };
  const mostly = (c) => {
    const counts = labels.map((_, k) => c.p.filter((p) => p === k).length);
    return labels[counts.indexOf(Math.max(...counts))];
  };
  const option = (i) => {
    if (!conversations[i].option) {
      const c = conversations[i], item = make("li"), figures = make("small");
      item.id = `o${i}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      figures.append(make("span", "", plural(c.y.length, "utterance") + (splits.size > 1 ? ` · ${c.d}` : "")), make("span", "", free ? `mostly ${mostly(c)}` : `${c.wrong} wrong`));
      const line = make("i");
      line.style.background = strip(c);
      item.append(make("b", "", c.i), figures, line);
      c.option = item;
    }
    return conversations[i].option;
  };
  const refresh = () => {
    const asked = search.value.trim().toLowerCase();
    order_ = [...conversations.keys()].filter((i) => {
      const c = conversations[i];
      return (!asked || words(c).includes(asked)) && (!only || c.y.some((_, t) => matches(c, t)));
    });
    const key = {
      wrong: (c) => -c.wrong, best: (c) => (c.judged ? c.wrong / c.judged : 2), long: (c) => -c.y.length,
    }[order.value];
    if (key) order_.sort((a, b) => key(conversations[a]) - key(conversations[b]));
    list.replaceChildren(...order_.map(option));
    byId("count").textContent = order_.length === conversations.length ? plural(order_.length, "conversation") : `${order_.length} of ${plural(conversations.length, "conversation")}`;
    filter.hidden = !only;
    if (only) filter.textContent = `${labels[only[0]]} → ${labels[only[1]]} ✕`;
    filter.setAttribute("aria-label", `Only ${filter.textContent.slice(0, -2)}; show all`);
  };
  const move = (step) => {
    const place = order_.indexOf(current);
    const next = order_[Math.max(0, Math.min(order_.length - 1, place < 0 ? 0 : place + step))];
    if (next !== undefined) open(next);
  };

  // -- one conversation -----------------------------------------------------------------------
  const open = (i, turn) => {
    const c = conversations[i];
    if (current >= 0) option(current).setAttribute("aria-selected", "false");
    current = i;
    const item = option(i);
    item.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", item.id);
    if (item.isConnected) inside(list, item);
    byId("name").textContent = c.i;
    const parts = [plural(c.y.length, "utterance")];
    if (c.n) parts.push(c.n.length > 5 ? plural(c.n.length, "speaker") : c.n.map((name) => `\u2068${name}\u2069`).join(", "));
    if (!free) parts.push(c.judged ? `${c.judged - c.wrong} of ${c.judged} right` : "not evaluated");
    if (c.d && c.d !== "test") parts.push({ train: "seen in training", dev: "development split" }[c.d] ?? c.d);
    byId("about").textContent = parts.join(" · ");
    const first = c.y.findIndex((_, t) => (only ? matches(c, t) : wrong(c, t)));
    chosen = turn ?? Math.max(first, 0);
    shown = -1;
    chat.replaceChildren(...c.y.map((_, t) => bubble(c, t)));
    stage.scrollTop = 0;
    dispatchEvent(new Event("conversation"));
    lay();
    show(chosen);
    inside(stage, chat.children[chosen]);
  };
  const bubble = (c, t) => {
    const item = make("li", [c.s?.[t] % 2 === 1 && "other", wrong(c, t) && "wrong", free && "felt", c.unsure.has(t) && "unsure"].filter(Boolean).join(" "));
    if (free) item.style.setProperty("--c", `var(--e${c.p[t]})`);
    item.tabIndex = t === chosen ? 0 : -1;
    item.dataset.turn = t;
    item.setAttribute("aria-describedby", "heard");
    const said = c.t ? c.t[t] : undefined;
    const speech = make("div", `bubble${said ? "" : " silent"}`, said || (c.t ? "no text" : `turn ${t}`));
    speech.dir = "auto";
    if (c.n && (t === 0 || c.s[t] !== c.s[t - 1])) item.append(make("span", "who", c.n[c.s[t]]));
    item.append(speech, verdict(c, t));
    return item;
  };
  const felt = (c, t) => {
    const element = emotion(c.p[t]);
    if (c.v) element.textContent = signed(c.v[2 * t + 1]);
    return element;
  };
  const verdict = (c, t) => {
    const tags = make("div", "tags"), percent = sure(c, t);
    const figure = c.v ? ` ${signed(c.v[2 * t + 1])}` : percent === null ? "" : ` ${decimal(percent)}`;
    if (free) tags.append(felt(c, t), make("span", "", c.v ? "" : figure), ...(c.unsure.has(t) ? [make("span", "", "unsure")] : []), make("span", "", c.w?.[t]));
    else if (c.p[t] < 0) tags.append(emotion(c.y[t]), make("span", "", "no prediction"));
    else if (c.y[t] < 0) tags.append(make("span", "", "predicted"), emotion(c.p[t]), make("span", "", figure + ", unlabelled"));
    else if (!wrong(c, t)) tags.append(make("b", "", "✓ right"), emotion(c.y[t]), make("span", "", figure));
    else tags.append(make("b", "", "✗ wrong"), emotion(c.y[t]), make("span", "arrow", "predicted as"), emotion(c.p[t]), make("span", "", figure));
    return tags;
  };

  // -- the graph beside it --------------------------------------------------------------------
  let step = 0, heights = [];
  const x = (lane) => 22 + lane * step;
  const lay = () => {
    const c = conversations[current];
    wires.replaceChildren();
    const withGraph = lanes && c.h;
    step = stage.clientWidth < 520 ? 36 : 52;
    chat.style.setProperty("--lanes", withGraph ? `${x(lanes - 1) + 22}px` : "0px");
    const upright = step < 50 && streams.some((name) => name.length > 6);
    byId("lanes").classList.toggle("narrow", upright);
    byId("lanes").replaceChildren(...(withGraph ? streams : []).map((name, j) => {
      const title = make("span", "", upright ? name : name.replaceAll("+", "\n+"));
      title.style.left = `${x(j)}px`;
      return title;
    }));
    heights = [...chat.children].map((item) => {
      const speech = item.querySelector(".bubble");
      return speech.offsetTop + Math.min(speech.offsetHeight, 38) / 2;
    });
    if (!withGraph) return;
    wires.setAttribute("width", x(lanes - 1) + 22);
    wires.setAttribute("height", chat.offsetTop + chat.offsetHeight);
    const marker = draw("marker", { id: "tip", viewBox: "0 0 8 8", refX: 13, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto", markerUnits: "userSpaceOnUse" }, draw("defs", {}, wires));
    draw("path", { d: "M0 .5 8 4 0 7.5z" }, marker);
    for (let j = 0; j < lanes; j++) draw("line", { x1: x(j), x2: x(j), y1: heights[0], y2: heights.at(-1) }, wires);
    draw("g", { id: "edges" }, wires);
    c.y.forEach((y, t) => {
      for (let j = 0; j < lanes; j++) {
        const here = (c.h[t] >> j) & 1;
        const node = draw("circle", { cx: x(j), cy: heights[t], r: here ? 7 : 4, "data-node": `${t}-${j}` }, wires);
        if (here) node.style.fill = `var(--e${y})`;
        else node.classList.add("absent");
      }
    });
  };
  // Edges into a turn: [target lane, source lane, source turn, weight or null].
  const into = (c, t) => {
    const flat = c.e?.[t] ?? [], found = [];
    for (let k = 0; k < flat.length; k += 3) found.push([Math.floor(flat[k] / lanes), flat[k] % lanes, flat[k + 1], flat[k + 2] < 0 ? null : flat[k + 2] / 1000]);
    return found;
  };
  const curve = (x1, y1, x2, y2, longest) => {
    if (x1 === x2) {
      const bow = step * (0.2 + 0.6 * Math.abs(y2 - y1) / longest); // far edges pass outside the near ones
      return `M${x1} ${y1}C${x1 + bow} ${y1} ${x2 + bow} ${y2} ${x2} ${y2}`;
    }
    const lift = Math.abs(x2 - x1) > step * 1.5 ? 26 : y1 === y2 ? 10 : 0;
    const middle = (x1 + x2) / 2;
    return `M${x1} ${y1}C${middle} ${y1 - lift} ${middle} ${y2 - lift} ${x2} ${y2}`;
  };
  const show = (t) => {
    if (t === shown) return;
    shown = t;
    const c = conversations[current], edges = into(c, t);
    for (const item of chat.children) item.classList.remove("shown", "source");
    chat.children[t].classList.add("shown");
    for (const edge of edges) if (edge[2] !== t) chat.children[edge[2]].classList.add("source");
    const group = wires.querySelector("#edges");
    if (group) {
      group.replaceChildren();
      wires.classList.toggle("lit", edges.length > 0);
      for (const node of wires.querySelectorAll(".on")) node.classList.remove("on", "to");
      const on = (turn, lane) => wires.querySelector(`[data-node="${turn}-${lane}"]`)?.classList.add("on", ...(turn === t ? ["to"] : []));
      const longest = Math.max(1, ...edges.map((edge) => Math.abs(heights[edge[2]] - heights[t])));
      const known = edges.map((edge) => edge[3] ?? 0), low = Math.min(...known), high = Math.max(...known);
      for (let j = 0; j < lanes; j++) if ((c.h[t] >> j) & 1) on(t, j);
      for (const [to, from, turn, weight] of edges) {
        const strength = high > low ? ((weight ?? low) - low) / (high - low) : 0.6;
        const line = draw("path", { d: curve(x(from), heights[turn], x(to), heights[t], longest), "marker-end": "url(#tip)" }, group);
        line.style.strokeWidth = 1.2 + 1.6 * strength;
        line.style.opacity = 0.45 + 0.5 * strength;
        on(turn, from);
      }
    }
    explain(c, t, edges);
    dispatchEvent(new Event("turn"));
  };

  // -- the chosen turn in words ---------------------------------------------------------------
  const bars = (rows) => {
    const table = make("dl", "bars");
    for (const [name, colour, share, bold] of rows) {
      const term = make("dt", bold ? "true" : ""), track = make("div", "track"), fill = make("span");
      term.append(name);
      fill.style.width = `${share}%`;
      fill.style.setProperty("--c", colour);
      track.append(fill);
      track.setAttribute("aria-hidden", "true");
      const cell = make("dd", "", decimal(share));
      table.append(term, track, cell);
    }
    return table;
  };
  const explain = (c, t, edges) => {
    const said = make("div"), heard = make("div");
    const title = make("h3", "", `Turn ${t}`);
    if (c.n) title.append(" · ", make("bdi", "", speaker(c, t)));
    said.append(title);
    if (c.t?.[t]) said.append(Object.assign(make("blockquote", "", c.t[t]), { dir: "auto" }));
    const found = make("dl", "said");
    const fact = (name, ...what) => {
      const cell = make("dd");
      cell.append(...what);
      found.append(make("dt", "", name), cell);
    };
    if (!free) fact("true", emotion(c.y[t]), c.v && c.y[t] >= 0 ? ` ${signed(c.v[2 * t])}` : "");
    if (free) fact("predicted", felt(c, t), c.unsure.has(t) ? ", unsure" : "");
    else if (c.p[t] >= 0) fact("predicted", emotion(c.p[t]), c.v ? ` ${signed(c.v[2 * t + 1])}` : "");
    else fact("predicted", "none");
    if (c.w?.[t]) fact("time", c.w[t]);
    said.append(found);
    if (sure(c, t) !== null) {
      said.append(make("h4", "", "probability"), bars(labels.map((_, k) => [emotion(k), `var(--e${k})`, c.q[t * kinds + k], k === (free ? c.p : c.y)[t]])));
    }
    if (c.m) said.append(make("h4", "", "trust in each modality"), bars(trust.map((name, k) => [make("span", "", name), "var(--first)", c.m[t * trust.length + k], false])));
    heard.id = "heard";
    for (let j = 0; j < lanes && c.h; j++) {
      const mine = edges.filter((edge) => edge[0] === j).sort((a, b) => (b[3] ?? 0) - (a[3] ?? 0));
      heard.append(make("h4", "", (c.h[t] >> j) & 1 ? `strongest edges into ${streams[j]}` : `${streams[j]} is missing in this utterance`));
      const items = make("ol", "heard");
      for (const [, from, turn, weight] of mine) {
        const item = make("li"), jump = make("button");
        jump.type = "button";
        jump.dataset.jump = turn;
        const what = turn === t ? `own ${streams[from]}` : (from === j ? "" : `${streams[from]} · `) + (c.t?.[turn] || speaker(c, turn));
        jump.append(make("b", "", turn), make("span", "", what), make("em", "", weight === null ? "" : weight.toFixed(2)));
        item.append(jump);
        items.append(item);
      }
      if (mine.length) heard.append(items);
      else if ((c.h[t] >> j) & 1) heard.append(make("p", "", "no edge from another node"));
    }
    detail.replaceChildren(said, heard);
  };

  // -- hands ----------------------------------------------------------------------------------
  const inside = (box, item) => {
    const top = item.offsetTop - (box === list ? list.offsetTop : 0), room = box.clientHeight;
    if (top < box.scrollTop + 40 || top + item.offsetHeight > box.scrollTop + room) box.scrollTop = top - room / 3;
  };
  const choose = (t, focus) => {
    chat.children[chosen].tabIndex = -1;
    chosen = t;
    const item = chat.children[t];
    item.tabIndex = 0;
    show(t);
    inside(stage, item);
    if (focus) item.focus({ preventScroll: true });
  };
  const turnOf = (event) => event.target.closest("#chat > li")?.dataset.turn;
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  // Only a mouse that moves points at a turn, not one that the page was scrolled under.
  let rest = "";
  document.addEventListener("pointermove", (event) => {
    const place = `${event.screenX} ${event.screenY}`, t = turnOf(event);
    if (place !== rest && t !== undefined && event.pointerType === "mouse") show(+t);
    rest = place;
  });
  chat.addEventListener("pointerleave", () => show(chosen));
  chat.addEventListener("click", (event) => { const t = turnOf(event); if (t !== undefined) choose(+t, true); });
  chat.addEventListener("focusin", (event) => { const t = turnOf(event); if (t !== undefined && +t !== chosen) choose(+t); });
  chat.addEventListener("keydown", (event) => {
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(chat.children.length - 1, chosen + steps[event.key])), true);
  });
  detail.addEventListener("click", (event) => { const jump = event.target.closest("[data-jump]"); if (jump) choose(+jump.dataset.jump, true); });
  list.addEventListener("click", (event) => { const item = event.target.closest("li"); if (item) open(+item.id.slice(1)); });
  list.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowRight") { event.preventDefault(); chat.children[chosen].focus(); return; }
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(steps[event.key]);
  });
  search.addEventListener("input", () => { refresh(); if (order_.length && !order_.includes(current)) open(order_[0]); });
  search.addEventListener("keydown", (event) => { if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); list.focus(); } });
  order.addEventListener("change", () => { refresh(); list.scrollTop = 0; if (order_.length) open(order_[0]); });
  filter.addEventListener("click", () => { only = null; history.replaceState(null, "", "#explorer"); refresh(); inside(list, option(current)); list.focus(); });

  // #c12t7: turn 7 of conversation 12; #f2-5: all turns of class 2 that were taken for class 5.
  const follow = () => {
    const place = /^#c(\d+)t(\d+)$/.exec(location.hash), cell = /^#f(\d+)-(\d+)$/.exec(location.hash);
    if (place && conversations[place[1]]?.y.length > +place[2]) {
      only = null;
      search.value = "";
      refresh();
      open(+place[1], +place[2]);
    } else if (cell && +cell[1] < kinds && +cell[2] < kinds) {
      only = [+cell[1], +cell[2]];
      search.value = "";
      refresh();
      if (!order_.length) return;
      open(order_[0]);
    } else return;
    byId("explorer").scrollIntoView({ behavior: still.matches ? "auto" : "smooth" });
    chat.children[chosen].focus({ preventScroll: true });
  };
  addEventListener("hashchange", follow);
  const go = (place) => { if (location.hash === place) follow(); else location.hash = place; };
  // A link to where the address is already leads there, too.
  document.addEventListener("click", (event) => { const link = event.target.closest("a[href]"); if (link && link.getAttribute("href") === location.hash) follow(); });

  if (conversations.length) {
    app.hidden = false;
    refresh();
    open(order_[0]);
    follow();
    let width = stage.clientWidth;
    new ResizeObserver(() => {
      if (stage.clientWidth === width) return;
      width = stage.clientWidth;
      lay();
      const again = shown;
      shown = -1;
      show(again);
    }).observe(stage);
  }
  return { labels, conversations, make, draw, emotion, felt, decimal, go, current: () => current, shown: () => shown };
})();
