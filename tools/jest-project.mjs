import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** Jest settings of one workspace folder: TypeScript as ES modules, and typed arrays that onnxruntime accepts. */
export function project(folder) {
  return {
    displayName: path.basename(folder),
    rootDir: path.join(root, folder),
    testMatch: ['<rootDir>/test/**/*.test.ts'],
    testEnvironment: path.join(root, 'tools/jest-environment.mjs'),
    extensionsToTreatAsEsm: ['.ts'],
    moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
    transform: {
      '^.+\\.ts$': [
        path.join(root, 'node_modules/@swc/jest/index.js'),
        { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'es6' }, sourceMaps: 'inline' },
      ],
    },
  };
}
