// Plays one source with hls.js and says how it goes.

const retryAfter = 2000;
const set = (id, text) => { document.getElementById(id).textContent = text; };

export class Playback {
  constructor(video, picture) {
    this.video = video;
    this.picture = picture;
    this.timer = 0;
    // facts are plain values, so that whoever reads them needs to know nothing of hls.js.
    this.facts = {
      src: "", state: "loading", hls: null, video,
      buffer: 0, latency: 0, stalls: 0, errors: [], fatal: 0, fragments: 0, parts: 0,
    };
    video.addEventListener("playing", () => this.state("playing"));
    video.addEventListener("waiting", () => this.waiting());
  }

  play(src) {
    this.stop();
    Object.assign(this.facts, { src, stalls: 0, errors: [], fatal: 0, fragments: 0, parts: 0, buffer: 0, latency: 0 });
    this.started = false;
    if (src === "") return this.state("failed", "Nothing to play", "The gateway named no playlist. Type one above.");
    if (!this.mayPlay(src)) {
      return this.state("failed", "Not from here", "This page plays only what its own host serves.");
    }
    this.state("loading", "Loading", "Fetching the playlist through the gateway.");
    if (!window.Hls?.isSupported()) {
      this.video.src = src;
      this.video.onerror = () => this.state("failed", "Cannot play", "This browser could not play the stream.");
      return;
    }
    // A player that stalled would stay that far behind the live edge for good; a little faster it is soon there again.
    const hls = new window.Hls({ enableWorker: false, backBufferLength: 30, lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.2 });
    this.facts.hls = hls;
    hls.on(window.Hls.Events.ERROR, (_, data) => this.failed(data));
    hls.on(window.Hls.Events.FRAG_LOADED, (_, data) => { data.part ? this.facts.parts++ : this.facts.fragments++; });
    hls.loadSource(src);
    hls.attachMedia(this.video);
    this.video.play().catch(() => {});
  }

  stop() {
    clearTimeout(this.timer);
    this.facts.hls?.destroy();
    this.facts.hls = null;
    this.video.removeAttribute("src");
  }

  mayPlay(src) {
    try {
      return new URL(src, location.href).origin === location.origin;
    } catch {
      return false;
    }
  }

  // waiting counts the times that a running picture stood still.
  waiting() {
    if (this.started && this.facts.state === "playing" && !this.video.seeking) this.facts.stalls++;
  }

  failed(data) {
    const status = data.response?.code ?? 0;
    this.facts.errors.push(`${data.type} ${data.details} ${status}${data.fatal ? " fatal" : ""}`);
    this.facts.errors.splice(0, this.facts.errors.length - 50);
    if (status === 401 || status === 403) return this.refused(status);
    if (!data.fatal) return;
    this.facts.fatal++;
    if (data.type === window.Hls.ErrorTypes.MEDIA_ERROR) return this.facts.hls.recoverMediaError();
    const why = status ? `The gateway answered ${status}.` : "The gateway cannot be reached.";
    this.stop();
    this.state("failed", "No picture", `${why} Trying again by itself.`);
    this.timer = setTimeout(() => this.play(this.facts.src), retryAfter);
  }

  // refused is final: whoever says no means it, and asking again by itself would only add load.
  refused(status) {
    const when = this.started ? "The gateway ended this session" : "The gateway did not let this viewer in";
    this.stop();
    this.state("denied", "Refused", `${when} (${status}).`);
  }

  state(state, title, text) {
    this.facts.state = state;
    this.picture.dataset.state = state;
    if (state === "playing") this.started = true;
    if (title) {
      set("curtain-title", title);
      set("curtain-text", text);
    }
    document.getElementById("again").hidden = state !== "denied" && state !== "failed";
  }

  // show measures and writes the vitals.
  show() {
    const { video, facts } = this;
    const running = facts.state === "playing";
    facts.buffer = running ? ahead(video) : 0;
    facts.latency = running ? facts.hls?.latency ?? 0 : 0;
    set("buffer", running ? facts.buffer.toFixed(1) + " s" : "–");
    set("latency", running && facts.latency ? facts.latency.toFixed(1) + " s" : "–");
    set("stalls", this.started ? String(facts.stalls) : "–");
    document.getElementById("stalls").toggleAttribute("data-some", facts.stalls > 0);
    const parts = facts.parts ? " LL" : "";
    set("quality", running && video.videoHeight ? video.videoHeight + "p" + parts : "–");
  }
}

// ahead is how many seconds can be played on without another request.
function ahead(video) {
  const at = video.currentTime;
  for (let i = 0; i < video.buffered.length; i++) {
    if (video.buffered.start(i) <= at + 0.1 && at < video.buffered.end(i)) return video.buffered.end(i) - at;
  }
  return 0;
}
