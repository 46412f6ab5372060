/* The plan cache with the real cuDNN: a plan that was compiled comes back from its file, the same; a file that is
 * damaged, cut off or of another key does not. */
#include "tests/cudnn_plans/plans.h"

#include "kernels/cuda/device.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The path of the only file in the folder; false when there is another number of them. */
static bool only_file(const char *folder, char *path, size_t bytes)
{
    int count = 0;
    DIR *listed = opendir(folder);
    if (!listed)
        return false;
    for (struct dirent *entry = readdir(listed); entry; entry = readdir(listed))
        if (entry->d_name[0] != '.') {
            snprintf(path, bytes, "%s/%s", folder, entry->d_name);
            count++;
        }
    closedir(listed);
    return count == 1;
}

/* Flips a bit of the byte in the middle, or cuts the file there. */
static bool spoil(const char *path, bool cut)
{
    FILE *file = fopen(path, "r+b");
    if (!file)
        return false;
    bool done = fseek(file, 0, SEEK_END) == 0;
    long middle = ftell(file) / 2;
    done = done && fseek(file, middle, SEEK_SET) == 0;
    int byte = fgetc(file);
    done = done && byte != EOF && fseek(file, middle, SEEK_SET) == 0 && fputc(byte ^ 1, file) != EOF;
    done = fclose(file) == 0 && done;
    return done && (!cut || truncate(path, middle) == 0);
}

/* Makes the plan; whether it came from the cache, and the same as before (0: nothing yet). */
static cnn_status remake(cnn_device *device, const cnn_op_desc *desc, bool expect_cached, verdict *result)
{
    cnn_kernel *kernel = NULL;
    cnn_status status = cnn_cudnn_make(device, desc, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_cudnn_plan *plan = ((const cnn_cudnn_kernel *)kernel)->plan;
    if (plan->cached != expect_cached)
        status =
            device->host->error(CNN_ERR_DEVICE, "the plan should %scome from the cache", expect_cached ? "" : "not ");
    else if (expect_cached && (plan->engine != result->engine || plan->workspace_bytes != result->workspace_bytes ||
                               plan->behavior_notes != result->behavior_notes))
        status = device->host->error(CNN_ERR_DEVICE, "the plan of the cache is another one");
    result->engine = plan->engine;
    result->workspace_bytes = plan->workspace_bytes;
    result->behavior_notes = plan->behavior_notes;
    kernel->destroy(kernel);
    return status;
}

static cnn_status run_steps(cnn_device *device, const cnn_op_desc *desc, verdict *result)
{
    char path[512];
    cnn_status status = remake(device, desc, false, result);
    if (status == CNN_OK)
        status = remake(device, desc, true, result);
    for (int cut = 0; cut < 2 && status == CNN_OK; cut++) {
        if (!only_file(device->plan_cache, path, sizeof path) || !spoil(path, cut))
            return device->host->error(CNN_ERR_IO, "no file in the cache, or several");
        status = remake(device, desc, false, result); /* and it is written anew */
        if (status == CNN_OK)
            status = remake(device, desc, true, result);
    }
    if (status != CNN_OK)
        return status;
    device->tf32 = true;
    return remake(device, desc, false, result);
}

static void remove_all(const char *folder)
{
    char path[512];
    DIR *listed = opendir(folder);
    for (struct dirent *entry = listed ? readdir(listed) : NULL; entry; entry = readdir(listed))
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            (void)remove(path);
        }
    if (listed)
        closedir(listed);
    (void)rmdir(folder);
}

void judge_cache(const void *subject, cnn_device *device, verdict *result)
{
    char folder[] = "/tmp/cnnkit-plans-XXXXXX";
    if (!mkdtemp(folder)) {
        result->status = device->host->error(CNN_ERR_IO, "no temporary folder");
        return;
    }
    snprintf(device->plan_cache, sizeof device->plan_cache, "%s/cnnkit", folder);
    result->status = run_steps(device, subject, result);
    remove_all(device->plan_cache);
    (void)rmdir(folder);
    device->plan_cache[0] = '\0';
    device->tf32 = false;
}
