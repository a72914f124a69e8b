// SPDX-License-Identifier: Apache-2.0
// kv_wasm.js - the one WebAssembly memory of a worker and what modules import. It runs in the engine's root
// context, where nothing of a tenant is but compiled modules; those see numbers and this memory.
//
// put, del and ask are functions of JavaScript because the engine looks at the clock where one begins.
(function (native, lookup) {
'use strict';
const pages = 65536;
const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
const ask = () => {};
const found = new WebAssembly.Instance(new WebAssembly.Module(lookup), { env: { memory, ask } }).exports;
const kv = {
  ask,
  find: found.find,
  find_u32: found.find_u32,
  find_many: found.find_many,
  find_many_u32: found.find_many_u32,
  lengths_u32: found.lengths_u32,
  now: found.now,
  fill: found.fill,
  copy: found.copy,
  put(key, keyLength, value, valueLength, ttl) {
    native.put(key, keyLength, value, valueLength, ttl);
  },
  del(key, keyLength) {
    return native.remove(key, keyLength);
  },
};
return {
  bytes: new Uint8Array(memory.buffer),
  compile(code) {
    return new WebAssembly.Module(code);
  },
  start(module) {
    return new WebAssembly.Instance(module, { env: { memory }, kv }).exports;
  },
};
})
