/* The plan cache: files, written whole and then renamed. */
#include "kernels/cuda/cudnn_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_BYTES = CNN_CUDNN_TEXT_BYTES + 320, PATH_BYTES = 512, JSON_MOST = 16 << 20 };

static const char magic[] = "cnnkit cudnn plan 1";

/* FNV-1a */
static uint64_t hash_bytes(const void *bytes, size_t count)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

void cnn_cudnn_cache_folder(char *folder, size_t bytes)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = cache && *cache ? snprintf(folder, bytes, "%s/cnnkit", cache)
                 : home && *home ? snprintf(folder, bytes, "%s/.cache/cnnkit", home)
                                 : 0;
    if (length <= 0 || (size_t)length >= bytes)
        folder[0] = '\0';
}

/* One line that says all that the choice of a plan depends on. */
static void make_key(const cnn_cudnn_plan *plan, char *key)
{
    char text[CNN_CUDNN_TEXT_BYTES];
    const cnn_device *device = plan->device;
    snprintf(key, KEY_BYTES, "%s, %s%s%s: %s", device->description, device->level, device->tf32 ? ", tf32" : "",
             device->autotune ? ", measured" : "", cnn_cudnn_graph_print(&plan->graph, text));
}

static void make_path(const cnn_device *device, const char *key, char *path)
{
    snprintf(path, PATH_BYTES, "%s/%016" PRIx64 ".plan", device->plan_cache, hash_bytes(key, strlen(key)));
}

/* ---- Reading ---- */

/* The next line is this text. */
static bool expect_line(FILE *file, const char *text)
{
    char line[KEY_BYTES + 1];
    size_t length = strlen(text);
    return fgets(line, sizeof line, file) && strncmp(line, text, length) == 0 && strcmp(line + length, "\n") == 0;
}

static char *read_plan(FILE *file, const char *key, cnn_cudnn_plan *plan, size_t *json_bytes)
{
    const cnn_host *host = plan->device->host;
    int64_t engine = 0;
    uint32_t numerical = 0, behavior = 0;
    uint64_t bytes = 0, hash = 0;
    if (!expect_line(file, magic) || !expect_line(file, key) ||
        fscanf(file, "%" SCNd64 " %" SCNx32 " %" SCNx32 " %" SCNu64 " %" SCNx64, &engine, &numerical, &behavior, &bytes,
               &hash) != 5 ||
        fgetc(file) != '\n' || bytes == 0 || bytes > JSON_MOST)
        return NULL;
    char *json = host->alloc((size_t)bytes);
    if (!json)
        return NULL;
    if (fread(json, 1, (size_t)bytes, file) != bytes || hash_bytes(json, (size_t)bytes) != hash) {
        host->free(json);
        return NULL;
    }
    plan->engine = engine;
    plan->numerical_notes = numerical;
    plan->behavior_notes = behavior;
    *json_bytes = (size_t)bytes;
    return json;
}

char *cnn_cudnn_cache_load(cnn_cudnn_plan *plan, size_t *json_bytes)
{
    char key[KEY_BYTES], path[PATH_BYTES];
    if (!*plan->device->plan_cache)
        return NULL;
    make_key(plan, key);
    make_path(plan->device, key, path);
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    char *json = read_plan(file, key, plan, json_bytes);
    fclose(file);
    return json;
}

/* ---- Writing ---- */

/* Makes the folder and the one above it. */
static bool make_folder(const char *folder)
{
    char above[PATH_BYTES];
    snprintf(above, sizeof above, "%s", folder);
    char *slash = strrchr(above, '/');
    if (slash && slash != above) {
        *slash = '\0';
        if (mkdir(above, 0777) != 0 && errno != EEXIST)
            return false;
    }
    return mkdir(folder, 0777) == 0 || errno == EEXIST;
}

static void write_plan(const cnn_cudnn_plan *plan, const char *json, size_t bytes)
{
    char key[KEY_BYTES], path[PATH_BYTES], temporary[PATH_BYTES + 32];
    make_key(plan, key);
    make_path(plan->device, key, path);
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    FILE *file = make_folder(plan->device->plan_cache) ? fopen(temporary, "wb") : NULL;
    if (!file)
        return;
    bool whole =
        fprintf(file, "%s\n%s\n%" PRId64 " %" PRIx32 " %" PRIx32 " %zu %" PRIx64 "\n", magic, key, plan->engine,
                plan->numerical_notes, plan->behavior_notes, bytes, hash_bytes(json, bytes)) > 0 &&
        fwrite(json, 1, bytes, file) == bytes;
    whole = fclose(file) == 0 && whole;
    if (!whole || rename(temporary, path) != 0)
        (void)remove(temporary);
}

void cnn_cudnn_cache_store(const cnn_cudnn_plan *plan)
{
    const cnn_host *host = plan->device->host;
    int64_t bytes = 0;
    if (!*plan->device->plan_cache ||
        cudnnBackendGetAttribute(plan->descriptor, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0,
                                 &bytes, NULL) != CUDNN_STATUS_SUCCESS ||
        bytes <= 0 || bytes > JSON_MOST)
        return;
    char *json = host->alloc((size_t)bytes);
    if (json && cudnnBackendGetAttribute(plan->descriptor, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                         CUDNN_TYPE_CHAR, bytes, &bytes, json) == CUDNN_STATUS_SUCCESS)
        write_plan(plan, json, (size_t)bytes);
    host->free(json);
}
