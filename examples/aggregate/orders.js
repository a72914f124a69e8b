#!js name=orders
// SPDX-License-Identifier: Apache-2.0
// orders.js - orders as records of fixed form: some fields of one, sums over many, the largest sums, pages of what fits.
// The key of an order is its number. The value, little-endian:
//
//    bytes   field      kind
//    0-3     time       u32, seconds since 1970
//    4-7     customer   u32
//    8-11    product    u32
//    12-15   pieces     u32
//    16-23   amount     f64, cents: whole numbers, so that sums are exact
//    24-27   region     u32
//    28-31   state      u32: 0 open, 1 paid, 2 sent, 3 returned
//    32-     address    text, UTF-8
//
// Fields are read where they lie; the rest of a record is not touched.

// Places count in numbers of their kind, as kv.u32() and kv.f64() do.
const FIELDS = {
    time: { wide: false, at: 0 },
    customer: { wide: false, at: 1 },
    product: { wide: false, at: 2 },
    pieces: { wide: false, at: 3 },
    amount: { wide: true, at: 2 },
    region: { wide: false, at: 6 },
    state: { wide: false, at: 7 },
};
const NUMBERS_BYTES = 32;       // in front of the address
const ORDER_MAX = 0xffffffff;
const GROUPS_MAX = 5000;
const ROWS_MAX = 1000;          // of one page
const LOOKED_AT_MAX = 20000;    // orders for one page, so that a page that finds little does not take long

function read(order, field) {
    return field.wide ? kv.f64(order, field.at) : kv.u32(order, field.at);
}

// ---- arguments ----

function number(text, what, min = -Infinity, max = Infinity) {
    const value = Number(text);
    if (!text || Number.isNaN(value) || value < min || value > max) throw new RangeError(what + ' is no such number: ' + text);
    return value;
}

function fieldOf(name) {
    if (!Object.hasOwn(FIELDS, name)) throw new RangeError('no such field: ' + name);
    return FIELDS[name];
}

// "region", or "time/86400" for steps of a day.
function groupOf(text) {
    const [name, step] = text.split('/');
    return { field: fieldOf(name), step: step === undefined ? 0 : number(step, 'a step', 1) };
}

// Triples FIELD FROM TO, both included, * for no bound.
function conditionsIn(words) {
    if (words.length % 3 !== 0) throw new RangeError('conditions are FIELD FROM TO');
    const conditions = [];
    for (let i = 0; i < words.length; i += 3) {
        const low = words[i + 1] === '*' ? -Infinity : number(words[i + 1], 'a bound');
        const high = words[i + 2] === '*' ? Infinity : number(words[i + 2], 'a bound');
        conditions.push({ field: fieldOf(words[i]), low, high });
    }
    return conditions;
}

function fits(order, conditions) {
    for (const { field, low, high } of conditions) {
        const value = read(order, field);
        if (!(value >= low && value <= high)) return false;
    }
    return true;
}

// ---- projection ----

function project(order, names) {
    return names.map((name) => name === 'address' ? kv.text(order, NUMBERS_BYTES) : read(order, fieldOf(name)));
}

// FCALL fields 1 ORDER FIELD ...: these fields, or null if there is no such order.
function fields([key], names) {
    const order = kv.open(key);
    return order === 0 ? null : project(order, names);
}

// ---- aggregates ----

// {group: {count, sum, min, max}} of the field in the orders FIRST to LAST that fit; numbers that are not taken are no orders.
function gather([first, last, group, name, ...words]) {
    const from = number(first, 'an order', 0, ORDER_MAX), to = number(last, 'an order', 0, ORDER_MAX);
    const { field, step } = groupOf(group), added = fieldOf(name), conditions = conditionsIn(words);
    const groups = new Map();
    for (let id = from; id <= to; id++) {
        const order = kv.open(id);
        if (order === 0 || !fits(order, conditions)) continue;
        let key = read(order, field);
        if (step > 0) key = Math.floor(key / step) * step;
        const value = read(order, added), one = groups.get(key);
        if (one === undefined) {
            if (groups.size === GROUPS_MAX) throw new RangeError('more than ' + GROUPS_MAX + ' groups; larger steps make fewer');
            groups.set(key, { key, count: 1, sum: value, min: value, max: value });
        } else {
            one.count++;
            one.sum += value;
            if (value < one.min) one.min = value;
            if (value > one.max) one.max = value;
        }
    }
    return Array.from(groups.values());
}

function rows(groups) {
    return groups.map(({ key, count, sum, min, max }) => [key, count, sum, min, max]);
}

// FCALL totals 0 FIRST LAST GROUP FIELD [FIELD FROM TO ...]: group, count, sum, least and greatest, by group.
function totals(keys, args) {
    return rows(gather(args).sort((a, b) => a.key - b.key));
}

// FCALL top 0 COUNT FIRST LAST GROUP FIELD [FIELD FROM TO ...]: the same of the groups with the largest sums.
function top(keys, [count, ...args]) {
    const most = number(count, 'a count', 0, ROWS_MAX);
    return rows(gather(args).sort((a, b) => b.sum - a.sum || a.key - b.key).slice(0, most));
}

// ---- pages ----

// FCALL find 0 CURSOR COUNT FIELD,FIELD... [FIELD FROM TO ...]: the next cursor, and orders that fit, each with these
// fields behind its number. Begin with 0, go on until the next cursor is 0. About COUNT come at a time, or fewer, or none;
// an order that is there all the time comes at least once, in no order, as with SCAN.
function find(keys, [cursor, count, names, ...words]) {
    const most = number(count, 'a count', 1, ROWS_MAX), shown = names.split(','), conditions = conditionsIn(words);
    const found = [];
    let next = number(cursor, 'a cursor', 0), lookedAt = 0;
    do {
        const [after, ids] = kv.scan(next);
        for (const id of ids) {
            const order = kv.open(id);
            if (fits(order, conditions)) found.push([Number(id), ...project(order, shown)]);
        }
        next = after;
        lookedAt += ids.length;
    } while (next !== 0 && found.length < most && lookedAt < LOOKED_AT_MAX);
    return [next, found];
}

// ---- a change ----

// FCALL change 1 ORDER FIELD VALUE: the value that was there. Values do not change in place: a copy with the new one takes
// its place.
function change([key], [name, text]) {
    const order = kv.open(key), field = fieldOf(name);
    if (order === 0) throw new RangeError('no such order: ' + key);
    const before = read(order, field), record = kv.bytes(order), view = new DataView(record.buffer);
    if (field.wide) view.setFloat64(field.at * 8, number(text, name), true);
    else view.setUint32(field.at * 4, number(text, name, 0, 0xffffffff), true);
    kv.put(key, record);
    return before;
}

const READS = { flags: ['no-writes'] };
redis.registerFunction('fields', fields, READS);
redis.registerFunction('totals', totals, READS);
redis.registerFunction('top', top, READS);
redis.registerFunction('find', find, READS);
redis.registerFunction('change', change);
