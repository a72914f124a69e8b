// SPDX-License-Identifier: Apache-2.0
// kv.js - what a storage function sees of its table. Keys are looked up here, over views of the arena, so that
// a function that reads never leaves the engine; changes go through native calls, and the views are mapped
// read-only anyhow. src/table/buckets.c and hash.h are the twins of find() and the hashes.
//
// Invariants:
// 1. No view, buffer or constructor of a view leaves this closure, also not as `this` of a getter, a species or
//    an argument: every index is a number before it meets a view, no property of one is read (their length
//    is a getter that can be replaced), and nothing here calls what a tenant can
//    replace. What is needed of the built-ins is taken before any tenant's code runs.
// 2. Arguments are made numbers first and views read after, because that may run a tenant's valueOf().
// 3. All words are taken as signed: comparing and masking them stays in 32-bit integers.
(function (native) {
'use strict';
const global = globalThis;
const apply = Reflect.apply, ownKeys = Object.keys, getDescriptor = Object.getOwnPropertyDescriptor;
const imul = Math.imul, clz = Math.clz32, isView = ArrayBuffer.isView;
const isArray = Array.isArray, freeze = Object.freeze;
const Bytes = Uint8Array, Ints = Int32Array, Floats = Float32Array, Doubles = Float64Array;
const Buffer = ArrayBuffer, Fault = Error, OutOfRange = RangeError, WrongType = TypeError;
const TypedArray = Object.getPrototypeOf(Uint8Array);
const bufferOf = getDescriptor(TypedArray.prototype, 'buffer').get;
const offsetOf = getDescriptor(TypedArray.prototype, 'byteOffset').get;
const bytesOf = getDescriptor(TypedArray.prototype, 'byteLength').get;
const viewBuffer = getDescriptor(DataView.prototype, 'buffer').get;
const viewOffset = getDescriptor(DataView.prototype, 'byteOffset').get;
const viewBytes = getDescriptor(DataView.prototype, 'byteLength').get;
const isTyped = getDescriptor(TypedArray.prototype, Symbol.toStringTag).get;
const bufferBytes = getDescriptor(ArrayBuffer.prototype, 'byteLength').get;
const setBytes = TypedArray.prototype.set;
// Called as a method, which the compiler knows, so it may not be replaced.
Object.defineProperty(String.prototype, 'charCodeAt', { writable: false, configurable: false });

const NUMBER = 0x80000000 | 0, LIBRARY = 0x40000000, EXPIRES = 0x20000000, UNIT = 0x1fffffff;
const VALUE = 0x3fffffff, LENGTH = 0xffff;

let arena = null, arenaBytes = 0, I = new Ints(0), F = new Floats(0), D = new Doubles(0), B = new Bytes(0);

function bind(buffer, bytes) {
  arena = buffer;
  arenaBytes = bytes;
  I = new Ints(buffer);
  F = new Floats(buffer);
  D = new Doubles(buffer);
  B = new Bytes(buffer);
}

// ---- looking up ----

function bucketOf(hash) {
  const mask = I[5];
  let index = hash & mask;
  if (index >= I[4]) index = hash & (mask >>> 1);
  return (I[48 - clz(index >>> 4)] + (index << 4)) | 0;
}

function isDead(record) {
  const expiry = (I[record + 2] >>> 0) + I[record + 3] * 4294967296;
  return expiry <= D[5];
}

// The word of the record REF leads to, 0 if its time has come.
function live(ref) {
  const record = (ref & UNIT) << 1;
  return (ref & EXPIRES) !== 0 && isDead(record) ? 0 : record;
}

function hashNumber(number, seed) {
  let h = number ^ seed;
  h ^= h >>> 16;
  h = imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = imul(h, 0x846ca68b);
  return h ^ (h >>> 16);
}

function findNumber(number) {
  const h = hashNumber(number, I[2]);
  let at = bucketOf(h);
  for (let n = 0; n < 1048576; n++) {
    for (let i = 0; i < 6; i++)
      if (I[at + i] === h) {
        const ref = I[at + 10 + i];
        if ((ref & (NUMBER | LIBRARY)) === NUMBER) return live(ref);
      }
    const next = I[at + 6];
    if (next === 0) return 0;
    at = next << 1;
  }
  return 0;
}

// A key that is no number lies here while it is looked for, as words and as bytes.
let keyWords = new Ints(256), key = new Bytes(1024);
let keyCap = 1024, keyLength = 0, keyHash = 0;

// Keys that long are rare; the space for them is not given back.
function growKey() {
  keyWords = new Ints(0x4000);
  key = new Bytes(0x10000);
  keyCap = 0x10000;
}

function mix(word) {
  word = imul(word, 0xcc9e2d51);
  word = (word << 15) | (word >>> 17);
  return imul(word, 0x1b873593);
}

// Whether RECORD has the key of LENGTH bytes that lies in WANTED from FROM on.
function sameKey(record, wanted, from, length) {
  const head = I[record], tag = I[record + 1];
  if (tag >>> 16 !== length) return false;
  // Bytes of the key follow those of the value. Places are in words: bytes of 4 GiB are no int32.
  const bytes = head & VALUE;
  let word = (record + 2 + ((head >>> 29) & 2) + (bytes >>> 2)) | 0;
  const shift = (bytes & 3) << 3;
  const whole = from + (length >>> 2);
  let low = I[word];
  if (shift === 0) {
    for (let i = from; i < whole; i++) {
      if (low !== wanted[i]) return false;
      low = I[++word];
    }
  } else {
    for (let i = from; i < whole; i++) {
      const high = I[++word];
      if (((low >>> shift) | (high << (32 - shift))) !== wanted[i]) return false;
      low = high;
    }
  }
  const rest = length & 3;
  if (rest === 0) return true;
  let last = low >>> shift;
  if (shift !== 0 && rest * 8 > 32 - shift) last |= I[word + 1] << (32 - shift);
  return ((last ^ wanted[whole]) & ((1 << (rest << 3)) - 1)) === 0;
}

function findHash(h) {
  let at = bucketOf(h);
  for (let n = 0; n < 1048576; n++) {
    for (let i = 0; i < 6; i++)
      if (I[at + i] === h) {
        const ref = I[at + 10 + i];
        if (ref !== 0 && (ref & (NUMBER | LIBRARY)) === 0 && sameKey((ref & UNIT) << 1, keyWords, 0, keyLength))
          return live(ref);
      }
    const next = I[at + 6];
    if (next === 0) return 0;
    at = next << 1;
  }
  return 0;
}

function finish(h) {
  h ^= h >>> 16;
  h = imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

// The number that the words spell as it is usually written, or -1.
function keyNumber(first, words, at) {
  if (keyLength === 0 || keyLength > 10 || (first === 48 && keyLength > 1)) return -1;
  let number = 0;
  for (let i = 0; i < keyLength; i++) {
    const digit = ((words[at + (i >>> 2)] >>> ((i & 3) << 3)) & 255) - 48;
    if (digit < 0 || digit > 9) return -1;
    number = number * 10 + digit;
  }
  return number <= 0xffffffff ? number : -1;
}

// Bytes of key[] into words.
function packKey(length) {
  keyLength = length;
  const words = (length + 3) >>> 2;
  for (let i = length; i < words << 2; i++) key[i] = 0;
  for (let i = 0; i < words; i++) {
    const at = i << 2;
    keyWords[i] = key[at] | (key[at + 1] << 8) | (key[at + 2] << 16) | (key[at + 3] << 24);
  }
}

function findPacked() {
  const number = packedNumber(keyWords, 0);
  if (number >= 0) return findNumber(number | 0);
  const words = keyLength >>> 2;
  let h = I[2];
  for (let i = 0; i < words; i++) {
    h ^= mix(keyWords[i]);
    h = (imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
  }
  const rest = (keyLength & 3) === 0 ? 0 : keyWords[words];
  return findHash(finish(h ^ mix(rest) ^ keyLength));
}

// TEXT as UTF-8 into OUT from AT on, which is long enough; where it ends.
function encodeText(text, out, at) {
  const length = text.length;
  for (let i = 0; i < length; i++) {
    let c = text.charCodeAt(i);
    if (c < 0x80) {
      out[at++] = c;
      continue;
    }
    if (c >= 0xd800 && c < 0xe000) {
      const low = c < 0xdc00 && i + 1 < length ? text.charCodeAt(i + 1) : 0;
      if (low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        i++;
        out[at++] = 0xf0 | (c >> 18);
        out[at++] = 0x80 | ((c >> 12) & 63);
        out[at++] = 0x80 | ((c >> 6) & 63);
        out[at++] = 0x80 | (c & 63);
        continue;
      }
      c = 0xfffd;
    }
    if (c < 0x800) {
      out[at++] = 0xc0 | (c >> 6);
    } else {
      out[at++] = 0xe0 | (c >> 12);
      out[at++] = 0x80 | ((c >> 6) & 63);
    }
    out[at++] = 0x80 | (c & 63);
  }
  return at;
}

// TEXT into INTO from AT on and its hash into keyHash; false if it has more than MOST bytes or is not ASCII.
function packText(text, into, at, most) {
  const length = text.length;
  if (length > most) return false;
  const whole = length >>> 2;
  let h = I[2], all = 0;
  for (let i = 0; i < whole; i++) {
    const k = i << 2;
    const a = text.charCodeAt(k), b = text.charCodeAt(k + 1);
    const c = text.charCodeAt(k + 2), d = text.charCodeAt(k + 3);
    all |= a | b | c | d;
    const word = a | (b << 8) | (c << 16) | (d << 24);
    into[at + i] = word;
    h ^= mix(word);
    h = (imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
  }
  let rest = 0;
  for (let i = whole << 2; i < length; i++) {
    const c = text.charCodeAt(i);
    all |= c;
    rest |= c << ((i & 3) << 3);
  }
  if (all > 127) return false;
  if ((length & 3) !== 0) into[at + whole] = rest;
  keyLength = length;
  keyHash = finish(h ^ mix(rest) ^ length);
  return true;
}

// The number that the key of keyLength bytes in WORDS from AT on is, or -1.
function packedNumber(words, at) {
  const first = words[at] & 255;
  return keyLength > 0 && first >= 48 && first <= 57 ? keyNumber(first, words, at) : -1;
}

function findText(text) {
  if (!packText(text, keyWords, 0, 1024)) return findLong(text);
  const number = packedNumber(keyWords, 0);
  return number >= 0 ? findNumber(number | 0) : findHash(keyHash);
}

function findLong(text) {
  if (text.length > 0xff00) return 0;
  if (text.length * 3 > keyCap) {
    growKey();
    if (text.length * 3 > keyCap) {
      const whole = new Bytes(text.length * 3);
      return findBytes(whole, 0, encodeText(text, whole, 0));
    }
  }
  packKey(encodeText(text, key, 0));
  return findPacked();
}

function findBytes(bytes, at, length) {
  if (length > 0xff00) return 0;
  if (length > keyCap) growKey();
  for (let i = 0; i < length; i++) key[i] = bytes[at + i];
  packKey(length);
  return findPacked();
}

// A Uint8Array of our own over what a tenant's view or buffer holds.
function ownView(value) {
  if (isView(value)) {
    if (apply(isTyped, value, []) !== undefined)
      return new Bytes(apply(bufferOf, value, []), apply(offsetOf, value, []), apply(bytesOf, value, []));
    return new Bytes(apply(viewBuffer, value, []), apply(viewOffset, value, []), apply(viewBytes, value, []));
  }
  if (typeof value === 'object' && value !== null && value instanceof Buffer)
    return new Bytes(value, 0, apply(bufferBytes, value, []));
  return null;
}

function find(name) {
  if (typeof name === 'number') {
    const number = name >>> 0;
    return number === name ? findNumber(number | 0) : findText('' + name);
  }
  if (typeof name === 'string') return findText(name);
  const view = ownView(name);
  if (view === null) throw new WrongType('a key is a number, a string or bytes');
  return findBytes(view, 0, apply(bytesOf, view, []));
}

// ---- looking up many ----
//
// A look-up waits for memory two times or three, and the processor cannot go on with the next one before it knows
// in which slot the key was. So many are looked up in step: first all buckets are read, then all records, in loops
// whose reads do not wait for each other.

// Nothing is guessed: a branch that depends on a bucket would be wrong half of the time, and what was begun behind it
// lost. So whether a slot fits is a number (clz32() of zero is 32), and whatever is not as it mostly is, such as a key
// in the second bucket of a chain, is looked up again by itself.

const MANY = 64, PACKED = 16; // keys, and words of one that is text
const hashes = new Ints(MANY), places = new Ints(MANY), sizes = new Ints(MANY), rest = new Ints(MANY + 1);
const lengths = new Ints(MANY), packed = new Ints(MANY * PACKED);
const NUMBER_KEY = -1, OTHER_KEY = -2; // in place of the length of a text
let touched = 0; // what was read only for having it near; without a use it would not be read

// OUT must be an Int32Array, which runs no tenant's code when it is written, with room for COUNT.
function checkOut(out, count, what) {
  if (apply(isTyped, out, []) !== 'Int32Array')
    throw new WrongType(what + ' are written into an Int32Array');
  if (apply(bytesOf, out, []) >>> 2 < count) throw new OutOfRange('there are more keys than ' + what);
}

// Into places[] the bucket of each of the COUNT hashes[]; they are near then. Loops that only touch memory are short:
// of such a one the processor has more in its view at once.
function bucketAll(count) {
  const words = I, buckets = words[4], mask = words[5], half = mask >>> 1;
  let all = 0;
  for (let i = 0; i < count; i++) {
    let index = hashes[i] & mask;
    index &= half | (((index - buckets) | 0) >> 31);
    places[i] = (words[48 - clz(index >>> 4)] + (index << 4)) | 0;
  }
  for (let i = 0; i < count; i++) all |= words[places[i]];
  touched = all;
}

// The last slot with the hash H in the bucket AT, -1 if none has it.
function slotOf(words, at, h) {
  const fits = (clz(words[at] ^ h) & 32) >> 5 | (clz(words[at + 1] ^ h) & 32) >> 4 |
    (clz(words[at + 2] ^ h) & 32) >> 3 | (clz(words[at + 3] ^ h) & 32) >> 2 |
    (clz(words[at + 4] ^ h) & 32) >> 1 | (clz(words[at + 5] ^ h) & 32);
  return (31 - clz(fits)) | 0;
}

// How long the value in SLOT is; LENGTH: its record says.
function sizeIn(words, at, slot) {
  return (words[(at + 7 + (slot >> 1)) | 0] >>> ((slot & 1) << 4)) & LENGTH;
}

// Into places[] a ref for each of the COUNT hashes[], of whatever kind, and into sizes[] how long its value is; if the
// bucket has none, 0 and the unit of the next one.
function placeAll(count) {
  bucketAll(count);
  const words = I;
  for (let i = 0; i < count; i++) {
    const at = places[i], slot = slotOf(words, at, hashes[i]);
    const there = words[(at + 10 + slot) | 0], size = sizeIn(words, at, slot), next = words[at + 6];
    const ref = slot < 0 ? 0 : there; // a slot that is empty may still have the hash
    sizes[i] = ref === 0 ? next : size;
    places[i] = ref;
  }
}

// Have the heads of the COUNT refs near, or the next buckets, and, where they are needed, so many bytes of the values
// and what is behind these: keys that are text. What is read ahead of a wrong guess is a line that is needed all the
// same.
function touchAll(count, ahead, keys) {
  const words = I;
  let all = 0;
  for (let i = 0; i < count; i++) {
    const ref = places[i];
    all |= words[(ref !== 0 ? ref & UNIT : sizes[i]) << 1];
  }
  for (let i = 0; i < count; i++) {
    const record = (places[i] & UNIT) << 1, size = sizes[i], bytes = size === LENGTH ? words[record] & VALUE : size;
    const end = record + 2 + ((bytes < ahead ? bytes : ahead) >>> 2);
    for (let word = record + 16; word < end; word += 16) all |= words[word];
    if (keys && record !== 0) all |= words[record + 2 + (bytes >>> 2)];
  }
  touched = all;
}

function isNumber(ref) {
  return (ref & (NUMBER | LIBRARY)) === NUMBER;
}

function followSome(list, count, handles, first, ahead) {
  const words = I, seed = words[2];
  for (let i = 0; i < count; i++) hashes[i] = hashNumber(words[list + i], seed);
  placeAll(count);
  touchAll(count, ahead, false);
  for (let i = 0; i < count; i++) {
    const ref = places[i];
    handles[first + i] = isNumber(ref) ? live(ref) : findNumber(words[list + i]);
  }
}

// Most buckets say how long a value is, and its record need not be read: but for long values, keys that expire, and
// what is in the second bucket of a chain.
function measureSome(list, count, lengths, first) {
  const words = I, seed = words[2];
  for (let i = 0; i < count; i++) hashes[i] = hashNumber(words[list + i], seed);
  placeAll(count);
  let unsaid = 0, all = 0;
  for (let i = 0; i < count; i++) {
    const size = sizes[i];
    lengths[first + i] = size;
    rest[unsaid] = i;
    unsaid += saysAll(places[i], size) ? 0 : 1;
  }
  for (let k = 0; k < unsaid; k++) {
    const ref = places[rest[k]];
    all |= words[(ref !== 0 ? ref & UNIT : sizes[rest[k]]) << 1];
  }
  touched = all;
  for (let k = 0; k < unsaid; k++) {
    const i = rest[k];
    lengths[first + i] = head(findNumber(words[list + i])) & VALUE;
  }
}

function saysAll(ref, size) {
  return (ref & (NUMBER | LIBRARY | EXPIRES)) === NUMBER && size !== LENGTH;
}

// NAME as the key I of many: its hash, its length or what it is instead, and its words.
function packOne(name, i) {
  lengths[i] = OTHER_KEY;
  let number = -1;
  if (typeof name === 'number') {
    if (name >>> 0 === name) number = name;
  } else if (typeof name === 'string' && packText(name, packed, i * PACKED, PACKED * 4)) {
    number = packedNumber(packed, i * PACKED);
    hashes[i] = keyHash;
    lengths[i] = keyLength;
  }
  if (number >= 0) {
    hashes[i] = hashNumber(number | 0, I[2]);
    lengths[i] = NUMBER_KEY;
  }
}

function handleOf(i, name) {
  const ref = places[i], length = lengths[i];
  if (length === NUMBER_KEY) return isNumber(ref) ? live(ref) : find(name);
  if (length === OTHER_KEY || ref <= 0 || (ref & LIBRARY) !== 0 ||
    !sameKey((ref & UNIT) << 1, packed, i * PACKED, length)) return find(name);
  return live(ref);
}

function openSome(keys, first, count, handles, ahead) {
  const names = [];
  for (let i = 0; i < count; i++) names[i] = keys[first + i];
  let all = 0;
  for (let i = 0; i < count; i++) {
    const name = names[i];
    if (typeof name === 'string') all |= name.length;
  }
  touched = all;
  for (let i = 0; i < count; i++) packOne(names[i], i);
  placeAll(count);
  touchAll(count, ahead, true);
  for (let i = 0; i < count; i++) handles[first + i] = handleOf(i, names[i]);
}

function clampAhead(bytes) {
  return bytes < 0 ? 0 : bytes > 4096 ? 4096 : bytes;
}

// ---- values ----

// Thrown by who calls it: the compiler then knows that nothing goes on behind a check that failed, and keeps what
// does not change in a loop out of it.
function outside() {
  return new OutOfRange('outside the value');
}

function head(handle) {
  return handle === 0 ? 0 : I[handle];
}

// The first word of a value whose 32-bit numbers from the FROMth to before the TOth are keys.
function listOf(handle, from, to) {
  const length = head(handle);
  if (from < 0 || to > (length & VALUE) >>> 2 || from > to) throw outside();
  return handle + 2 + ((length >>> 29) & 2);
}

function textOf(handle, from, to) {
  const bytes = I[handle] & VALUE;
  if (from < 0 || to > bytes || from > to) throw outside();
  return native.text((handle + 2 + ((I[handle] >>> 29) & 2)) * 4 + from, to - from);
}

function plainKey(name) {
  if (typeof name === 'number') return '' + name;
  if (typeof name === 'string') return name;
  const view = ownView(name);
  if (view === null) throw new WrongType('a key is a number, a string or bytes');
  return view;
}

function plainValue(value) {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'bigint') return '' + value;
  const view = ownView(value);
  if (view === null) throw new WrongType('a value is a string, a number or bytes');
  return view;
}

const kv = {
  open(name) {
    return find(name);
  },
  openAll(keys, handles, ahead) {
    const count = keys.length >>> 0, near = clampAhead(ahead | 0);
    checkOut(handles, count, 'handles');
    for (let done = 0; done < count; done += MANY)
      openSome(keys, done, count - done < MANY ? count - done : MANY, handles, near);
    return count;
  },
  follow(handle, from, to, handles, ahead) {
    handle |= 0;
    from |= 0;
    to |= 0;
    const near = clampAhead(ahead | 0), list = listOf(handle, from, to);
    checkOut(handles, to - from, 'handles');
    for (let done = from; done < to; done += MANY)
      followSome(list + done, to - done < MANY ? to - done : MANY, handles, done - from, near);
    return to - from;
  },
  lengths(handle, from, to, lengths) {
    handle |= 0;
    from |= 0;
    to |= 0;
    const list = listOf(handle, from, to);
    checkOut(lengths, to - from, 'lengths');
    for (let done = from; done < to; done += MANY)
      measureSome(list + done, to - done < MANY ? to - done : MANY, lengths, done - from);
    return to - from;
  },
  has(name) {
    return find(name) !== 0;
  },
  len(handle) {
    return head(handle | 0) & VALUE;
  },
  u8(handle, index) {
    handle |= 0;
    index |= 0;
    const length = I[handle];
    if (handle === 0 || (index >>> 0) >= ((length & VALUE) >>> 0)) throw outside();
    return (I[handle + 2 + ((length >>> 29) & 2) + (index >>> 2)] >>> ((index & 3) << 3)) & 255;
  },
  u32(handle, index) {
    handle |= 0;
    index |= 0;
    const length = I[handle];
    if (handle === 0 || (index >>> 0) >= (((length & VALUE) >>> 2) >>> 0)) throw outside();
    return I[handle + 2 + ((length >>> 29) & 2) + index] >>> 0;
  },
  i32(handle, index) {
    handle |= 0;
    index |= 0;
    const length = I[handle];
    if (handle === 0 || (index >>> 0) >= (((length & VALUE) >>> 2) >>> 0)) throw outside();
    return I[handle + 2 + ((length >>> 29) & 2) + index] | 0;
  },
  f32(handle, index) {
    handle |= 0;
    index |= 0;
    const length = I[handle];
    if (handle === 0 || (index >>> 0) >= (((length & VALUE) >>> 2) >>> 0)) throw outside();
    return +F[handle + 2 + ((length >>> 29) & 2) + index];
  },
  f64(handle, index) {
    handle |= 0;
    index |= 0;
    const length = I[handle];
    if (handle === 0 || (index >>> 0) >= (((length & VALUE) >>> 3) >>> 0)) throw outside();
    return +D[((handle + 2 + ((length >>> 29) & 2)) >> 1) + index];
  },
  bytes(handle, from, to) {
    handle |= 0;
    from |= 0;
    const whole = to === undefined;
    to |= 0;
    const length = head(handle), bytes = length & VALUE;
    if (whole) to = bytes;
    if (from < 0 || to > bytes || from > to) throw outside();
    const at = (handle + 2 + ((length >>> 29) & 2)) * 4 + from, count = to - from;
    if (at + count > arenaBytes) throw outside();
    const copy = new Bytes(count);
    if (count <= 64)
      for (let i = 0; i < count; i++) copy[i] = B[at + i];
    else
      apply(setBytes, copy, [new Bytes(arena, at, count)]);
    return copy;
  },
  text(handle, from, to) {
    handle |= 0;
    from |= 0;
    const whole = to === undefined;
    to |= 0;
    if (handle === 0) throw outside();
    return textOf(handle, from, whole ? I[handle] & VALUE : to);
  },
  get(name) {
    const handle = find(name);
    return handle === 0 ? null : textOf(handle, 0, I[handle] & VALUE);
  },
  put(name, value, ttl) {
    const life = ttl === undefined ? 0 : +ttl;
    native.put(plainKey(name), plainValue(value), life);
  },
  del(name) {
    return native.remove(plainKey(name));
  },
  incr(name, by) {
    const step = by === undefined ? 1 : +by;
    return native.increase(plainKey(name), step);
  },
  scan(cursor, count) {
    const from = +cursor, buckets = count === undefined ? 16 : +count;
    return native.scan(from, buckets);
  },
  size() {
    return I[6] >>> 0;
  },
};
for (const name of ownKeys(kv)) freeze(kv[name]);
freeze(kv);

// ---- libraries ----

const functions = Object.create(null);
let functionCount = 0;
const flagNames = freeze(['no-writes', 'allow-oom', 'allow-stale', 'no-cluster',
  'allow-cross-slot-keys', 'raw-arguments', 'open-keys']);

function flagBits(flags) {
  if (flags === undefined || flags === null) return 0;
  if (!isArray(flags)) throw new WrongType('flags argument to redis.registerFunction must be an array');
  const count = flags.length >>> 0;
  let bits = 0;
  for (let i = 0; i < count && i < 64; i++) {
    const flag = flags[i];
    let known = -1;
    for (let k = 0; k < 7; k++) if (flagNames[k] === flag) known = k;
    if (known < 0) throw new WrongType('unknown flag given');
    bits |= 1 << known;
  }
  return bits;
}

function registerFunction(name, callback, options) {
  let flags, description = '';
  if (typeof name === 'object' && name !== null) {
    const given = name;
    name = given.function_name;
    callback = given.callback;
    flags = given.flags;
    description = given.description;
  } else if (typeof options === 'object' && options !== null) {
    flags = options.flags;
    description = options.description;
  }
  if (description === undefined) description = '';
  if (typeof name !== 'string')
    throw new WrongType('name argument given to redis.registerFunction must be a string');
  if (typeof callback !== 'function')
    throw new WrongType('callback argument given to redis.registerFunction must be a function');
  if (typeof description !== 'string')
    throw new WrongType('description argument given to redis.registerFunction must be a string');
  const bits = flagBits(flags);
  native.register(name, description, bits, functionCount);
  functions[functionCount++] = callback;
}

const redis = freeze({
  registerFunction: freeze(registerFunction),
  register_function: registerFunction,
  functionFlags: freeze({
    NO_WRITES: 'no-writes', ALLOW_OOM: 'allow-oom', ALLOW_STALE: 'allow-stale', NO_CLUSTER: 'no-cluster',
    ALLOW_CROSS_SLOT_KEYS: 'allow-cross-slot-keys', RAW_ARGUMENTS: 'raw-arguments',
    OPEN_KEYS: 'open-keys',
  }),
  error_reply(text) {
    return { err: text };
  },
  status_reply(text) {
    return { ok: text };
  },
});

// ---- results ----

// Trees of values as engine.h has them, behind four bytes for the whole length.
let out = new Bytes(512), outCap = 512, outLimit = 0;
const double = new Doubles(1), doubleBytes = new Bytes(double.buffer);

function room(at, more) {
  if (at + more <= outCap) return;
  if (at + more > outLimit + 16) throw new OutOfRange('the reply is longer than its limit of ' + outLimit + ' bytes');
  let size = outCap;
  while (size < at + more) size *= 2;
  const grown = new Bytes(size);
  apply(setBytes, grown, [out]);
  out = grown;
  outCap = size;
}

function putHead(at, tag, count) {
  out[at] = tag;
  out[at + 1] = count;
  out[at + 2] = count >>> 8;
  out[at + 3] = count >>> 16;
  out[at + 4] = count >>> 24;
  return at + 5;
}

function putText(at, tag, text) {
  room(at, 5 + text.length);
  room(at, 5 + utf8Length(text));
  const end = encodeText(text, out, at + 5);
  putHead(at, tag, end - at - 5);
  return end;
}

function utf8Length(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    // A pair of surrogates takes four bytes, counted as two for each; one alone three.
    if (c > 0x7f) bytes += c < 0x800 ? 1 : 2;
  }
  return bytes;
}

function putObject(at, value, depth) {
  const view = ownView(value);
  if (view !== null) {
    const count = apply(bytesOf, view, []);
    room(at, 5 + count);
    apply(setBytes, out, [view, at + 5]);
    return putHead(at, 115, count) + count;
  }
  if (depth > 32) throw new OutOfRange('the reply is nested too deeply');
  if (isArray(value)) {
    const count = value.length >>> 0;
    if (count > outLimit) throw new OutOfRange('the reply is longer than its limit of ' + outLimit + ' bytes');
    room(at, 5);
    at = putHead(at, 97, count);
    for (let i = 0; i < count; i++) at = putValue(at, value[i], depth + 1);
    return at;
  }
  const names = ownKeys(value), count = names.length;
  if (count === 1 && (names[0] === 'ok' || names[0] === 'err')) {
    const text = value[names[0]];
    if (typeof text === 'string') return putText(at, names[0] === 'ok' ? 43 : 45, text);
  }
  room(at, 5);
  at = putHead(at, 109, count);
  for (let i = 0; i < count; i++) {
    at = putText(at, 115, names[i]);
    at = putValue(at, value[names[i]], depth + 1);
  }
  return at;
}

function putValue(at, value, depth) {
  switch (typeof value) {
    case 'number':
      room(at, 9);
      out[at++] = 100;
      double[0] = value;
      for (let i = 0; i < 8; i++) out[at++] = doubleBytes[i];
      return at;
    case 'string':
      return putText(at, 115, value);
    case 'bigint':
      return putText(at, 115, '' + value);
    case 'boolean':
      room(at, 1);
      out[at++] = value ? 116 : 102;
      return at;
    case 'object':
      if (value !== null) return putObject(at, value, depth);
  }
  room(at, 1);
  out[at++] = 110;
  return at;
}

function encode(value, limit) {
  outLimit = limit;
  const end = putValue(4, value, 0);
  if (end - 4 > limit) throw new OutOfRange('the reply is longer than its limit of ' + limit + ' bytes');
  out[0] = end;
  out[1] = end >>> 8;
  out[2] = end >>> 16;
  out[3] = end >>> 24;
  return out;
}

// Anything but an object goes back as it is; an object that goes back is `out`.
function invoke(number, limit, keyCount) {
  const keys = [], args = [], count = arguments.length;
  for (let i = 3; i < count; i++)
    if (i - 3 < keyCount) keys[i - 3] = arguments[i];
    else args[i - 3 - keyCount] = arguments[i];
  const callback = functions[number];
  const result = callback(keys, args);
  if (typeof result === 'function') return null;
  if (result === null || (typeof result !== 'object' && typeof result !== 'bigint')) return result;
  if (outCap > 65536) {
    out = new Bytes(512);
    outCap = 512;
  }
  return encode(result, limit);
}

// ---- what a tenant finds ----

const kept = ['undefined', 'Infinity', 'NaN', 'isNaN', 'isFinite', 'escape', 'unescape', 'decodeURI', 'decodeURIComponent',
  'encodeURI', 'encodeURIComponent', 'eval', 'globalThis', 'parseInt', 'parseFloat', 'ArrayBuffer', 'EvalError',
  'RangeError', 'ReferenceError', 'SyntaxError', 'TypeError', 'URIError', 'AggregateError', 'Error', 'Proxy', 'Reflect',
  'JSON', 'Math', 'Int8Array', 'Int16Array', 'Int32Array', 'Uint8Array', 'Uint8ClampedArray', 'Uint16Array',
  'Uint32Array', 'Float16Array', 'Float32Array', 'Float64Array', 'BigInt64Array', 'BigUint64Array', 'DataView', 'Date', 'Boolean',
  'Map', 'Number', 'Set', 'WeakMap', 'WeakSet', 'Object', 'Function', 'Array', 'RegExp', 'Iterator', 'String',
  'BigInt', 'Symbol'];
for (const name of Object.getOwnPropertyNames(global))
  if (!kept.includes(name)) delete global[name];
delete Array.fromAsync;
Object.defineProperty(global, 'kv', { value: kv });
Object.defineProperty(global, 'redis', { value: redis });

return { bind, invoke };
})
