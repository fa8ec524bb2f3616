// The data that Python packed into the page: deflated JSON in base64, inflated when it is needed.

async function inflate(name) {
  const packed = document.getElementById(`data-${name}`).textContent;
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).json();
}

// Records of some lines, in chunks. `lines` has the numbers of the lines of each chunk, in order.
class Chunks {
  constructor(kind, lines, maxKept) {
    this.kind = kind;
    this.lines = lines;
    this.maxKept = maxKept;
    this.kept = new Map(); // number of a chunk to the promise of its content
    this.indices = new Map(); // line to the number of its chunk and its index there
    lines.forEach((linesOfChunk, chunk) =>
      linesOfChunk.forEach((line, index) => this.indices.set(line, [chunk, index])));
  }

  has(line) {
    return this.indices.has(line);
  }

  chunk(number) {
    if (!this.kept.has(number)) {
      this.kept.set(number, inflate(`${this.kind}-${number}`));
      if (this.kept.size > this.maxKept) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(number);
  }

  // The record of a line and the texts of its chunk; null where the page does not have it.
  async get(line) {
    if (!this.has(line)) return null;
    const [number, index] = this.indices.get(line);
    const { records, texts } = await this.chunk(number);
    return { record: records[index], texts };
  }
}

// The index, which comes by columns, as one object for each line.
function linesOf(index) {
  const { rounds, problems } = index;
  return index.round.map((number, line) => {
    const [method, seed, round, folder] = rounds[number];
    const problem = index.problem[line];
    const [tokens, sampleTokens] = [index.num_tokens[line], index.sample_tokens[line]];
    const named = (column) => index[column].names[index[column].lines[line]];
    return {
      line,
      records: [line],
      method,
      seed,
      round,
      folder,
      id: `${problems.id[problem]}-${index.sample[line]}`,
      question: problems.question[problem],
      candidate: index.candidate[line],
      sample_tokens: sampleTokens,
      num_tokens: tokens,
      ratio: tokens === null || !sampleTokens ? null : tokens / sampleTokens,
      divergence: index.divergence[line] === null ? null : index.divergence[line] / 1000,
      teacher: index.teacher_logprob[line] === null ? null : -index.teacher_logprob[line] / 1000,
      solved: index.solved[line],
      reason: named("reason"),
      verdict: named("verdict"),
      sampleVerdict: named("sample_verdict"),
    };
  });
}

// An element with text and children. Text is always set as text, so that nothing in it is markup.
function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
