// SPDX-License-Identifier: Apache-2.0
// node_redis.js - runs the tests of the client `redis` without those that DOR_LEFT_OUT names. They are one program that
// starts a test when the one before it has ended, and ends at the first failure. Two of its lines are other ones here:
// which tests there are, and the number of the database it uses, for a table is one database. It also has back a way to
// print that Node has no more.
'use strict';
const fs = require('fs');
const Module = require('module');
const path = require('path');
const util = require('util');

const leftOut = new Set(JSON.parse(process.env.DOR_LEFT_OUT));
const file = require.resolve('redis/test.js', { paths: [process.cwd()] });

function kept(names) {
    console.log('# all: ' + JSON.stringify(names));
    return names.filter((name) => !leftOut.has(name));
}

function replaced(text, from, to) {
    if (text.split(from).length !== 2) {
        throw new Error(`${file} does not have one line ${from}`);
    }
    return text.replace(from, to);
}

util.print = (words) => process.stdout.write(words);
global.dormouseKept = kept;
let text = fs.readFileSync(file, 'utf8');
text = replaced(text, 'all_tests = Object.keys(tests);', 'all_tests = dormouseKept(Object.keys(tests));');
text = replaced(text, 'test_db_num = 15,', 'test_db_num = 0,');

// One of the tests starts another program of the package by a relative path.
process.chdir(path.dirname(file));
const suite = new Module(file, null);
suite.filename = file;
suite.paths = Module._nodeModulePaths(path.dirname(file));
suite._compile(text, file);
