/** The page's style: light and dark, wide and narrow, no font or image from elsewhere. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d9dee4; --page: #fbfbfa; --card: #ffffff; --accent: #0b62c4;
  --warn: #8a4b00; --warn-back: #fff4e0; --good-back: #eaf4ff; --grey: #7a848f; --c0: #0b62c4; --c1: #c2540a; --c2: #2b8a57; --c3: #8a4fbf; --c4: #b8326b; --c5: #5f6b1f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a2abb5; --line: #343b44; --page: #14171b; --card: #1b1f25; --accent: #6cb0ff;
  --warn: #ffc97a; --warn-back: #35280f; --good-back: #13273d; --grey: #8f9aa6; --c0: #6cb0ff; --c1: #ff9a57; --c2: #63cf93; --c3: #c59bf5; --c4: #f583b0; --c5: #c3cf6c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1140px; margin: 0 auto; padding: 28px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 0 0 4px; }
h3 { font-size: 1rem; margin: 0 0 8px; overflow-wrap: anywhere; }
p { margin: 6px 0 12px; max-width: 74ch; }
.under { color: var(--soft); }
.badge { display: inline-block; padding: 2px 10px; border-radius: 99px; background: var(--warn-back); color: var(--warn); font-weight: 600; font-size: .85rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px; margin: 18px 0; }
.lead { font-size: 1.1rem; font-weight: 600; padding: 12px 16px; border-radius: 8px; background: var(--good-back); max-width: none; overflow-wrap: anywhere; }
.lead.warn { background: var(--warn-back); color: var(--warn); }
.summary li { margin: 5px 0; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: 10px 18px; margin: 16px 0 0; }
.facts div { border-top: 2px solid var(--line); padding-top: 5px; }
.facts .long { grid-column: span 2; } .facts dt { color: var(--soft); font-size: .8rem; } .facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 12px -20px 0; padding: 0 20px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: 4px 0 8px; }
th, td { padding: 7px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
th:first-child { text-align: left; position: sticky; left: -20px; background: var(--card); padding-left: 0; font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
td small { display: block; color: var(--soft); font-size: .8rem; }
.apart { margin-top: 24px; }
.none { color: var(--grey); } td.words, .words { white-space: normal; text-align: left; }
svg { display: block; width: 100%; height: auto; max-width: 800px; font: 13px system-ui, sans-serif; }
.narrow { display: none; } .narrow svg { max-width: 480px; }
.grid { stroke: var(--line); } .axis { stroke: var(--grey); } .tick { fill: var(--soft); font-size: 12px; } .name, .value { fill: var(--ink); } .value { font-variant-numeric: tabular-nums; font-size: 12px; }
.interval { stroke-width: 4; stroke-linecap: round; opacity: .45; } .reference { stroke: var(--grey); stroke-dasharray: 4 4; }
.baseline { --tone: var(--grey); } .system { --tone: var(--c2); } .accent { --tone: var(--c0); } .accent .name { font-weight: 600; }
.interval { stroke: var(--tone); } .dot { fill: var(--tone); } .open { fill: var(--card); stroke: var(--tone); stroke-width: 1.5; }
.c0 { --tone: var(--c0); } .c1 { --tone: var(--c1); } .c2 { --tone: var(--c2); } .c3 { --tone: var(--c3); } .c4 { --tone: var(--c4); } .c5 { --tone: var(--c5); }
.line { fill: none; stroke: var(--tone); stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 5 4; opacity: .75; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; margin: 6px 0 0; font-size: .85rem; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 6px; } .legend svg { width: 26px; height: 10px; } .legend i { width: 10px; height: 10px; border-radius: 50%; background: var(--tone); } .legend i.ring { background: none; border: 1.5px solid var(--tone); }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 22px; margin-top: 14px; } .plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
.how { padding-left: 20px; } .how li { margin: 5px 0; } code { font-size: .85em; overflow-wrap: anywhere; }
@media (max-width: 640px) { main { padding: 18px 12px 40px; } section { padding: 16px 14px; border-radius: 10px; } .scroll { margin: 12px -14px 0; padding: 0 14px; } th:first-child { left: -14px; }
  .wide { display: none; } .narrow { display: block; } h1 { font-size: 1.4rem; } .lead { font-size: 1rem; } tbody th:first-child { white-space: normal; min-width: 120px; max-width: 150px; overflow-wrap: anywhere; } }
@media print { section { break-inside: avoid; } }
`;
