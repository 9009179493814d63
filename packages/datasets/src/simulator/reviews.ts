import { Random } from '../random.js';

const openings: Record<'bad' | 'middling' | 'good', readonly string[]> = {
  bad: [
    'I wanted my evening back.',
    'A chore from start to finish.',
    'Two stars are one too many.',
    'I fell asleep in the middle.',
  ],
  middling: [
    'Fine for a rainy night.',
    'Some good scenes, many dull ones.',
    'Neither good nor bad.',
    'I expected a little more.',
  ],
  good: [
    'I loved every minute.',
    'One of the best I have seen this year.',
    'I would watch it again tomorrow.',
    'A joy from start to finish.',
  ],
};
const aboutTheme: readonly string[] = [
  'More films about THEME, please.',
  'If THEME is your thing, you know what you get.',
  'I came for THEME.',
];
const aboutDirector: readonly string[] = [
  'Nobody films like DIRECTOR.',
  'Typical DIRECTOR.',
  'DIRECTOR has done better and worse.',
];
const aboutSequel: readonly string[] = [
  'See the earlier part first.',
  'The series goes on as it began.',
  'I am waiting for the next part.',
];

/** Three in ten events have a review: its tone follows the rating, its words the film's theme, director and series. */
export function reviewOf(
  seed: number,
  event: number,
  film: { theme: string; director: string; part: number },
  rating: number,
): string | undefined {
  const random = new Random(seed, 41, event);
  if (!random.chance(0.3)) return undefined;
  const sentences = [random.pick(openings[rating < 2.5 ? 'bad' : rating < 4 ? 'middling' : 'good'])];
  if (random.chance(0.6)) sentences.push(random.pick(aboutTheme).replace('THEME', film.theme));
  if (random.chance(0.4)) sentences.push(random.pick(aboutDirector).replace('DIRECTOR', film.director));
  if (film.part > 1 && random.chance(0.5)) sentences.push(random.pick(aboutSequel));
  return sentences.join(' ');
}
