// Rows of one height, of which only those that can be seen are in the document.

const AHEAD = 8; // rows that are ready above and below what is seen

export class VirtualRows {
  #rows = new Map();
  #spare = [];
  #asked = false;
  #height = 0;

  /**
   * box: the element that holds the rows; its custom property `--row` is their height in pixels.
   * scroller: what scrolls it; the window if left out.
   * keys: returns the array of what the rows are for. make: makes an empty row. update: fills it.
   * moved: is told the first and last index that are seen, when that has changed.
   */
  constructor(box, { scroller = null, keys, make, update, moved = () => {} }) {
    Object.assign(this, { box, scroller, keys, make, update, moved });
    (scroller ?? window).addEventListener('scroll', () => this.ask(), { passive: true });
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
    const wanted = new Set(keys.slice(first, last));
    for (const [key, row] of this.#rows) if (!wanted.has(key)) this.#free(key, row);
    let next = this.box.firstElementChild;
    for (let index = first; index < last; index++) {
      const row = this.#rowFor(keys[index], index);
      while (next && !wanted.has(next.key)) next = next.nextElementSibling;
      // In the order of the list: that is the order in which it is read and tabbed through.
      if (row === next) next = row.nextElementSibling;
      else this.box.insertBefore(row, next);
    }
    this.moved(first, last);
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

  #rowFor(key, index) {
    let row = this.#rows.get(key);
    if (!row) {
      row = this.#spare.pop() ?? this.make();
      row.key = key;
      this.#rows.set(key, row);
      row.index = -1;
    }
    if (row.index !== index) {
      row.index = index;
      row.style.transform = `translateY(${index * this.height}px)`;
      row.setAttribute('aria-rowindex', index + 2);
      this.update(row, key, index);
    }
    return row;
  }

  // A row that has the focus stays, or the keyboard would lose its place.
  #free(key, row) {
    if (row.contains(document.activeElement)) return;
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
