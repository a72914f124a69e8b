// SPDX-License-Identifier: Apache-2.0
// ports.js - loaded before a suite: it connects to ports that its authors wrote into it, and here these lead to the servers
// under test. DOR_PORTS has pairs: the port they wrote, the port of this machine that is meant.
'use strict';
const net = require('net');

const moved = new Map(JSON.parse(process.env.DOR_PORTS));
const connect = net.Socket.prototype.connect;

// Called with (port, host, ...), with ({port, host}, ...), or by Node itself with such arguments in an array.
net.Socket.prototype.connect = function (...args) {
    const words = Array.isArray(args[0]) ? args[0] : args;
    const options = typeof words[0] === 'object' ? words[0] : { port: words[0], host: words[1] };
    const port = moved.get(Number(options.port));
    if (port !== undefined) {
        if (typeof words[0] !== 'object' && typeof words[1] === 'string') {
            words.splice(1, 1);
        }
        words[0] = { ...options, host: '127.0.0.1', port };
    }
    return connect.apply(this, args);
};
