#!js name=graph
// SPDX-License-Identifier: Apache-2.0
// graph.js - who knows whom. The key of a person is a number, the value the numbers of that person's friends:
// 32 bits each, little-endian, ascending. A friendship is in the lists of both.
//
// Lists are read in place, number by number; nothing is copied but what goes back to the caller.

const PEOPLE_MAX = 1 << 24;     // numbers are below; also what bounds the memory taken here
const HOPS_MAX = 16;
const SUGGESTIONS_MAX = 1000;

// Lists that are opened together are waited for once; of each so much is read ahead.
const TOGETHER = 64, LIST_BYTES = 256;
const lists = new Int32Array(TOGETHER);

// ---- who has been met in this call ----

// One stamp a person: who has been met carries the number of this call. So nothing has to be cleared between calls,
// and it does not matter if the last one was stopped. `note` is a number that goes with it.
let stamps = new Uint32Array(4096), notes = new Uint32Array(4096), call = 0;

// After this, stamps[id] === call says whether id has been met.
function begin() {
    call++;
    if (call === 0xffffffff) {
        stamps.fill(0);
        call = 1;
    }
}

function meet(id, note) {
    if (id >= stamps.length) grow(id);
    stamps[id] = call;
    notes[id] = note;
}

function grow(id) {
    if (id >= PEOPLE_MAX) throw new RangeError('person ' + id + ': numbers are below ' + PEOPLE_MAX);
    const size = Math.min(PEOPLE_MAX, 2 << (31 - Math.clz32(id)));
    const wider = [new Uint32Array(size), new Uint32Array(size)];
    wider[0].set(stamps);
    wider[1].set(notes);
    [stamps, notes] = wider;
}

// ---- arguments ----

function number(text, what, max) {
    const value = Number(text);
    if (!(value >= 0 && value <= max) || !Number.isInteger(value))
        throw new RangeError(what + ' is a whole number from 0 to ' + max);
    return value;
}

function person(text) {
    return number(text, 'a person', PEOPLE_MAX - 1);
}

// ---- functions ----

// FCALL reach 1 PERSON HOPS: how many people are 1, 2, ... HOPS friendships away and not less.
function reach([who], [hops]) {
    const start = person(who), rings = [];
    let ring = [start];
    begin();
    meet(start, 0);
    for (let left = number(hops, 'hops', HOPS_MAX); left > 0; left--) {
        const next = [];
        for (let at = 0; at < ring.length; at += TOGETHER) {
            const some = kv.openAll(ring.slice(at, at + TOGETHER), lists, LIST_BYTES);
            for (let k = 0; k < some; k++) {
                const friends = lists[k], count = kv.len(friends) >>> 2;
                for (let i = 0; i < count; i++) {
                    const friend = kv.u32(friends, i);
                    if (stamps[friend] === call) continue;
                    meet(friend, 0);
                    next.push(friend);
                }
            }
        }
        rings.push(next.length);
        ring = next;
    }
    return rings;
}

// FCALL common 2 ONE OTHER: the friends that two people share, in ascending order.
function common([one, other]) {
    const a = kv.open(person(one)), b = kv.open(person(other)), shared = [];
    const ends = [kv.len(a) >>> 2, kv.len(b) >>> 2];
    for (let i = 0, k = 0; i < ends[0] && k < ends[1];) {
        const left = kv.u32(a, i), right = kv.u32(b, k);
        if (left === right) shared.push(left);
        if (left <= right) i++;
        if (right <= left) k++;
    }
    return shared;
}

// FCALL suggest 1 PERSON COUNT: up to COUNT people who are no friends yet, each with the number of friends they share;
// those that share most first, then the lower numbers.
function suggest([who], [count]) {
    const id = person(who), most = number(count, 'a count', SUGGESTIONS_MAX);
    const own = kv.open(id), ownCount = kv.len(own) >>> 2, strangers = [];
    const KNOWN = 0xffffffff;
    begin();
    meet(id, KNOWN);
    for (let i = 0; i < ownCount; i++) meet(kv.u32(own, i), KNOWN);
    for (let i = 0; i < ownCount; i++) {
        const friends = kv.open(kv.u32(own, i)), friendsCount = kv.len(friends) >>> 2;
        for (let k = 0; k < friendsCount; k++) {
            const stranger = kv.u32(friends, k);
            if (stamps[stranger] !== call) {
                meet(stranger, 1);
                strangers.push(stranger);
            } else if (notes[stranger] !== KNOWN) {
                notes[stranger]++;
            }
        }
    }
    // How many they share above, the person below and turned round: one number ranks as both do. Most are no match for the
    // last of the best, so they are not sorted but let in.
    const best = [];
    for (const stranger of strangers) {
        const rank = notes[stranger] * PEOPLE_MAX + (PEOPLE_MAX - 1 - stranger);
        if (best.length === most) {
            if (most === 0 || rank < best[most - 1]) continue;
            best.pop();
        }
        let place = best.length;
        while (place > 0 && best[place - 1] < rank) place--;
        best.splice(place, 0, rank);
    }
    return best.map((rank) => {
        const shared = Math.floor(rank / PEOPLE_MAX);
        return [PEOPLE_MAX - 1 - (rank - shared * PEOPLE_MAX), shared];
    });
}

// FCALL path 2 FROM TO: people from one to the other along friendships, as few as can be; null if there is no way.
// Looks from both ends, always from the side where fewer people are waiting. Each step takes a whole ring, so when the
// sides meet there is no shorter way: one would have been met a ring before.
function path([from, to]) {
    const ends = [person(from), person(to)];
    if (!kv.has(ends[0]) || !kv.has(ends[1])) return null;
    if (ends[0] === ends[1]) return [ends[0]];
    // A note is who led to this person, and from which side.
    const rings = [[ends[0]], [ends[1]]];
    begin();
    meet(ends[0], ends[0] * 2);
    meet(ends[1], ends[1] * 2 + 1);
    while (rings[0].length > 0 && rings[1].length > 0) {
        const side = rings[0].length <= rings[1].length ? 0 : 1, next = [];
        for (const id of rings[side]) {
            const friends = kv.open(id), count = kv.len(friends) >>> 2;
            for (let i = 0; i < count; i++) {
                const friend = kv.u32(friends, i);
                if (stamps[friend] !== call) {
                    meet(friend, id * 2 + side);
                    next.push(friend);
                } else if ((notes[friend] & 1) !== side) {
                    return side === 0 ? way(id).reverse().concat(way(friend)) : way(friend).reverse().concat(way(id));
                }
            }
        }
        rings[side] = next;
    }
    return null;
}

// From ID back to the end that it was reached from.
function way(id) {
    const people = [id];
    for (let before = notes[id] >>> 1; before !== id; before = notes[id] >>> 1) {
        people.push(before);
        id = before;
    }
    return people;
}

// FCALL befriend 2 ONE OTHER: 1, or 0 if they were friends already. Both lists change or, whatever happens, neither.
function befriend([one, other]) {
    const a = person(one), b = person(other);
    if (a === b) throw new RangeError('nobody is his own friend');
    if (!enter(a, b)) return 0;
    enter(b, a);
    return 1;
}

function enter(id, friend) {
    const list = kv.open(id), count = kv.len(list) >>> 2;
    let place = 0;
    for (let above = count; place < above;) {
        const middle = (place + above) >>> 1;
        if (kv.u32(list, middle) < friend) place = middle + 1;
        else above = middle;
    }
    if (place < count && kv.u32(list, place) === friend) return false;
    const longer = new Uint32Array(count + 1);
    for (let i = 0; i < count; i++) longer[i < place ? i : i + 1] = kv.u32(list, i);
    longer[place] = friend;
    kv.put(id, longer);
    return true;
}

const READS = { flags: ['no-writes'] };
redis.registerFunction('reach', reach, READS);
redis.registerFunction('common', common, READS);
redis.registerFunction('suggest', suggest, READS);
redis.registerFunction('path', path, READS);
redis.registerFunction('befriend', befriend);
