// Numbers as a person reads them: always with a unit, a dash for what nobody told.
export const dash = "–";

export function seconds(s) {
  if (s === null || s === undefined) return dash;
  if (s < 1) return `${Number((s * 1000).toPrecision(3))} ms`;
  if (s < 90) return `${Number(s.toPrecision(3))} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export function count(n) {
  return n === null || n === undefined ? dash : Number(n).toLocaleString("en");
}

export function percent(share) {
  if (share > 0 && share < 0.001) return "<0.1%";
  return share === null || share === undefined ? dash : `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)}%`;
}

export function amount(v) {
  if (v === null || v === undefined) return dash;
  return Math.abs(v) >= 100 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(3)));
}

export function times(n) {
  return n === 1 ? "once" : `${count(n)} times`;
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], { hour12: false });
}
