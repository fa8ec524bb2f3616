// The selected trajectory beside its rewrite.

let measure = "divergence"; // by which tokens are coloured; kept from one trajectory to the next

function commandOf(line, experiment) {
  const folder = `results/${experiment}/${line.method}/seed_${line.seed}/round_${line.round}`;
  return `python -m mpd.show ${folder} --sample ${line.id}`;
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
      element("code", { textContent: commandOf(line, experiment) })),
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

// Both texts in pieces that the other has or not, and the share of the trajectory's words that was
// cut; null where there is nothing to compare.
function compare(original, rewrite) {
  if (rewrite === null || rewrite === original) return null;
  const words = [wordsOf(original), wordsOf(rewrite)];
  const { matched, complete } = align(...words.map((own) => own.map((word) => word.text)));
  const numKept = matched[0].reduce((sum, kept) => sum + kept, 0);
  return {
    left: piecesOf(original, words[0], matched[0]),
    right: piecesOf(rewrite, words[1], matched[1]),
    cut: words[0].length ? 1 - numKept / words[0].length : 0,
    fresh: freshOf(rewrite, words[1], matched[1]),
    complete,
  };
}

// For each letter of the rewrite 1 where it is in a word that the trajectory lacks.
function freshOf(rewrite, words, matched) {
  const fresh = new Uint8Array(rewrite.length);
  words.forEach((word, number) => {
    if (!matched[number]) fresh.fill(1, word.start, word.end);
  });
  return fresh;
}

function notesOf(line, record, rewrite, compared, hasTokens) {
  const notes = [];
  if (record.same) notes.push("The trajectory is trained on as it is.");
  if (rewrite === null) notes.push("There is no rewrite.");
  if (compared && !compared.complete) {
    notes.push("Parts were too long to compare word by word: they are marked as a whole.");
  }
  if (!hasTokens) {
    notes.push(line.reason === "kept"
      ? "The tokens of this one are not in this file."
      : "Only what is trained on is scored, so there are no tokens to colour.");
  }
  return notes.length
    ? element("p", { className: "quiet", textContent: notes.join(" ") })
    : null;
}

function sidesOf(line, record, rewrite, compared, pane) {
  const whole = (text) => [{ text, matched: true }];
  const trajectory = marked(compared?.left ?? whole(record.trajectory), "del");
  const plain = marked(compared?.right ?? whole(rewrite ?? ""), "ins");
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

// The content of the detail pane. `text` and `token` are records with texts, or null.
function contentOf(line, text, token, experiment) {
  const record = text?.record ?? null;
  const heading = headingOf(line, record, experiment);
  if (!record) {
    const missing = "Its texts are not in this file. The command above prints them.";
    return { nodes: [heading, element("p", { className: "quiet", textContent: missing })] };
  }
  const rewrite = record.same ? record.trajectory : record.rewrite;
  const compared = compare(record.trajectory, rewrite);
  // Behind the rewrite comes the stop token, which no text has.
  const isFresh = (place) => compared?.fresh[place] === 1;
  const pane = token ? new TokenPane(token.record, token.texts, isFresh) : null;
  const nodes = [
    heading,
    notesOf(line, record, rewrite, compared, Boolean(pane)),
    sidesOf(line, record, rewrite, compared, pane),
    pane ? element("div", { className: "below" }, colourChoice(pane), pane.inspector) : null,
  ];
  return { nodes: nodes.filter((node) => node), pane };
}
