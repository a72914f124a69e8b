/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_functions.c - storage functions: what kv gives and refuses, replies of every kind in both
 * protocols, transactions, and that the look-up in JavaScript finds what the table's own finds.
 */
#include "function_calls.h"

#include "base/random.h"

static void
test_replies(void)
{
    is_str(run_body(""), "$-1|", "nothing is null");
    is_str(run_body("return 5"), ":5|", "an integer");
    is_str(run_body("return -0.5"), "$4|-0.5|", "a fraction is kept as text in version 2");
    is_str(run_body("return 'a\\u00e9'"), "$3|a\xc3\xa9|", "text is UTF-8");
    is_str(run_body("return true"), ":1|", "true as Redis does for Lua");
    is_str(run_body("return false"), "$-1|", "false as Redis does for Lua");
    is_str(run_body("return null"), "$-1|", "null");
    is_str(run_body("return [1,'a',[null]]"), "*3|:1|$1|a|*1|$-1|", "arrays");
    is_str(run_body("return {ok:'FINE'}"), "+FINE|", "a status");
    is_str(run_body("return {err:'BAD thing'}"), "-BAD thing|", "an error with its word");
    is_str(
        run_body("return {err:'bad\\r\\nthing'}"), "-ERR bad  thing|", "an error is one line");
    is_str(run_body("return {a:1,b:[2]}"), "*4|$1|a|:1|$1|b|*1|:2|", "an object");
    is_str(run_body("return new Uint32Array([0x41424344])"), "$4|DCBA|", "a view is its bytes");
    is_str(
        run_body("return new Uint8Array([65,66,67,68]).subarray(1,3)"), "$2|BC|", "a subarray");
    is_str(
        run_body("return [new Uint8Array([65,66,67]).subarray(1).buffer]"), "*1|$3|ABC|",
        "a buffer");
    is_str(
        run_body("return 12345678901234567890n"), "$20|12345678901234567890|", "a big integer");
    is_str(run_body("return Symbol('x')"), "$-1|", "a symbol is nothing");
    is_str(run_body("return function () {}"), "$-1|", "a function is nothing");
    protocol = 3;
    is_str(run_body("return [true,false,null,0.5]"), "*4|#t|#f|_|,0.5|", "values of version 3");
    is_str(run_body("return {a:1}"), "%1|$1|a|:1|", "a map in version 3");
    protocol = 2;
    is_str(
        run_body("throw new Error('no\\nway')"), "-ERR Error: no way, on line 2 script: f|",
        "what is thrown is an error of one line");
    is_str(run_body("throw 'plain'"), "-ERR plain script: f|", "anything can be thrown");
    ok(strncmp(
           run_body("let a=[];a[0]=a;return a"), "-ERR RangeError: the reply is nested", 36) ==
           0,
       "an array in itself: %s", answer);
    is_str(
        run_body("return {get a(){throw new Error('x')}}"),
        "-ERR Error: x, on line 2 script: f|", "a getter that throws");
}

static void
test_arguments(void)
{
    define(1, "return [keys, args, keys.length]");
    is_str(
        ask("FCALL", "f", "1", "k", "a", "b"), "*3|*1|$1|k|*2|$1|a|$1|b|:1|", "keys and args");
    is_str(
        ask("FCALL", "f", "2", "k"),
        "-ERR Number of keys can't be greater than number of args|", "too many keys");
    is_str(ask("FCALL", "f", "-1"), "-ERR Number of keys can't be negative|", "negative");
    is_str(ask("FCALL", "f", "x"), "-ERR Bad number of keys provided|", "no number");
    is_str(ask("FCALL", "g", "0"), "-ERR Function not found|", "unknown");
    is_str(
        ask("FCALL_RO", "f", "0"),
        "-ERR Can not execute a script with write flag using *_ro command.|", "read only");
    ask("FUNCTION", "LOAD", "REPLACE",
        "#!js name=lib\nredis.register_function({function_name:'f',callback:(k,a)=>a[0].length,"
        "flags:['no-writes','raw-arguments']});");
    is_str(ask("FCALL_RO", "f", "0", "\xff\xfe\xfd"), ":3|", "raw arguments are bytes");
    is_str(ask("TFCALL", "lib.f", "0", "ab"), ":2|", "TFCALL");
    is_str(ask("TFCALL", "lib.g", "0"), "-ERR Unknown library or function|", "TFCALL of none");
    is_str(
        ask("TFCALL", "f", "0"), "-ERR Bad function name, must be <library>.<function>|",
        "TFCALL without a library");
}

static void
test_open_keys(void)
{
    ask("FUNCTION", "LOAD", "REPLACE",
        "#!js name=lib\nconst flags=['no-writes','open-keys'];"
        "redis.registerFunction('f',(k,a)=>k.map(h=>h&&kv.text(h)).concat(a),{flags});"
        "redis.registerFunction('same',(k,a)=>k.map((h,i)=>h===kv.open(a[i])),{flags});"
        "redis.registerFunction('count',k=>k.reduce((n,h)=>n+kv.len(h),0),{flags});");
    ask("SET", "k", "value");
    ask("SET", "42", "answer", "EX", "100");
    ask("SET", "gone", "value", "PX", "1");
    struct table *table = table_worker_table(worker, 1);
    table_set_now(table, table_now(table) + 2);
    is_str(
        ask("FCALL", "f", "4", "k", "42", "gone", "none", "k"),
        "*5|$5|value|$6|answer|:0|:0|$1|k|", "keys come opened, arguments as they are");
    is_str(
        ask("FCALL", "same", "3", "k", "42", "none", "k", "42", "none"), "*3|:1|:1|:1|",
        "as kv.open() gives them");
    is_str(
        ask("FCALL", "count", "18", "k", "k", "k", "k", "k", "k", "k", "k", "k", "k", "k", "k",
            "k", "k", "k", "k", "k", "42"),
        ":91|", "and may be many");
    is_str(
        ask("FUNCTION", "LOAD",
            "#!js name=bad\nredis.registerFunction('b',()=>1,{flags:['open-'"
            "]});"),
        "-ERR Error registering functions: TypeError: unknown flag given|",
        "no other flag is known");
}

static void
test_values(void)
{
    struct table *table = table_worker_table(worker, 1);
    const struct {
        double d[2];
        float f[2];
        uint32_t u[2];
    } value = {{1.5, -2.25}, {0.5F, 3}, {0xfffffffe, 7}};
    struct table_key key;
    for (int i = 0; i < 2; i++) {
        table_key(table, i == 0 ? "v" : "w", 1, &key);
        if (table_set(table, &key, &value, sizeof value, i == 0 ? 0 : table_now(table) + 60000))
            bail("%s", dor_err_message());
    }
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "v" : "w";
        define(
            1, "let h=kv.open(keys[0]);return [kv.len(h),kv.f64(h,0),kv.f64(h,1),kv.f32(h,4),"
               "kv.f32(h,5),kv.u32(h,6),kv.i32(h,6),kv.u8(h,24),kv.u8(h,28)]");
        is_str(
            ask("FCALL", "f", "1", name),
            "*9|:32|$3|1.5|$5|-2.25|$3|0.5|:3|:4294967294|:-2|:254|:7|", "numbers of value %s",
            name);
    }
    static const char *const outside[] = {
        "kv.u8(h,32)",      "kv.u32(h,8)",     "kv.u32(h,-1)",  "kv.f64(h,4)",
        "kv.f32(h,8)",      "kv.i32(h,1e9)",   "kv.u32(0,0)",   "kv.text(0)",
        "kv.bytes(h,0,33)", "kv.bytes(h,5,4)", "kv.text(h,-1)", "kv.u8({},0)"};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        char body[200];
        snprintf(body, sizeof body, "let h=kv.open('v');return %s", outside[i]);
        ok(strncmp(run_body(body), "-ERR RangeError: outside the value", 34) == 0, "%s: %s",
           outside[i], answer);
    }
    ask("SET", "text", "h\xc3\xa9llo");
    is_str(
        run_body("return [kv.get('text'),kv.get('none'),kv.has('text'),kv.has('none'),"
                 "kv.text(kv.open('text'),0,1),kv.open('none'),kv.len(0)]"),
        "*7|$6|h\xc3\xa9llo|$-1|:1|$-1|$1|h|:0|:0|", "text");
    is_str(
        run_body("let b=kv.bytes(kv.open('text'),1,3);b[0]=1;"
                 "return [b.length, b instanceof Uint8Array, kv.bytes(kv.open('text'),1,3)]"),
        "*3|:2|:1|$2|\xc3\xa9|", "bytes are a copy");
    ask("SET", "12", "twelve");
    ask("SET", "012", "octal");
    ask("SET", "1.5", "half");
    is_str(
        run_body("return [kv.get(12),kv.get('12'),kv.get('012'),kv.get(1.5),"
                 "kv.get(new Uint8Array([49,50])),kv.get(-12)]"),
        "*6|$6|twelve|$6|twelve|$5|octal|$4|half|$6|twelve|$-1|", "numbers are keys");
    is_str(
        run_body("kv.open({})"),
        "-ERR TypeError: a key is a number, a string or bytes script: f|",
        "an object is no key");
}

static void
test_changes(void)
{
    is_str(
        run_body("kv.put('p',1.5);kv.put(7,'seven');kv.put(new Uint8Array([255]),"
                 "new Uint16Array([0x4142]));return [kv.get('p'),kv.get('7'),kv.size()>2]"),
        "*3|$3|1.5|$5|seven|:1|", "changes are seen in the call");
    is_str(ask("GET", "7"), "$5|seven|", "and after it");
    is_str(ask("GET", "\xff"), "$2|BA|", "bytes as key and value");
    is_str(
        run_body("return [kv.del('p'),kv.del('p'),kv.incr('n'),kv.incr('n',41),kv.get('n')]"),
        "*5|:1|$-1|:1|:42|$2|42|", "del and incr");
    is_str(
        run_body("kv.put('n','changed');kv.put('new',1);kv.del(7);throw new Error('stop')"),
        "-ERR Error: stop, on line 2 script: f|", "a function that throws");
    is_str(ask("MGET", "n", "new", "7"), "*3|$2|42|$-1|$5|seven|", "leaves nothing half done");
    is_str(
        run_body("kv.incr('text')"),
        "-ERR Error: value is not an integer or out of range, on line 2 script: f|",
        "incr of text");
    is_str(run_body("kv.put('t',1,50);return kv.has('t')"), ":1|", "a time to live");
    table_set_now(table_worker_table(worker, 1), table_now(table_worker_table(worker, 1)) + 60);
    is_str(run_body("return kv.has('t')"), "$-1|", "that ends");
    is_str(
        run_body("kv.put('t',{})"),
        "-ERR TypeError: a value is a string, a number or bytes script: f|",
        "an object is no value");
    ask("FUNCTION", "LOAD", "REPLACE",
        "#!js name=lib\nredis.registerFunction('f',()=>kv.put('ro',1),{flags:['no-writes']});");
    is_str(
        ask("FCALL", "f", "0"),
        "-ERR Error: Write commands are not allowed from read-only scripts. script: f|",
        "no-writes");
    is_str(ask("EXISTS", "ro"), ":0|", "has not written");
    is_str(
        run_body("let s=0,c=0;do{const [n,k]=kv.scan(c);c=n;s+=k.length}while(c!==0);"
                 "return s>=kv.size()-1"),
        ":1|", "scan meets every key");
}

/* Keys of all kinds, growing far over the first views, found by both look-ups. */
/* Many keys at once are found where each alone is. */
static void
test_many(void)
{
    static const char setup[] =
        "const n=[];for(let i=0;i<300;i++)n.push((i*37)%400);for(let i=0;i<350;i++)"
        "kv.put(i,'v'.repeat(i),i%5===0?1e6:0);kv.put('t',0,1e6);kv.put('\u00e9',1);"
        "kv.put('l'.repeat(2000),2);for(const k of [63,64,65])kv.put('m'.repeat(k),k);"
        "kv.put('list',new Uint32Array(n),keys.length?1e6:0);"
        "const h=kv.open('list'),out=new Int32Array(300);let bad=0;";
    char body[1500];
    for (int expires = 0; expires < 2; expires++) {
        snprintf(
            body, sizeof body,
            "keys.length=%d;%sfor(const ahead of [undefined,0,8,1e9,-1]){out.fill(-1);"
            "if(kv.follow(h,0,300,out,ahead)!==300)bad++;"
            "for(let i=0;i<300;i++)if(out[i]!==kv.open(n[i]))bad++}"
            "out.fill(-1);if(kv.follow(h,100,130,out)!==30)bad++;"
            "for(let i=0;i<31;i++)if(out[i]!==(i<30?kv.open(n[100+i]):-1))bad++;"
            "for(const long of [65534,65535,65536,0]){"
            "kv.put(n[0],'v'.repeat(long),long%%3);out.fill(-1);"
            "if(kv.lengths(h,0,299,out)!==299||out[299]!==-1)bad++;"
            "for(let i=0;i<299;i++)if(out[i]!==kv.len(kv.open(n[i])))bad++}"
            "return "
            "[bad,kv.follow(h,5,5,out)+kv.lengths(h,5,5,out),kv.open(n[11])!==0,kv.open(399)]",
            expires, setup);
        is_str(run_body(body), "*4|:0|:0|:1|:0|", "numbers of a value are followed");
    }
    snprintf(
        body, sizeof body,
        "%sconst many=['t',5,'5','05',399,1.5,-1,'','\u00e9','none','l'.repeat(2000),"
        "'m'.repeat(63),'m'.repeat(64),'m'.repeat(65),"
        "new Uint8Array([116]),new Uint8Array([53]).buffer];for(let i=0;i<120;i++)many.push("
        "i%%2?i:String(i));for(const ahead of [undefined,16]){"
        "if(kv.openAll(many,out,ahead)!==136)bad++;for(let i=0;i<136;i++)"
        "if(out[i]!==kv.open(many[i]))bad++}const u=new Uint32Array(n);kv.openAll(u,out);"
        "for(let i=0;i<300;i++)if(out[i]!==kv.open(n[i]))bad++;"
        "return [bad,kv.openAll([],out)+kv.follow(0,0,0,out)+kv.lengths(0,0,0,out),"
        "kv.openAll({length:1,0:'t'},out),out[0]===kv.open('t')]",
        setup);
    is_str(run_body(body), "*4|:0|:0|:1|:1|", "keys of all kinds are opened");
    static const struct {
        const char *call, *error;
    } wrong[] = {
        {"kv.follow(h,0,301,out)", "-ERR RangeError: outside the value"},
        {"kv.follow(h,-1,1,out)", "-ERR RangeError: outside the value"},
        {"kv.follow(h,2,1,out)", "-ERR RangeError: outside the value"},
        {"kv.follow(0,0,1,out)", "-ERR RangeError: outside the value"},
        {"kv.follow(h,0,300,new Int32Array(299))", "-ERR RangeError: there are more keys"},
        {"kv.follow(h,0,3,new Uint32Array(3))", "-ERR TypeError: handles are written into"},
        {"kv.follow(h,0,3,[0,0,0])", "-ERR TypeError: handles are written into"},
        {"kv.follow(h,0,3)", "-ERR TypeError: handles are written into"},
        {"kv.lengths(h,0,301,out)", "-ERR RangeError: outside the value"},
        {"kv.lengths(h,2,1,out)", "-ERR RangeError: outside the value"},
        {"kv.lengths(0,0,1,out)", "-ERR RangeError: outside the value"},
        {"kv.lengths(h,0,300,new Int32Array(299))", "-ERR RangeError: there are more keys"},
        {"kv.lengths(h,0,3,new Uint32Array(3))", "-ERR TypeError: lengths are written into"},
        {"kv.openAll([1,2],new Int32Array(1))", "-ERR RangeError: there are more keys"},
        {"kv.openAll([1,{}],out)", "-ERR TypeError: a key is a number"},
        {"kv.openAll({length:4294967295},out)", "-ERR RangeError: there are more keys"},
        {"kv.openAll(null,out)", "-ERR TypeError"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(body, sizeof body, "%sreturn %s", setup, wrong[i].call);
        ok(strncmp(run_body(body), wrong[i].error, strlen(wrong[i].error)) == 0, "%s: %s",
           wrong[i].call, answer);
    }
}

static void
test_twins(void)
{
    enum { KEYS = 60000 };
    struct table *table = table_worker_table(worker, 1);
    struct base_random rng;
    base_random_init(&rng, tap_seed());
    define(1, "const h=kv.open(keys[0]);return h===0?null:kv.len(h)");
    unsigned wrong = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        char text[80], value[300] = "";
        unsigned kind = (unsigned)base_random_below(&rng, 4);
        int n = snprintf(
            text, sizeof text,
            kind == 0   ? "%u"
            : kind == 1 ? "key:%u"
                        : "k\xc3\xa9y-%u",
            i);
        if (kind == 3)
            n += snprintf(
                text + n, sizeof text - (size_t)n, "%.*s", (int)base_random_below(&rng, 40),
                "0123456789012345678901234567890123456789");
        struct table_key key;
        size_t length = (size_t)base_random_below(&rng, sizeof value);
        if (!table_key(table, text, (size_t)n, &key) ||
            table_set(
                table, &key, value, length,
                base_random_below(&rng, 3) == 0 ? table_now(table) + 1000000 : 0) != 0)
            bail("%s", dor_err_message());
        if (i % 8 != 0)
            continue;
        char want[32];
        snprintf(want, sizeof want, ":%zu|", length);
        if (strcmp(ask("FCALL", "f", "1", text), want) != 0 && wrong++ < 5)
            note("%s: %s, want %s", text, answer, want);
        text[n] = 'x';
        text[n + 1] = '\0';
        if (strcmp(ask("FCALL", "f", "1", text), "$-1|") != 0)
            wrong++;
    }
    is_int(wrong, 0, "%d keys are found, others are not", KEYS);
    char *longest = base_alloc(TABLE_KEY_LENGTH_MAX + 2);
    memset(longest, 'l', TABLE_KEY_LENGTH_MAX + 1);
    longest[TABLE_KEY_LENGTH_MAX] = '\0';
    ask("SET", longest, "x");
    is_str(ask("FCALL", "f", "1", longest), ":1|", "the longest key");
    longest[TABLE_KEY_LENGTH_MAX] = 'l';
    longest[TABLE_KEY_LENGTH_MAX + 1] = '\0';
    is_str(ask("FCALL", "f", "1", longest), "$-1|", "a longer one is not there");
    base_free(longest);
    is_str(
        run_body("kv.del(new Uint8Array([255]));const out=new Int32Array(4096);let "
                 "bad=0,c=0,all=0;do{const [n,k]=kv.scan(c,64);"
                 "c=n;kv.openAll(k,out);all+=k.length;for(let i=0;i<k.length;i++)"
                 "if(out[i]===0||out[i]!==kv.open(k[i]))bad++}while(c!==0);"
                 "const ids=new Uint32Array(60000).map((_,i)=>i),found=new Int32Array(60000);"
                 "kv.put('ids',ids);kv.follow(kv.open('ids'),0,60000,found);"
                 "for(let i=0;i<60000;i++)if(found[i]!==kv.open(i))bad++;"
                 "kv.lengths(kv.open('ids'),0,60000,found);"
                 "for(let i=0;i<60000;i++)if(found[i]!==kv.len(kv.open(i)))bad++;"
                 "return [bad,all>=kv.size()-1]"),
        "*2|:0|:1|", "keys of all kinds are found many at once");
    is_str(
        run_body("for(let i=0;i<200000;i++)kv.put('grow'+i,'0123456789'.repeat(5));"
                 "let n=0;for(let i=0;i<200000;i++)n+=kv.len(kv.open('grow'+i));return n"),
        ":10000000|", "a call that makes the arena grow goes on in it");
}

int
main(void)
{
    start_worker();
    const struct table_function_limits limits = {.call_ms = 20000, .heap_bytes = 256 << 20};
    add_tenant(1, 512 << 20, &limits);
    test_replies();
    test_arguments();
    test_open_keys();
    test_values();
    test_changes();
    test_many();
    test_twins();
    stop_worker();
    return done_testing();
}
