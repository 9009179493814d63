import { concat } from './ops/shaping.js';
import { elementCount } from './host-tensor.js';
import type { ParameterInfo } from './graph-builder.js';
import type { Optimizer } from './optimizers.js';
import type { Tensor } from './tensor.js';

/** What an optimizer updates at once: a parameter, or several small ones of one kind that lie in memory one after another. */
export interface UpdateUnit {
  /** The parameter's, or one of its own. */
  readonly name: string;
  /** The parameter's, or the number of elements. */
  readonly shape: readonly number[];
  readonly members: readonly ParameterInfo[];
}

/** An update is a dozen operations, each of which costs microseconds however little there is to do; joining gradients is one more pass. */
const largestMember = 1 << 15;
/** Half a megabyte for each of the update's tensors: they stay in a cache of the second level. */
const largestUnit = 1 << 17;

/** Puts small parameters that the optimizer treats alike together, in their order. */
export function updateUnits(parameters: readonly ParameterInfo[], optimizer: Optimizer): UpdateUnit[] {
  const units: UpdateUnit[] = [];
  const open = new Map<string, { members: ParameterInfo[]; size: number }>();
  const close = (kind: string): void => {
    const { members, size } = open.get(kind)!;
    open.delete(kind);
    const [first] = members;
    units.push(
      members.length === 1 ? alone(first) : { name: `${first.name} and ${members.length - 1} more`, shape: [size], members },
    );
  };
  for (const parameter of parameters) {
    const size = elementCount(parameter.shape);
    const kind = optimizer.kindOf?.(parameter.name, parameter.shape);
    if (kind === undefined || size > largestMember) {
      units.push(alone(parameter));
      continue;
    }
    const waiting = open.get(kind);
    if (waiting && waiting.size + size > largestUnit) close(kind);
    const unit = open.get(kind) ?? { members: [], size: 0 };
    unit.members.push(parameter);
    unit.size += size;
    open.set(kind, unit);
  }
  for (const kind of [...open.keys()]) close(kind);
  return units;
}

const alone = (parameter: ParameterInfo): UpdateUnit => ({ name: parameter.name, shape: parameter.shape, members: [parameter] });

/** One tensor of the unit's shape for the tensors of its members. */
export const joined = ({ members, shape }: UpdateUnit, tensors: readonly Tensor[]): Tensor =>
  members.length === 1
    ? tensors[0]
    : concat(
        tensors.map((tensor) => tensor.reshape([-1])),
        0,
      ).reshape(shape);
