// Receives the overview as it changes. A page that nobody sees is not connected: a browser has few connections to one server.

let source = null;
let retry = 0;
let listener = () => {};
let onState = () => {};

function connect() {
  close();
  onState("connecting");
  source = new EventSource("/ui/events");
  source.addEventListener("open", () => onState("live"));
  source.addEventListener("overview", (event) => {
    onState("live");
    listener(JSON.parse(event.data));
  });
  source.addEventListener("error", () => {
    const isClosed = source.readyState === EventSource.CLOSED;
    onState(isClosed ? "refused" : "connecting");
    if (isClosed) retry = setTimeout(connect, 5000);
  });
}

function close() {
  clearTimeout(retry);
  source?.close();
  source = null;
}

function follow() {
  if (document.hidden) {
    close();
    onState("paused");
  } else connect();
}

// start calls then with every overview, and state with connecting, live, refused or paused.
export function start(then, state) {
  listener = then;
  onState = state;
  document.addEventListener("visibilitychange", follow);
  follow();
}

export function stop() {
  document.removeEventListener("visibilitychange", follow);
  close();
}
