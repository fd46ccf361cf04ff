// Numbers as people read them.

export function count(value) {
  return Math.round(value).toLocaleString("en");
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function rate(perSecond) {
  return perSecond.toLocaleString("en", {maximumFractionDigits: perSecond < 10 ? 1 : 0});
}

export function percent(share) {
  return `${share > 0 && share < 0.01 ? "<1" : Math.round(100 * share)} %`;
}
