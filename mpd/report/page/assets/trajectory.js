// The selected trajectory beside its rewrite.

let measure = "divergence"; // that colours tokens; the choice stays for the next trajectory

function share(value) {
  return `${Math.round(100 * value)}%`;
}

function headingOf(line, record) {
  const facts = [
    ["method", line.method],
    ["seed", line.seed],
    ["round", line.round],
    ["gold", record?.gold],
    ["solved", share(line.solved)],
    ["divergence", line.divergence === null ? null : line.divergence.toFixed(3)],
    ["log p teacher", line.teacher === null ? null : line.teacher.toFixed(3).replace("-", "−")],
    ["overlap", record?.overlap == null ? undefined : share(record.overlap)],
  ];
  return element(
    "header",
    {},
    element("h3", { textContent: record?.question ?? line.question }),
    element(
      "p",
      { className: "facts" },
      element("span", {
        className: line.reason === "kept" ? "reason kept" : "reason",
        textContent: line.reason.replaceAll("_", " "),
      }),
      ...factSpans(facts),
    ),
    commandLine("mpd.show", line.folder, "--sample", line.id),
  );
}

// Names and values; those without a value are left out.
function factSpans(facts) {
  return facts
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) =>
      element("span", {}, `${name} `, element("b", { textContent: String(value) })));
}

function titled(title, details, ...children) {
  return element(
    "section",
    { className: "side" },
    element(
      "h4",
      {},
      title,
      element("small", { textContent: ` ${details.filter((detail) => detail).join(" · ")}` }),
    ),
    ...children,
  );
}

function answerOf(answer, verdict) {
  return answer === null || answer === undefined ? verdict : `answer ${answer}, ${verdict}`;
}

function marked(pieces, tag) {
  const pane = element("div", { className: "text", tabIndex: 0, role: "group" });
  pane.append(
    ...pieces.map((piece) =>
      piece.matched ? piece.text : element(tag, { textContent: piece.text })),
  );
  return pane;
}

function colourChoice(pane) {
  const offered = Object.entries(MEASURES).filter(([, one]) => one.values(pane.record));
  const select = element(
    "select",
    { ariaLabel: "Colour of the tokens" },
    ...offered.map(([value, { name }]) => element("option", { value, textContent: name })),
    element("option", { value: "", textContent: "no colour" }),
  );
  select.value = measure && !MEASURES[measure].values(pane.record) ? offered[0][0] : measure;
  const scale = element("span", { className: "scale", ariaHidden: "true" });
  const apply = () => {
    const most = select.value ? MEASURES[select.value].most : 0;
    pane.colour(select.value);
    scale.replaceChildren(
      ...(most
        ? [
            "0",
            ...Array.from({ length: NUM_HEATS }, (_, heat) => {
              const step = element("i");
              step.dataset.heat = heat + 1;
              return step;
            }),
            `${most} nats or more`,
          ]
        : []),
    );
  };
  select.addEventListener("change", () => {
    measure = select.value;
    apply();
  });
  apply();
  const key = element(
    "span",
    { className: "key" },
    element("del", { textContent: "cut" }),
    " not in the rewrite, ",
    element("ins", { textContent: "new" }),
    " not in the trajectory",
  );
  return element("div", { className: "colour" }, "colour ", select, scale, key);
}

// Both texts in pieces that the other one has or lacks, and the share of the trajectory's words that
// was cut; null where there is nothing to compare.
function compare(original, rewrite) {
  if (rewrite === null || rewrite === original) return null;
  const words = [wordsOf(original), wordsOf(rewrite)];
  const { matched, complete } = align(...words.map((list) => list.map((word) => word.text)));
  const numKept = matched[0].reduce((sum, kept) => sum + kept, 0);
  return {
    left: piecesOf(original, words[0], matched[0]),
    right: piecesOf(rewrite, words[1], matched[1]),
    cut: words[0].length ? 1 - numKept / words[0].length : 0,
    isNew: newCharacters(rewrite, words[1], matched[1]),
    complete,
  };
}

// For each character of the rewrite 1 where it is in a word that the trajectory lacks.
function newCharacters(rewrite, words, matched) {
  const isNew = new Uint8Array(rewrite.length);
  words.forEach((word, number) => {
    if (!matched[number]) isNew.fill(1, word.start, word.end);
  });
  return isNew;
}

function notesOf(line, record, rewrite, compared, hasTokens) {
  const notes = [];
  if (record.same) notes.push("The trajectory is trained on as it is.");
  if (rewrite === null) notes.push("There is no rewrite.");
  if (compared && !compared.complete) {
    notes.push("Some parts are too long to compare word by word, and are marked as a whole.");
  }
  if (!hasTokens) {
    notes.push(line.reason === "kept"
      ? "Its tokens are not in this file."
      : "Only completions that are trained on are scored, so there are no tokens to colour.");
  }
  return notes.length
    ? element("p", { className: "quiet", textContent: notes.join(" ") })
    : null;
}

function sidesOf(line, record, rewrite, compared, pane) {
  const unmarked = (text) => [{ text, matched: true }];
  const trajectory = marked(compared?.left ?? unmarked(record.trajectory), "del");
  const plain = marked(compared?.right ?? unmarked(rewrite ?? ""), "ins");
  trajectory.ariaLabel = "Trajectory";
  plain.ariaLabel = "Rewrite";
  const left = [
    `${line.sample_tokens} tokens`,
    record.finish_reason === "stop" ? "" : record.finish_reason,
    answerOf(record.sample_answer, line.sampleVerdict),
    compared ? `${share(compared.cut)} cut` : "",
  ];
  const right = [
    line.num_tokens === null ? record.status : `${line.num_tokens} tokens`,
    line.ratio === null ? "" : `ratio ${line.ratio.toFixed(2)}`,
    answerOf(record.answer, line.verdict),
  ];
  return element(
    "div",
    { className: "sides" },
    titled("Trajectory", left, trajectory),
    titled(line.candidate ? `Rewrite ${line.candidate}` : "Rewrite", right, pane?.pane ?? plain),
  );
}

// The content of the detail pane. `text` and `token` are what Chunks.get returns, or null.
function trajectoryContent(line, text, token) {
  const record = text?.record ?? null;
  const heading = headingOf(line, record);
  if (!record) {
    const missing = "Its texts are not in this file. The command above prints them.";
    return { nodes: [heading, element("p", { className: "quiet", textContent: missing })] };
  }
  const rewrite = record.same ? record.trajectory : record.rewrite;
  const compared = compare(record.trajectory, rewrite);
  // After the rewrite comes the stop token, which is in no text.
  const isNew = (position) => compared?.isNew[position] === 1;
  const pane = token ? new TokenPane(token.record, token.texts, isNew) : null;
  const nodes = [
    heading,
    notesOf(line, record, rewrite, compared, Boolean(pane)),
    sidesOf(line, record, rewrite, compared, pane),
    pane ? element("div", { className: "below" }, colourChoice(pane), pane.inspector) : null,
  ];
  return { nodes: nodes.filter((node) => node), pane };
}
