// Which words of a trajectory its rewrite keeps, in order. Long texts are split at runs of words that
// occur once in each; the parts between are aligned exactly, as long as a budget of work lasts.

const WORD = /[\p{L}\p{M}]+|\p{N}+|[^\p{L}\p{M}\p{N}\s]/gu;
const RUN = 4; // words of a run at which long texts are split
const BREAK = 3; // what a new run of matches costs; a matched word gains 2
const MAX_CELLS = 12e6; // of all exact alignments of a pair of texts
const MAX_WORK = 4e6; // words looked at when splitting

function wordsOf(text) {
  return Array.from(text.matchAll(WORD), (match) => ({
    text: match[0],
    start: match.index,
    end: match.index + match[0].length,
  }));
}

// `matched` has for each word of both texts 1 where it is matched, else 0. `complete` is false where
// a part was too long to be aligned.
function align(first, second) {
  const numbers = new Map();
  const numbered = (words) =>
    Int32Array.from(words, (word) => {
      if (!numbers.has(word)) numbers.set(word, numbers.size);
      return numbers.get(word);
    });
  const [a, b] = [numbered(first), numbered(second)];
  const matched = [new Uint8Array(a.length), new Uint8Array(b.length)];
  const match = (i, j) => {
    matched[0][i] = 1;
    matched[1][j] = 1;
  };
  let [cells, work, complete] = [MAX_CELLS, MAX_WORK, true];
  const gaps = [[0, a.length, 0, b.length]];
  while (gaps.length) {
    let [i, iEnd, j, jEnd] = gaps.pop();
    if (i === iEnd || j === jEnd) continue;
    const size = (iEnd - i) * (jEnd - j);
    if (size <= Math.min(cells, MAX_CELLS / 4)) {
      cells -= size;
      alignExactly(a, b, i, iEnd, j, jEnd, match);
      continue;
    }
    const before = iEnd - i;
    while (i < iEnd && j < jEnd && a[i] === b[j]) match(i++, j++);
    while (i < iEnd && j < jEnd && a[iEnd - 1] === b[jEnd - 1]) match(--iEnd, --jEnd);
    work -= iEnd - i + jEnd - j;
    if (before > iEnd - i) {
      gaps.push([i, iEnd, j, jEnd]);
      continue;
    }
    const anchors = work > 0 ? anchorsOf(a, b, i, iEnd, j, jEnd) : [];
    if (anchors.length) {
      for (const [x, y] of anchors) {
        match(x, y);
        gaps.push([i, x, j, y]);
        [i, j] = [x + 1, y + 1];
      }
      gaps.push([i, iEnd, j, jEnd]);
    } else {
      complete = false;
    }
  }
  return { matched, complete };
}

// Pairs of positions, rising in both parts, at which a run of words starts that each part has once.
function anchorsOf(a, b, i, iEnd, j, jEnd) {
  const runsOf = (words, start, end) => {
    const positions = new Map();
    for (let position = start; position + RUN <= end; position++) {
      const run = words.subarray(position, position + RUN).join(" ");
      positions.set(run, positions.has(run) ? -1 : position);
    }
    return positions;
  };
  const others = runsOf(b, j, jEnd);
  const pairs = [];
  for (const [run, position] of runsOf(a, i, iEnd)) {
    const other = others.get(run) ?? -1;
    if (position >= 0 && other >= 0) pairs.push([position, other]);
  }
  return longestRising(pairs);
}

// The longest subsequence of pairs, sorted by their first number, whose second number rises.
function longestRising(pairs) {
  pairs.sort((one, other) => one[0] - other[0]);
  const ends = []; // for each length, the end of the subsequence that ends lowest
  const before = new Int32Array(pairs.length);
  pairs.forEach(([, second], number) => {
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[ends[middle]][1] < second) low = middle + 1;
      else high = middle;
    }
    before[number] = low ? ends[low - 1] : -1;
    ends[low] = number;
  });
  const longest = [];
  for (let number = ends.at(-1) ?? -1; number >= 0; number = before[number]) {
    longest.push(pairs[number]);
  }
  return longest.reverse();
}

// The alignment with the most matched words and few breaks, by dynamic programming from the end.
// Each cell has two scores of what follows in both texts: the best one (best), and the best one that
// matches these two words (here). A match at the start or at the end of both is no break.
function alignExactly(a, b, i, iEnd, j, jEnd, match) {
  const [MATCH, SKIP_FIRST, SAME_RUN] = [1, 2, 4];
  const [rows, columns] = [iEnd - i, jEnd - j];
  const steps = new Uint8Array(rows * columns);
  let best = new Int32Array(columns + 1);
  let here = new Int32Array(columns + 1).fill(-1e9);
  for (let row = rows - 1; row >= 0; row--) {
    const [bestNow, hereNow] = [new Int32Array(columns + 1), new Int32Array(columns + 1)];
    hereNow[columns] = -1e9;
    for (let column = columns - 1; column >= 0; column--) {
      let step = 0;
      let matching = -1e9;
      if (a[i + row] === b[j + column]) {
        const isLast = row === rows - 1 && column === columns - 1;
        const newRun = best[column + 1] - (isLast ? 0 : BREAK);
        const sameRun = here[column + 1];
        matching = 2 + Math.max(sameRun, newRun);
        if (row === 0 && column === 0) matching += BREAK - 1;
        if (sameRun >= newRun) step |= SAME_RUN;
      }
      const skip = Math.max(best[column], bestNow[column + 1]);
      if (matching >= skip && matching > 0) step |= MATCH;
      else if (best[column] >= bestNow[column + 1]) step |= SKIP_FIRST;
      hereNow[column] = matching;
      bestNow[column] = Math.max(matching, skip);
      steps[row * columns + column] = step;
    }
    [best, here] = [bestNow, hereNow];
  }
  let [row, column, inRun] = [0, 0, false];
  while (row < rows && column < columns) {
    const step = steps[row * columns + column];
    if (inRun || step & MATCH) {
      match(i + row++, j + column++);
      inRun = Boolean(step & SAME_RUN);
    } else if (step & SKIP_FIRST) row++;
    else column++;
  }
}

// A text in pieces that are matched or not. What stands between two pieces belongs to the matched
// one.
function piecesOf(text, words, matched) {
  const pieces = [];
  let start = 0;
  words.forEach((word, number) => {
    const same = number && matched[number] === matched[number - 1];
    if (number && !same) {
      const end = matched[number] ? words[number - 1].end : word.start;
      pieces.push({ text: text.slice(start, end), matched: Boolean(matched[number - 1]) });
      start = end;
    }
  });
  const last = words.length ? Boolean(matched.at(-1)) : true;
  pieces.push({ text: text.slice(start), matched: last });
  return pieces.filter((piece) => piece.text);
}
