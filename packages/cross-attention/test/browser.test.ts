import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { findChromium, openPage, type Page } from '../../../tools/browser.mjs';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { LanguageModel } from '../src/language-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { ToyEncoder, type ToyHistory } from './toy-encoder.js';

const chromium = findChromium();
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../..');
const library = path.dirname(createRequire(import.meta.url).resolve('@huggingface/transformers'));
/** What the library itself runs on. */
const beside = (name: string): string => served(path.join(library, '../../..', name));
/** A folder of node_modules below the repository, as the page's server knows it. */
const served = (folder: string): string => `/repository/${path.relative(root, folder).split(path.sep).join('/')}`;
const folder = await mkdtemp(path.join(tmpdir(), 'browser-'));
afterAll(() => rm(folder, { recursive: true }));

const films = ['Heat (1995)', 'Toy Story (1995)', 'Jumanji (1995)', 'The Quiet Harbour (2001)', 'Léon (1994)', 'Alien (1979)'];
const messages = [{ role: 'user', content: 'What next?' }] as const;

(chromium ? describe : describe.skip)('a saved model in Chromium, by transformers.js', () => {
  let page: Page;
  let encoder: ToyEncoder;
  beforeAll(async () => {
    const base = LanguageModel.create(
      { width: 64, layers: 2, heads: 4, keyValueHeads: 2, intermediate: 64, context: 48 },
      trainByteLevelBpe(films, { vocabularySize: 300 }),
      1,
    );
    const examples = films.flatMap((answer, film) =>
      [0, 1, 2].map((before) => base.example<ToyHistory>({ messages, answer, history: [before, film] })),
    );
    const { model, encoder: adapted } = await base
      .withUserEmbeddings({ encoder: ToyEncoder.create(2), integration: gatedCrossAttention({ every: 1, gate: 0.5 }) })
      .adapt(examples, { strategy: 'full', steps: 120, batchSize: 18, seed: 5, learningRate: 1e-2, threads: 1 }).result;
    encoder = adapted;
    await model.save(path.join(folder, 'my-model'));
    page = await openPage(chromium!, {
      mounts: {
        '/repository/': root,
        '/models/': folder,
        '/onnxruntime-web/': path.join(library, '../../../onnxruntime-web/dist'),
      },
      imports: {
        '@huggingface/transformers': `${served(library)}/transformers.web.js`,
        'onnxruntime-web/webgpu': `${beside('onnxruntime-web')}/dist/ort.webgpu.bundle.min.mjs`,
        'onnxruntime-common': `${beside('onnxruntime-common')}/dist/esm/index.js`,
      },
    });
  });
  afterAll(async () => {
    await page?.close();
  });

  test("the README's page answers each user as Node does", async () => {
    const readme = await readFile(path.join(root, 'packages/cross-attention/README.md'), 'utf8');
    const [, code] = /### In a browser[\s\S]*?```js\n([\s\S]*?)```/.exec(readme)!;
    const node = await LanguageModel.open(path.join(folder, 'my-model'), { threads: 1 });
    for (const film of [0, 3, 5]) {
      const embedding = encoder.encode([1, film]);
      const expected = await node.generate({ messages, user: embedding, maxNewTokens: 24 }).text;
      expect(expected).toBe(films[film]);
      const given = { data: Array.from(embedding.data), shape: embedding.shape };
      const found = await page.run<string>(
        `${code.replace('embedding.data', 'Float32Array.from(embedding.data)')}\nreturn text;`,
        { messages, embedding: given },
      );
      expect(found).toBe(expected);
    }
    expect(page.problems).toEqual([]);
    await node.dispose();
  });
});
