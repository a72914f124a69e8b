#!js name=network
// SPDX-License-Identifier: Apache-2.0
// network.js - what a neural network makes of images, where its weights are.
//
// The keys of a call are the layers, first to last. A layer is a row of f32 for each of its outputs: a bias, then a
// weight for each input. So how many inputs the next one has follows from the first: the bytes of an image. Between
// layers what is below 0 becomes 0; the last one's outputs become probabilities (softmax).

const WIDTH_MAX = 4096;     // inputs or outputs of a layer
// What goes into a layer and what comes out, in turns; made once, for a call would make them anew for each image.
const space = [new Float64Array(WIDTH_MAX), new Float64Array(WIDTH_MAX)];

// The weights of all layers. Each is read once for every image and many times in it: a copy, which costs about a
// microsecond, is read faster than the value in its place.
function layersOf(keys) {
    if (keys.length === 0) throw new RangeError('the keys are the layers of a network');
    return keys.map((key, number) => {
        const layer = kv.open(key);
        if (layer === 0) throw new RangeError('layer ' + number + ' is not there');
        if (kv.len(layer) % 4 !== 0) throw new RangeError('layer ' + number + ' ends within a number');
        return new Float32Array(kv.bytes(layer).buffer);
    });
}

// How many outputs a layer has.
function outputsOf(layer, inputs) {
    const outputs = layer.length / (inputs + 1);
    if (!Number.isInteger(outputs) || outputs < 1 || outputs > WIDTH_MAX)
        throw new RangeError('a layer of ' + layer.length + ' weights does not go with ' + inputs + ' inputs');
    return outputs;
}

// The outputs of the last layer, as the first numbers of a view that is good until the next image.
function forward(layers, inputs) {
    let [from, to] = space;
    for (let number = 0; number < layers.length; number++) {
        const layer = layers[number], outputs = outputsOf(layer, inputs), last = number === layers.length - 1;
        for (let output = 0, at = 0; output < outputs; output++) {
            let sum = layer[at++];
            for (let input = 0; input < inputs; input++) sum += layer[at++] * from[input];
            to[output] = last || sum > 0 ? sum : 0;
        }
        [from, to, inputs] = [to, from, outputs];
    }
    return from.subarray(0, inputs);
}

// Points 0 to 255 become inputs 0 to 1.
function takeBytes(image) {
    if (image.length > WIDTH_MAX) throw new RangeError('an image has at most ' + WIDTH_MAX + ' bytes');
    for (let i = 0; i < image.length; i++) space[0][i] = image[i] / 255;
    return image.length;
}

function takeValue(image) {
    const count = kv.len(image);
    if (count > WIDTH_MAX) throw new RangeError('an image has at most ' + WIDTH_MAX + ' bytes');
    for (let i = 0; i < count; i++) space[0][i] = kv.u8(image, i) / 255;
    return count;
}

function largest(numbers) {
    let best = 0;
    for (let i = 1; i < numbers.length; i++) if (numbers[i] > numbers[best]) best = i;
    return best;
}

// FCALL classify LAYERS KEY ... IMAGE ...: the most probable class of each image.
function classify(keys, images) {
    const layers = layersOf(keys);
    return images.map((image) => largest(forward(layers, takeBytes(image))));
}

// FCALL classify_stored LAYERS KEY ... NAME ...: the same of images that lie in the table under these keys; null for one
// that is not there.
function classifyStored(keys, names) {
    const layers = layersOf(keys);
    return names.map((name) => {
        const image = kv.open(name);
        return image === 0 ? null : largest(forward(layers, takeValue(image)));
    });
}

// FCALL probabilities LAYERS KEY ... IMAGE: how probable each class is.
function probabilities(keys, [image]) {
    if (image === undefined) throw new RangeError('an image is missing');
    const sums = forward(layersOf(keys), takeBytes(image)), most = sums[largest(sums)];
    const powers = Array.from(sums, (sum) => Math.exp(sum - most)), all = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / all);
}

// Images are bytes, which as text would be damaged.
const READS_BYTES = { flags: ['no-writes', 'raw-arguments'] };
redis.registerFunction('classify', classify, READS_BYTES);
redis.registerFunction('classify_stored', classifyStored, READS_BYTES);
redis.registerFunction('probabilities', probabilities, READS_BYTES);
