import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { packAll } from '../pack.mjs';

// Each package as a stranger gets it: its packed tarball and those of the packages it depends on, installed by plain npm into
// an empty folder, imported by plain node.

/** A name that each package must export. */
const exported: Record<string, string> = {
  '@user-llm/onnx-autograd': 'graph',
  '@user-llm/event-tokenizer': 'EventTokenizer',
  '@user-llm/user-encoder': 'UserEncoder',
  '@user-llm/embedding-store': 'openStore',
  '@user-llm/cross-attention': 'LanguageModel',
  '@user-llm/evaluation': 'evaluate',
  '@user-llm/datasets': 'openDataset',
};
const withoutOnnxruntime = ['@user-llm/event-tokenizer', '@user-llm/embedding-store', '@user-llm/evaluation'];

type Packed = ReturnType<typeof packAll>[number] & {
  manifest: { dependencies?: Record<string, string>; bin?: Record<string, string> };
};
const minutes = 60_000;
let folder: string;
let packed: Packed[];

function run(command: string, args: string[], cwd: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    // A clean environment: no settings that npm or pnpm pass down to what runs inside them.
    const kept = Object.entries(process.env).filter(
      ([name]) => !/^(npm_(config_(?!cache|registry)|package|lifecycle)|NODE_OPTIONS|PNPM)/i.test(name),
    );
    const env = { ...Object.fromEntries(kept), ONNXRUNTIME_NODE_INSTALL: 'skip' };
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (piece: Buffer) => (stdout += piece));
    child.stderr.on('data', (piece: Buffer) => (stderr += piece));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/** The packages of this workspace that `name` needs, itself first. */
function closure(name: string, seen = new Set<string>()): Set<string> {
  seen.add(name);
  const { manifest } = packed.find((one) => one.name === name)!;
  for (const dependency of Object.keys(manifest.dependencies ?? {})) {
    if (dependency.startsWith('@user-llm/') && !seen.has(dependency)) closure(dependency, seen);
  }
  return seen;
}

const installs = new Map<string, Promise<string>>();

/** Installs a package into an empty folder of its own, two at a time; returns the folder. */
function installed(name: string): Promise<string> {
  return installs.get(name)!;
}

async function install(name: string): Promise<string> {
  const target = path.join(folder, name.replace('/', '-'));
  mkdirSync(target);
  writeFileSync(path.join(target, 'package.json'), JSON.stringify({ name: 'a-stranger', private: true, type: 'module' }));
  const tarballs = [...closure(name)].map((one) => packed.find((candidate) => candidate.name === one)!.tarball);
  const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const { code, stderr } = await run('npm', ['install', ...flags, ...tarballs], target);
  if (code !== 0) throw new Error(`npm install of ${name} failed:\n${stderr}`);
  return target;
}

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'user-llm-installed-'));
  packed = packAll(folder) as Packed[];
  const lanes: Promise<unknown>[] = [Promise.resolve(), Promise.resolve()];
  for (const [index, { name }] of packed.entries()) {
    const promise = lanes[index % 2].then(() => install(name));
    lanes[index % 2] = promise.catch(() => undefined);
    installs.set(name, promise);
  }
}, 2 * minutes);

afterAll(async () => {
  await Promise.allSettled(installs.values());
  rmSync(folder, { recursive: true, force: true });
}, 8 * minutes);

test('every published package is covered here', () => {
  expect(packed.map(({ name }) => name).sort()).toEqual([...Object.keys(exported), '@user-llm/reference'].sort());
});

describe.each(Object.entries(exported))('%s', (name, binding) => {
  test(
    'installs alone and imports in plain node',
    async () => {
      const target = await installed(name);
      const code = `import * as all from ${JSON.stringify(name)}; if (!(${JSON.stringify(binding)} in all)) throw new Error('exports: ' + Object.keys(all)); console.log('imported');`;
      const result = await run(process.execPath, ['--input-type=module', '-e', code], target);
      expect(result).toEqual({ code: 0, stdout: 'imported\n', stderr: '' });
    },
    8 * minutes,
  );

  test(
    'carries its licence, README and types, and not the compiler state',
    async () => {
      const own = path.join(await installed(name), 'node_modules', name);
      for (const file of ['LICENSE', 'README.md', 'dist/index.js', 'dist/index.d.ts'])
        expect({ file, there: existsSync(path.join(own, file)) }).toEqual({ file, there: true });
      expect(existsSync(path.join(own, 'dist/.tsbuildinfo'))).toBe(false);
      const manifest = JSON.parse(readFileSync(path.join(own, 'package.json'), 'utf8')) as {
        dependencies?: Record<string, string>;
      };
      expect(Object.values(manifest.dependencies ?? {}).filter((range) => range.startsWith('workspace:'))).toEqual([]);
    },
    8 * minutes,
  );
});

test.each(withoutOnnxruntime)(
  '%s installs without onnxruntime',
  async (name) => {
    const target = await installed(name);
    const lock = JSON.parse(readFileSync(path.join(target, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, unknown>;
    };
    const paths = Object.keys(lock.packages);
    expect(paths).toContain(`node_modules/${name}`);
    expect(paths.filter((one) => one.includes('onnxruntime') || one.includes('transformers'))).toEqual([]);
  },
  8 * minutes,
);

test(
  '@user-llm/reference installs the command user-llm, whose --help works',
  async () => {
    const target = await installed('@user-llm/reference');
    const { code, stdout, stderr } = await run(path.join(target, 'node_modules/.bin/user-llm'), ['--help'], target);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const command of ['poc', 'eval', 'ask']) expect(stdout).toContain(command);
  },
  8 * minutes,
);
