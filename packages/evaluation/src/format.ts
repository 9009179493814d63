/** A share or metric with four decimals. */
export const metric = (value: number | null | undefined): string | null => (value == null ? null : value.toFixed(4));

/** Three significant digits, thousands apart. */
export function short(value: number | null | undefined): string | null {
  if (value == null) return null;
  if (value !== 0 && Math.abs(value) < 1) return String(Number(value.toPrecision(3)));
  return Math.abs(value) < 100 ? String(Number(value.toPrecision(3))) : whole(value);
}

/** An integer, thousands apart. */
export const whole = (value: number): string => Math.round(value).toLocaleString('en-GB').replaceAll(',', '\u202f');

/** FLOPs with a unit: 1.3 G. */
export function flops(value: number | null | undefined): string | null {
  if (value == null) return null;
  const units = ['', ' k', ' M', ' G', ' T', ' P'];
  const power = value < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  return `${Number((value / 1000 ** power).toPrecision(3))}${units[power]}`;
}

/** Seconds as 4 min 10 s. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Number(seconds.toPrecision(2))} s`;
  const whole = Math.round(seconds);
  return whole < 5400 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Bytes as 1.3 GB, 21 MB, 616 kB. */
export function bytes(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} GB`;
  return value >= 1e6 ? `${Number((value / 1e6).toPrecision(value < 1e7 ? 2 : 3))} MB` : `${Math.round(value / 1e3)} kB`;
}

/** A p value; below .001 only that. */
export const pValue = (value: number): string => (value < 0.001 ? '< .001' : value.toFixed(3));
