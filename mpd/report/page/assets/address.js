// What is open and filtered stands in the hash of the address: #name/row?filters. Names and values
// that this page does not have are passed over.

const addresses = {
  browsers: [],
  waiting: null,
  gradual: "", // what changed last, where more of the same changes the entry and adds none

  read() {
    const [path, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
    try {
      const [name, ...row] = path.split("/").map(decodeURIComponent);
      return { name, row, fields: new URLSearchParams(query) };
    } catch {
      return { name: "", row: [], fields: new URLSearchParams() };
    }
  },

  // Called after every change. Changes of one kind in turn, such as the letters of a search, are one
  // entry of the history; without a kind, each has its own.
  write(browser, kind = "") {
    clearTimeout(this.waiting);
    const name = kind && `${browser.name} ${kind}`;
    const replaces = name !== "" && name === this.gradual;
    this.gradual = name;
    const commit = () => {
      const hash = browser.hash();
      if (hash === location.hash) return;
      this.last = browser;
      history[replaces ? "replaceState" : "pushState"](null, "", hash);
    };
    if (replaces) this.waiting = setTimeout(commit, 200);
    else commit();
  },

  // Show what the address says; without a hash, what was there before the first change.
  follow() {
    clearTimeout(this.waiting);
    this.gradual = "";
    const { name, row, fields } = this.read();
    const browser = location.hash ? this.browsers.find((one) => one.name === name) : this.last;
    // The name alone is the heading of a section.
    if (!browser || (location.hash && !row.length)) return;
    browser.apply(row, fields);
    if (location.hash && !isInView(browser.root)) browser.root.scrollIntoView();
  },

  start(...browsers) {
    this.browsers = browsers;
    window.addEventListener("popstate", () => this.follow());
    this.follow();
  },
};

function isInView(node) {
  const { top, bottom } = node.getBoundingClientRect();
  return top < innerHeight / 2 && bottom > innerHeight / 2;
}

// A word of a command line of a shell, as it stands for itself.
function quoted(word) {
  return /^[\w./:@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = element("textarea", { value: text });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

// A command, and a button that copies it.
function commandLine(...words) {
  const command = ["python", "-m", ...words.map((word) => quoted(String(word)))].join(" ");
  const button = element("button", { type: "button", textContent: "copy" });
  button.ariaLabel = "Copy the command";
  button.addEventListener("click", async () => {
    await copy(command);
    button.textContent = "copied";
  });
  const code = element("code", { textContent: command });
  return element("p", { className: "command" }, code, " ", button);
}
