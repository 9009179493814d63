/** The formats of weights that are read, by their names in GGUF. */
export const blockFormatNames = ['F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q4_K', 'Q5_K', 'Q6_K'] as const;
export type BlockFormatName = (typeof blockFormatNames)[number];

/** How a row of weights is cut: `values` weights after one another are `bytes` bytes. */
export interface BlockFormat {
  readonly name: BlockFormatName;
  readonly values: number;
  readonly bytes: number;
}

const format = (name: BlockFormatName, values: number, bytes: number): BlockFormat => ({ name, values, bytes });

/** Formats by their number in a GGUF header. */
export const blockFormats: ReadonlyMap<number, BlockFormat> = new Map([
  [0, format('F32', 1, 4)],
  [1, format('F16', 1, 2)],
  [2, format('Q4_0', 32, 18)],
  [3, format('Q4_1', 32, 20)],
  [6, format('Q5_0', 32, 22)],
  [7, format('Q5_1', 32, 24)],
  [8, format('Q8_0', 32, 34)],
  [12, format('Q4_K', 256, 144)],
  [13, format('Q5_K', 256, 176)],
  [14, format('Q6_K', 256, 210)],
  [30, format('BF16', 1, 2)],
]);

const byName = new Map(Array.from(blockFormats.values(), (each) => [each.name, each]));

/** A format by its name. */
export const blockFormat = (name: BlockFormatName): BlockFormat => byName.get(name)!;

/** Names of formats that exist but are not read, to name them in an error. */
export const otherFormats: ReadonlyMap<number, string> = new Map([
  [9, 'Q8_1'],
  [10, 'Q2_K'],
  [11, 'Q3_K'],
  [15, 'Q8_K'],
  [16, 'IQ2_XXS'],
  [17, 'IQ2_XS'],
  [18, 'IQ3_XXS'],
  [19, 'IQ1_S'],
  [20, 'IQ4_NL'],
  [21, 'IQ3_S'],
  [22, 'IQ2_S'],
  [23, 'IQ4_XS'],
  [24, 'I8'],
  [25, 'I16'],
  [26, 'I32'],
  [27, 'I64'],
  [28, 'F64'],
  [29, 'IQ1_M'],
  [34, 'TQ1_0'],
  [35, 'TQ2_0'],
  [39, 'MXFP4'],
]);
