// A page in a headless Chromium with files of this machine behind it, for tests of what is to run in a browser.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { chromium } from 'playwright-core';

const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const types = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};
const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The browser's program (`USER_LLM_CHROMIUM`, or a usual place), or null with a word on the console. */
export function findChromium() {
  const found = [process.env.USER_LLM_CHROMIUM, ...places].find((place) => place && existsSync(place));
  if (!found) console.warn('skipped: there is no Chromium; install it (apt install chromium), or name it in USER_LLM_CHROMIUM');
  return found ?? null;
}

async function serve(mounts, page) {
  const prefixes = Object.keys(mounts).sort((a, b) => b.length - a.length);
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const answer = (status, type, body) => response.writeHead(status, { 'content-type': type }).end(body);
    if (pathname === '/') return answer(200, types['.html'], page);
    const prefix = prefixes.find((one) => pathname.startsWith(one));
    if (!prefix) return answer(404, 'text/plain', 'not found');
    const file = path.join(mounts[prefix], path.normalize(`/${decodeURIComponent(pathname.slice(prefix.length))}`));
    return readFile(file).then(
      (body) => answer(200, types[path.extname(file)] ?? 'application/octet-stream', body),
      () => answer(404, 'text/plain', 'not found'),
    );
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/**
 * An empty page whose modules may import the names of `imports`.
 *
 * @param {string} executablePath of Chromium
 * @param {{ mounts: Record<string, string>, imports: Record<string, string> }} options addresses (`/models/`) to folders, and names of
 *   modules to addresses
 */
export async function openPage(executablePath, { mounts, imports }) {
  const server = await serve(mounts, `<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script>`);
  const browser = await chromium.launch({ executablePath, headless: true, args: flags });
  const origin = `http://127.0.0.1:${server.address().port}`;
  const page = await browser.newPage();
  const problems = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !/^(blob|data):/.test(url)) problems.push(`the page asked for ${url}`);
  });
  await page.goto(`${origin}/`);
  return {
    /** Runs the text of a module's body in the page (imports first, `return` last) with `input`; the result is plain data. */
    async run(code, input) {
      const names = Object.keys(input ?? {});
      // A module of its own, so that `import` is what a page's author writes.
      const [, head, body] = /^((?:\s*import[^;]*;)*)([\s\S]*)$/.exec(code);
      const module = `${head}\nexport default async ({ ${names.join(', ')} }) => {${body}\n};`;
      return page.evaluate(
        async ([text, given]) => {
          const url = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
          const { default: main } = await import(url);
          return main(given);
        },
        [module, input ?? {}],
      );
    },
    /** What went wrong in the page, and requests to other servers. */
    problems,
    async close() {
      await browser.close();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
