// Draws the buffer of the last two minutes; the strip above it shows the state of the middleware.
import { set } from "./page.js";

const duration = 120; // s
const minScale = 8; // s
const colours = { good: "#3ddc97", bad: "#ff6b6b", unknown: "#5b6b7b", buffer: "#4aa8ff", stall: "#ffb547" };

export class History {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
  }

  add(facts, mode) {
    const now = performance.now() / 1000;
    const last = this.points.at(-1);
    const isPlaying = facts.state === "playing";
    this.points.push({
      at: now, buffer: isPlaying ? facts.buffer : 0, isPlaying, mode,
      stalled: facts.stalls > (last?.stalls ?? facts.stalls), stalls: facts.stalls,
    });
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
    const maxBuffer = Math.ceil(Math.max(minScale, ...this.points.map((p) => p.buffer)));
    set("plot-top", `${maxBuffer} s`);
    const y = (buffer) => height - (buffer / maxBuffer) * (height - 6);
    for (let i = 1; i < this.points.length; i++) {
      const [from, to] = [this.points[i - 1], this.points[i]];
      const [left, right] = [x(from.at), x(to.at)];
      const state = to.mode === undefined ? "unknown" : to.mode === "healthy" ? "good" : "bad";
      c.globalAlpha = 0.14;
      c.fillStyle = colours[state];
      c.fillRect(left, 0, right - left, height);
      c.globalAlpha = 1;
      c.fillRect(left, 0, right - left + 0.5, state === "bad" ? 4 : 2);
      if (to.isPlaying) {
        c.globalAlpha = 0.45;
        c.fillStyle = colours.buffer;
        c.fillRect(left, y(to.buffer), right - left + 0.3, height - y(to.buffer));
        c.globalAlpha = 1;
        c.fillRect(left, y(to.buffer), right - left + 0.5, 1.5);
      }
      if (to.stalled) {
        c.fillStyle = colours.stall;
        c.fillRect(right - 1, 2, 2, height - 2);
      }
    }
  }
}
