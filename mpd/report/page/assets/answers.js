// The browser of held-out answers: a line is a problem and a student, beside its base student.

const VERDICT_WORDS = { none: "no answer" };

// What the index, which comes by columns, has of the answers of a cell: one student's to one problem.
class Cells {
  constructor(index) {
    Object.assign(this, { index });
    this.starts = [0];
    for (const count of index.counts) this.starts.push(this.starts.at(-1) + count);
  }

  answers(cell) {
    const { verdict, finish_reason: finish, answer, tokens } = this.index;
    const count = this.starts[cell + 1] - this.starts[cell];
    return Array.from({ length: count }, (_, index) => {
      const place = this.starts[cell] + index;
      return {
        verdict: verdict.names[verdict.lines[place]],
        finish: finish.names[finish.lines[place]],
        answer: answer.names[answer.lines[place]],
        tokens: tokens[place],
      };
    });
  }

  // The mean of the answers' tokens; null where no prompt did fit.
  tokens(answers) {
    const asked = answers.filter(({ finish }) => finish !== "too_long");
    const sum = asked.reduce((total, { tokens }) => total + tokens, 0);
    return asked.length ? sum / asked.length : null;
  }

  words(answers) {
    const [{ verdict }] = answers;
    if (answers.length === 1) return VERDICT_WORDS[verdict] ?? verdict;
    return `${answers.filter((one) => one.verdict === "correct").length}/${answers.length} correct`;
  }
}

// One object for each student but the base students, and each problem.
function answerLinesOf(index, cells) {
  const { students, problems, bases } = index;
  const keys = Object.keys(index.outcomes);
  const size = problems.id.length;
  const trained = students.some((_, student) => bases[student] !== student);
  const lines = [];
  for (const [student, [method, seed, round, folder]] of students.entries()) {
    const isBase = bases[student] === student;
    if (trained && isBase) continue;
    for (let problem = 0; problem < size; problem++) {
      const number = student * size + problem;
      const base = isBase || bases[student] === null ? null : bases[student] * size + problem;
      const [answers, before] = [cells.answers(number), base === null ? null : cells.answers(base)];
      const [tokens, baseTokens] = [cells.tokens(answers), before && cells.tokens(before)];
      const difficulty = problems.difficulty[problem];
      lines.push({
        ...{ line: number, base, records: base === null ? [number] : [base, number] },
        ...{ problem, method, seed, round, folder, tokens, baseTokens },
        benchmark: index.benchmarks[problems.benchmark[problem]],
        id: problems.id[problem],
        question: problems.question[problem],
        gold: problems.gold[problem],
        difficulty: difficulty === null ? "unknown" : index.difficulties[difficulty],
        ratio: tokens !== null && baseTokens ? tokens / baseTokens : null,
        outcomes: keys.filter((_, bit) => (index.cell_outcomes[number] >> bit) & 1),
        verdicts: [...new Set(answers.map(({ verdict }) => verdict))],
        isRight: answers.every(({ verdict }) => verdict === "correct"),
        words: [before && cells.words(before), cells.words(answers)].filter((word) => word).join(" → "),
      });
    }
  }
  const isLost = (line) => line.outcomes.includes("lost");
  const ordered = [...lines.filter(isLost), ...lines.filter((line) => !isLost(line))];
  ordered.forEach((line, rank) => (line.rank = rank));
  return lines;
}

class Answers extends Browser {
  constructor(root, index) {
    const texts = new Chunks("answer-texts", index.texts, Infinity);
    const cells = new Cells(index);
    const { outcomes, difficulties, verdict } = index;
    const whole = index.counts.every((count) => count === 1); // else lengths are means
    super("answers", root, answerLinesOf(index, cells), texts, {
      choices: [
        {
          ...{ name: "outcome", of: (line) => line.outcomes, flags: true },
          ...{ options: Object.keys(outcomes), spell: (name) => outcomes[name] },
        },
        { name: "benchmark", of: (line) => line.benchmark, spell: String },
        { name: "method", of: (line) => line.method, spell: String },
        { name: "seed", of: (line) => line.seed },
        { name: "round", of: (line) => line.round },
        { name: "difficulty", of: (line) => line.difficulty, options: [...difficulties, "unknown"] },
        {
          ...{ name: "verdict", of: (line) => line.verdicts, options: verdict.names, flags: true },
          spell: (name) => VERDICT_WORDS[name] ?? name,
        },
        {
          ...{ name: "shown", options: ["with texts"], flags: true },
          of: (line) => (texts.has(line.line) ? ["with texts"] : []),
        },
      ],
      ranges: [
        { name: "tokens", title: "tokens", of: (line) => line.tokens, whole },
        { name: "base_tokens", title: "tokens of base", of: (line) => line.baseTokens, whole },
        { name: "ratio", title: "ratio to base", of: (line) => line.ratio },
      ],
    });
    this.cells = cells;
    this.nothing = "No answer matches the filters.";
  }

  keyOf(line) {
    return [line.benchmark, line.id, line.method, line.seed, line.round];
  }

  textsOf({ texts }) {
    return texts;
  }

  rowOf(line) {
    const tokens = [line.baseTokens, line.tokens].map((one) => (one === null ? "–" : Math.round(one)));
    const cells = [
      cell("question", line.question.replace(/\s+/g, " ")),
      cell("number", line.ratio === null ? "–" : line.ratio.toFixed(2)),
      cell("number", tokens.join(" → ")),
      cell("place", `${line.benchmark} · ${line.method} · seed ${line.seed} · round ${line.round}`),
      cell(line.isRight ? "reason kept" : "reason", line.words),
    ];
    return { cells, faint: !this.texts.has(line.line) };
  }

  // All rounds of the branch, with the base student before them.
  async contentOf(line) {
    const branch = this.lines.filter((one) =>
      one.method === line.method && one.seed === line.seed && one.problem === line.problem);
    const columns = [
      ...(line.base === null ? [] : [{ title: "base student", cell: line.base }]),
      ...branch.map((one) => ({ title: `round ${one.round}`, cell: one.line, line: one })),
    ];
    await Promise.all(columns.map(async (column) => {
      column.answers = this.cells.answers(column.cell);
      column.texts = (await this.texts.get(column.cell))?.record.texts ?? null;
    }));
    return answerContent(line, columns, (other) => {
      this.ready = this.changed(this.show(other));
    });
  }
}
