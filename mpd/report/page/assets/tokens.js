// The trained completion token by token: its colours, and the teacher's candidates at each.

const MEASURES = {
  divergence: { name: "divergence", most: 3, values: (record) => record.divergence },
  teacher: { name: "−log p, teacher", most: 5, values: (record) => record.teacher },
  student: { name: "−log p, student", most: 5, values: (record) => record.student },
};
const NUM_HEATS = 8;
const BLOCK = 200; // tokens after which the next line starts a new block

// Step 0 to 8 of the colour scale, by the square root, so that small values can be told apart.
function heatOf(thousandths, most) {
  const share = Math.sqrt(Math.min(Math.max(thousandths / 1000, 0) / most, 1));
  return Math.round(share * NUM_HEATS);
}

let signs = {}; // for characters that cannot be seen; set from the index

function visible(text) {
  return Array.from(text, (character) => signs[character] ?? character).join("");
}

function percent(thousandths) {
  const share = 100 * Math.exp(-thousandths / 1000);
  return share > 0 && share < 0.05 ? "< 0.1%" : `${share.toFixed(1)}%`;
}

function nats(thousandths) {
  return (thousandths / 1000).toFixed(3);
}

// A token. Before each line end it has an element that shows a sign and holds no text.
function tokenSpan(text) {
  const [first, ...lines] = text.split(/(?=\n)/);
  if (!text.includes("\n")) return element("span", { textContent: text });
  const start = first.startsWith("\n") ? [element("i"), first] : [first];
  return element("span", {}, ...start, ...lines.flatMap((line) => [element("i"), line]));
}

class TokenPane {
  // `isNew` tells whether the trajectory lacks the word at a position of the text.
  constructor(record, texts, isNew) {
    Object.assign(this, { record, texts });
    this.spans = record.ids.map((id) => tokenSpan(texts[id]));
    const hint = "Point at a token, or press Enter and the arrow keys, to see the teacher's candidates.";
    this.inspector = element(
      "div",
      { className: "inspector", ariaLive: "polite" },
      element("p", { className: "quiet", textContent: hint }),
    );
    this.pane = element("div", {
      className: "text tokens",
      tabIndex: 0,
      role: "group",
      ariaLabel: "Tokens of the rewrite; the left and right arrow keys move through them",
    });
    this.fill(isNew);
    this.current = -1;
    this.pane.addEventListener("mouseover", (event) => this.select(this.numberOf(event.target)));
    this.pane.addEventListener("click", (event) => this.select(this.numberOf(event.target)));
    this.pane.addEventListener("focus", () => this.select(Math.max(this.current, 0)));
    this.pane.addEventListener("keydown", (event) => this.onKey(event));
  }

  fill(isNew) {
    let block = element("div");
    let position = 0;
    this.spans.forEach((span, number) => {
      const text = span.textContent;
      span.dataset.number = number;
      const word = position + text.search(/\S|$/);
      if (text.trim() && isNew(word)) span.classList.add("new");
      position += text.length;
      block.append(span);
      if (block.childElementCount >= BLOCK && text.endsWith("\n")) {
        this.pane.append(block);
        block = element("div");
      }
    });
    this.pane.append(block);
  }

  colour(measure) {
    const values = measure ? MEASURES[measure].values(this.record) : null;
    this.spans.forEach((span, number) => {
      span.dataset.heat = values ? heatOf(values[number], MEASURES[measure].most) : 0;
    });
  }

  numberOf(target) {
    return Number(target.closest("[data-number]")?.dataset.number ?? -1);
  }

  onKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.select(Math.min(Math.max(this.current + step, 0), this.spans.length - 1));
    this.spans[this.current].scrollIntoView({ block: "nearest" });
  }

  select(number) {
    if (number < 0 || number === this.current) return;
    this.spans[this.current]?.classList.remove("current");
    this.current = number;
    this.spans[number].classList.add("current");
    this.inspector.replaceChildren(...this.describe(number));
  }

  describe(number) {
    const { record, texts } = this;
    const id = record.ids[number];
    const facts = [`token ${number + 1} of ${record.ids.length}`, `id ${id}`];
    if (record.divergence) facts.push(`divergence ${nats(record.divergence[number])}`);
    facts.push(`log p teacher −${nats(record.teacher[number])}`);
    if (record.student) facts.push(`student −${nats(record.student[number])}`);
    facts.push("in nats");
    const heading = element(
      "p",
      { className: "facts" },
      element("b", { className: "mono", textContent: visible(texts[id]) }),
      ` ${facts.join(" · ")}`,
    );
    if (!record.candidates) {
      const text = "The cache holds hidden states of the teacher, so there are no candidates.";
      return [heading, element("p", { className: "quiet", textContent: text })];
    }
    return [heading, this.table(number, id)];
  }

  table(number, id) {
    const flat = this.record.candidates[number];
    const rows = [];
    for (let index = 0; index < flat.length; index += 2) {
      rows.push([this.texts[flat[index]], flat[index + 1], flat[index] === id]);
    }
    if (!rows.some(([, , realised]) => realised)) {
      rows.push([this.texts[id], this.record.teacher[number], true]);
    }
    const line = (text, thousandths, className, note) =>
      element(
        "tr",
        { className },
        element("td", { className: "mono", textContent: text }),
        element("td", { className: "share", textContent: percent(thousandths) }),
        element("td", { className: "bar" }, this.bar(thousandths)),
        element("td", { className: "quiet", textContent: note }),
      );
    return element(
      "table",
      { ariaLabel: "The teacher's candidates" },
      ...rows.map(([text, thousandths, realised]) =>
        line(visible(text), thousandths, realised ? "realised" : "", realised ? "realised" : "")),
      line("outside the support", this.record.tail[number], "tail", ""),
    );
  }

  bar(thousandths) {
    const bar = element("meter", { min: 0, max: 1, value: Math.exp(-thousandths / 1000) });
    bar.setAttribute("aria-hidden", "true");
    return bar;
  }
}
