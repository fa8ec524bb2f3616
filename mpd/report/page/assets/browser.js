// The list, its filters and the keyboard.

const ROW_HEIGHT = 46; // pixels, as in browser.css
const SPARE_ROWS = 6; // kept in the document above and below those in view

const FILTERS = ["method", "seed", "round", "reason", "verdict"];
// By the share of correct trajectories of the problem, over the seeds of a method and round.
const SOLVED = {
  "none correct": (share) => share === 0,
  "some correct": (share) => share > 0 && share <= 0.5,
  "most correct": (share) => share > 0.5 && share < 1,
  "all correct": (share) => share === 1,
};

class Browser {
  constructor(index) {
    signs = index.signs;
    this.lines = linesOf(index);
    this.texts = new Chunks("texts", index.texts, Infinity);
    this.tokens = new Chunks("tokens", index.tokens, 4);
    this.searchable = null; // texts by line in lower case, after the first search
    this.shown = [];
    this.selected = -1; // index into `shown`
    this.sort = { by: "line", descending: false };
    this.root = document.getElementById("browser");
    this.form = document.getElementById("filters");
    this.list = document.getElementById("list");
    this.rows = document.getElementById("rows");
    this.detail = document.getElementById("detail");
    this.count = document.getElementById("count");
    this.offer();
    this.listen();
    this.root.hidden = false;
    this.ready = this.update(); // resolves when the page shows what was last asked for
  }

  // The choices of the filters are the values that occur; methods are spelled as in config.yaml.
  offer() {
    const offerOf = (name, values, spell) =>
      this.form.elements[name].replaceChildren(
        element("option", { value: "", textContent: "all" }),
        ...values.map((value) => element("option", { value, textContent: spell(value) })),
      );
    const spaced = (value) => value.replaceAll("_", " ");
    for (const name of FILTERS) {
      const values = [...new Set(this.lines.map((line) => line[name]))];
      values.sort((one, other) => (one < other ? -1 : 1));
      offerOf(name, values.map(String), name === "method" ? String : spaced);
    }
    offerOf("solved", Object.keys(SOLVED), String);
    offerOf("shown", ["with texts", "with tokens"], String);
  }

  listen() {
    let waiting = null;
    const updateIn = (milliseconds) => {
      clearTimeout(waiting);
      this.ready = new Promise((done) => {
        waiting = setTimeout(() => done(this.update()), milliseconds);
      });
    };
    this.form.addEventListener("input", (event) =>
      updateIn(event.target.type === "search" ? 150 : 0));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("reset", () => updateIn(0)); // the fields are emptied only after this event
    this.list.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()));
    new ResizeObserver(() => this.draw()).observe(this.list);
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) this.ready = this.select(Number(row.dataset.index));
    });
    for (const button of this.root.querySelectorAll("[data-sort]")) {
      button.addEventListener("click", () => this.sortBy(button.dataset.sort));
    }
    document.addEventListener("keydown", (event) => this.onKey(event));
  }

  sortBy(by) {
    const again = this.sort.by === by;
    this.sort = { by, descending: again ? !this.sort.descending : by !== "line" && by !== "ratio" };
    this.selected = -1;
    this.ready = this.update();
  }

  // The list after a change of filters, search or order; the selected line stays selected.
  async update() {
    const search = this.form.elements.search.value.trim().toLowerCase();
    if (search && !this.searchable) await this.readTexts();
    if (search !== this.form.elements.search.value.trim().toLowerCase()) return; // the search has changed meanwhile
    const before = this.shown[this.selected];
    const { by, descending } = this.sort;
    const shown = this.lines.filter((line) => this.passes(line, search));
    const sign = descending ? -1 : 1;
    // Lines without a value come last, in either order.
    shown.sort((a, b) =>
      (a[by] === null) - (b[by] === null) || sign * (a[by] - b[by]) || a.line - b.line);
    this.shown = shown;
    for (const button of this.root.querySelectorAll("[data-sort]")) {
      const pressed = button.dataset.sort === by;
      button.setAttribute("aria-pressed", String(pressed));
      button.dataset.direction = pressed ? (descending ? "↓" : "↑") : "";
    }
    const number = shown.length.toLocaleString("en");
    this.count.textContent = `${number} / ${this.lines.length.toLocaleString("en")}`;
    this.rows.style.height = `${shown.length * ROW_HEIGHT}px`;
    const index = before ? shown.indexOf(before) : -1;
    this.selected = -1;
    if (index < 0) this.list.scrollTop = 0;
    await this.select(Math.max(index, 0));
  }

  passes(line, search) {
    const value = (name) => this.form.elements[name].value;
    const chunks = { "with texts": this.texts, "with tokens": this.tokens }[value("shown")];
    const within = (name, isWithin) =>
      !value(name) || (line.ratio !== null && isWithin(Number(value(name))));
    return (
      FILTERS.every((name) => !value(name) || String(line[name]) === value(name)) &&
      (!value("solved") || SOLVED[value("solved")](line.solved)) &&
      (!chunks || chunks.has(line.line)) &&
      within("lowest", (lowest) => line.ratio >= lowest) &&
      within("highest", (highest) => line.ratio <= highest) &&
      (!search || this.mentions(line, search))
    );
  }

  mentions(line, search) {
    const texts = [line.id, line.question.toLowerCase(), this.searchable.get(line.line) ?? ""];
    return texts.some((text) => text.includes(search));
  }

  async readTexts() {
    this.count.textContent = "reading texts …";
    const searchable = new Map();
    for (const [number, lines] of this.texts.lines.entries()) {
      const { records } = await this.texts.chunk(number);
      records.forEach(({ question, trajectory, rewrite }, index) =>
        searchable.set(lines[index], [question, trajectory, rewrite].join("\n").toLowerCase()));
    }
    this.searchable = searchable;
  }

  // The rows in view and a few more; no others are in the document.
  draw() {
    const first = Math.max(Math.floor(this.list.scrollTop / ROW_HEIGHT) - SPARE_ROWS, 0);
    const end = this.list.scrollTop + this.list.clientHeight;
    const last = Math.ceil(end / ROW_HEIGHT) + SPARE_ROWS;
    const drawn = this.shown.slice(first, last).map((line, index) => this.row(line, first + index));
    this.rows.replaceChildren(...drawn);
    const name = `line-${this.shown[this.selected]?.line}`;
    if (document.getElementById(name)) this.list.setAttribute("aria-activedescendant", name);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row(line, index) {
    const cell = (className, text) => element("span", { className, textContent: text });
    const tokens = line.num_tokens === null ? "–" : line.num_tokens;
    const row = element(
      "div",
      { className: "row", role: "option", id: `line-${line.line}` },
      cell("question", line.question.replace(/\s+/g, " ")),
      cell("number", line.ratio === null ? "–" : line.ratio.toFixed(2)),
      cell("number", `${line.sample_tokens} → ${tokens}`),
      cell("number", line.divergence === null ? "–" : line.divergence.toFixed(2)),
      cell("place", `${line.method} · seed ${line.seed} · round ${line.round}`),
      cell(line.reason === "kept" ? "reason kept" : "reason", line.reason.replaceAll("_", " ")),
    );
    row.dataset.index = index;
    row.style.top = `${index * ROW_HEIGHT}px`;
    row.setAttribute("aria-selected", String(index === this.selected));
    row.setAttribute("aria-setsize", String(this.shown.length));
    row.setAttribute("aria-posinset", String(index + 1));
    row.classList.toggle("faint", !this.texts.has(line.line));
    return row;
  }

  async select(index) {
    const line = this.shown[index];
    this.selected = line ? index : -1;
    if (!line) {
      this.draw();
      this.detail.replaceChildren(
        element("p", { className: "quiet", textContent: "No trajectory matches the filters." }));
      this.pane = null;
      return;
    }
    const top = index * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.list;
    if (top < scrollTop) this.list.scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + clientHeight) {
      this.list.scrollTop = top + ROW_HEIGHT - clientHeight;
    }
    this.draw();
    const records = [this.texts.get(line.line), this.tokens.get(line.line)];
    const [text, token] = await Promise.all(records);
    if (this.shown[this.selected] !== line) return; // another one was selected meanwhile
    const { nodes, pane } = contentOf(line, text, token);
    const focused = this.detail.contains(document.activeElement);
    this.pane = pane;
    this.detail.replaceChildren(...nodes);
    if (focused) this.enter();
  }

  onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { target, key } = event;
    const search = this.form.elements.search;
    const typing = target.matches("input, select, textarea");
    if (key === "Escape" && this.root.contains(target)) {
      if (target === search || target === this.list) {
        search.value = "";
        this.ready = this.update();
      }
      this.list.focus({ preventScroll: true });
    } else if (key === "Enter" && target === search) {
      this.list.focus({ preventScroll: true });
    } else if (typing || target.matches("button, summary, a")) {
      return;
    } else if (key === "/") {
      search.focus();
    } else if (key === "j" || (key === "ArrowDown" && target === this.list)) {
      this.step(1);
    } else if (key === "k" || (key === "ArrowUp" && target === this.list)) {
      this.step(-1);
    } else if (target === this.list && ["Home", "End", "PageDown", "PageUp"].includes(key)) {
      const page = Math.floor(this.list.clientHeight / ROW_HEIGHT);
      const far = this.shown.length;
      this.step({ Home: -far, End: far, PageDown: page, PageUp: -page }[key]);
    } else if (key === "Enter" && target === this.list) {
      this.enter();
    } else {
      return;
    }
    event.preventDefault();
  }

  // Focus the tokens, or the texts where there are no tokens.
  enter() {
    (this.pane?.pane ?? this.detail.querySelector(".text") ?? this.detail).focus();
  }

  step(by) {
    const index = Math.min(Math.max(this.selected + by, 0), this.shown.length - 1);
    if (index >= 0 && index !== this.selected) this.ready = this.select(index);
  }
}

if (document.getElementById("data-index")) {
  inflate("index").then((index) => {
    window.browser = new Browser(index);
  });
}
