// A histogram that filters by a range: its two fields say which, and dragging over bars fills them.

const MAX_BARS = 32;

// 1, 2 or 5 times a power of ten, at least `least`.
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

class Histogram {
  // `of` gives the value of a line, or null; `whole` says that all are whole numbers.
  constructor(form, lines, { name, title, of, whole = false }) {
    Object.assign(this, { form, name, whole });
    this.values = Float64Array.from(lines, (line) => of(line) ?? NaN);
    const sorted = this.values.filter((value) => !Number.isNaN(value)).sort();
    const [lowest, high] = [sorted[0] ?? 0, sorted[Math.floor((sorted.length - 1) * 0.99)] ?? 0];
    this.step = Math.max(roundStep((high - lowest) / (MAX_BARS - 2) || 1e-3), whole ? 1 : 0);
    this.start = Math.floor(lowest / this.step + 1e-9) * this.step;
    // The last bar has all that is longer.
    this.size = Math.min(Math.floor((high - this.start) / this.step + 1e-9) + 1, MAX_BARS);
    this.numbers = Int16Array.from(this.values, (value) =>
      Number.isNaN(value) ? -1 : this.barOf(value));
    this.bars = Array.from({ length: this.size }, () => element("i"));
    const bounds = { from: sorted[0] ?? 0, to: sorted.at(-1) ?? 0 };
    this.fields = Object.entries(bounds).map(([end, bound]) =>
      element("input", {
        type: "number",
        name: `${name}_${end}`,
        ariaLabel: `${title}, ${end}`,
        placeholder: `${end} ${Number(bound.toFixed(2))}`,
        min: 0,
        step: "any",
      }));
    this.chart = element("div", { className: "bars", ariaHidden: "true" }, ...this.bars);
    const node = element(
      "fieldset",
      { className: "histogram" },
      element("legend", { textContent: title }),
      this.chart,
      element("div", {}, ...this.fields),
    );
    if (sorted.length) form.querySelector(".histograms").append(node);
    this.listen();
  }

  barOf(value) {
    const number = Math.floor((value - this.start) / this.step + 1e-9);
    return Math.min(Math.max(number, 0), this.size - 1);
  }

  listen() {
    let [first, dragged] = [-1, false];
    const under = (event) => {
      const { left, width } = this.chart.getBoundingClientRect();
      const number = Math.floor(((event.clientX - left) / width) * this.size);
      return Math.min(Math.max(number, 0), this.size - 1);
    };
    this.chart.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault(); // no text is selected
      this.chart.setPointerCapture(event.pointerId);
      [first, dragged] = [under(event), false];
    });
    this.chart.addEventListener("pointermove", (event) => {
      if (first < 0 || (!dragged && under(event) === first)) return;
      dragged = true;
      this.choose(first, under(event));
    });
    this.chart.addEventListener("pointerup", (event) => {
      if (first >= 0) this.choose(first, under(event), !dragged);
      first = -1;
    });
    this.chart.addEventListener("pointercancel", () => (first = -1));
    // The arrow keys move an end by one bar.
    for (const [end, field] of this.fields.entries()) {
      field.addEventListener("keydown", (event) => {
        const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
        if (!by) return;
        event.preventDefault();
        const open = end ? this.size : 0;
        const now = field.value === "" ? open : this.barOf(Number(field.value)) + end;
        const bar = Math.min(Math.max(now + by, 0), this.size);
        this.fill(field, bar === open ? "" : this.edge(bar, end));
      });
    }
  }

  // The value at which a bar begins; as an upper end, the last one that belongs to the bar before.
  edge(bar, isUpper) {
    const value = this.start + bar * this.step - (isUpper && this.whole ? 1 : 0);
    return String(Number(value.toFixed(6)));
  }

  // Bars from one to another. A click on the only chosen one opens the filter again.
  choose(one, other, isClick = false) {
    const [low, high] = [Math.min(one, other), Math.max(one, other)];
    const values = [
      low ? this.edge(low, 0) : "",
      high < this.size - 1 ? this.edge(high + 1, 1) : "",
    ];
    const again = isClick && this.fields.every((field, end) => field.value === values[end]);
    this.fields.forEach((field, end) => (field.value = again ? "" : values[end]));
    this.fill(this.fields[0], this.fields[0].value);
  }

  fill(field, value) {
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  get range() {
    const [low, high] = this.fields.map((field) => field.value);
    return [low === "" ? -Infinity : Number(low), high === "" ? Infinity : Number(high)];
  }

  test() {
    const { values } = this;
    const [low, high] = this.range;
    this.counts = new Uint32Array(this.size);
    if (low === -Infinity && high === Infinity) return null;
    return (n) => values[n] >= low && values[n] <= high;
  }

  count(n) {
    if (this.numbers[n] >= 0) this.counts[this.numbers[n]]++;
  }

  draw() {
    const most = Math.max(...this.counts, 1);
    const [low, high] = this.range;
    this.bars.forEach((bar, number) => {
      const left = this.start + number * this.step;
      const right = number === this.size - 1 ? Infinity : left + this.step;
      const count = this.counts[number];
      bar.style.height = `${count ? Math.max((100 * count) / most, 4) : 0}%`;
      bar.className = right > low && (left < high || left === low) ? "inside" : "";
    });
  }
}
