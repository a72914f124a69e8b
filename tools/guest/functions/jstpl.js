// SPDX-License-Identifier: Apache-2.0
// jstpl: a Node HTTP server that parses a JSON catalogue and renders it through a small
// compiled template. The answer is the SHA-256 of the page, so it does not depend on the boot.
'use strict';
const crypto = require('crypto');
const http = require('http');

let state = 20240607;
function below(n) { // a fixed linear congruential generator
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state % n;
}
function word(low, high) {
  let out = '';
  for (let n = low + below(high - low + 1); n > 0; n--) out += 'aeioubcdfglmnprst'[below(17)];
  return out;
}

const makers = Array.from({ length: 80 }, () => word(4, 9) + ' & ' + word(3, 6));
const catalogue = JSON.stringify(Array.from({ length: 3000 }, (_, id) => ({
  id,
  name: word(3, 8) + ' "' + word(3, 8) + '"',
  maker: makers[below(makers.length)],
  price: below(100000) / 100,
  tags: Array.from({ length: 1 + below(5) }, () => word(2, 7)),
  text: Array.from({ length: 5 + below(20) }, () => word(1, 9)).join(' '),
})));

const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escape = (s) => String(s).replace(/[&<>"]/g, (c) => entities[c]);

// '{{key}}' in a template becomes the escaped value of that key.
function compile(template) {
  const parts = template.split(/\{\{(\w+)\}\}/);
  return (values) => parts.map((p, i) => (i % 2 ? escape(values[p]) : p)).join('');
}
const entry = compile('<article id="p{{id}}"><h2>{{name}}</h2><p class="by">{{maker}}, {{cost}}</p><p>{{text}}</p><ul>');
const tag = compile('<li>{{name}}</li>');

function render(text) {
  const groups = new Map();
  for (const p of JSON.parse(text)) {
    if (!groups.has(p.maker)) groups.set(p.maker, []);
    groups.get(p.maker).push(p);
  }
  let out = '<!doctype html><body>';
  for (const maker of [...groups.keys()].sort()) {
    out += `<section><h1>${escape(maker)}</h1>`;
    for (const p of groups.get(maker).sort((a, b) => a.price - b.price || a.id - b.id)) {
      out += entry({ ...p, cost: p.price.toFixed(2) }) + p.tags.map((name) => tag({ name })).join('') + '</ul></article>';
    }
    out += '</section>';
  }
  return out;
}

http.createServer((request, response) => {
  const page = render(catalogue);
  response.end(`jstpl ${crypto.createHash('sha256').update(page).digest('hex')} ${page.length}\n`);
}).listen('/run/function.sock');
