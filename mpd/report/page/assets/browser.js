// A browser: filters, a list of the lines that pass them, and the detail of the one that is open.

const NUMBER = /^(-?\d+(\.\d+)?)?$/; // what a field of numbers takes, or nothing

class Browser {
  // Subclasses have `rowOf` (what the list shows of a line), `keyOf` (what names it in an address),
  // `contentOf` (the nodes of its detail, and the pane that gets the focus), `textsOf` (of a record)
  // and `nothing` (the sentence where no line passes).
  constructor(name, root, lines, texts, { choices, ranges }) {
    Object.assign(this, { name, root, lines, texts });
    this.form = root.querySelector(".filters");
    this.detail = root.querySelector(".detail");
    this.counter = root.querySelector(".count");
    this.sorts = [...root.querySelectorAll("[data-sort]")];
    this.sort = { by: this.sorts[0].dataset.sort, descending: false };
    this.search = new Search(lines);
    this.filters = [
      ...choices.map((choice) => new Choice(this.form, lines, choice)),
      ...ranges.map((range) => new Histogram(this.form, lines, range)),
      this.search,
    ];
    this.searchable = null; // texts by the number of their record, in lower case
    this.opened = null; // the line in the detail, which may be outside of the list
    this.list = new List(
      root.querySelector(".list"),
      (line) => this.rowOf(line),
      (line) => this.open(line),
    );
  }

  start() {
    this.listen();
    this.root.hidden = false;
    this.ready = this.update(); // resolves when the page shows what was last asked for
    return this;
  }

  listen() {
    let waiting = null;
    const updateIn = (milliseconds, kind) => {
      clearTimeout(waiting);
      this.ready = new Promise((done) => {
        waiting = setTimeout(() => done(this.changed(this.update(), kind)), milliseconds);
      });
    };
    this.form.addEventListener("input", ({ target }) =>
      updateIn(target.type === "search" ? 150 : 0, { search: "search", number: "range" }[target.type]));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("reset", () => updateIn(0)); // the fields are emptied only after this event
    this.list.node.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) this.ready = this.changed(this.list.select(Number(row.dataset.index)));
    });
    for (const button of this.sorts) {
      button.addEventListener("click", () => this.sortBy(button.dataset.sort));
    }
    document.addEventListener("keydown", (event) => this.onKey(event));
  }

  async changed(update, kind) {
    await update;
    addresses.write(this, kind);
  }

  sortBy(by) {
    const again = this.sort.by === by;
    const ascends = by === this.sorts[0].dataset.sort || by === "ratio";
    this.sort = { by, descending: again ? !this.sort.descending : !ascends };
    this.opened = null;
    this.ready = this.changed(this.update());
  }

  // The list after a change of filters, search or order. What is open stays open where it passes.
  async update(line = this.opened) {
    const searched = () => this.form.elements.search.value.trim().toLowerCase();
    const search = searched();
    if (search && !this.searchable) await this.readTexts();
    if (search !== searched()) return; // the search has changed meanwhile
    this.search.mentions = search ? (one) => this.mentions(one, search) : null;
    const shown = passing(this.lines, this.filters);
    const { by, descending } = this.sort;
    const sign = descending ? -1 : 1;
    // Lines without a value come last, in either order.
    shown.sort((a, b) =>
      (a[by] === null) - (b[by] === null) || sign * (a[by] - b[by]) || a.line - b.line);
    for (const button of this.sorts) {
      const pressed = button.dataset.sort === by;
      button.setAttribute("aria-pressed", String(pressed));
      button.dataset.direction = pressed ? (descending ? "↓" : "↑") : "";
    }
    const [number, total] = [shown, this.lines].map((lines) => lines.length.toLocaleString("en"));
    this.counter.textContent = `${number} / ${total}`;
    await this.list.show(shown, line);
  }

  mentions(line, search) {
    const texts = [line.id, line.question.toLowerCase()];
    for (const record of line.records) texts.push(this.searchable.get(record) ?? "");
    return texts.some((text) => text.includes(search));
  }

  async readTexts() {
    this.counter.textContent = "reading texts …";
    const searchable = new Map();
    for (const [number, lines] of this.texts.lines.entries()) {
      const { records } = await this.texts.chunk(number);
      records.forEach((record, index) =>
        searchable.set(lines[index], this.textsOf(record).join("\n").toLowerCase()));
    }
    this.searchable = searchable;
  }

  // Show a line, or that there is none.
  async open(line) {
    this.opened = line;
    if (!line) {
      this.pane = null;
      this.detail.replaceChildren(element("p", { className: "quiet", textContent: this.nothing }));
      return;
    }
    const { nodes, pane } = await this.contentOf(line);
    if (this.opened !== line) return; // another one was opened meanwhile
    const focused = this.detail.contains(document.activeElement);
    this.pane = pane;
    this.detail.replaceChildren(...nodes);
    if (focused) this.enter();
  }

  // Show a line that the list may not have.
  show(line) {
    const index = this.list.shown.indexOf(line);
    if (index >= 0) return this.list.select(index);
    this.list.clear();
    return this.open(line);
  }

  // What the address holds of this browser, and the other way round.
  hash() {
    const fields = new URLSearchParams([...new FormData(this.form)].filter(([, value]) => value));
    const { by, descending } = this.sort;
    if (by !== this.sorts[0].dataset.sort || descending) fields.set("sort", `${descending ? "-" : ""}${by}`);
    const row = this.opened ? this.keyOf(this.opened).map(encodeURIComponent) : [];
    return `#${[this.name, ...row].join("/")}${String(fields) && `?${fields}`}`;
  }

  apply(row, fields) {
    for (const field of this.form.querySelectorAll("input, select")) {
      const value = fields.get(field.name) ?? "";
      if (field.type === "radio") field.checked = field.value === value;
      else if (field.type !== "number" || NUMBER.test(value)) field.value = value;
      else field.value = "";
      if (field.selectedIndex === -1) field.value = "";
    }
    const [, sign, by] = /^(-?)(.*)$/s.exec(fields.get("sort") ?? "");
    const known = this.sorts.some((button) => button.dataset.sort === by);
    this.sort = known
      ? { by, descending: sign === "-" }
      : { by: this.sorts[0].dataset.sort, descending: false };
    const key = row.join("\n");
    const line = this.lines.find((one) => this.keyOf(one).join("\n") === key) ?? null;
    this.ready = this.update(line).then(() => this.settle(row, line));
  }

  // A line of an address is shown whether or not it passes the filters.
  async settle(row, line) {
    if (line && this.opened !== line) await this.show(line);
    if (!row.length || line) return;
    const textContent = "The row of this address is not in this file.";
    this.detail.prepend(element("p", { className: "quiet", role: "status", textContent }));
  }

  // Keys outside of all browsers go to the one in view.
  onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { target, key } = event;
    const around = target.closest(".browser");
    const inView = addresses.browsers.find((browser) => isInView(browser.root));
    if (around ? around !== this.root : inView !== this) return;
    const [list, search] = [this.list.node, this.form.elements.search];
    const index = this.list.target(key, target === list);
    if (key === "Escape" && around) {
      if (target === search || target === list) {
        search.value = "";
        this.ready = this.changed(this.update());
      }
      list.focus({ preventScroll: true });
    } else if (key === "Enter" && target === search) {
      list.focus({ preventScroll: true });
    } else if (target.matches("input, select, textarea, button, summary, a")) {
      return;
    } else if (key === "/") {
      search.focus();
    } else if (index !== null) {
      if (index >= 0 && index !== this.list.selected) {
        this.ready = this.changed(this.list.select(index), "step");
      }
    } else if (key === "Enter" && target === list) {
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
}
