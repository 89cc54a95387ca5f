// A panel's specification with its data in it → SVG, as OpenSearch Dashboards draws it: Vega-Lite, fitted to a box, its
// expressions interpreted (a page may not evaluate text). A warning is an error, but for the extent of no data.
//   node draw.js WIDTH HEIGHT <SPEC.json >PANEL.svg
const vega = require('vega');
const vegaLite = require('vega-lite');
const { expressionInterpreter } = require('vega-interpreter');

const [width, height] = process.argv.slice(2).map(Number);
const spec = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const warnings = [];
const logger = vega.logger(vega.Warn);
logger.warn = (...words) => warnings.push(words.join(' '));

// Dashboards takes its own part of the configuration out, and sets the size to 'container': the box, where there is a page.
delete spec.config.kibana;
Object.assign(spec, { width, height, autosize: { type: 'fit', contains: 'padding' } });
const compiled = vegaLite.compile(spec, { logger }).spec;
const runtime = vega.parse(compiled, null, { ast: true });
const view = new vega.View(runtime, { renderer: 'none', logger, expr: expressionInterpreter });
view.toSVG().then((svg) => {
  const told = warnings.filter((warning) => !warning.startsWith('Infinite extent'));
  if (told.length) throw new Error(told.join('\n'));
  process.stdout.write(svg);
}).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
