// Which words of a trajectory are in its rewrite, in order. Long texts are split at runs of words
// that both have once; what lies between is aligned exactly, as long as a budget of work lasts.

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

// For the words of both texts 1 where they are matched, else 0. `complete` is false where
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

// Pairs of places, rising in both, where a run of words starts that each part has once.
function anchorsOf(a, b, i, iEnd, j, jEnd) {
  const runsOf = (words, start, end) => {
    const places = new Map();
    for (let place = start; place + RUN <= end; place++) {
      const run = words.subarray(place, place + RUN).join(" ");
      places.set(run, places.has(run) ? -1 : place);
    }
    return places;
  };
  const others = runsOf(b, j, jEnd);
  const pairs = [];
  for (const [run, place] of runsOf(a, i, iEnd)) {
    const other = others.get(run) ?? -1;
    if (place >= 0 && other >= 0) pairs.push([place, other]);
  }
  return longestRising(pairs);
}

// The longest subsequence of pairs, sorted by their first, whose second rises.
function longestRising(pairs) {
  pairs.sort((one, other) => one[0] - other[0]);
  const ends = []; // of the subsequences of each length the one with the lowest end
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
  const found = [];
  for (let number = ends.at(-1) ?? -1; number >= 0; number = before[number]) {
    found.push(pairs[number]);
  }
  return found.reverse();
}

// The alignment with the most matched words and few breaks. Of each cell two scores: of the rest
// of both texts (best), and of it where these two words are matched (here). What both begin or end
// with breaks nothing.
function alignExactly(a, b, i, iEnd, j, jEnd, match) {
  const [MATCH, SKIP_FIRST, ON] = [1, 2, 4];
  const [rows, columns] = [iEnd - i, jEnd - j];
  const steps = new Uint8Array(rows * columns);
  let best = new Int32Array(columns + 1);
  let here = new Int32Array(columns + 1).fill(-1e9);
  for (let row = rows - 1; row >= 0; row--) {
    const [bestNow, hereNow] = [new Int32Array(columns + 1), new Int32Array(columns + 1)];
    hereNow[columns] = -1e9;
    for (let column = columns - 1; column >= 0; column--) {
      let step = 0;
      let own = -1e9;
      if (a[i + row] === b[j + column]) {
        const isLast = row === rows - 1 && column === columns - 1;
        const anew = best[column + 1] - (isLast ? 0 : BREAK);
        const on = here[column + 1];
        own = 2 + Math.max(on, anew);
        if (row === 0 && column === 0) own += BREAK - 1;
        if (on >= anew) step |= ON;
      }
      const skip = Math.max(best[column], bestNow[column + 1]);
      if (own >= skip && own > 0) step |= MATCH;
      else if (best[column] >= bestNow[column + 1]) step |= SKIP_FIRST;
      hereNow[column] = own;
      bestNow[column] = Math.max(own, skip);
      steps[row * columns + column] = step;
    }
    [best, here] = [bestNow, hereNow];
  }
  let [row, column, on] = [0, 0, false];
  while (row < rows && column < columns) {
    const step = steps[row * columns + column];
    if (on || step & MATCH) {
      match(i + row++, j + column++);
      on = Boolean(step & ON);
    } else if (step & SKIP_FIRST) row++;
    else column++;
  }
}

// A text in pieces that are matched or not: what is between words goes with the word after it,
// unless that begins an unmatched piece.
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
