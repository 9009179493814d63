// Packs every package that is published, as it would be published, for the checks that look at the artifact and not at the sources.
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { pnpmCommand } from '../scripts/pnpm.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Writes a tarball of each built package into `folder`.
 * @returns {{ name: string, folder: string, tarball: string, manifest: Record<string, unknown> }[]}
 */
export function packAll(folder) {
  const filters = ['--filter', './packages/*', '--filter', './apps/*'];
  const { command, args, env } = pnpmCommand(['-r', ...filters, 'pack', '--pack-destination', folder]);
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`pnpm pack failed (exit ${status}):\n${stdout}${stderr}`);
  return ['packages', 'apps'].flatMap((group) =>
    readdirSync(path.join(root, group)).map((directory) => {
      const manifest = JSON.parse(readFileSync(path.join(root, group, directory, 'package.json'), 'utf8'));
      const file = `${manifest.name.replace('@', '').replace('/', '-')}-${manifest.version}.tgz`;
      return { name: manifest.name, folder: path.join(root, group, directory), tarball: path.join(folder, file), manifest };
    }),
  );
}
