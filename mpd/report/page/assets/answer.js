// The open answers: those of the base student and of each round of a branch, side by side.

function answerHeading(line) {
  const facts = [
    ["benchmark", line.benchmark],
    ["method", line.method],
    ["seed", line.seed],
    ["round", line.round],
    ["gold", line.gold],
    ["solved by base", line.difficulty],
    ["ratio", line.ratio === null ? null : line.ratio.toFixed(2)],
  ];
  return element(
    "header",
    {},
    element("h3", { textContent: line.question }),
    element(
      "p",
      { className: "facts" },
      cell(line.isRight ? "reason kept" : "reason", line.words),
      ...factSpans(facts),
    ),
    commandLine("mpd.show", line.folder, "--benchmark", line.benchmark, "--problem", line.id),
  );
}

// Which of several answers a column shows first: those that make the outcome of the line.
function firstShown(line, column) {
  const isBase = column.line !== line;
  const wanted = { lost: isBase, gained: !isBase }[line.outcomes[0]];
  const number = column.answers.findIndex(({ verdict }) => (verdict === "correct") === wanted);
  return Math.max(number, 0);
}

class AnswerSides {
  // `show` opens the line of another round.
  constructor(line, columns, show) {
    Object.assign(this, { line, columns, show });
    for (const column of columns) column.number = firstShown(line, column);
    this.node = element("div", { className: "sides" });
    this.draw();
  }

  textOf(column) {
    return column?.texts?.[column.number] ?? null;
  }

  draw() {
    const [first, ...others] = this.columns;
    const base = first.line ? null : this.textOf(first);
    const open = this.columns.find(({ line }) => line === this.line);
    const sides = first.line ? [this.side(first, null)] : [this.side(first, compared(base, this.textOf(open)))];
    for (const column of others) {
      sides.push(this.side(column, first.line ? null : compared(base, this.textOf(column))));
    }
    this.node.replaceChildren(...sides);
  }

  side(column, comparison) {
    const { tokens, finish, answer, verdict } = column.answers[column.number];
    const details = [
      `${tokens} tokens`,
      { stop: "", length: "cut at the limit" }[finish] ?? finish.replaceAll("_", " "),
      answerOf(answer, VERDICT_WORDS[verdict] ?? verdict),
      comparison && !column.line ? `${share(comparison.cut)} cut` : "",
    ];
    const side = titled(this.titleOf(column), details, this.choiceOf(column), this.paneOf(column, comparison));
    side.classList.toggle("open", column.line === this.line);
    return side;
  }

  titleOf({ title, line }) {
    if (!line || line === this.line) return title;
    const button = element("button", { type: "button", textContent: title, ariaLabel: `Open ${title}` });
    button.addEventListener("click", () => this.show(line));
    return button;
  }

  // Where there are several answers, which one.
  choiceOf(column) {
    if (column.answers.length === 1) return null;
    const options = column.answers.map(({ verdict, tokens }, value) => {
      const textContent = `answer ${value + 1}: ${VERDICT_WORDS[verdict] ?? verdict}, ${tokens} tokens`;
      return element("option", { value, textContent });
    });
    const select = element("select", { ariaLabel: `Answer of ${column.title}` }, ...options);
    select.value = column.number;
    select.addEventListener("change", () => {
      column.number = Number(select.value);
      this.draw();
      this.node.querySelector(`[aria-label="${select.ariaLabel}"]`).focus();
    });
    return select;
  }

  paneOf(column, comparison) {
    const text = this.textOf(column);
    if (text === null) {
      const textContent = "Its text is not in this file. The command above prints it.";
      return element("p", { className: "quiet", textContent });
    }
    const [tag, pieces] = column.line ? ["ins", comparison?.right] : ["del", comparison?.left];
    const pane = marked(pieces ?? [{ text, matched: true }], tag);
    pane.ariaLabel = `Answer of ${column.title}`;
    return pane;
  }
}

// What `compare` gives of two texts that are there.
function compared(base, text) {
  return base === null || text === null ? null : compare(base, text);
}

function answerContent(line, columns, show) {
  const sides = new AnswerSides(line, columns, show);
  const key = element(
    "p",
    { className: "quiet key" },
    element("del", { textContent: "cut" }),
    ` not in round ${line.round}, `,
    element("ins", { textContent: "new" }),
    " not in the answer of the base student",
  );
  const hasBase = columns.length > 1 && !columns[0].line;
  return { nodes: [answerHeading(line), sides.node, ...(hasBase ? [key] : [])], pane: null };
}
