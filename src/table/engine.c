/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - finding and starting the engine's plugin.
 */
#include "table/engine.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define PLUGIN "libdormouse-js.so"

enum { ENGINE_PATH_BYTES = 4096 };

/* Beside the program, or where the build leaves it for the programs of the tests. */
static const char *const beside[] = {
    "", "src/table/", "../src/table/", "../../src/table/", "../lib/dormouse/"};

/* The directory of the program, with its slash; empty when it cannot be told. */
static void
own_directory(char path[ENGINE_PATH_BYTES])
{
    ssize_t n = readlink("/proc/self/exe", path, ENGINE_PATH_BYTES - 1);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        slash[1] = '\0';
}

static void *
find_plugin(void)
{
    const char *given = getenv("DORMOUSE_ENGINE");
    if (given != NULL)
        return dlopen(given, RTLD_NOW | RTLD_LOCAL);
    char directory[ENGINE_PATH_BYTES];
    own_directory(directory);
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        char path[ENGINE_PATH_BYTES + 64];
        snprintf(path, sizeof path, "%s%s" PLUGIN, directory, beside[i]);
        if (access(path, R_OK) == 0)
            return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return dlopen(DOR_ENGINE_DIR "/" PLUGIN, RTLD_NOW | RTLD_LOCAL);
}

int
table_engine_open(struct table_engine **ret)
{
    /*
     * JavaScriptCore reads this when it is loaded: compiled code then looks whether it is to stop.
     * Otherwise it is stopped by signals that take it apart, which is slower and at times fails.
     */
    (void)setenv("JSC_usePollingTraps", "1", 0);
    void *library = find_plugin();
    if (library == NULL)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "no engine for storage functions (%s); build with -Djs=enabled or set "
            "DORMOUSE_ENGINE",
            dlerror());
    const struct table_engine_class *class = dlsym(library, "table_engine_class");
    if (class == NULL || class->version != TABLE_ENGINE_VERSION) {
        dlclose(library);
        return dor_fail(DOR_E_UNSUPPORTED, PLUGIN " is not of this version of dormouse");
    }
    struct table_engine *engine = base_zalloc(sizeof *engine);
    if (engine == NULL) {
        dlclose(library);
        return DOR_E_NO_MEMORY;
    }
    engine->class = class;
    engine->garbage_bytes = TABLE_ENGINE_GARBAGE_BYTES;
    engine->library = library;
    *ret = engine;
    return 0;
}

int
table_engine_start(struct table_engine *engine, const struct table_engine_host *host)
{
    if (engine->state != NULL)
        return 0;
    char error[TABLE_ENGINE_ERROR_BYTES] = "";
    int rc = engine->class->start(host, engine->garbage_bytes, &engine->state, error);
    return rc == 0 ? 0 : dor_fail(rc, "the engine does not start: %s", error);
}

void
table_engine_close(struct table_engine *engine)
{
    if (engine == NULL)
        return;
    if (engine->state != NULL)
        engine->class->destroy(engine->state);
    /* Threads of the engine may still end in its code: it stays mapped. */
    base_free(engine);
}
