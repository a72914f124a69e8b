// SPDX-License-Identifier: Apache-2.0
// ioredis.js FILE - runs one file of the functional tests of the client `ioredis` by mocha, without those that DOR_LEFT_OUT
// names by their full titles; `something *` are all whose titles begin so. Prints a line of JSON an event.
'use strict';
const path = require('path');

const Mocha = require(require.resolve('mocha', { paths: [process.cwd()] }));
const leftOut = JSON.parse(process.env.DOR_LEFT_OUT);
const root = path.join(process.cwd(), 'node_modules', 'ioredis', 'test');
const all = [];

function isLeftOut(title) {
    return leftOut.some((name) => (name.endsWith(' *') ? title.startsWith(name.slice(0, -1)) : title === name));
}

function prune(suite) {
    all.push(...suite.tests.map((test) => test.fullTitle()));
    suite.tests = suite.tests.filter((test) => !isLeftOut(test.fullTitle()));
    suite.suites.forEach(prune);
}

// Its own limit is 2 s, which a machine with much to do may take for anything.
const mocha = new Mocha({ reporter: 'json-stream', timeout: 10000 });
mocha.addFile(path.join(root, 'helpers', 'global.js'));
mocha.addFile(path.join(root, 'functional', process.argv[2]));
mocha.loadFiles();
mocha.files = [];
prune(mocha.suite);
console.log('# all: ' + JSON.stringify(all));
mocha.run((failures) => process.exit(failures ? 1 : 0));
