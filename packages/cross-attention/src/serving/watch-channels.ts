import * as ort from 'onnxruntime-node';
import { peaksOf } from '../decoder/channel-peaks.js';
import type { ChannelPeaks } from '../decoder/channel-peaks.js';
import { channelPeaksModel } from '../decoder/inference-graph.js';
import type { Precision } from '../decoder/packable-matrix.js';
import { ValueFile } from '../decoder/value-store.js';
import type { ModelContents } from '../model-contents.js';

/** Tokens after which little changes, and which any machine reads in a second or two. */
const mostTokens = 512;

/**
 * What is read to see how large a model's channels are, where nothing else is given: some of all that a model may meet. The channels that
 * stand out are the model's own; how far they do, and the others, depend on the text a little.
 */
const variedText = `The ferry to the islands leaves at 6:45 and takes two hours and ten minutes, unless the wind turns. "Is it always this full?"
asked the girl with the red suitcase. Nobody answered; an old man unfolded the newspaper of 14 March 1987 and began to read about the price
of wheat.

# What to do on a rainy evening
1. Watch a film: a thriller (1999), a comedy from France, or the third part of that space opera, rated 4.5 of 5 by 1,203 people.
2. Bake bread. You need 500 g of flour, 10 g of salt, 7 g of yeast and 340 ml of water; wait until it has doubled.
3. Call somebody. Thank you for your help! Sorry, could you say that again?

Question: which of these cities lies furthest north - Lisbon, Oslo, Nairobi or Quito? Answer: Oslo.

function average(values) { return values.reduce((sum, value) => sum + value, 0) / values.length; }

The court held that the contract was void because neither party had signed it; the appeal was dismissed with costs. Water boils at a lower
temperature in the mountains, since the air presses less upon it. I loved this book, although the ending felt rushed and two of the
characters were never explained. User 4711 bought running shoes, size 42, and a bottle of sun lotion; the next order came from Kyoto.`;

export type WatchedModel = Pick<ModelContents, 'config' | 'weights' | 'tokenizer'>;

/** Runs a text, of which `mostTokens` count, and sees how large each channel of what the layers' products read becomes. */
export async function watchChannels(
  { config, weights, tokenizer }: WatchedModel,
  precision: Precision,
  { text = variedText, threads }: { readonly text?: string | readonly number[] | undefined; readonly threads: number },
): Promise<ChannelPeaks> {
  const ids = (typeof text === 'string' ? tokenizer.encode(text) : text).slice(0, Math.min(mostTokens, config.contextLength));
  if (ids.length === 0) throw new RangeError('The text that shows how large the channels are is empty; give a few sentences.');
  const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= config.vocabularySize);
  if (wrong !== undefined)
    throw new RangeError(`${wrong} is no token id of this model; its ids are 0 to ${config.vocabularySize - 1}.`);
  return ValueFile.during(async (file) => {
    const session = await ort.InferenceSession.create(channelPeaksModel(config, weights, precision, file), {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      extra: { session: { model_external_initializers_file_folder_path: file.folder } },
    });
    try {
      const feeds: Record<string, ort.Tensor> = {
        input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
        attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
      };
      for (const name of session.inputNames)
        if (name.startsWith('past_key_values.'))
          feeds[name] = new ort.Tensor('float32', new Float32Array(0), [1, config.keyValueHeads, 0, config.headSize]);
      return peaksOf(await session.run(feeds));
    } finally {
      await session.release();
    }
  });
}
