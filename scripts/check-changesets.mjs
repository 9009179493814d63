// Checks what a release would read: every changeset names packages of this workspace and a kind of version, every published
// package can be released, and the changelog settings name packages that exist.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

const root = fileURLToPath(new URL('..', import.meta.url));
const problems = [];
const read = (file) => JSON.parse(readFileSync(path.join(root, file), 'utf8'));

const manifests = ['packages', 'apps']
  .flatMap((group) => readdirSync(path.join(root, group)).map((name) => `${group}/${name}`))
  .concat('benchmarks')
  .map((folder) => ({ folder, ...read(`${folder}/package.json`) }));
const names = new Set(manifests.map(({ name }) => name));

for (const { folder, name, private: hidden, license, publishConfig, engines, files = [], version } of manifests) {
  if (hidden) continue;
  const expect = (holds, what) => holds || problems.push(`${folder}/package.json: ${what}`);
  expect(name === `@user-llm/${path.basename(folder)}`, 'its name is @user-llm/ and its folder');
  expect(/^\d+\.\d+\.\d+/.test(version), 'it has a version');
  expect(
    license === 'Apache-2.0' && existsSync(path.join(root, folder, 'LICENSE')),
    'it is under Apache-2.0 and carries the text',
  );
  expect(publishConfig?.access === 'public', 'publishConfig.access is public');
  expect(engines?.node === read('package.json').engines.node, "engines.node is the root's");
  expect(files.includes('dist') && files.includes('!dist/.tsbuildinfo'), 'it publishes dist without the compiler state');
  expect(existsSync(path.join(root, folder, 'README.md')), 'there is a README.md beside it');
}

const config = read('.changeset/config.json');
for (const name of [...config.ignore, ...config.fixed.flat(), ...config.linked.flat()]) {
  if (!names.has(name)) problems.push(`.changeset/config.json names ${name}, which is not in this workspace`);
}

for (const file of readdirSync(path.join(root, '.changeset')).filter((name) => name.endsWith('.md') && name !== 'README.md')) {
  const [, front, text] = /^---\n([\s\S]*?)---\n([\s\S]*)$/.exec(readFileSync(path.join(root, '.changeset', file), 'utf8')) ?? [];
  if (front === undefined || text.trim() === '')
    problems.push(`.changeset/${file}: packages between two lines of ---, then what changed`);
  for (const line of (front ?? '').split('\n').filter(Boolean)) {
    const [, name, kind] = /^['"]?([^'"]+)['"]?: (\w+)$/.exec(line) ?? [];
    if (!names.has(name)) problems.push(`.changeset/${file}: "${line}" names no package of this workspace`);
    if (!['major', 'minor', 'patch'].includes(kind)) problems.push(`.changeset/${file}: "${line}" needs major, minor or patch`);
  }
}

for (const problem of problems) process.stdout.write(`${problem}\n`);
process.exitCode = problems.length > 0 ? 1 : 0;
