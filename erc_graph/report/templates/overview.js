// What the chosen conversation comes to: emotions over time, turns per speaker and emotion, turning points.
(() => {
  const { labels, conversations, make, draw, emotion, felt, decimal, go, current, shown } = explorer;
  const kinds = labels.length;
  const byId = (id) => document.getElementById(id);
  const [picture, pointed, totals, points] = ["course", "pointed", "totals", "points"].map(byId);
  const TOP = 14, HIGH = 150, LANE = 24, FEW = 6; // speakers with a lane of their own

  let c, wide = 0, left = 0, step = 0, marker;
  const x = (t) => left + t * step;
  const cut = (name, most) => { const all = [...name]; return all.length > most ? `${all.slice(0, most - 1).join("")}…` : name; };

  // -- emotions over time ---------------------------------------------------------------------
  const column = (t, top, high, turns = 1) => {
    const across = turns * step, gap = across > 5 && turns === 1 ? 1 : 0;
    return `M${x(t).toFixed(1)} ${top.toFixed(1)}h${(across - gap).toFixed(1)}v${high.toFixed(1)}h${(gap - across).toFixed(1)}z`;
  };
  const write = (text, values) => { draw("text", values, picture).textContent = text; };
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const areas = () => {
    const paths = labels.map(() => ""), most = step < 5 ? Math.ceil(5 / step) : 1; // what is too thin to see is joined
    for (let t = 0; t < c.p.length; t += most) {
      const turns = Array.from({ length: Math.min(most, c.p.length - t) }, (_, i) => t + i);
      if (c.v) {
        const mean = sum(turns.map((u) => c.v[2 * u + 1])) / turns.length, middle = TOP + HIGH / 2;
        const kind = Math.max(-3, Math.min(3, Math.round(mean))) + 3, high = Math.min(3, Math.abs(mean)) / 6 * HIGH;
        paths[kind] += column(t, mean > 0 ? middle - high : middle, high, turns.length);
        continue;
      }
      const shares = labels.map((_, k) => sum(turns.map((u) => c.q[u * kinds + k]))), all = sum(shares);
      let top = TOP;
      shares.forEach((share, k) => {
        const high = share / all * HIGH;
        if (share) paths[k] += column(t, top, high, turns.length);
        top += high;
      });
    }
    return paths;
  };
  const chart = () => {
    wide = picture.parentElement.clientWidth;
    if (!wide) return;
    const few = wide < 560;
    left = few ? 66 : 120;
    step = (wide - left - 6) / c.p.length;
    const order = c.n.map((_, s) => s).sort((a, b) => sum(c.a[b]) - sum(c.a[a])).slice(0, FEW).sort((a, b) => a - b);
    const bottom = TOP + HIGH + 10 + order.length * LANE;
    picture.replaceChildren();
    picture.setAttribute("viewBox", `0 0 ${wide} ${bottom + 34}`);
    picture.setAttribute("height", bottom + 34);
    for (const [share, text] of c.v ? [[0, "+3"], [0.5, "0"], [1, "−3"]] : [[0, "1"], [0.5, "0.5"], [1, "0"]]) {
      draw("line", { x1: left, x2: wide - 6, y1: TOP + share * HIGH, y2: TOP + share * HIGH }, picture);
      write(text, { x: left - 6, y: TOP + share * HIGH + 4, "text-anchor": "end" });
    }
    areas().forEach((d, k) => { if (d) draw("path", { d }, picture).style.fill = `var(--e${k})`; });
    order.forEach((s, lane) => {
      const top = TOP + HIGH + 12 + lane * LANE, sure = labels.map(() => ""), unsure = labels.map(() => "");
      write(cut(c.n[s], few ? 8 : 15), { x: left - 6, y: top + 13, "text-anchor": "end" });
      draw("line", { x1: left, x2: wide - 6, y1: top + LANE - 7, y2: top + LANE - 7 }, picture);
      c.p.forEach((kind, t) => { if (c.s[t] === s) (c.unsure.has(t) ? unsure : sure)[kind] += column(t, top, LANE - 8); });
      for (const [paths, opacity] of [[sure, 1], [unsure, 0.35]]) {
        paths.forEach((d, k) => { if (d) Object.assign(draw("path", { d }, picture).style, { fill: `var(--e${k})`, opacity }); });
      }
    });
    for (const [t] of c.c) {
      const middle = x(t) + step / 2;
      draw("path", { d: `M${middle - 5} 2h10l-5 8z`, class: "point" }, picture);
    }
    const apart = c.w ? (few ? 90 : 120) : 50;
    const every = [1, 2, 5].flatMap((k) => [1, 10, 100, 1e3, 1e4, 1e5].map((ten) => k * ten)).sort((a, b) => a - b).find((k) => k * step >= apart) ?? 1;
    for (let t = 0; t < c.p.length; t += every) {
      if (t && x(t) + 20 > wide) break;
      draw("line", { x1: x(t), x2: x(t), y1: bottom, y2: bottom + 5 }, picture);
      write(`${t}`, { x: x(t), y: bottom + 17 });
      if (c.w?.[t]) write(cut(c.w[t], few ? 12 : 18), { x: x(t), y: bottom + 30 });
    }
    write("turn", { x: left - 6, y: bottom + 17, "text-anchor": "end" });
    marker = draw("rect", { class: "here", y: TOP - 2, height: bottom - TOP, width: Math.max(step, 3) }, picture);
    mark();
  };
  const mark = (t = shown()) => {
    if (!marker || t < 0) return;
    marker.setAttribute("x", x(t) + step / 2 - Math.max(step, 3) / 2);
    pointed.replaceChildren(`Turn ${t} · `, make("bdi", "", cut(c.n[c.s[t]], 30)), " · ", felt(c, t), (c.v ? "" : ` ${decimal(c.q[t * kinds + c.p[t]])}`) + (c.unsure.has(t) ? ", unsure" : ""));
  };
  const turnAt = (event) => {
    const t = Math.floor((event.clientX - picture.getBoundingClientRect().left - left) / step);
    return t >= 0 && t < c.p.length ? t : null;
  };
  picture.addEventListener("pointermove", (event) => mark(turnAt(event) ?? shown()));
  picture.addEventListener("pointerleave", () => mark());
  picture.addEventListener("click", (event) => { const t = turnAt(event); if (t !== null) go(`#c${current()}t${t}`); });

  // -- turns per speaker and emotion ----------------------------------------------------------
  const head = (text, scope, name) => {
    const cell = make("th", name);
    cell.scope = scope;
    cell.append(text);
    return cell;
  };
  const table = () => {
    const top = make("tr"), body = make("tbody"), all = labels.map((_, k) => sum(c.a.map((counts) => counts[k])));
    top.append(head("speaker", "col"), head("utterances", "col", "number"), ...labels.map((_, k) => head(emotion(k), "col", "number")));
    const rows = [...c.n.keys()].map((s) => [c.n[s], c.a[s]]);
    if (rows.length > 1) rows.push(["all", all]);
    rows.forEach(([name, counts], s) => {
      const row = make("tr", s === c.n.length ? "own" : ""), turns = sum(counts), first = head(make("bdi", "", name), "row");
      row.append(first, make("td", "number", turns));
      counts.forEach((count, k) => {
        const cell = make("td", "number bar", count), share = turns ? count / turns : 0;
        cell.style.setProperty("--c", `var(--e${k})`);
        cell.style.setProperty("--share", share.toFixed(3));
        if (count) cell.append(make("small", "", share.toFixed(2)));
        row.append(cell);
      });
      body.append(row);
    });
    const thead = make("thead");
    thead.append(top);
    totals.replaceChildren(thead, body);
  };

  // -- turning points -------------------------------------------------------------------------
  const list = () => {
    points.replaceChildren(...c.c.map(([t, before, change]) => {
      const item = make("li"), link = make("a"), line = make("div", "tags");
      link.href = `#c${current()}t${t}`;
      link.append(`Turn ${t} · `, make("bdi", "", cut(c.n[c.s[t]], 30)));
      line.append(emotion(c.p[before]), make("span", "arrow", "→"), emotion(c.p[t]), make("b", "", c.v ? `by ${change.toFixed(1)}` : `${decimal(change)} moved`));
      item.append(link, line);
      if (c.t?.[t]) item.append(Object.assign(make("p", "", cut(c.t[t], 140)), { dir: "auto" }));
      return item;
    }));
    byId("steady").hidden = c.c.length > 0;
  };

  const open = () => {
    c = conversations[current()];
    for (const element of document.querySelectorAll(".of")) element.textContent = conversations.length > 1 ? c.i : "";
    marker = null;
    table();
    list();
    chart();
  };
  addEventListener("conversation", open);
  addEventListener("turn", () => mark());
  if (current() < 0) return;
  open();
  new ResizeObserver(() => { if (picture.parentElement.clientWidth !== wide) chart(); }).observe(picture.parentElement);
})();
