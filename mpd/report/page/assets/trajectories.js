// The browser of trajectories and their rewrites.

// By the share of correct trajectories of the problem, over the seeds of a method and round.
const SOLVED = {
  "none correct": (share) => share === 0,
  "some correct": (share) => share > 0 && share <= 0.5,
  "most correct": (share) => share > 0.5 && share < 1,
  "all correct": (share) => share === 1,
};

class Trajectories extends Browser {
  constructor(root, index) {
    const texts = new Chunks("texts", index.texts, Infinity);
    const tokens = new Chunks("tokens", index.tokens, 4);
    const solved = ({ solved: share }) => Object.keys(SOLVED).find((name) => SOLVED[name](share));
    const held = ({ line }) => [
      ...(texts.has(line) ? ["with texts"] : []),
      ...(tokens.has(line) ? ["with tokens"] : []),
    ];
    super("trajectories", root, linesOf(index), texts, {
      choices: [
        { name: "method", of: (line) => line.method, spell: String }, // as in config.yaml
        { name: "seed", of: (line) => line.seed },
        { name: "round", of: (line) => line.round },
        { name: "reason", of: (line) => line.reason },
        { name: "verdict", of: (line) => line.verdict },
        { name: "solved", of: solved, options: Object.keys(SOLVED) },
        { name: "shown", of: held, options: ["with texts", "with tokens"], flags: true },
      ],
      ranges: [
        { name: "tokens", title: "tokens", of: (line) => line.sample_tokens, whole: true },
        { name: "ratio", title: "ratio", of: (line) => line.ratio },
        { name: "divergence", title: "divergence", of: (line) => line.divergence },
      ],
    });
    this.tokens = tokens;
    this.nothing = "No trajectory matches the filters.";
  }

  keyOf(line) {
    return [line.method, line.seed, line.round, line.id, line.candidate];
  }

  textsOf({ question, trajectory, rewrite }) {
    return [question, trajectory, rewrite];
  }

  rowOf(line) {
    const tokens = line.num_tokens === null ? "–" : line.num_tokens;
    const cells = [
      cell("question", line.question.replace(/\s+/g, " ")),
      cell("number", line.ratio === null ? "–" : line.ratio.toFixed(2)),
      cell("number", `${line.sample_tokens} → ${tokens}`),
      cell("number", line.divergence === null ? "–" : line.divergence.toFixed(2)),
      cell("place", `${line.method} · seed ${line.seed} · round ${line.round}`),
      cell(line.reason === "kept" ? "reason kept" : "reason", line.reason.replaceAll("_", " ")),
    ];
    return { cells, faint: !this.texts.has(line.line) };
  }

  async contentOf(line) {
    const records = [this.texts.get(line.line), this.tokens.get(line.line)];
    return trajectoryContent(line, ...(await Promise.all(records)));
  }
}
