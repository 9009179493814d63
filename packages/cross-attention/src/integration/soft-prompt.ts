import { normal, ones, where } from '@user-llm/onnx-autograd';
import type { Tensor } from '@user-llm/onnx-autograd';
import { checkNames } from '../check-names.js';
import type { Integration, IntegrationContext, IntegrationGraph } from './integration.js';

const prefix = 'soft_prompt';

/**
 * Soft prompt (Lester et al., arXiv 2104.08691; Ning et al., arXiv 2402.13598, section 3.2): the user's K tokens, projected to the
 * decoder's width, stand in the prompt where the placeholder ids V to V + K - 1 are. A prompt without placeholders is the base model's. It
 * has no settings: how many tokens there are is the encoder's (`userTokens`).
 */
export function softPrompt(options: Readonly<Record<string, never>> = {}): Integration {
  checkNames(options, [], 'softPrompt.');
  return {
    kind: 'soft-prompt',
    settings: {},
    layout: {},
    owns: (parameter) => parameter.startsWith(`${prefix}.`),
    readsEverywhere: false,
    placeholders: ({ userTokens }) => userTokens,
    packedShape: (config, { userTokens }) => [userTokens, config.hiddenSize],
    flops: () => 0,
    build: (context) => new SoftPromptGraph(context),
  };
}

class SoftPromptGraph implements IntegrationGraph {
  readonly readingTensors = 1;

  constructor(private readonly context: IntegrationContext) {}

  read(tokens: Tensor): readonly Tensor[] {
    const { builder, config, user, embeddingDeviation = 0.02 } = this.context;
    const norm = builder.parameter(`${prefix}.user_norm.weight`, [user.userWidth], ones());
    const weight = builder.parameter(
      `${prefix}.proj.weight`,
      [config.hiddenSize, user.userWidth],
      // Like token vectors in size.
      normal(embeddingDeviation / Math.sqrt(user.userWidth)),
    );
    return [tokens.rmsNorm(norm, config.normEpsilon).matmul(weight, { transposeB: true })];
  }

  /** The vectors that stand in the prompt, on average. */
  taken(tokens: Tensor): Tensor {
    return this.read(tokens)[0].mean(1);
  }

  pack([vectors]: readonly Tensor[]): Tensor {
    return vectors;
  }

  unpack(packed: Tensor): readonly Tensor[] {
    return [packed];
  }

  hooks([vectors]: readonly Tensor[]) {
    return {
      embed: (ids: Tensor, embedded: Tensor): Tensor => {
        const { builder, config, user } = this.context;
        const [rows, positions, width] = embedded.shape;
        const slots = ids.cast('int32').sub(config.vocabularySize);
        const isUser = slots.greaterOrEqual(0);
        // One user may stand for all rows.
        const users = broadcastRows(vectors, rows).reshape([-1, width]);
        const first = builder.range(rows).mul(user.userTokens).reshape([rows, 1]);
        const at = first.add(slots.maximum(0).minimum(user.userTokens - 1));
        return where(isUser.reshape([rows, positions, 1]), users.gather(at), embedded);
      },
    };
  }
}

function broadcastRows(vectors: Tensor, rows: Tensor['shape'][number]): Tensor {
  if (vectors.shape[0] === rows) return vectors;
  const shape = [rows, ...vectors.shape.slice(1)];
  return vectors.graph.operator('Expand', [vectors, vectors.graph.dims(shape)], {
    outputs: [{ dtype: vectors.dtype, shape }],
  })[0];
}
