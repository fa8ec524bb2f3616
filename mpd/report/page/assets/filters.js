// The filters of a browser. Each is asked two things of the number of a line: `test` whether it
// passes, null where the filter is open, and `count` to count it among those that pass all others.

const spaced = (value) => String(value).replaceAll("_", " ");

// A select, or buttons of which one is chosen. `of` gives the value of a line, or with `flags` a list
// of values; `options` are the values in their order, by default all that occur.
class Choice {
  constructor(form, lines, { name, of, options, spell = spaced, flags = false }) {
    Object.assign(this, { name, form, flags });
    this.options = options ?? [...new Set(lines.map(of))].sort((one, other) => (one < other ? -1 : 1));
    const numbers = new Map(this.options.map((option, number) => [option, number]));
    const bits = (values) => values.reduce((sum, value) => sum | (1 << numbers.get(value)), 0);
    this.codes = Int32Array.from(lines, (line) =>
      flags ? bits(of(line)) : (numbers.get(of(line)) ?? -1));
    this.labels = this.options.map(spell);
    const fieldset = form.querySelector(`[data-choice="${name}"]`);
    this.spots = fieldset ? this.offerButtons(fieldset) : this.offerOptions(form.elements[name]);
  }

  offerOptions(select) {
    const options = this.options.map((value) => element("option", { value: String(value) }));
    select.replaceChildren(element("option", { value: "", textContent: "all" }), ...options);
    return options;
  }

  offerButtons(fieldset) {
    const buttonOf = (value, label) => {
      const spot = element("span", { textContent: label });
      const input = element("input", { type: "radio", name: this.name, value, checked: !value });
      input.defaultChecked = !value;
      fieldset.append(element("label", {}, input, spot));
      return spot;
    };
    buttonOf("", "all");
    return this.options.map((value) => buttonOf(value, ""));
  }

  test() {
    const chosen = this.options.map(String).indexOf(this.form.elements[this.name].value);
    this.counts = new Uint32Array(this.options.length);
    if (chosen < 0) return null;
    const { codes } = this;
    return this.flags ? (n) => (codes[n] >> chosen) & 1 : (n) => codes[n] === chosen;
  }

  count(n) {
    const code = this.codes[n];
    if (!this.flags) {
      if (code >= 0) this.counts[code]++;
      return;
    }
    for (let option = 0; code >> option; option++) this.counts[option] += (code >> option) & 1;
  }

  draw() {
    this.spots.forEach((spot, number) => {
      const count = this.counts[number].toLocaleString("en");
      spot.textContent = `${this.labels[number]} (${count})`;
    });
  }
}

// What no field counts: a search, given as a test of a line.
class Search {
  constructor(lines) {
    Object.assign(this, { lines, mentions: null });
  }

  test() {
    const { lines, mentions } = this;
    return mentions && ((n) => mentions(lines[n]));
  }

  count() {}

  draw() {}
}

// The lines that pass all filters. Every filter counts those that pass all others.
function passing(lines, filters) {
  const tests = filters.map((filter) => filter.test());
  const active = [...tests.keys()].filter((number) => tests[number]);
  const shown = [];
  for (let n = 0; n < lines.length; n++) {
    let failed = -1; // the only filter that it fails; -2 where there are several
    for (const number of active) {
      if (tests[number](n)) continue;
      failed = failed === -1 ? number : -2;
      if (failed === -2) break;
    }
    if (failed === -1) {
      shown.push(lines[n]);
      for (const filter of filters) filter.count(n);
    } else if (failed >= 0) filters[failed].count(n);
  }
  for (const filter of filters) filter.draw();
  return shown;
}
