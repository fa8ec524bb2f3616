// The selected trajectory beside its rewrite.

let measure = "divergence"; // by which tokens are coloured; kept from one trajectory to the next

function describeLine(line, experiment) {
  const folder = `results/${experiment}/${line.method}/seed_${line.seed}/round_${line.round}`;
  return { folder, command: `python -m mpd.show ${folder} --sample ${line.id}` };
}

function share(value) {
  return `${Math.round(100 * value)} %`;
}

function headingOf(line, record, experiment) {
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
      ...facts
        .filter(([, value]) => value !== undefined && value !== null)
        .map(([name, value]) =>
          element("span", {}, `${name} `, element("b", { textContent: String(value) }))),
    ),
    element("p", { className: "command" },
      element("code", { textContent: describeLine(line, experiment).command })),
  );
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
            `${most} nat or more`,
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

// The content of the detail pane. `text` and `token` are records with texts, or null.
function contentOf(line, text, token, experiment) {
  const record = text?.record ?? null;
  const heading = headingOf(line, record, experiment);
  if (!record) {
    const missing = "The texts of this trajectory are not in this file. The command above prints it.";
    return { nodes: [heading, element("p", { className: "quiet", textContent: missing })] };
  }
  const original = record.trajectory;
  const rewrite = record.same ? original : record.rewrite;
  const [words, others] = [wordsOf(original), wordsOf(rewrite ?? "")];
  const compared = record.same || rewrite === null ? null : align(
    words.map((word) => word.text),
    others.map((word) => word.text),
  );
  const left = compared ? piecesOf(original, words, compared.matched[0]) : [{ text: original, matched: true }];
  const cut = compared ? compared.matched[0].reduce((sum, kept) => sum + 1 - kept, 0) : 0;
  const pane = token
    ? new TokenPane(token.record, token.texts, freshAt(rewrite, others, compared?.matched[1]))
    : null;
  const plain = () => marked(
    compared ? piecesOf(rewrite, others, compared.matched[1]) : [{ text: rewrite ?? "", matched: true }],
    "ins",
  );
  const notes = [];
  if (record.same) notes.push("The trajectory is trained on as it is.");
  if (rewrite === null) notes.push("There is no rewrite.");
  if (compared && !compared.complete) {
    notes.push("Parts were too long to compare word by word: they are marked as a whole.");
  }
  if (!token) {
    notes.push(line.reason === "kept"
      ? "The tokens of this one are not in this file."
      : "Only what is trained on is scored, so there are no tokens to colour.");
  }
  const leftDetails = [
    `${line.sample_tokens} tokens`,
    record.finish_reason === "stop" ? "" : record.finish_reason,
    answerOf(record.sample_answer, line.sampleVerdict),
    compared ? `${share(words.length ? cut / words.length : 0)} cut` : "",
  ];
  const rightDetails = [
    line.num_tokens === null ? record.status : `${line.num_tokens} tokens`,
    line.ratio === null ? "" : `ratio ${line.ratio.toFixed(2)}`,
    answerOf(record.answer, line.verdict),
  ];
  const sides = element(
    "div",
    { className: "sides" },
    titled("Trajectory", leftDetails, marked(left, "del")),
    titled(
      line.candidate ? `Rewrite ${line.candidate}` : "Rewrite",
      rightDetails,
      pane ? pane.pane : plain(),
    ),
  );
  sides.querySelector(".text").ariaLabel = "Trajectory";
  const about = notes.length
    ? element("p", { className: "quiet", textContent: notes.join(" ") })
    : null;
  const below = pane ? element("div", { className: "below" }, colourChoice(pane), pane.inspector) : null;
  pane?.inspector.replaceChildren(element("p", {
    className: "quiet",
    textContent: "Point at a token, or press Enter and the arrows, to see the teacher's candidates.",
  }));
  return { nodes: [heading, about, sides, below].filter((node) => node), pane };
}

// Whether a place in the joined tokens lies in a word that the trajectory lacks. The tokens are those
// of the rewrite and the stop token, which neither text has.
function freshAt(rewrite, words, matched) {
  if (!matched) return () => false;
  const fresh = new Uint8Array(rewrite.length);
  words.forEach((word, number) => {
    if (!matched[number]) fresh.fill(1, word.start, word.end);
  });
  return (place) => fresh[place] === 1;
}
