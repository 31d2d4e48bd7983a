"use strict";
// What is chosen is one object; `paint` draws everything from it. Nothing here writes HTML: only text and attributes.
(() => {
  const FEW = 8; // blocks that are listed, and carry their share in the text
  const DARKEST = 0.85; // the most opaque shade: black on it stays easy to read
  const {audit, blocks, beside} = JSON.parse(document.getElementById("data").textContent);
  const chosen = {model: "examined", picture: "mass_no_sink", token: null, layer: null, block: null};

  const judged = audit.verdict !== ""; // else the page is a rater's, and holds the text and one picture alone

  const find = (id) => document.getElementById(id);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const runs = all(".run[data-block]");
  const tokens = all(".token");
  const marks = all(".share");
  const tested = {};
  for (const key of ["examined", "base"]) {
    const rows = key === "base" ? audit.base?.tested : audit.tested;
    tested[key] = new Map((rows ?? []).map((row) => [row.block, row]));
  }

  const examined = (model) => (model === "base" ? audit.base : audit);
  const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)}%`;
  /** The mean of layers' shares of the text, where a layer that hardly looks at the text counts for little. */
  function mean(rows, own) {
    const weights = own.map((share) => 1 - share);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const part = (layer) => (total > 0 ? weights[layer] / total : 1 / rows.length);
    return rows[0].map((_, block) => rows.reduce((sum, row, layer) => sum + part(layer) * row[block], 0));
  }
  const quoted = (token) => token.getAttribute("aria-label") ?? `“${token.textContent.trim()}”`;
  const named = (block) => `block ${block} (“${blocks[block].excerpt}”)`;
  const times = (nats) => {
    const factor = Math.exp(Math.min(Math.abs(nats), 50));
    if (Math.abs(nats) < 0.005) return "as likely as before";
    const written = factor < 10 ? factor.toFixed(2) : factor.toPrecision(2);
    return `${written} times ${nats > 0 ? "less" : "more"} likely`;
  };

  /** The masses of all blocks, of the whole answer or of the chosen token; of one layer, or the mean over those traced. */
  function masses(model, layer) {
    const of = examined(model);
    if (chosen.token === null) return (layer === null ? of : of.layers[layer])[chosen.picture];
    const token = of.answer[chosen.token];
    const layers = token[chosen.picture];
    return layer === null ? mean(layers, token.answer_share[chosen.picture]) : layers[layer];
  }

  /** Likewise, what of all attention was on the answer's own words, which the masses are without. */
  function ownShare() {
    const of = examined(chosen.model);
    const at = chosen.token === null ? (chosen.layer === null ? of : of.layers[chosen.layer]) : of.answer[chosen.token];
    const share = at.answer_share[chosen.picture];
    if (!Array.isArray(share)) return share;
    return chosen.layer === null ? share.reduce((sum, each) => sum + each, 0) / share.length : share[chosen.layer];
  }

  function paintText(shares, ranked) {
    // with nothing standing out the text stays pale: full shade takes the largest share, or four times an even one
    const full = Math.max(shares[ranked[0]], 4 / shares.length);
    const top = new Set(ranked);
    for (const run of runs) {
      const block = Number(run.dataset.block);
      run.style.setProperty("--shade", ((DARKEST * shares[block]) / full).toFixed(3));
      run.classList.toggle("top", top.has(block));
      const pinned = block === chosen.block;
      run.classList.toggle("pinned", pinned);
      if (run.hasAttribute("aria-pressed")) run.setAttribute("aria-pressed", pinned);
    }
    for (const mark of marks) mark.dataset.share = percent(shares[mark.closest(".run").dataset.block]);
    for (const token of tokens) token.setAttribute("aria-pressed", Number(token.dataset.token) === chosen.token);
    find("scale").textContent =
      `No shade is 0%, full shade is ${percent(full)}. Shared evenly, every block would have ${percent(1 / shares.length)}.`;
  }

  function paintRanked(shares, ranked) {
    const focused = document.activeElement.closest("#ranked button")?.dataset.block;
    if (judged)
      find("own").textContent =
        `The answer's own words had ${percent(ownShare())} of all attention; what is shown is how the rest is shared out.`;
    find("ranked").replaceChildren(...ranked.map((block) => rankedItem(shares, shares[ranked[0]], block)));
    // the list is made anew; whoever was in it stays where they were
    if (focused) document.querySelector(`#ranked button[data-block="${focused}"]`)?.focus();
  }

  function rankedItem(shares, full, block) {
    const item = document.createElement("li");
    const button = item.appendChild(document.createElement("button"));
    Object.assign(button, {type: "button"}).dataset.block = block;
    button.setAttribute("aria-pressed", block === chosen.block);
    button.appendChild(document.createElement("b")).textContent = percent(shares[block]);
    const excerpt = button.appendChild(document.createElement("bdi"));
    excerpt.textContent = blocks[block].excerpt;
    const meter = button.appendChild(document.createElement("meter"));
    Object.assign(meter, {max: full, value: shares[block]}).setAttribute("aria-hidden", "true");
    return item;
  }

  function paintStrip(svg, shares, full) {
    const height = (share) => ((100 * share) / full).toFixed(1);
    const bar = (share, block) => `M${block + 0.1} 100v-${height(share)}h0.8V100z`;
    svg.querySelector(".bars").setAttribute("d", shares.map(bar).join(""));
    svg.querySelector(".pinned").setAttribute("d", chosen.block === null ? "" : bar(shares[chosen.block], chosen.block));
    const top = shares.indexOf(Math.max(...shares));
    const name = svg.dataset.name ?? (svg.dataset.name = svg.getAttribute("aria-label"));
    svg.setAttribute("aria-label", `${name}: most on ${named(top)}, ${percent(shares[top])}`);
  }

  function paintHeads(card, model) {
    const heads = examined(model).layers[card.dataset.layer].heads.map((head) => head[chosen.picture]);
    const full = Math.max(...heads.flat());
    all(".heads .strip", card).forEach((svg, head) => paintStrip(svg, heads[head], full));
  }

  function paintLayers() {
    const panels = all(".layers");
    const shares = panels.map(({dataset}) => examined(dataset.model).layers.map((_, layer) => masses(dataset.model, layer)));
    const full = Math.max(...shares.flat(2)); // one scale for all, so that strips compare
    panels.forEach((panel, at) => {
      panel.hidden = panel.dataset.model !== chosen.model;
      all(".card", panel).forEach((card, layer) => {
        card.classList.toggle("chosen", layer === chosen.layer);
        card.querySelector("button").setAttribute("aria-pressed", layer === chosen.layer);
        paintStrip(card.querySelector(".strip"), shares[at][layer], full);
        if (card.querySelector("details").open) paintHeads(card, panel.dataset.model);
      });
    });
    find("strip-scale").textContent = `The full height of a layer's strip is ${percent(full)}.`;
  }

  function paintStatus(shares, ranked) {
    const of = examined(chosen.model);
    const what = [];
    if (chosen.token === null) what.push("The whole answer");
    else {
      what.push(`The token ${quoted(tokens[chosen.token])} alone`);
      if (judged) what.push(`to which the model gave ${percent(Math.exp(of.answer[chosen.token].log_prob))}`);
    }
    if (chosen.layer !== null) what.push(`in layer ${of.layers[chosen.layer].layer}`);
    if (chosen.model === "base") what.push(beside);
    const said = `${what.join(", ")}: most on ${named(ranked[0])}, ${percent(shares[ranked[0]])}.`;
    if (find("status").textContent !== said) find("status").textContent = said; // said aloud only where it is new
    find("whole").disabled = chosen.token === null;
    if (judged) find("all-layers").disabled = chosen.layer === null;
  }

  function paintDetail(shares) {
    const block = chosen.block;
    for (const each of all("tr[data-block], circle")) {
      const pinned = Number(each.dataset.block) === block;
      each.classList.toggle("pinned", pinned);
      each.querySelector("button")?.setAttribute("aria-pressed", pinned);
    }
    if (block === null) return find("detail").replaceChildren();
    const row = tested[chosen.model].get(block);
    const lines = [
      `Block ${block}: ${percent(shares[block])} of the attention shown; it is ${percent(blocks[block].share)} of the text.` +
        (blocks[block].cut ? " It goes on into the answer, so it is not among those ranked." : ""),
    ];
    if (judged)
      lines.push(
        row
          ? `With it removed the whole answer is ${times(row.removal)}; with attention to it cut, ${times(row.knockout)}.`
          : "It was not taken away, so what it did is not known.",
      );
    find("detail").replaceChildren(
      ...lines.map((line) => Object.assign(document.createElement("p"), {textContent: line})),
    );
  }

  function paint() {
    const shares = masses(chosen.model, chosen.layer);
    const ranked = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, FEW);
    paintText(shares, ranked);
    paintRanked(shares, ranked);
    if (judged) paintLayers();
    paintStatus(shares, ranked);
    paintDetail(shares);
  }

  function choose(change) {
    Object.assign(chosen, change);
    paint();
  }

  /** Choose the thing, or give it up where it is chosen already. */
  const toggle = (what, value) => choose({[what]: chosen[what] === value ? null : value});

  function show(block) {
    const run = runs.find((each) => Number(each.dataset.block) === block);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    run.scrollIntoView({block: "nearest", behavior: calm ? "auto" : "smooth"});
  }

  function press(target) {
    const token = target.closest(".token");
    const block = target.closest("[data-block]");
    const layer = target.closest(".card");
    if (token) {
      rove(token);
      toggle("token", Number(token.dataset.token));
    } else if (target.closest("#whole")) choose({token: null});
    else if (target.closest("#all-layers")) choose({layer: null});
    else if (block) {
      const number = Number(block.dataset.block);
      const listed = block.closest("#ranked, tr"); // asked now: painting makes the list anew
      if (block.matches(".run")) rove(block);
      toggle("block", number);
      if (listed && chosen.block !== null) show(number);
    } else if (layer && !target.closest("details")) toggle("layer", Number(layer.dataset.layer));
  }

  /** One stop of the Tab key for a group: the member last used. */
  function rove(member) {
    for (const each of all('[tabindex="0"]', member.closest(".text"))) each.tabIndex = -1;
    member.tabIndex = 0;
  }

  function move(event, member) {
    const group = all('[role="button"]', member.closest(".text"));
    const at = group.indexOf(member);
    const to = {ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: group.length - 1};
    const next = group[to[event.key]];
    if (!next) return;
    event.preventDefault();
    rove(next);
    next.focus();
    if (next.matches(".token")) choose({token: Number(next.dataset.token)});
  }

  document.addEventListener("click", (event) => press(event.target));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const member = event.target.closest('[role="button"]');
    if (event.key === "Escape") choose({token: null, layer: null, block: null});
    else if (member && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      press(member);
    } else if (member) move(event, member);
  });
  document.addEventListener("change", (event) => {
    choose({[event.target.name]: event.target.value});
    for (const note of all("[id^=about-]")) note.hidden = note.id !== `about-${chosen.picture}`;
  });
  for (const details of all(".card details")) {
    const card = details.closest(".card");
    details.addEventListener("toggle", () => {
      if (details.open) paintHeads(card, card.closest(".layers").dataset.model);
    });
  }
  for (const group of all(".text")) group.querySelector('[role="button"]')?.setAttribute("tabindex", "0");
  paint();
})();
