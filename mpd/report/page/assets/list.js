// A list of any length of which only the rows in view, and a few more, are in the document.

const ROW_HEIGHT = 46; // pixels, as in browser.css
const SPARE_ROWS = 6; // kept in the document above and below those in view

class List {
  // `rowOf` makes the cells of a line; `onSelect` gets the selected line, or null where there is none.
  constructor(node, rowOf, onSelect) {
    Object.assign(this, { node, rowOf, onSelect });
    this.rows = node.querySelector(".rows");
    this.shown = [];
    this.selected = -1; // index into `shown`
    node.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()));
    new ResizeObserver(() => this.draw()).observe(node);
  }

  get line() {
    return this.shown[this.selected] ?? null;
  }

  // Show other lines, and select one of them, or else the first.
  show(lines, line) {
    this.shown = lines;
    this.rows.style.height = `${lines.length * ROW_HEIGHT}px`;
    const index = line ? lines.indexOf(line) : -1;
    this.selected = -1;
    if (index < 0) this.node.scrollTop = 0;
    return this.select(Math.max(index, 0));
  }

  select(index) {
    const line = this.shown[index] ?? null;
    this.selected = line ? index : -1;
    if (line) this.reveal(index * ROW_HEIGHT);
    this.draw();
    return this.onSelect(line);
  }

  // Nothing is selected, since what is open is not in the list.
  clear() {
    this.selected = -1;
    this.draw();
  }

  reveal(top) {
    const { scrollTop, clientHeight } = this.node;
    if (top < scrollTop) this.node.scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + clientHeight) {
      this.node.scrollTop = top + ROW_HEIGHT - clientHeight;
    }
  }

  // Where a key leads to from the selected row: an index, or null where it is no key of lists.
  target(key, inList) {
    const page = Math.floor(this.node.clientHeight / ROW_HEIGHT);
    const far = this.shown.length;
    const listKeys = {
      ...{ ArrowDown: 1, ArrowUp: -1, Home: -far, End: far, PageDown: page, PageUp: -page },
    };
    const by = { j: 1, k: -1 }[key] ?? (inList ? listKeys[key] : undefined);
    if (by === undefined) return null;
    return Math.min(Math.max(this.selected + by, 0), this.shown.length - 1);
  }

  draw() {
    const first = Math.max(Math.floor(this.node.scrollTop / ROW_HEIGHT) - SPARE_ROWS, 0);
    const end = this.node.scrollTop + this.node.clientHeight;
    const last = Math.ceil(end / ROW_HEIGHT) + SPARE_ROWS;
    const lines = this.shown.slice(first, last);
    this.rows.replaceChildren(...lines.map((line, index) => this.row(line, first + index)));
    const name = this.line ? this.nameOf(this.line) : "";
    if (name && document.getElementById(name)) {
      this.node.setAttribute("aria-activedescendant", name);
    } else {
      this.node.removeAttribute("aria-activedescendant");
    }
  }

  nameOf(line) {
    return `${this.node.closest(".browser").id}-${line.line}`;
  }

  row(line, index) {
    const { cells, faint } = this.rowOf(line);
    const row = element("div", { className: "row", role: "option", id: this.nameOf(line) }, ...cells);
    row.dataset.index = index;
    row.style.top = `${index * ROW_HEIGHT}px`;
    row.setAttribute("aria-selected", String(index === this.selected));
    row.setAttribute("aria-setsize", String(this.shown.length));
    row.setAttribute("aria-posinset", String(index + 1));
    row.classList.toggle("faint", faint);
    return row;
  }
}

function cell(className, text) {
  return element("span", { className, textContent: text });
}
