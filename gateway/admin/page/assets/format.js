// Formats values for people. Times are of the browser's clock and place.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const full = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const count = (n, isApproximate) => (isApproximate ? "about " : "") + whole.format(n ?? 0);
export const rate = (n) => (n >= 100 ? whole.format(Math.round(n)) : compact.format(n ?? 0));
export const percent = (share) => {
  if (!share) return "0 %";
  return share < 0.001 ? "< 0.1 %" : compact.format(share * 100) + " %";
};
export const plural = (n, one, many) => `${whole.format(n)} ${n === 1 ? one : many}`;

const valid = (text) => text && !text.startsWith("0001-");
export const time = (text) => (valid(text) ? full.format(new Date(text)) : "–");
export const timeOfDay = (text) => (valid(text) ? clock.format(new Date(text)) : "–");

export function seconds(s) {
  s = Math.max(0, Math.round(s));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min` + (s % 60 ? ` ${s % 60} s` : "");
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
export const ago = (text) => (valid(text) ? seconds((Date.now() - new Date(text)) / 1000) + " ago" : "–");
export const until = (text) => (valid(text) ? "in " + seconds((new Date(text) - Date.now()) / 1000) : "–");
export const age = (text) => (valid(text) ? seconds((Date.now() - new Date(text)) / 1000) : "–");

export function bytes(n) {
  if (!n) return "0 B";
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  const unit = Math.min(units.length - 1, Math.floor(Math.log10(n) / 3));
  return `${compact.format(n / 1000 ** unit)} ${units[unit]}`;
}
export const milliseconds = (ms) => (ms === undefined || ms === null ? "–" : ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`);
