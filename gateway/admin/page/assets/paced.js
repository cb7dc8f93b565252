// Repeats what costs a node something, without harm to it.

// paced returns a function that calls work, which returns a promise: not while it runs, at most once a second, and after a call
// that took long not before ten times as long. now calls it at once, whatever the pace.
export function paced(work) {
  let isRunning = false, isWanted = false, next = 0;
  async function run() {
    isRunning = true;
    isWanted = false;
    const began = performance.now();
    try {
      await work();
    } finally {
      isRunning = false;
      const took = performance.now() - began;
      next = performance.now() + Math.max(900, 10 * took);
      if (isWanted) run();
    }
  }
  const call = () => { if (!isRunning && performance.now() >= next) run(); };
  call.now = () => {
    if (isRunning) isWanted = true;
    else run();
  };
  return call;
}
