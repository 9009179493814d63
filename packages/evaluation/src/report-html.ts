import type { ReportData } from './report-types.js';
export function renderHtml(report: ReportData): string { return `<!doctype html><pre>${JSON.stringify(report).replace(/</g, '&lt;')}</pre>`; }
