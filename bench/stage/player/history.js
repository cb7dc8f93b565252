// Draws the buffer of the last two minutes; the background shows the state of the middleware.

const duration = 120; // s
const colours = { good: "#3ddc97", bad: "#ff6b6b", unknown: "#5b6b7b", buffer: "#4aa8ff", text: "#93a4b5", stall: "#ffb547" };

export class History {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
  }

  add(facts, mode) {
    const now = performance.now() / 1000;
    const last = this.points.at(-1);
    this.points.push({ at: now, buffer: facts.buffer, mode, stalled: facts.stalls > (last?.stalls ?? facts.stalls), stalls: facts.stalls });
    while (this.points[0].at < now - duration - 2) this.points.shift();
    this.draw(now);
  }

  draw(now) {
    const scale = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const c = this.canvas.getContext("2d");
    c.scale(scale, scale);
    const x = (at) => width - ((now - at) / duration) * width;
    const maxBuffer = Math.max(8, ...this.points.map((p) => p.buffer));
    const y = (buffer) => height - (buffer / maxBuffer) * (height - 18);
    for (let i = 1; i < this.points.length; i++) {
      const [from, to] = [this.points[i - 1], this.points[i]];
      const [left, right] = [x(from.at), x(to.at)];
      const background = to.mode === undefined ? colours.unknown : to.mode === "healthy" ? colours.good : colours.bad;
      c.globalAlpha = 0.14;
      c.fillStyle = background;
      c.fillRect(left, 0, right - left, height);
      c.globalAlpha = 1;
      c.fillRect(left, 0, right - left + 0.5, 2);
      c.globalAlpha = 0.45;
      c.fillStyle = colours.buffer;
      c.fillRect(left, y(to.buffer), right - left + 0.3, height - y(to.buffer));
      c.globalAlpha = 1;
      c.fillRect(left, y(to.buffer), right - left + 0.5, 1.5);
      if (to.stalled) {
        c.fillStyle = colours.stall;
        c.fillRect(right - 1, 2, 2, height - 2);
      }
    }
    c.fillStyle = colours.text;
    c.font = "11px system-ui, sans-serif";
    c.fillText("buffer, last 2 min", 8, 14);
  }
}
