import type { Stepper } from './stepper.js';
import type { StateCodec, StateDtype, UserState } from './user-state.js';

/** How states are made while users are encoded. */
export interface StateMaking {
  readonly empty: () => UserState;
  readonly bytes: (state: UserState, owner: string) => Uint8Array;
}

/** What an encoder with attention in a band keeps states with: how they are stepped, and how they lie in bytes. */
export class BandedState {
  constructor(
    readonly codec: StateCodec,
    readonly stepper: Stepper,
  ) {}

  /** How states are made while encoding; `true` is float32. @throws EncoderOptionError for a dtype that there is not */
  making(state: true | StateDtype): StateMaking {
    const dtype = state === true ? 'float32' : state;
    const { codec } = this;
    codec.bytes(dtype);
    return { empty: () => codec.empty(), bytes: (made, owner) => codec.encode(made, dtype, owner) };
  }
}
