/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_natives.c - the calls that kv.js makes out of the engine: changes, scans, text, and the
 * registration of functions; and what the files of the plugin share. Only kv.js has the calls, and
 * it hands in what it made itself: primitives, and views that are its own; still every argument is
 * looked at.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table/engine_jsc.h"

uint8_t *
jsc_scratch(struct jsc *engine, size_t size_bytes)
{
    if (size_bytes > engine->scratch_bytes) {
        uint8_t *grown = realloc(engine->scratch, size_bytes);
        if (grown == NULL)
            return NULL;
        engine->scratch = grown;
        engine->scratch_bytes = size_bytes;
    }
    return engine->scratch;
}

/* ---- words and objects ---- */

int
jsc_fail(char *error, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(error, TABLE_ENGINE_ERROR_BYTES, fmt, args);
    va_end(args);
    return code;
}

JSValueRef
jsc_property(JSContextRef context, JSValueRef object, const char *name)
{
    JSStringRef string = JSStringCreateWithUTF8CString(name);
    JSValueRef value =
        JSObjectGetProperty(context, (JSObjectRef)(uintptr_t)object, string, NULL);
    JSStringRelease(string);
    return value;
}

JSObjectRef
jsc_object_at(JSContextRef context, JSValueRef object, const char *name)
{
    JSValueRef value = jsc_property(context, object, name);
    return value != NULL && JSValueIsObject(context, value) ? (JSObjectRef)(uintptr_t)value
                                                            : NULL;
}

/* ---- text ---- */

/* One character of UTF-8, or U+FFFD for a byte that begins none. */
static uint32_t
decode(const uint8_t *bytes, size_t length, size_t *at)
{
    uint32_t c = bytes[(*at)++];
    unsigned more = c >= 0xf0 && c < 0xf5   ? 3
                    : c >= 0xe0 && c < 0xf0 ? 2
                                            : c >= 0xc2 && c < 0xe0;
    if (c < 0x80)
        return c;
    if (more == 0 || length - *at < more)
        return 0xfffd;
    c &= 0x3fu >> more;
    for (unsigned i = 0; i < more; i++) {
        if ((bytes[*at + i] & 0xc0) != 0x80)
            return 0xfffd;
        c = c << 6 | (bytes[*at + i] & 0x3fu);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0xfffd;
    *at += more;
    return c;
}

JSStringRef
jsc_string(struct jsc *engine, const uint8_t *bytes, size_t length)
{
    uint8_t any = 0, zero = 0;
    for (size_t i = 0; i < length; i++) {
        any |= bytes[i];
        zero |= bytes[i] == 0;
    }
    if (any < 0x80 && !zero) {
        char *text = (char *)jsc_scratch(engine, length + 1);
        if (text == NULL)
            return NULL;
        memcpy(text, bytes, length);
        text[length] = '\0';
        return JSStringCreateWithUTF8CString(text);
    }
    JSChar *units = (JSChar *)(void *)jsc_scratch(engine, 2 * length + 2);
    if (units == NULL)
        return NULL;
    size_t count = 0;
    for (size_t at = 0; at < length;) {
        uint32_t c = decode(bytes, length, &at);
        if (c >= 0x10000) {
            units[count++] = (JSChar)(0xd7c0 + (c >> 10));
            c = 0xdc00 | (c & 0x3ff);
        }
        units[count++] = (JSChar)c;
    }
    return JSStringCreateWithCharacters(units, count);
}

JSValueRef
jsc_text(JSContextRef context, const uint8_t *bytes, size_t length)
{
    JSStringRef string = jsc_string(jsc_engine, bytes, length);
    if (string == NULL)
        return JSValueMakeNull(context);
    JSValueRef value = JSValueMakeString(context, string);
    JSStringRelease(string);
    return value;
}

uint8_t *
jsc_utf8(JSStringRef string, size_t *ret)
{
    size_t cap = JSStringGetMaximumUTF8CStringSize(string);
    char *text = malloc(cap);
    if (text == NULL)
        return NULL;
    size_t n = JSStringGetUTF8CString(string, text, cap);
    *ret = n > 0 ? n - 1 : 0;
    return (uint8_t *)text;
}

static void
free_bytes(void *bytes, void *context)
{
    (void)context;
    free(bytes);
}

JSValueRef
jsc_bytes(JSContextRef context, const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length + 1);
    if (copy == NULL)
        return JSValueMakeNull(context);
    memcpy(copy, bytes, length);
    return JSObjectMakeTypedArrayWithBytesNoCopy(
        context, kJSTypedArrayTypeUint8Array, copy, length, free_bytes, NULL, NULL);
}

/* ---- arguments and errors ---- */

JSValueRef
jsc_throw(JSContextRef context, const char *text, JSValueRef *exception)
{
    JSValueRef message = jsc_text(context, (const uint8_t *)text, strlen(text));
    *exception = JSObjectMakeError(context, 1, &message, NULL);
    return JSValueMakeUndefined(context);
}

/* The bytes of a string or a Uint8Array. */
struct argument {
    struct table_engine_bytes bytes;
    uint8_t *owned; /* to be freed */
    char small[256];
};

static bool
take_argument(JSContextRef context, JSValueRef value, struct argument *ret)
{
    ret->owned = NULL;
    if (JSValueIsString(context, value)) {
        JSStringRef string = JSValueToStringCopy(context, value, NULL);
        if (string == NULL)
            return false;
        if (JSStringGetMaximumUTF8CStringSize(string) <= sizeof ret->small) {
            size_t n = JSStringGetUTF8CString(string, ret->small, sizeof ret->small);
            ret->bytes = (struct table_engine_bytes){(uint8_t *)ret->small, n > 0 ? n - 1 : 0};
        } else {
            ret->owned = jsc_utf8(string, &ret->bytes.length);
            ret->bytes.bytes = ret->owned;
        }
        JSStringRelease(string);
        return ret->bytes.bytes != NULL;
    }
    JSValueRef exception = NULL;
    if (JSValueGetTypedArrayType(context, value, &exception) != kJSTypedArrayTypeUint8Array)
        return false;
    JSObjectRef array = (JSObjectRef)(uintptr_t)value;
    size_t length = JSObjectGetTypedArrayByteLength(context, array, &exception);
    size_t offset = JSObjectGetTypedArrayByteOffset(context, array, &exception);
    const uint8_t *bytes = JSObjectGetTypedArrayBytesPtr(context, array, &exception);
    if (exception != NULL || (bytes == NULL && length > 0))
        return false;
    ret->bytes = (struct table_engine_bytes){length > 0 ? bytes + offset : bytes, length};
    return true;
}

/* The context whose call runs, if VALUES hold at least COUNT arguments; NULL after an error. */
static struct jsc_context *
current(JSContextRef context, size_t given, size_t count, JSValueRef *exception)
{
    struct jsc_context *running = jsc_engine->current;
    if (running != NULL && given >= count)
        return running;
    jsc_throw(context, "this is no call of a function", exception);
    return NULL;
}

struct jsc_context *
jsc_writing(JSContextRef context, size_t given, size_t count, JSValueRef *exception)
{
    struct jsc_context *running = current(context, given, count, exception);
    if (running == NULL || (!jsc_engine->read_only && !jsc_engine->loading))
        return running;
    jsc_throw(
        context,
        jsc_engine->loading ? "Changes are not allowed while a library is loaded"
                            : "Write commands are not allowed from read-only scripts.",
        exception);
    return NULL;
}

static JSValueRef
changed(JSContextRef context, struct jsc_context *running, int rc, JSValueRef *exception)
{
    if (rc != 0)
        return jsc_throw(context, jsc_engine->host->last_error(), exception);
    if (!jsc_follow_arena(running))
        return jsc_throw(context, "the table cannot be mapped", exception);
    return JSValueMakeUndefined(context);
}

#define NATIVE(name)                                                                           \
    static JSValueRef name(                                                                    \
        JSContextRef context, JSObjectRef function, JSObjectRef self, size_t count,            \
        const JSValueRef values[], JSValueRef *exception)

NATIVE(native_put)
{
    (void)function, (void)self;
    struct jsc_context *running = jsc_writing(context, count, 3, exception);
    if (running == NULL)
        return JSValueMakeUndefined(context);
    double ttl_ms = JSValueToNumber(context, values[2], NULL);
    struct argument key = {0}, value = {0};
    if (!(ttl_ms >= 0 && ttl_ms <= JSC_WHOLE_MAX))
        return jsc_throw(context, "the time to live is no number of milliseconds", exception);
    if (!take_argument(context, values[0], &key))
        return jsc_throw(context, "no memory for a key", exception);
    int rc = DOR_E_NO_MEMORY;
    bool taken = take_argument(context, values[1], &value);
    if (taken)
        rc = jsc_engine->host->put(running->tenant, key.bytes, value.bytes, (int64_t)ttl_ms);
    free(key.owned);
    free(value.owned);
    return taken ? changed(context, running, rc, exception)
                 : jsc_throw(context, "no memory for a value", exception);
}

NATIVE(native_remove)
{
    (void)function, (void)self;
    struct jsc_context *running = jsc_writing(context, count, 1, exception);
    struct argument key = {0};
    if (running == NULL)
        return JSValueMakeUndefined(context);
    if (!take_argument(context, values[0], &key))
        return jsc_throw(context, "no memory for a key", exception);
    bool removed = false;
    int rc = jsc_engine->host->remove(running->tenant, key.bytes, &removed);
    free(key.owned);
    JSValueRef result = changed(context, running, rc, exception);
    return *exception == NULL ? JSValueMakeBoolean(context, removed) : result;
}

NATIVE(native_increase)
{
    (void)function, (void)self;
    struct jsc_context *running = jsc_writing(context, count, 2, exception);
    struct argument key = {0};
    if (running == NULL)
        return JSValueMakeUndefined(context);
    double by = JSValueToNumber(context, values[1], NULL);
    if (!(fabs(by) <= JSC_WHOLE_MAX) || by != trunc(by))
        return jsc_throw(context, "value is not an integer or out of range", exception);
    if (!take_argument(context, values[0], &key))
        return jsc_throw(context, "no memory for a key", exception);
    int64_t sum = 0;
    int rc = jsc_engine->host->increase(running->tenant, key.bytes, (int64_t)by, &sum);
    free(key.owned);
    JSValueRef result = changed(context, running, rc, exception);
    return *exception == NULL ? JSValueMakeNumber(context, (double)sum) : result;
}

struct scan {
    JSContextRef context;
    JSObjectRef keys;
    unsigned count;
};

static void
add_key(void *arg, struct table_engine_bytes key)
{
    struct scan *scan = arg;
    JSObjectSetPropertyAtIndex(
        scan->context, scan->keys, scan->count++,
        jsc_text(scan->context, key.bytes, key.length), NULL);
}

NATIVE(native_scan)
{
    (void)function, (void)self;
    struct jsc_context *running = current(context, count, 2, exception);
    if (running == NULL)
        return JSValueMakeUndefined(context);
    double cursor = JSValueToNumber(context, values[0], NULL);
    double buckets = JSValueToNumber(context, values[1], NULL);
    if (!(cursor >= 0 && cursor <= JSC_WHOLE_MAX) || !(buckets >= 1 && buckets <= 4096))
        return jsc_throw(context, "invalid cursor or count", exception);
    struct scan scan = {context, JSObjectMakeArray(context, 0, NULL, NULL), 0};
    uint64_t next = 0;
    int rc = jsc_engine->host->scan(
        running->tenant, (uint64_t)cursor, (uint32_t)buckets, add_key, &scan, &next);
    if (rc != 0)
        return jsc_throw(context, jsc_engine->host->last_error(), exception);
    JSValueRef pair[] = {JSValueMakeNumber(context, (double)next), scan.keys};
    return JSObjectMakeArray(context, 2, pair, NULL);
}

NATIVE(native_text)
{
    (void)function, (void)self;
    struct jsc_context *running = current(context, count, 2, exception);
    if (running == NULL)
        return JSValueMakeUndefined(context);
    double offset = JSValueToNumber(context, values[0], NULL);
    double length = JSValueToNumber(context, values[1], NULL);
    if (!(offset >= 0) || !(length >= 0) || offset + length > (double)running->view_bytes)
        return jsc_throw(context, "outside the value", exception);
    return jsc_text(context, running->base + (uint64_t)offset, (size_t)length);
}

NATIVE(native_register)
{
    (void)function, (void)self;
    struct jsc_context *running = current(context, count, 4, exception);
    if (running == NULL)
        return JSValueMakeUndefined(context);
    if (!jsc_engine->loading)
        return jsc_throw(
            context, "redis.registerFunction can only be called on FUNCTION LOAD command",
            exception);
    struct argument name = {0}, description = {0};
    int rc = DOR_E_NO_MEMORY;
    if (take_argument(context, values[0], &name) &&
        take_argument(context, values[1], &description))
        rc = jsc_engine->host->registered(
            running->tenant, name.bytes, description.bytes,
            (uint32_t)JSValueToNumber(context, values[2], NULL),
            (uint32_t)JSValueToNumber(context, values[3], NULL));
    free(name.owned);
    free(description.owned);
    return rc == 0 ? JSValueMakeUndefined(context)
                   : jsc_throw(context, jsc_engine->host->last_error(), exception);
}

JSObjectRef
jsc_natives(JSGlobalContextRef global)
{
    static const struct {
        const char *name;
        JSObjectCallAsFunctionCallback call;
    } natives[] = {
        {"put", native_put},   {"remove", native_remove}, {"increase", native_increase},
        {"scan", native_scan}, {"text", native_text},     {"register", native_register},
    };
    JSObjectRef object = JSObjectMake(global, NULL, NULL);
    for (size_t i = 0; i < sizeof natives / sizeof natives[0]; i++) {
        JSStringRef name = JSStringCreateWithUTF8CString(natives[i].name);
        JSObjectSetProperty(
            global, object, name,
            JSObjectMakeFunctionWithCallback(global, name, natives[i].call),
            kJSPropertyAttributeReadOnly, NULL);
        JSStringRelease(name);
    }
    return object;
}
