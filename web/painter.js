// Draws at most once a frame, and never spends more than about a fifth of the time on it.
export class Painter {
  constructor(paint) {
    this.paint = paint;
    this.timer = 0;
    this.ready = 0;
  }

  wake() {
    this.timer ||= setTimeout(() => requestAnimationFrame(() => this.now()), Math.max(0, this.ready - performance.now()));
  }

  now() {
    clearTimeout(this.timer);
    this.timer = 0;
    const start = performance.now();
    this.paint();
    const end = performance.now();
    this.ready = end + Math.max(16, 4 * (end - start));
  }
}
