// Where times stand on a line: in proportion, except that idle stretches may be cut short. Pure.

// A cut stretch is drawn as wide as this part of the line, and only cut if it would be wider.
const CUT = 0.06;
const SHORT_S = 10; // is not worth cutting
const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 604800];

/**
 * from, to: the times at both ends, in seconds. width: of the line, in pixels.
 * idle: stretches `{ from, to }` in which nothing happens, in order.
 * Returns `x(time)`, `time(x)`, `marks()` for the axis, and the `cuts` that were made.
 */
export function makeScale({ from, to, width, idle = [] }) {
  const whole = Math.max(to - from, 0.001);
  const inside = idle.map((gap) => ({ from: Math.max(gap.from, from), to: Math.min(gap.to, to) }));
  const cuts = inside.filter((gap) => gap.to - gap.from > Math.max(SHORT_S, 2 * CUT * whole));
  const left = whole - cuts.reduce((sum, gap) => sum + gap.to - gap.from, 0);
  const cutWidth = left > 0 ? CUT * width : width / cuts.length;
  const pixels = left > 0 ? (width - cuts.length * cutWidth) / left : 0;
  const pieces = piecesOf(from, to, cuts, pixels, cutWidth);
  const x = (time) => {
    const piece = pieces.find((each) => time <= each.to) ?? pieces.at(-1);
    return piece.at + Math.max(0, Math.min(1, (time - piece.from) / (piece.to - piece.from || 1))) * piece.width;
  };
  const time = (at) => {
    const piece = pieces.find((each) => at <= each.at + each.width) ?? pieces.at(-1);
    return piece.from + (Math.max(0, at - piece.at) / (piece.width || 1)) * (piece.to - piece.from);
  };
  return { from, to, width, x, time, cuts: pieces.filter((piece) => piece.cut), marks: () => marks(pieces, from, pixels) };
}

function piecesOf(from, to, cuts, pixels, cutWidth) {
  const pieces = [];
  let [time, at] = [from, 0];
  const add = (until, width, cut) => {
    if (until > time || cut) pieces.push({ from: time, to: until, at, width, cut });
    [time, at] = [until, at + width];
  };
  for (const gap of cuts) {
    add(gap.from, (gap.from - time) * pixels, false);
    add(gap.to, cutWidth, true);
  }
  add(to, (to - time) * pixels, false);
  return pieces.length ? pieces : [{ from, to: from + 1, at: 0, width: 1, cut: false }];
}

// Marks stand at round distances from the beginning, at least 80 pixels apart.
function marks(pieces, from, pixels) {
  const step = STEPS.find((each) => each * pixels >= 80) ?? STEPS.at(-1);
  const found = [];
  for (const piece of pieces.filter((each) => !each.cut)) {
    let n = Math.ceil((piece.from - from) / step - 1e-9);
    for (; from + n * step <= piece.to + 1e-9; n++) {
      const at = piece.at + (from + n * step - piece.from) * pixels;
      if (!found.length || at - found.at(-1).at >= 60) found.push({ at, after: n * step });
    }
  }
  return found;
}

/** How long after the beginning, as it stands at a mark. */
export function offset(seconds) {
  if (seconds === 0) return '0';
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${+seconds.toFixed(2)} s`;
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.round(seconds % 60)];
  const two = (n) => String(n).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
