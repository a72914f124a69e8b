/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_attacks.c - functions that are up to no good: loops, bombs, storms and recursion end with
 * an error to their caller and the engine goes on; what tampers with prototypes gets nothing;
 * tenants of one worker see nothing of each other.
 */
#include "function_calls.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { ATTACKER = 1, TABLE_BYTES = 64 << 20 };
static const struct table_function_limits hasty = {
    .call_ms = 100, .heap_bytes = 32 << 20, .reply_bytes = 1 << 20};
/* For what is not about time. */
static const struct table_function_limits patient = {
    .call_ms = 20000, .heap_bytes = 32 << 20, .reply_bytes = 1 << 20};

static void
limit(uint64_t tenant_id, const struct table_function_limits *limits)
{
    if (table_worker_set_limits(worker, tenant_id, TABLE_BYTES, TABLE_NO_EVICTION, limits) != 0)
        bail("%s", dor_err_message());
}

static void
limit_attacker(const struct table_function_limits *limits)
{
    limit(ATTACKER, limits);
}

static bool
goes_on(void)
{
    return strcmp(ask_of(2, "FCALL", "f", "1", "mine", (char *)NULL), "$5|other|") == 0;
}

static void
test_limits(void)
{
    static const struct {
        const char *name, *body, *error;
    } attacks[] = {
        {"an endless loop", "for(;;);", "-BUSY "},
        {"catch and finally", "for(;;){try{for(;;);}catch(e){}finally{for(;;);}}", "-BUSY "},
        {"a loop of calls", "const g=()=>1;for(;;)g()", "-BUSY "},
        {"a loop of kv calls", "for(;;)kv.open('a')", "-BUSY "},
        {"a loop of changes", "for(let i=0;;i++)kv.put('k'+(i&7),i)", "-BUSY "},
        {"a catastrophic regular expression", "return /(a+)+$/.test('a'.repeat(60)+'b')",
         "-BUSY "},
        {"small objects", "let a=[];for(;;)a.push({})", "-"},
        {"concat doubling", "let a=[1];for(;;)a=a.concat(a)", "-"},
        {"views of a megabyte", "let a=[];for(;;)a.push(new Uint8Array(1<<20).fill(1))", "-"},
        {"a string that doubles", "let s='x';for(;;)s+=s", "-"},
        {"a string that is split", "return 'x'.repeat(1<<24).split('').length", "-"},
        {"deep recursion", "const r=()=>1+r();return r()", "-ERR RangeError"},
        {"recursion in a getter", "const o={get a(){return 1+this.a}};return o.a", ""},
        {"a getter in the reply", "return {get a(){for(;;);}}", "-BUSY "},
        {"toString of what is thrown", "throw {toString(){for(;;);}}", "-"},
        {"a proxy as the reply", "return new Proxy([],{get(){for(;;);}})", "-BUSY "},
        {"a long array as the reply", "return new Array(4294967295)", "-ERR RangeError"},
        {"a long reply", "return 'x'.repeat(1<<22)", "-ERR the reply is longer"},
        {"many long replies", "const s='x'.repeat(1<<18);return [s,s,s,s,s,s]",
         "-ERR RangeError"},
        {"sorting with a loop", "return [3,1,2].sort(()=>{for(;;);})", "-BUSY "},
        {"replace with a loop", "return 'aaa'.replace(/a/g,()=>{for(;;);})", "-BUSY "},
        {"a big number's power", "let x=2n;for(;;)x=x**2n", "-"},
        {"JSON of a deep tree", "let a=[];for(let i=0;i<1e5;i++)a=[a];return JSON.stringify(a)",
         "-"},
        {"an iterator without end", "return Array.from({*[Symbol.iterator](){for(;;)yield 1}})",
         "-"},
        {"a value's valueOf", "return kv.u32(kv.open('mine'),{valueOf(){for(;;);}})", "-BUSY "},
    };
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        bool ends_by_time = strlen(attacks[i].error) < 2 || attacks[i].error[1] == 'B';
        limit_attacker(ends_by_time ? &hasty : &patient);
        uint64_t began_ns = base_clock_monotonic_ns();
        const char *reply = run_body(attacks[i].body);
        uint64_t took_ms = (base_clock_monotonic_ns() - began_ns) / 1000000;
        bool right = strncmp(reply, attacks[i].error, strlen(attacks[i].error)) == 0;
        char first[120];
        snprintf(first, sizeof first, "%s", reply);
        bool on = goes_on();
        ok(right && on, "%s: %s", attacks[i].name, first);
        if (!on)
            note("then: %s", answer);
        note("%" PRIu64 " ms", took_ms);
    }
    define(4, "let a=[];for(;;)a.push({})");
    ok(strncmp(ask_of(4, "FCALL", "f", "0", (char *)NULL), "-OOM ", 5) == 0,
       "a bomb that has time: %s", answer);
    ok(goes_on(), "leaves the others alone");
    define(4, "let n=0;for(let i=0;i<3e6;i++)n+=[i,i].length;return n");
    is_str(ask_of(4, "FCALL", "f", "0", (char *)NULL), ":6000000|", "garbage is no bomb");
    is_str(ask("GET", "k0"), "$-1|", "what a stopped function changed is not there");
    is_str(run_body("return 1"), ":1|", "and the attacker may go on");
}

static void
test_no_promises(void)
{
    static const char *const refused[] = {
        "async function g(){for(;;)await 0}",
        "(async()=>{})()",
        "import('x')",
        "/* async */",
        "o={async g(){}}",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        ok(strstr(define(1, refused[i]), "may not be in a library") != NULL, "refused: %s",
           refused[i]);
    ok(strncmp(define(1, "\\u0061sync function g(){}"), "-ERR", 4) == 0,
       "an escaped word is no way around: %s", answer);
    is_str(
        run_body("const f=()=>Promise.resolve().then(f);f()"),
        "-ERR ReferenceError: Can't find variable: Promise, on line 2 script: f|",
        "a storm of promises");
    is_str(run_body("return typeof Array['from'+'As'+'ync']"), "$9|undefined|", "fromAsync");
}

/* Every way to a name that must not be there, and code from text. */
static void
test_globals(void)
{
    static const char *const gone[] = {
        "SharedArrayBuffer",
        "Atomics",
        "console",
        "WebAssembly",
        "Promise",
        "WeakRef",
        "FinalizationRegistry",
        "performance",
        "setTimeout",
        "queueMicrotask",
        "require",
        "process",
        "print",
        "load",
        "read",
        "Intl",
        "Temporal",
        "$vm",
        "ShadowRealm",
        "module",
    };
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        char body[100];
        snprintf(body, sizeof body, "return typeof globalThis['%s']", gone[i]);
        is_str(run_body(body), "$9|undefined|", "%s is not there", gone[i]);
    }
    static const char *const texts[] = {
        "return eval('1')",
        "return (0,eval)('1')",
        "return new Function('return 1')()",
        "return (()=>1).constructor('return 1')()",
        "return (function*(){}).constructor('yield 1')()",
        "return Reflect.construct(Function,['return 1'])()",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        ok(strncmp(run_body(texts[i]), "-ERR EvalError", 14) == 0, "%s: %s", texts[i], answer);
    is_str(
        run_body("const t=Date.now();return t===Math.floor(t)&&new Date().getTime()%1===0"),
        ":1|", "no clock is finer than a millisecond");
    is_str(
        run_body("try{kv.open=1}catch(e){};try{delete kv.open}catch(e){};"
                 "try{kv.open.x=1}catch(e){};try{globalThis.kv={}}catch(e){};"
                 "return typeof kv.open+typeof kv.open.x"),
        "$17|functionundefined|", "kv is frozen");
    is_str(
        run_body("return redis.registerFunction('g',()=>1)"),
        "-ERR Error: redis.registerFunction can only be called on FUNCTION LOAD command "
        "script: "
        "f|",
        "no registration in a call");
}

/* Each tries to get at a view of the arena; LEAK holds what it caught. */
static const char leak_setup[] =
    "let LEAK=null,busy=false;const L=Array.isArray,R=Reflect.apply,D=Object."
    "getOwnPropertyDescriptor,T=Object.getPrototypeOf(Uint8Array);const "
    "buffers=[D(T.prototype,"
    "'buffer').get,D(DataView.prototype,'buffer').get];const bytes=D(ArrayBuffer.prototype,"
    "'byteLength').get;const big=v=>{for(let "
    "i=0;i<2;i++)try{v=R(buffers[i],v,[])}catch(e){}"
    "try{if(R(bytes,v,[])>40000)LEAK='leaked'}catch(e){}};const catchIt=function(v){"
    "if(busy)return;busy=true;big(v);if(L(v))for(let "
    "i=0;i<v.length;i++)big(v[i]);busy=false};";
static const char leak_touch[] =
    "const h=kv.open('mine');const key=new Uint8Array([109,105,110,101]);"
    "const every=[()=>kv.open('mine'),()=>kv.open(key),()=>kv.open('m\\u00efne'),"
    "()=>kv.lengths(h,0,2,new Int32Array(2)),()=>kv.lengths(h,0,2,new (class extends "
    "Int32Array{set 0(v){catchIt(this);catchIt(v)}})(2)),"
    "()=>kv.follow(h,0,2,new Int32Array(2),64),()=>kv.openAll(['mine',key,7],new Int32Array(3),"
    "8),()=>kv.openAll(new Proxy(['mine'],{get(t,n){catchIt(this);return t[n]}}),new "
    "Int32Array("
    "1)),()=>kv.follow(h,0,2,new Proxy(new Int32Array(2),{get(t,n,r){catchIt(r);return t[n]},"
    "set(t,n,v){catchIt(v)}})),()=>kv.follow(h,0,2,new (class extends Int32Array{set "
    "0(v){catchIt(this);catchIt(v)}})(2)),()=>kv.openAll('steal',new Int32Array(5)),"
    "()=>kv.open(7),()=>kv.open('steal'),()=>kv.u8(h,0),()=>kv.u8('steal','steal'),"
    "()=>kv.u32('steal',0),()=>kv.f64(h,'steal'),()=>kv.len('steal'),"
    "()=>kv.bytes(h),()=>kv.bytes(kv.open('long')),()=>kv.text(h),()=>kv.get('mine'),"
    "()=>kv.put('x',key),()=>kv.put(key,new DataView(new ArrayBuffer(8))),()=>kv.scan(0),"
    "()=>kv.put('big','x'.repeat(300000)),()=>kv.open('mine'),()=>kv.bytes(kv.open('long'))"
    ","
    "()=>kv.bytes({valueOf(){return h}},{valueOf(){return 0}},{valueOf(){return 1}}),"
    "()=>kv.u32({valueOf(){catchIt(this);return h}},0),()=>kv.size(),"
    "()=>kv.u8.call(new Uint8Array(8),h,0),()=>kv.u8.apply(null,[h,0]),"
    "()=>new kv.u8(h,0),()=>Reflect.construct(kv.u8,[h,0]),()=>kv.u8.caller,"
    "()=>kv.u8.arguments,()=>kv.u8.toString()];"
    "for(const f of every){try{const v=f();catchIt(v)}catch(e){catchIt(e)}}";
static const struct {
    const char *name, *tamper;
} leak_attacks[] = {
    {"getters on prototypes of views",
     "for(const C of "
     "[Uint8Array,Int32Array,Float32Array,Float64Array,Object.getPrototypeOf("
     "Uint8Array),Object,ArrayBuffer])for(const n of ['steal','buffer','byteOffset',"
     "'byteLength','length','constructor','subarray','slice','set','-1','4294967295',"
     "'NaN'])try{Object.defineProperty(C.prototype,n,{configurable:true,get(){catchIt(this)"
     ";"
     "return undefined},set(v){catchIt(this);catchIt(v)}})}catch(e){}"},
    {"methods of prototypes",
     "for(const C of "
     "[Uint8Array,Object.getPrototypeOf(Uint8Array),String,Array,Number,Function,"
     "ArrayBuffer,DataView,Object])for(const n of "
     "Object.getOwnPropertyNames(C.prototype))try{"
     "const old=C.prototype[n];if(typeof "
     "old==='function'&&n!=='constructor')C.prototype[n]="
     "function(...a){catchIt(this);for(let i=0;i<a.length;i++)catchIt(a[i]);return "
     "R(old,this,a)}}"
     "catch(e){}"},
    {"functions of the built-ins",
     "for(const o of [Reflect,Math,Object,ArrayBuffer,Array,Number,String])for(const n of "
     "Object.getOwnPropertyNames(o))try{const old=o[n];if(typeof old==='function')o[n]="
     "function(...a){for(let i=0;i<a.length;i++)catchIt(a[i]);return R(old,this,a)}}"
     "catch(e){}"},
    {"species",
     "for(const C of [Uint8Array,Int32Array,Object.getPrototypeOf(Uint8Array),ArrayBuffer,"
     "Array])try{Object.defineProperty(C,Symbol.species,{get(){catchIt(this);return "
     "function(...a){a.forEach(catchIt);return new C(...a)}}});Object.defineProperty("
     "C.prototype,'constructor',{get(){catchIt(this);return "
     "{[Symbol.species]:function(...a)"
     "{a.forEach(catchIt)}}}})}catch(e){}"},
    {"constructors",
     "for(const n of "
     "['Uint8Array','Int32Array','Float32Array','Float64Array','ArrayBuffer',"
     "'DataView','RangeError','TypeError','Error'])globalThis[n]=new Proxy(globalThis[n],{"
     "construct(t,a,n){a.forEach(catchIt);const v=Reflect.construct(t,a);catchIt(v);return "
     "v},"
     "apply(t,s,a){a.forEach(catchIt)}})"},
    {"setters for numbers",
     "for(const C of [Array,Object])for(const i of "
     "[0,1,2,3])Object.defineProperty(C.prototype,"
     "i,{configurable:true,get(){catchIt(this)},set(v){catchIt(this);catchIt(v)}})"},
    {"iterators", "for(const C of [Array,Object.getPrototypeOf(Uint8Array),String])C.prototype["
                  "Symbol.iterator]=function*(){catchIt(this)}"},
    {"symbols",
     "for(const C of [Object,Number,String,Function,Object.getPrototypeOf(Uint8Array)])for("
     "const n of "
     "['toPrimitive','hasInstance','toStringTag','isConcatSpreadable','unscopables'])"
     "try{Object.defineProperty(C.prototype,Symbol[n],{get(){catchIt(this)}})}catch(e){}"},
    {"stacks of errors",
     "Error.stackTraceLimit=100;Error.prepareStackTrace=(e,s)=>{catchIt(s);for(const c of "
     "s||"
     "[])for(const n of ['getThis','getFunction'])try{catchIt(c[n]())}catch(e){}}"},
    {"the global's own prototype",
     "const p=Object.getPrototypeOf(globalThis);for(const n of "
     "['Int32Array','native','arena',"
     "'I','B','out'])try{Object.defineProperty(Object.prototype,n,{configurable:true,get(){"
     "catchIt(this)},set(v){catchIt(v)}})}catch(e){}"},
};

static void
test_leaks(void)
{
    ask("SET", "mine", "secret!!");
    char longer[5000];
    memset(longer, 'l', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    ask("SET", "long", longer);
    for (size_t i = 0; i < sizeof leak_attacks / sizeof leak_attacks[0]; i++) {
        char body[8192];
        snprintf(
            body, sizeof body, "%s%s;%sreturn LEAK===null?'nothing':LEAK", leak_setup,
            leak_attacks[i].tamper, leak_touch);
        is_str(run_body(body), "$7|nothing|", "%s", leak_attacks[i].name);
        /* Tampering with its own context does not outlive a library that goes. */
        ok(goes_on(), "the other tenant sees nothing of it");
    }
}

static void
test_tenants(void)
{
    define(
        1, "globalThis.shared=(globalThis.shared||0)+1;Object.prototype.x='1';"
           "Symbol.for('s').y=1;return [shared,kv.get('theirs')]");
    is_str(ask("FCALL", "f", "0"), "*2|:1|$-1|", "a tenant sees its own keys");
    is_str(ask("FCALL", "f", "0"), "*2|:2|$-1|", "its variables stay");
    define(3, "return [typeof shared,({}).x===undefined,kv.get('mine'),kv.get('theirs')]");
    is_str(
        ask_of(3, "FCALL", "f", "0", (char *)NULL), "*4|$9|undefined|:1|$-1|$-1|",
        "another one sees none of it");
    /* A handle is only a number: all of the own arena can be read by it, and no more. */
    is_str(
        run_body("let s=0;for(let i=0;i<3e7;i+=4099)s|=kv.len(i);for(const h of [-1,1e9,2**31,"
                 "2**32-2,NaN,Infinity])s|=kv.len(h)*0;return s>=0"),
        ":1|", "forged handles");
    is_str(
        run_body("try{return kv.bytes(2**29,0,10).length}catch(e){return e.message}"),
        "$17|outside the value|", "forged bytes");
    ok(strstr(
           run_body("try{return kv.text(100000,0,1<<28).length}catch(e){return e.message}"),
           "outside the value") != NULL,
       "forged text");
}

/* Inside one entry of the engine, which a worker leaves when a call was stopped. */
static void
in_engine(void *context)
{
    (void)context;
    worker->in_engine = true;
    is_str(ask_of(2, "FCALL", "f", "1", "mine", (char *)NULL), "$5|other|", "inside: a call");
    ok(!worker->must_leave, "inside: nothing to leave for");
    ok(strncmp(ask("FCALL", "f", "0"), "-BUSY", 5) == 0, "inside: a loop is stopped");
    ok(worker->must_leave, "inside: the engine must be left");
}

/* A process that is kept from its processor again and again, as on a machine that is too busy. */
static void
test_starved(void)
{
    limit(2, &hasty);
    define(2, "let s=0;for(let i=0;i<1e6;i++)s+=kv.len(i&1023)&1;return s>=0");
    pid_t self = getpid(), child = fork();
    if (child < 0)
        bail("no child");
    if (child == 0) {
        for (unsigned i = 0; i < 8; i++) {
            kill(self, SIGSTOP);
            usleep(250000);
            kill(self, SIGCONT);
            usleep(15000);
        }
        _exit(0);
    }
    unsigned calls = 0, stopped = 0;
    while (waitpid(child, NULL, WNOHANG) == 0) {
        calls++;
        stopped += strcmp(ask_of(2, "FCALL", "f", "0", (char *)NULL), ":1|") != 0;
    }
    is_int(stopped, 0, "none of %u calls is stopped for time in which it did not run", calls);
    limit(2, &patient);
}

int
main(void)
{
    start_worker();
    for (uint64_t id = ATTACKER; id <= 4; id++)
        add_tenant(id, TABLE_BYTES, &patient);
    define(2, "return kv.get(keys[0])");
    ask_of(2, "SET", "mine", "other", (char *)NULL);
    ask_of(2, "SET", "theirs", "hidden", (char *)NULL);
    test_limits();
    limit_attacker(&patient);
    test_no_promises();
    test_globals();
    test_leaks();
    test_tenants();
    test_starved();
    limit_attacker(&hasty);
    define(ATTACKER, "for(;;);");
    define(
        2,
        "return kv.get(keys[0])"); /* cold again: compiled code may pass where this does not */
    table_functions_enter(engine, in_engine, NULL);
    ok(goes_on(), "and after it");
    stop_worker();
    return done_testing();
}
