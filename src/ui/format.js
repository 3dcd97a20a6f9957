// Numbers and times in words.

/** @param {number | null | undefined} bytes */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** @param {number} number */
export const count = (number) => number.toLocaleString('en');

/** @param {number} number @param {string} one @param {string} [many] */
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const WEEKDAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

/** A day such as 2026-11-25, in words. @param {string} day */
export function dayName(day) {
  const date = new Date(`${day}T00:00:00Z`);
  const today = Date.parse(`${new Date().toISOString().slice(0, 10)}T00:00:00Z`);
  const ago = Math.round((today - date.getTime()) / 86_400_000);
  if (ago === 0) return 'Today';
  if (ago === 1) return 'Yesterday';
  const name = `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
  if (ago > 1 && ago < 7) return `${WEEKDAYS[date.getUTCDay()]}, ${name}`;
  return date.getUTCFullYear() === new Date().getUTCFullYear() ? name : `${name} ${date.getUTCFullYear()}`;
}

/** @param {string} day */
export const monthName = (day) => `${MONTHS[Number(day.slice(5, 7)) - 1]} ${day.slice(0, 4)}`;

/** @param {string | null | undefined} time */
export function dateTime(time) {
  if (!time) return '–';
  const date = new Date(time);
  const two = (/** @type {number} */ number) => String(number).padStart(2, '0');
  return `${date.getDate()} ${MONTHS[date.getMonth()]} ${date.getFullYear()}, ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** @param {string} time */
export const clock = (time) => new Date(time).toLocaleTimeString('en-GB');

/** @param {number} seconds */
export const length = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, '0')}`;

/** Why a job is stuck, and what its owner can do. @type {Record<string, string>} */
export const REASONS = {
  attempts_exhausted: 'every attempt to fetch it has failed',
  refused_by_policy: 'its host is not allowed, or the file is too large',
  no_media_url: 'the provider named no file',
  still_processing: 'the provider was not done with a file',
  no_clean_url: 'no link is known to be without watermark',
  refused_by_storage: 'the storage refused the file',
  internal_error: 'a defect in replyvault',
  unknown_shape: 'the body has no known form',
  unknown_reply_ref: 'nobody registered its replyRef',
  reply_ref_mismatch: 'its replyRef is not the one its URL was made for',
  job_of_another_ref: 'its job belongs to another ref',
  ref_removed: 'its ref was revoked',
  over_budget: 'it names more files than a job may have',
  gone: 'its receiver wants no more (410)',
  endpoint_removed: 'the endpoint is not configured any more',
  invalid_url: 'its URL is none',
  host_not_allowed: 'the outbound policy forbids its host',
  expired: 'it was not taken in time',
};

/** @param {string | null} reason */
export const reason = (reason) => (reason ? (REASONS[reason] ?? reason.replaceAll('_', ' ')) : '');

/** @param {string} text */
export async function copy(text) {
  await navigator.clipboard.writeText(text);
}
