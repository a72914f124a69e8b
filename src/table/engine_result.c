/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_result.c - what a function in JavaScript returned, for the other side of the plugin: a
 * number, a text or a tree that kv.js wrote.
 */
#include "table/engine_jsc.h"

/* The result is the array that kv.js wrote: four bytes of length, then a tree. */
static bool
take_tree(JSContextRef context, JSValueRef value, struct table_engine_result *ret)
{
    JSValueRef exception = NULL;
    if (JSValueGetTypedArrayType(context, value, &exception) != kJSTypedArrayTypeUint8Array)
        return false;
    JSObjectRef array = (JSObjectRef)(uintptr_t)value;
    size_t cap = JSObjectGetTypedArrayByteLength(context, array, &exception);
    const uint8_t *bytes = JSObjectGetTypedArrayBytesPtr(context, array, &exception);
    if (exception != NULL || bytes == NULL || cap < 5)
        return false;
    size_t end =
        bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
    if (end < 5 || end > cap)
        return false;
    ret->kind = TABLE_RESULT_TREE;
    ret->bytes = (struct table_engine_bytes){bytes + 4, end - 4};
    return true;
}

static int
take_string(
    struct jsc_context *context, JSValueRef value, struct table_engine_result *ret, char *error)
{
    struct jsc *engine = context->engine;
    JSStringRef string = JSValueToStringCopy(context->global, value, NULL);
    if (string == NULL)
        return jsc_fail(error, DOR_E_NO_MEMORY, "no memory for a reply");
    size_t length = JSStringGetLength(string);
    size_t cap = JSStringGetMaximumUTF8CStringSize(string);
    uint8_t *text = length <= engine->limits.reply_bytes ? jsc_scratch(engine, cap) : NULL;
    size_t n = text != NULL ? JSStringGetUTF8CString(string, (char *)text, cap) : 0;
    JSStringRelease(string);
    if (text == NULL || n == 0 || n - 1 > engine->limits.reply_bytes)
        return jsc_fail(
            error, DOR_E_USAGE, "the reply is longer than its limit of %llu bytes",
            (unsigned long long)engine->limits.reply_bytes);
    ret->kind = TABLE_RESULT_BYTES;
    ret->bytes = (struct table_engine_bytes){text, n - 1};
    return 0;
}

int
jsc_take_result(
    struct jsc_context *context, JSValueRef value, struct table_engine_result *ret, char *error)
{
    JSContextRef global = context->global;
    *ret = (struct table_engine_result){.kind = TABLE_RESULT_NULL};
    switch (JSValueGetType(global, value)) {
    case kJSTypeBoolean:
        ret->kind = TABLE_RESULT_BOOL;
        ret->number = JSValueToBoolean(global, value);
        return 0;
    case kJSTypeNumber:
        ret->kind = TABLE_RESULT_NUMBER;
        ret->number = JSValueToNumber(global, value, NULL);
        return 0;
    case kJSTypeString:
        return take_string(context, value, ret, error);
    case kJSTypeObject:
        return take_tree(global, value, ret)
                   ? 0
                   : jsc_fail(error, DOR_E_CORRUPT, "the reply cannot be read");
    case kJSTypeUndefined:
    case kJSTypeNull:
    case kJSTypeSymbol:
    case kJSTypeBigInt:
    default:
        return 0;
    }
}
