// Plays one source with hls.js and reports the state of the playback.

import { byId, set } from "./page.js";

const retryDelay = 2000; // ms

export class Playback {
  constructor(video, picture) {
    this.video = video;
    this.picture = picture;
    this.timer = 0;
    // facts are plain values, so that their readers do not depend on hls.js.
    this.facts = {
      src: "", state: "loading", hls: null, video,
      buffer: 0, latency: 0, stalls: 0, errors: [], fatal: 0, fragments: 0, parts: 0,
      statuses: 0, // shown so far
      refusal: null, // { status, body, hadStarted } of the response by which the gateway refused the viewer
      failure: null, // { status, body } of the response that stopped the playback otherwise
    };
    this.onRefused = () => {};
    video.addEventListener("playing", () => this.setState("playing"));
    video.addEventListener("waiting", () => this.countStall());
  }

  // play plays a source. A retry shows the failure before it until it succeeds.
  play(src, isRetry = false) {
    this.stop();
    Object.assign(this.facts, { src, refusal: null, stalls: 0, errors: [], fragments: 0, parts: 0, buffer: 0, latency: 0 });
    if (!isRetry) Object.assign(this.facts, { failure: null, fatal: 0 });
    this.hasStarted = false;
    if (src === "") return this.setState("failed", "No playlist", "Enter the path of a playlist above.");
    if (!this.isSameOrigin(src)) {
      return this.setState("failed", "Not allowed", "This page plays only playlists of its own host.");
    }
    if (!isRetry) this.setState("loading", "Loading", "Fetching the playlist through the gateway.");
    if (!window.Hls?.isSupported()) {
      this.video.src = src;
      this.video.onerror = () => this.explainError(src);
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
    this.video.onerror = null;
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
    if (status === 401 || status === 403) return this.onDenied(status, bodyOf(data));
    if (!data.fatal) return;
    this.facts.fatal++;
    if (data.type === window.Hls.ErrorTypes.MEDIA_ERROR) return this.facts.hls.recoverMediaError();
    this.onFailed(status, bodyOf(data), data.details);
  }

  // explainError finds out why the browser's own player gave up, which does not say.
  async explainError(src) {
    let status = 0;
    let body = "";
    try {
      const response = await fetch(src, { cache: "no-store" });
      status = response.status;
      body = shortened(await response.text());
    } catch {
      // unreachable, as status 0 says
    }
    if (src !== this.facts.src || this.facts.state === "denied") return;
    if (status === 401 || status === 403) return this.onDenied(status, body);
    if (status < 400 && status > 0) return this.setState("failed", "Not supported", "This browser cannot play the stream.");
    this.onFailed(status, body);
  }

  // onFailed stops the playback. What may pass is tried again; a request that is wrong will be wrong again.
  onFailed(status, body, details) {
    const isFinal = status >= 400 && status < 500 || details === "manifestParsingError" || details === "manifestIncompatibleCodecsError";
    let why = "The gateway is unreachable.";
    if (status >= 400) why = `The gateway responded with ${status}${body ? `: “${body}”` : ""}.`;
    else if (isFinal) why = "This is no playlist that the page can play.";
    else if (status > 0) why = `The stream cannot be read (${details}).`;
    this.stop();
    this.facts.failure = { status, body };
    this.setState("failed", "Playback stopped", isFinal ? why : `${why} Retrying automatically.`);
    if (!isFinal) this.timer = setTimeout(() => this.play(this.facts.src, true), retryDelay);
  }

  // onDenied stops the playback. The denial is final, and automatic retries would only add load.
  onDenied(status, body) {
    const hadStarted = this.hasStarted;
    this.stop();
    this.facts.refusal = { status, body, hadStarted };
    this.setState("denied", "Denied", `The gateway refused this viewer with ${status}${body ? `: “${body}”` : ""}.`);
    this.onRefused();
  }

  setState(state, title, text) {
    this.facts.state = state;
    this.picture.dataset.state = state;
    if (state === "playing") {
      this.hasStarted = true;
      this.facts.failure = null;
    }
    if (title) {
      set("overlay-title", title);
      set("overlay-text", text);
    }
    byId("retry").hidden = state !== "denied" && state !== "failed";
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
    byId("stalls").toggleAttribute("data-some", facts.stalls > 0);
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

// bodyOf returns the text by which the gateway refused a request, or "".
function bodyOf(data) {
  const request = data.networkDetails;
  try {
    return shortened(request.response instanceof ArrayBuffer ? new TextDecoder().decode(request.response) : request.responseText);
  } catch {
    return "";
  }
}

const shortened = (text) => String(text ?? "").trim().slice(0, 200);
