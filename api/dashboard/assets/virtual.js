// Rows of one height, of which only those that can be seen are in the document.

const AHEAD = 8; // rows that are ready above and below what is seen
const AT_REST_MS = 120; // after the last scroll

export class VirtualRows {
  #rows = new Map();
  #spare = [];
  #asked = false;
  #height = 0;
  #scrolled = false;
  #resting;

  /**
   * box: the element that holds the rows; its custom property `--row` is their height in pixels.
   * scroller: what scrolls it; the window if left out.
   * keys: returns the array of what the rows are for. make: makes an empty row. update: fills it.
   * moved: is told the first and last index that are seen, when that has changed.
   */
  constructor(box, { scroller = null, keys, make, update, moved = () => {} }) {
    Object.assign(this, { box, scroller, keys, make, update, moved });
    (scroller ?? window).addEventListener('scroll', () => this.#scroll(), { passive: true });
    new ResizeObserver(() => this.#resize()).observe(scroller ?? document.body);
  }

  get height() {
    this.#height ||= parseFloat(getComputedStyle(this.box).getPropertyValue('--row')) || 40;
    return this.#height;
  }

  /** Draw at the next frame: rows have come, gone, or were scrolled. */
  ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.draw();
    });
  }

  /** Fill those rows anew that can be seen; all of them if no keys are named. */
  refresh(keys) {
    for (const [key, row] of this.#rows) if (!keys || keys.has(key)) this.update(row, key, row.index);
  }

  draw() {
    const keys = this.keys();
    const [first, last] = this.#range(keys.length);
    this.#stretch(keys.length);
    const shown = keys.slice(first, last);
    const idle = this.#idle(new Set(shown), keys);
    shown.forEach((key, n) => this.#rowFor(key, first + n, idle));
    idle.forEach(([key, row]) => this.#free(key, row));
    if (!this.#scrolled) this.#sort(shown);
    this.moved(first, last);
  }

  // A row that has the focus stays, or the keyboard would lose its place; but not if what it is for
  // is gone. No other row may have the focus then, since a key that is pressed is meant for this one.
  #idle(wanted, keys) {
    const stays = (key, row) => row.contains(document.activeElement) && (keys.includes(key) || document.activeElement.blur());
    return [...this.#rows].filter(([key, row]) => !wanted.has(key) && !stays(key, row));
  }

  // In the order of the list: that is the order in which it is read and tabbed through. While one
  // scrolls they stay where they are, since what is moved in the document is laid out from scratch.
  #sort(shown) {
    let next = this.box.firstElementChild;
    const wanted = new Set(shown);
    for (const key of shown) {
      const row = this.#rows.get(key);
      while (next && !wanted.has(next.key)) next = next.nextElementSibling;
      if (row === next) next = row.nextElementSibling;
      else this.box.insertBefore(row, next);
    }
  }

  #scroll() {
    this.#scrolled = true;
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => {
      this.#scrolled = false;
      this.ask();
    }, AT_REST_MS);
    this.ask();
  }

  /** Bring a row into view. */
  reveal(index, where = 'center') {
    const at = index * this.height;
    this.#stretch(this.keys().length);
    if (!this.scroller) {
      window.scrollTo({ top: at + this.box.getBoundingClientRect().top + window.scrollY - window.innerHeight / 3 });
    } else {
      const room = this.scroller.clientHeight;
      this.scroller.scrollTop = where === 'end' ? at + this.height - room : at - room / 2;
    }
    this.draw();
  }

  /** Return the row of a key if it is in the document. */
  row(key) {
    return this.#rows.get(key);
  }

  #stretch(count) {
    this.box.style.height = `${count * this.height}px`;
  }

  #range(count) {
    const box = this.box.getBoundingClientRect();
    const top = this.scroller ? this.scroller.getBoundingClientRect().top : 0;
    const room = this.scroller ? this.scroller.clientHeight : window.innerHeight;
    const first = Math.floor((top - box.top) / this.height) - AHEAD;
    const last = Math.ceil((top + room - box.top) / this.height) + AHEAD;
    const clamp = (n) => Math.max(0, Math.min(count, n));
    return [clamp(first), clamp(last)];
  }

  #rowFor(key, index, idle) {
    const row = this.#rows.get(key) ?? this.#adopt(key, idle);
    if (row.index !== index) {
      row.index = index;
      row.style.transform = `translateY(${index * this.height}px)`;
      row.setAttribute('aria-rowindex', index + 2);
      this.update(row, key, index);
    }
    return row;
  }

  #adopt(key, idle) {
    const [before, row] = idle.pop() ?? [null, this.#spare.pop() ?? this.make()];
    this.#rows.delete(before);
    if (!row.isConnected) this.box.append(row);
    row.key = key;
    row.index = -1;
    this.#rows.set(key, row);
    return row;
  }

  #free(key, row) {
    this.#rows.delete(key);
    row.remove();
    if (this.#spare.length < 60) this.#spare.push(row);
  }

  #resize() {
    this.#height = 0;
    this.#rows.forEach((row) => (row.index = -1));
    this.ask();
  }
}
