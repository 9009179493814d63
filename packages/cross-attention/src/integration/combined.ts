import { concat } from '@user-llm/onnx-autograd';
import type { Tensor } from '@user-llm/onnx-autograd';
import { combineHooks } from '../decoder/decoder-graph.js';
import type { DecoderHooks } from '../decoder/decoder-graph.js';
import { AdaptationError } from '../errors.js';
import type { Integration, IntegrationContext, IntegrationGraph } from './integration.js';

/**
 * Several ways in as one: the decoder reads the same user tokens by each, with its own weights. A packed reading is those of the parts, flat,
 * one behind the other. Throws an `AdaptationError` where there is none, or two of a kind.
 */
export function combined(parts: readonly Integration[]): Integration {
  const ways = 'softPrompt(), gatedCrossAttention({ every }), or a list of both';
  // Without types it may be anything.
  if (parts.length === 0 || parts.some((part: Partial<Integration> | undefined) => typeof part?.build !== 'function'))
    throw new AdaptationError('integration', `must be a way to read users; give ${ways}`);
  const kinds = parts.map(({ kind }) => kind);
  const twice = kinds.find((kind, i) => kinds.indexOf(kind) !== i);
  if (twice !== undefined)
    throw new AdaptationError('integration', `has two of the kind '${twice}', whose weights have the same names; give ${ways}`);
  if (parts.length === 1) return parts[0];
  return {
    kind: 'combined',
    settings: {},
    layout: {},
    parts,
    owns: (parameter) => parts.some((part) => part.owns(parameter)),
    readsEverywhere: parts.some(({ readsEverywhere }) => readsEverywhere),
    placeholders: (user) => sum(parts.map((part) => part.placeholders(user))),
    packedShape: (config, user) => [sum(parts.map((part) => sizeOf(part.packedShape(config, user))))],
    flops: (config, user, tokens) => sum(parts.map((part) => part.flops(config, user, tokens))),
    build: (context) => new CombinedGraph(context, parts),
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

class CombinedGraph implements IntegrationGraph {
  readonly #graphs: readonly IntegrationGraph[];
  readonly #shapes: readonly (readonly number[])[];

  constructor({ config, user, ...context }: IntegrationContext, parts: readonly Integration[]) {
    this.#graphs = parts.map((part) => part.build({ config, user, ...context }));
    this.#shapes = parts.map((part) => part.packedShape(config, user));
  }

  get readingTensors(): number {
    return sum(this.#graphs.map(({ readingTensors }) => readingTensors));
  }

  read(tokens: Tensor, present?: Tensor): readonly Tensor[] {
    return this.#graphs.flatMap((graph) => graph.read(tokens, present));
  }

  /** The parts' mean, each of length 1: vectors in a prompt and what attention adds need not be of one size. */
  taken(tokens: Tensor): Tensor {
    const all = this.#graphs.map((graph) => ofLengthOne(graph.taken(tokens)));
    return all.reduce((total, one) => total.add(one)).mul(1 / all.length);
  }

  pack(reading: readonly Tensor[]): Tensor {
    const [rows] = reading[0].shape;
    const flat = this.#apart(reading).map((own, i) => this.#graphs[i].pack(own).reshape([rows, sizeOf(this.#shapes[i])]));
    return concat(flat, 1);
  }

  unpack(packed: Tensor): readonly Tensor[] {
    const [rows] = packed.shape;
    const flat = packed.split(1, this.#shapes.map(sizeOf));
    return this.#graphs.flatMap((graph, i) => graph.unpack(flat[i].reshape([rows, ...this.#shapes[i]])));
  }

  hooks(reading: readonly Tensor[], reads?: Tensor): DecoderHooks {
    return combineHooks(this.#apart(reading).map((own, i) => this.#graphs[i].hooks(own, reads)));
  }

  /** A reading as those of the parts. */
  #apart(reading: readonly Tensor[]): (readonly Tensor[])[] {
    let from = 0;
    return this.#graphs.map(({ readingTensors }) => reading.slice(from, (from += readingTensors)));
  }
}

const ofLengthOne = (x: Tensor): Tensor => x.div(x.square().sum(-1, true).add(1e-12).sqrt());
