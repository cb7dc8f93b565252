// Plays one source with hls.js and reports the state of the playback.

const retryDelay = 2000; // ms
const set = (id, text) => { document.getElementById(id).textContent = text; };

export class Playback {
  constructor(video, picture) {
    this.video = video;
    this.picture = picture;
    this.timer = 0;
    // facts are plain values, so that their readers do not depend on hls.js.
    this.facts = {
      src: "", state: "loading", hls: null, video,
      buffer: 0, latency: 0, stalls: 0, errors: [], fatal: 0, fragments: 0, parts: 0,
    };
    video.addEventListener("playing", () => this.setState("playing"));
    video.addEventListener("waiting", () => this.countStall());
  }

  play(src) {
    this.stop();
    Object.assign(this.facts, { src, stalls: 0, errors: [], fatal: 0, fragments: 0, parts: 0, buffer: 0, latency: 0 });
    this.hasStarted = false;
    if (src === "") return this.setState("failed", "No playlist", "Enter the path of a playlist above.");
    if (!this.isSameOrigin(src)) {
      return this.setState("failed", "Not allowed", "This page plays only playlists of its own host.");
    }
    this.setState("loading", "Loading", "Fetching the playlist through the gateway.");
    if (!window.Hls?.isSupported()) {
      this.video.src = src;
      this.video.onerror = () => this.setState("failed", "Not supported", "This browser cannot play the stream.");
      return;
    }
    // After a stall the player would stay behind the live edge; a higher playback rate catches up.
    const hls = new window.Hls({ enableWorker: false, backBufferLength: 30, lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.2 });
    this.facts.hls = hls;
    hls.on(window.Hls.Events.ERROR, (_, data) => this.onError(data));
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

  isSameOrigin(src) {
    try {
      return new URL(src, location.href).origin === location.origin;
    } catch {
      return false;
    }
  }

  // countStall counts each time that a playing picture stops.
  countStall() {
    if (this.hasStarted && this.facts.state === "playing" && !this.video.seeking) this.facts.stalls++;
  }

  onError(data) {
    const status = data.response?.code ?? 0;
    this.facts.errors.push(`${data.type} ${data.details} ${status}${data.fatal ? " fatal" : ""}`);
    this.facts.errors.splice(0, this.facts.errors.length - 50);
    if (status === 401 || status === 403) return this.onDenied(status);
    if (!data.fatal) return;
    this.facts.fatal++;
    if (data.type === window.Hls.ErrorTypes.MEDIA_ERROR) return this.facts.hls.recoverMediaError();
    const why = status ? `The gateway responded with ${status}.` : "The gateway is unreachable.";
    this.stop();
    this.setState("failed", "Playback stopped", `${why} Retrying automatically.`);
    this.timer = setTimeout(() => this.play(this.facts.src), retryDelay);
  }

  // onDenied stops the playback. The denial is final, and automatic retries would only add load.
  onDenied(status) {
    const what = this.hasStarted ? "The gateway ended this session" : "The gateway denied this viewer";
    this.stop();
    this.setState("denied", "Denied", `${what} (${status}).`);
  }

  setState(state, title, text) {
    this.facts.state = state;
    this.picture.dataset.state = state;
    if (state === "playing") this.hasStarted = true;
    if (title) {
      set("overlay-title", title);
      set("overlay-text", text);
    }
    document.getElementById("retry").hidden = state !== "denied" && state !== "failed";
  }

  // showMeasurements measures the playback and writes the result to the page.
  showMeasurements() {
    const { video, facts } = this;
    const isPlaying = facts.state === "playing";
    facts.buffer = isPlaying ? bufferAhead(video) : 0;
    facts.latency = isPlaying ? facts.hls?.latency ?? 0 : 0;
    set("buffer", isPlaying ? facts.buffer.toFixed(1) + " s" : "–");
    set("latency", isPlaying && facts.latency ? facts.latency.toFixed(1) + " s" : "–");
    set("stalls", this.hasStarted ? String(facts.stalls) : "–");
    document.getElementById("stalls").toggleAttribute("data-some", facts.stalls > 0);
    const parts = facts.parts ? " LL" : "";
    set("quality", isPlaying && video.videoHeight ? video.videoHeight + "p" + parts : "–");
  }
}

// bufferAhead returns how many seconds can be played without another request.
function bufferAhead(video) {
  const at = video.currentTime;
  for (let i = 0; i < video.buffered.length; i++) {
    if (video.buffered.start(i) <= at + 0.1 && at < video.buffered.end(i)) return video.buffered.end(i) - at;
  }
  return 0;
}
