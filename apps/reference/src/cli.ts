#!/usr/bin/env node
import { main } from './program.js';
import { outliveReaders } from './run/closed-output.js';

outliveReaders();
process.exitCode = await main(process.argv);
