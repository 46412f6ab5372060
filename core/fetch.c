/* Runs the script get-data, which finds or downloads data sets. */
#include "core/dataset.h"

#include "core/error.h"
#include "core/memory.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { EXE_BYTES = 4096 };

/* `../libexec/cnnkit/get-data` as seen from the folder of the running program, or NULL. */
static char *installed_script(void)
{
    char exe[EXE_BYTES];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length <= 0)
        return NULL;
    exe[length] = '\0';
    char *slash = strrchr(exe, '/');
    if (!slash)
        return NULL;
    *slash = '\0';
    return cnn_format("%s/../libexec/cnnkit/get-data", exe);
}

char *cnn_fetch_script(void)
{
    const char *named = getenv("CNN_GET_DATA");
    if (named && *named)
        return cnn_strdup(named);
    char *installed = installed_script();
    if (installed && access(installed, X_OK) == 0)
        return installed;
    free(installed);
#ifdef CNN_GET_DATA_BUILD
    if (access(CNN_GET_DATA_BUILD, X_OK) == 0)
        return cnn_strdup(CNN_GET_DATA_BUILD);
#endif
    return NULL;
}

/* Starts the script with standard output going where standard error goes. */
static int start(const char *script, const char *name, const char *dir, pid_t *child)
{
    posix_spawn_file_actions_t actions;
    char *argv[] = {(char *)(uintptr_t)script, (char *)(uintptr_t)name, (char *)(uintptr_t)dir, NULL};
    int code = posix_spawn_file_actions_init(&actions);
    if (code != 0)
        return code;
    code = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    if (code == 0)
        code = posix_spawn(child, script, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

cnn_status cnn_fetch(const char *name, const char *dir)
{
    cnn_status status = CNN_OK;
    pid_t child;
    int result = 0;
    char *script = cnn_fetch_script();
    if (!script)
        CNN_FAIL(CNN_ERR_IO, "the script get-data was not found");
    int code = start(script, name, dir, &child);
    if (code != 0)
        CNN_FAIL(CNN_ERR_IO, "%s could not be started: %s", script, strerror(code));
    while (waitpid(child, &result, 0) < 0)
        if (errno != EINTR)
            CNN_FAIL(CNN_ERR_IO, "%s could not be waited for: %s", script, strerror(errno));
    if (WIFSIGNALED(result))
        CNN_FAIL(CNN_ERR_IO, "%s was ended by signal %d", script, WTERMSIG(result));
    if (WEXITSTATUS(result) != 0)
        CNN_FAIL(CNN_ERR_IO, "%s failed with exit status %d", script, WEXITSTATUS(result));
out:
    free(script);
    return status;
}
